"""What one contract is worth: to the market now, and to the venue as it sees the market.

Instruments are priced only where an account holds them or an order asks, once per set of
prices: `STAMP` names the present true prices, `TICK` what the venue sees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.cache import compiled
from backtest.instruments import FUTURE, OPTION, PERPETUAL
from backtest.kernels.black76 import black76, black76_delta
from backtest.kernels.state import (
    INSTANT,
    ROW,
    SAME_VIEW,
    SEEN_SHIFT,
    STAMP,
    TICK,
    TRUE_INDEX,
    TRUE_MARK,
)
from backtest.units import MS_PER_YEAR

_MS_PER_YEAR = float(MS_PER_YEAR)


@compiled(inline="always")
def rate_now(state: Any, currency: int) -> float:
    """Return US dollars per unit of a currency at the market's own prices."""
    return 1.0 if currency == 0 else state.assets[TRUE_INDEX, currency - 1]


@compiled(inline="always")
def rate_seen(market: Any, currency: int) -> float:
    """Return US dollars per unit of a currency at the prices that the venue sees."""
    return 1.0 if currency == 0 else market.index[currency - 1]


@compiled(inline="always")
def settlement_currency(tape: Any, instrument: int) -> int:
    """Return 0 for a linear instrument, ``1 + asset`` for one that settles in coin."""
    return 1 + tape.asset[instrument] if tape.inverse[instrument] == 1 else 0


@compiled(forceinline=True)
def contract_values(
    kind: int,
    inverse: bool,
    is_call: bool,
    size: float,
    strike: float,
    index: float,
    forward: float,
    sigma: float,
    years: float,
) -> tuple[float, float, float, float]:
    """Value one contract.

    Parameters
    ----------
    kind, inverse, is_call
        Which of the instruments it is.
    size
        Coins per contract; US dollars for inverse perpetuals and futures.
    strike, index, forward
        US dollars; the forward of a perpetual is its mark.
    sigma
        Annualised volatility; NaN where none was ever quoted.
    years
        To expiry.

    Returns
    -------
    tuple of float
        Unit value in the settlement currency (NaN without a volatility), unit value in USD,
        notional in USD, delta in USD.
    """
    if kind != OPTION:
        if inverse:
            unit = -size / forward
            return unit, unit * index, size, size
        unit = size * forward
        return unit, unit, unit, unit
    notional = size * index
    if np.isnan(sigma):
        return np.nan, np.nan, notional, 0.0
    price = black76(forward, strike, sigma, years, is_call)
    delta = black76_delta(forward, strike, sigma, years, is_call)
    if inverse:
        unit = size * price / forward
        return unit, unit * index, notional, delta * notional
    unit = size * price
    return unit, unit, notional, delta * notional


@compiled(forceinline=True)
def forward_of(
    tape: Any, instrument: int, index: float, mark: float, snapshot: int
) -> tuple[float, float]:
    """Return an instrument's forward in USD and its volatility, NaN where none was quoted."""
    kind = tape.kind[instrument]
    if kind == PERPETUAL:
        return mark, 0.0
    sigma = 0.0 if kind == FUTURE else np.nan
    if snapshot < 0:
        return index, sigma
    if kind == OPTION:
        sigma = tape.iv[snapshot, tape.iv_column[instrument]]
    return index * tape.forward_ratio[snapshot, tape.expiry_column[instrument]], sigma


@compiled(forceinline=True)
def years_to_expiry(tape: Any, instrument: int, now_ms: int) -> float:
    """Return years to expiry; 0 for a perpetual, which has none, and for what has expired.

    A contract outlives its expiry until the next market row settles it.
    """
    if tape.kind[instrument] == PERPETUAL:
        return 0.0
    return max(float(tape.expiry_ms[instrument] - now_ms), 0.0) / _MS_PER_YEAR


@compiled(forceinline=True)
def see_terms(world: Any, i: int, a: int, years: float, snapshot: int, now_ms: int) -> None:
    """Set carry, fixed share of the settlement and the oracle's confidence of one instrument.

    Only a contract that expires has the first two; a perpetual's stay at zero.
    """
    tape, market = world.tape, world.market
    market.confidence[i] = market.index_confidence[a]
    if tape.kind[i] != PERPETUAL:
        carry = tape.carry[snapshot, tape.expiry_column[i]] if snapshot >= 0 else 0.0
        market.rate[i] = carry / years if years > 0.0 else 0.0
        average = world.venue.settlement_average_ms
        left = max(float(tape.expiry_ms[i] - now_ms), 0.0)
        market.settled[i] = 1.0 - left / average if left < average else 0.0


