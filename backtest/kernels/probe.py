"""What a policy asks of a long and a short perpetual at every row, apart from any book."""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.cache import compiled
from backtest.kernels.market import see
from backtest.kernels.requirement import require
from backtest.kernels.state import KNOWN, WORLD
from backtest.kernels.types import KERNELS_TYPE
from backtest.kernels.valuation import price_seen, rate_seen, settlement_currency

PROBE_NOTIONAL_USD = 10_000.0
"""Small enough for the lowest size tier of any venue."""
_PATH = types.Array(types.float64, 2, "C")


@compiled(
    types.void(WORLD, KERNELS_TYPE, _PATH, _PATH, types.int64, types.int64),
    entry=True,
    nogil=True,
)
def probe_instants(
    world: Any, kernels: Any, initial: Any, maintenance: Any, first: int, last: int
) -> None:
    """Margin probes of fixed notional along the tape.

    Parameters
    ----------
    world
        One account per probe, one position each; the sign of its quantity is its side.
    kernels
        As in the event loop.
    initial, maintenance
        ``(T, probes)`` filled with the margin per unit of notional; rows at which the venue
        knew no price keep what they held.
    first, last
        Half-open range of instants; those between rows are passed over.
    """
    state, market, timeline = world.state, world.market, world.timeline
    probes = state.count.shape[0] - 1
    for instant in range(first, last):
        if timeline.opens_row[instant] == 0:
            continue
        row = timeline.row[instant]
        see(world, instant)
        if state.counter[KNOWN] == 0:
            continue
        market.protocol[:, :] = 0.0
        for probe in range(probes):
            i = state.instrument[probe]
            price_seen(world, i)
            side = 1.0 if state.quantity[probe] > 0.0 else -1.0
            quantity = side * PROBE_NOTIONAL_USD / market.notional_usd[i]
            # It has just paid for what it holds: money that a policy may look at, and no more.
            currency = settlement_currency(world.tape, i)
            unit = market.value_usd[i] / rate_seen(market, currency)
            state.quantity[probe], state.entry[probe] = quantity, unit
            state.cash[currency, probe] = -quantity * unit
            state.who[probe] = probe
        require(world, kernels, state.who, probes)
        for probe in range(probes):
            initial[row, probe] = world.ask.initial[probe] / PROBE_NOTIONAL_USD
            maintenance[row, probe] = world.ask.maintenance[probe] / PROBE_NOTIONAL_USD
