"""Pricing everything that is held at once.

What is held is first laid side by side, so that the loops that take logarithms, roots, prices and
deltas run over plain arrays; each gives the bits that `backtest.kernels.valuation` gives one
contract.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from backtest.cache import compiled
from backtest.instruments import OPTION
from backtest.kernels.black76 import normal_cdf_reference, price_from_moneyness
from backtest.kernels.state import (
    INSTANT,
    ROW,
    SAME_VIEW,
    STAMP,
    TICK,
    TRUE_INDEX,
    TRUE_MARK,
)
from backtest.kernels.valuation import (
    forward_of,
    price_now,
    price_seen,
    see_terms,
    years_to_expiry,
)

FORWARD, STRIKE, IS_CALL, SIGMA, YEARS, LOGARITHM, DEVIATION, PRICE, DELTA = range(9)
"""Rows of ``state.quotes``, one column per option to be priced."""
QUOTE_ROWS = 9


@compiled()
def _lay_out(
    world: Any, n: int, i: int, index: float, mark: float, snapshot: int, now_ms: int
) -> None:
    tape, quotes = world.tape, world.state.quotes
    world.state.quoted[n] = i
    quotes[FORWARD, n], quotes[SIGMA, n] = forward_of(tape, i, index, mark, snapshot)
    quotes[STRIKE, n] = tape.strike[i]
    quotes[IS_CALL, n] = 1.0 if tape.is_call[i] == 1 else 0.0
    quotes[YEARS, n] = years_to_expiry(tape, i, now_ms)


@compiled()
def _price_side_by_side(quotes: Any, count: int) -> None:
    """Fill price and delta of the first options that are laid out."""
    forward, strike, is_call = quotes[FORWARD], quotes[STRIKE], quotes[IS_CALL]
    sigma, years = quotes[SIGMA], quotes[YEARS]
    logarithm, deviation = quotes[LOGARITHM], quotes[DEVIATION]
    price, delta = quotes[PRICE], quotes[DELTA]
    for n in range(count):
        logarithm[n] = math.log(forward[n] / strike[n])
    for n in range(count):
        deviation[n] = sigma[n] * math.sqrt(years[n]) if years[n] > 0.0 else 0.0
    for n in range(count):
        price[n] = price_from_moneyness(
            forward[n], strike[n], logarithm[n], deviation[n], is_call[n]
        )
    for n in range(count):
        put = 0.0 if is_call[n] > 0.5 else 1.0
        certain = (1.0 if forward[n] > strike[n] else 0.0) - put
        likely = normal_cdf_reference(logarithm[n] / deviation[n] + 0.5 * deviation[n]) - put
        delta[n] = certain if deviation[n] <= 0.0 else likely


@compiled(forceinline=True)
def _option_values(
    tape: Any, quotes: Any, n: int, i: int, index: float
) -> tuple[float, float, float, float]:
    """Return unit value, value, notional and delta of a priced option; see `contract_values`."""
    size = tape.contract_size[i]
    notional = size * index
    if np.isnan(quotes[SIGMA, n]):
        return np.nan, np.nan, notional, 0.0
    unit = size * quotes[PRICE, n]
    usd = unit
    if tape.inverse[i] == 1:
        unit = unit / quotes[FORWARD, n]
        usd = unit * index
    return unit, usd, notional, quotes[DELTA, n] * notional


@compiled()
def price_held_now(world: Any) -> None:
    """Set the true values of every instrument that somebody holds."""
    tape, state = world.tape, world.state
    holders, assets, stamp, row = (
        state.holders,
        state.assets,
        state.counter[STAMP],
        state.counter[ROW],
    )
    count = 0
    for i in range(holders.shape[0]):
        if holders[i] > 0 and state.priced[i] != stamp:
            if tape.kind[i] == OPTION:
                a = tape.asset[i]
                index, mark = assets[TRUE_INDEX, a], assets[TRUE_MARK, a]
                _lay_out(world, count, i, index, mark, tape.snapshot[row], tape.ts[row])
                count += 1
            else:
                price_now(world, i)
    _price_side_by_side(state.quotes, count)
    for n in range(count):
        i = state.quoted[n]
        unit, usd, notional, delta = _option_values(
            tape, state.quotes, n, i, assets[TRUE_INDEX, tape.asset[i]]
        )
        state.unit[i] = unit
        state.value_usd[i] = usd
        state.notional_usd[i] = notional
        state.delta_usd[i] = delta
        state.priced[i] = stamp


@compiled()
def price_held_seen(world: Any) -> None:
    """Set what the venue sees of every instrument that somebody holds."""
    tape, state, market = world.tape, world.state, world.market
    holders, tick, instant = state.holders, state.counter[TICK], state.counter[INSTANT]
    snapshot, now_ms = world.timeline.seen_snapshot[instant], world.timeline.at_ms[instant]
    count = 0
    for i in range(holders.shape[0]):
        if holders[i] > 0 and state.seen_priced[i] != tick:
            if tape.kind[i] == OPTION and state.counter[SAME_VIEW] == 0:
                a = tape.asset[i]
                _lay_out(world, count, i, market.index[a], market.mark[a], snapshot, now_ms)
                count += 1
            else:
                price_seen(world, i)
    _price_side_by_side(state.quotes, count)
    for n in range(count):
        i = state.quoted[n]
        _, usd, notional, delta = _option_values(
            tape, state.quotes, n, i, market.index[tape.asset[i]]
        )
        market.value_usd[i] = usd
        market.notional_usd[i] = notional
        market.delta_usd[i] = delta
        market.forward[i] = state.quotes[FORWARD, n]
        market.sigma[i] = state.quotes[SIGMA, n]
        market.years[i] = state.quotes[YEARS, n]
        see_terms(world, i, tape.asset[i], state.quotes[YEARS, n], snapshot, now_ms)
        state.seen_priced[i] = tick