@compiled()
def price_now(world: Any, i: int) -> None:
    """Set the true values of one instrument, once per set of true prices."""
    tape, state = world.tape, world.state
    stamp = state.counter[STAMP]
    if state.priced[i] == stamp:
        return
    row, a = state.counter[ROW], tape.asset[i]
    index = state.assets[TRUE_INDEX, a]
    forward, sigma = forward_of(tape, i, index, state.assets[TRUE_MARK, a], tape.snapshot[row])
    years = years_to_expiry(tape, i, tape.ts[row])
    unit, usd, notional, delta = contract_values(
        tape.kind[i], tape.inverse[i] == 1, tape.is_call[i] == 1, tape.contract_size[i],
        tape.strike[i], index, forward, sigma, years,
    )  # fmt: skip
    state.unit[i] = unit
    state.value_usd[i] = usd
    state.notional_usd[i] = notional
    state.delta_usd[i] = delta
    state.priced[i] = stamp


@compiled()
def price_seen(world: Any, i: int) -> None:
    """Set what the venue sees of one instrument, once per set of seen prices."""
    tape, state, market = world.tape, world.state, world.market
    tick = state.counter[TICK]
    if state.seen_priced[i] == tick:
        return
    instant, a = state.counter[INSTANT], tape.asset[i]
    now = world.timeline.at_ms[instant]
    index = market.index[a]
    snapshot = world.timeline.seen_snapshot[instant]
    forward, sigma = forward_of(tape, i, index, market.mark[a], snapshot)
    years = years_to_expiry(tape, i, now)
    if state.counter[SAME_VIEW] == 1 and state.priced[i] == state.counter[STAMP]:
        market.value_usd[i] = state.value_usd[i]
        market.notional_usd[i] = state.notional_usd[i]
        market.delta_usd[i] = state.delta_usd[i]
    else:
        _, usd, notional, delta = contract_values(
            tape.kind[i], tape.inverse[i] == 1, tape.is_call[i] == 1, tape.contract_size[i],
            tape.strike[i], index, forward, sigma, years,
        )  # fmt: skip
        market.value_usd[i] = usd
        market.notional_usd[i] = notional
        market.delta_usd[i] = delta
    market.forward[i] = forward
    market.sigma[i] = sigma
    market.years[i] = years
    see_terms(world, i, a, years, snapshot, now)
    state.seen_priced[i] = tick


@compiled()
def see_prices(world: Any, instant: int) -> None:
    """Take over the index and mark of the rows that the venue sees at an instant."""
    tape, market, assets = world.tape, world.market, world.state.assets
    seen_row = world.timeline.seen_row
    for a in range(market.index.shape[0]):
        row = seen_row[instant, a]
        index, mark = tape.index[row, a], tape.mark[row, a]
        if world.venue.feedback_on != 0.0:
            index = index * (1.0 + assets[SEEN_SHIFT, a])
            mark = mark * (1.0 + assets[SEEN_SHIFT, a])
        market.index[a] = index
        market.mark[a] = mark
        market.index_confidence[a] = tape.confidence[row, a]
    world.state.counter[TICK] += 1
    market.tick[0] = world.state.counter[TICK]


@compiled()
def exposure_usd(world: Any, instrument: int) -> float:
    """Return what executing one contract moves in the underlying's market, USD, unsigned.

    An option far from the money has almost no delta but is not free to trade.
    """
    state = world.state
    floor = world.venue.option_delta_floor * state.notional_usd[instrument]
    return max(abs(state.delta_usd[instrument]), floor)


@compiled()
def equity_now(world: Any, account: int) -> float:
    """Return an account's equity in USD at the market's own prices."""
    state = world.state
    cash, assets = state.cash, state.assets
    total = cash[0, account]
    for currency in range(1, cash.shape[0]):
        total += cash[currency, account] * assets[TRUE_INDEX, currency - 1]
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        total += state.quantity[slot] * state.value_usd[state.instrument[slot]]
    return total


@compiled()
def cash_seen(world: Any, account: int) -> float:
    """Return the worth of an account's cash in USD at the index that the venue sees."""
    cash, index = world.state.cash, world.market.index
    total = cash[0, account]
    for currency in range(1, cash.shape[0]):
        total += cash[currency, account] * index[currency - 1]
    return total


@compiled()
def equity_seen(world: Any, account: int) -> float:
    """Return an account's equity in USD at the prices that the venue sees."""
    state, value_usd = world.state, world.market.value_usd
    total = cash_seen(world, account)
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        total += state.quantity[slot] * value_usd[state.instrument[slot]]
    return total
