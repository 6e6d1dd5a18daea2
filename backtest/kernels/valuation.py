"""What one contract is worth: to the market now, and to the venue as it sees the market.

Instruments are priced only where an account holds them or an order asks, at most once per row.
"""

from __future__ import annotations

import numpy as np

from backtest.cache import compiled
from backtest.instruments import PERPETUAL
from backtest.kernels.black76 import black76, black76_delta
from backtest.kernels.state import State, TapeArrays
from backtest.kernels.types import Market
from backtest.units import MS_PER_YEAR

_MS_PER_YEAR = float(MS_PER_YEAR)


@compiled(inline="always")
def rate_to_usd(tape: TapeArrays, row: int, currency: int) -> float:
    """Return US dollars per unit of a currency at a row: 1, or the asset's index."""
    return 1.0 if currency == 0 else tape.index[row, currency - 1]


@compiled(inline="always")
def settlement_currency(tape: TapeArrays, instrument: int) -> int:
    """Return 0 for a linear instrument, ``1 + asset`` for one that settles in coin."""
    return 1 + tape.asset[instrument] if tape.inverse[instrument] == 1 else 0


@compiled()
def contract_values(
    tape: TapeArrays, instrument: int, row: int, snapshot: int
) -> tuple[float, float, float, float, float, float, float]:
    """Value one contract at a row.

    Parameters
    ----------
    tape
        The tape.
    instrument
        Its row in the instrument table.
    row
        Tape row whose prices are used.
    snapshot
        Option snapshot whose volatilities are used, -1 for none.

    Returns
    -------
    tuple of float
        Unit value in the settlement currency (NaN where no volatility was ever quoted), unit
        value in USD, notional in USD, delta in USD, forward, volatility, years to expiry.
    """
    asset = tape.asset[instrument]
    size = tape.contract_size[instrument]
    index = tape.index[row, asset]
    if tape.kind[instrument] == PERPETUAL:
        mark = tape.mark[row, asset]
        if tape.inverse[instrument] == 1:
            unit = -size / mark
            return unit, unit * index, size, size, mark, 0.0, 0.0
        unit = size * mark
        return unit, unit, unit, unit, mark, 0.0, 0.0
    if snapshot < 0:
        return np.nan, np.nan, size * index, 0.0, index, 0.0, 0.0
    sigma = tape.iv[snapshot, tape.iv_column[instrument]]
    forward = index * tape.forward_ratio[snapshot, tape.expiry_column[instrument]]
    years = (tape.expiry_ms[instrument] - tape.ts[row]) / _MS_PER_YEAR
    if np.isnan(sigma):
        return np.nan, np.nan, size * index, 0.0, forward, sigma, years
    strike = tape.strike[instrument]
    call = tape.is_call[instrument] == 1
    price = black76(forward, strike, sigma, years, call)
    delta = black76_delta(forward, strike, sigma, years, call)
    notional = size * index
    if tape.inverse[instrument] == 1:
        unit = size * price / forward
        return unit, unit * index, notional, delta * notional, forward, sigma, years
    unit = size * price
    return unit, unit, notional, delta * notional, forward, sigma, years


@compiled()
def price_now(
    tape: TapeArrays, state: State, instrument: int, row: int, delta_floor: float
) -> bool:
    """Set an instrument's true values at a row, once; return whether it has a price."""
    if state.priced_row[instrument] != row:
        unit, usd, notional, delta, _, _, _ = contract_values(
            tape, instrument, row, tape.snapshot[row]
        )
        state.unit[instrument] = unit
        state.value_usd[instrument] = usd
        state.notional_usd[instrument] = notional
        state.delta_usd[instrument] = delta
        # An option far from the money has almost no delta but is not free to trade.
        state.exposure_usd[instrument] = max(abs(delta), delta_floor * notional)
        state.priced_row[instrument] = row
    return not np.isnan(state.unit[instrument])


@compiled()
def price_seen(tape: TapeArrays, state: State, market: Market, instrument: int, row: int) -> bool:
    """Set what the venue sees of an instrument at a row, once; return whether it has a price."""
    if state.seen_priced_row[instrument] != row:
        _, usd, notional, _, forward, sigma, years = contract_values(
            tape, instrument, tape.seen[row], tape.seen_snapshot[row]
        )
        market.value_usd[instrument] = usd
        market.notional_usd[instrument] = notional
        market.forward[instrument] = forward
        market.sigma[instrument] = sigma
        market.years[instrument] = years
        state.seen_priced_row[instrument] = row
    return not np.isnan(market.value_usd[instrument])


@compiled()
def equity_now(tape: TapeArrays, state: State, account: int, row: int) -> float:
    """Return an account's equity in USD at the market's own prices."""
    total = state.cash[account, 0]
    for currency in range(1, state.cash.shape[1]):
        total += state.cash[account, currency] * tape.index[row, currency - 1]
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        total += state.quantity[slot] * state.value_usd[state.instrument[slot]]
    return total


@compiled()
def equity_seen(tape: TapeArrays, state: State, market: Market, account: int, row: int) -> float:
    """Return an account's equity in USD at the prices that the venue sees."""
    seen = tape.seen[row]
    total = state.cash[account, 0]
    for currency in range(1, state.cash.shape[1]):
        total += state.cash[account, currency] * tape.index[seen, currency - 1]
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        total += state.quantity[slot] * market.value_usd[state.instrument[slot]]
    return total


@compiled()
def fill_equities(
    state: State,
    value_usd: np.ndarray,
    index: np.ndarray,
    accounts: np.ndarray,
    equity: np.ndarray,
) -> None:
    """Fill the equity in USD of many accounts at given unit values and index prices.

    The same sums as `equity_now` and `equity_seen`, in the same order. Arrays are taken out of
    the state before the loop, because taking one out is what costs most.
    """
    cash, start, count = state.cash, state.start, state.count
    instrument, quantity = state.instrument, state.quantity
    currencies = cash.shape[1]
    for account in accounts:
        total = cash[account, 0]
        for currency in range(1, currencies):
            total += cash[account, currency] * index[currency - 1]
        first = start[account]
        for slot in range(first, first + count[account]):
            total += quantity[slot] * value_usd[instrument[slot]]
        equity[account] = total
