"""What a policy asks of a long and a short perpetual at every row, apart from any book."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from backtest.cache import compiled
from backtest.kernels.state import PATH_TYPE, SERIES_TYPE, TAPE_TYPE, TapeArrays
from backtest.kernels.types import (
    HOLDINGS_TYPE,
    KERNEL_INPUT_TYPE,
    KERNEL_SLOTS,
    KERNELS_TYPE,
    MARKET_TYPE,
    REQUIREMENT_TYPE,
    Holdings,
    Market,
    Requirement,
)
from backtest.kernels.valuation import contract_values

PROBE_NOTIONAL_USD = 10_000.0
"""Small enough for the lowest size tier of any venue."""


@compiled(
    types.void(
        TAPE_TYPE,
        KERNELS_TYPE,
        types.UniTuple(PATH_TYPE, KERNEL_SLOTS),
        types.UniTuple(KERNEL_INPUT_TYPE, KERNEL_SLOTS),
        MARKET_TYPE,
        HOLDINGS_TYPE,
        REQUIREMENT_TYPE,
        SERIES_TYPE,
        SERIES_TYPE,
        types.int64,
        types.int64,
    ),
    nogil=True,
)
def probe_rows(
    tape: TapeArrays,
    kernels: Any,
    paths: Any,
    given: Any,
    market: Market,
    holdings: Holdings,
    requirement: Requirement,
    initial: np.ndarray,
    maintenance: np.ndarray,
    first_row: int,
    last_row: int,
) -> None:
    """Margin probes of fixed notional along the tape.

    Parameters
    ----------
    tape, kernels, paths, given, market, requirement
        As in the event loop.
    holdings
        One account per probe, one slot each; the sign of its quantity is its side.
    initial, maintenance
        ``(T, probes)`` filled with the margin per unit of notional; rows at which the venue
        knew no price keep what they held.
    first_row, last_row
        Half-open range of rows.
    """
    probes = holdings.start.shape[0]
    who = np.arange(probes)
    for row in range(first_row, last_row):
        seen = tape.seen[row]
        if seen < 0:
            continue
        market.tick[0] = row
        market.index[:] = tape.index[seen]
        market.mark[:] = tape.mark[seen]
        for layer in range(KERNEL_SLOTS):
            given[layer].parameters[:] = paths[layer][seen]
        for probe in range(probes):
            i = holdings.instrument[probe]
            mark = tape.mark[seen, tape.asset[i]]
            _, usd, notional, _ = contract_values(
                True,
                tape.inverse[i] == 1,
                False,
                tape.contract_size[i],
                0.0,
                tape.index[seen, tape.asset[i]],
                mark,
                mark,
                0.0,
                0.0,
            )
            market.value_usd[i] = usd
            market.notional_usd[i] = notional
            market.forward[i] = mark
            side = 1.0 if holdings.quantity[probe] > 0.0 else -1.0
            holdings.quantity[probe] = side * PROBE_NOTIONAL_USD / notional
        for layer in range(KERNEL_SLOTS):
            kernels[layer](given[layer], market, holdings, who, requirement)
        for probe in range(probes):
            initial[row, probe] = requirement.initial[probe] / PROBE_NOTIONAL_USD
            maintenance[row, probe] = requirement.maintenance[probe] / PROBE_NOTIONAL_USD
