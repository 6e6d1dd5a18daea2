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


@compiled(forceinline=True)
def contract_values(
    perpetual: bool,
    inverse: bool,
    is_call: bool,
    size: float,
    strike: float,
    index: float,
    mark: float,
    forward: float,
    sigma: float,
    years: float,
) -> tuple[float, float, float, float]:
    """Value one contract.

    Parameters
    ----------
    perpetual, inverse, is_call
        Which of the instruments it is.
    size
        Coins per contract; US dollars for inverse perpetuals.
    strike, index, mark, forward
        US dollars.
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
    if perpetual:
        if inverse:
            unit = -size / mark
            return unit, unit * index, size, size
        unit = size * mark
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


@compiled()
def price_now(
    tape: TapeArrays, state: State, which: np.ndarray, row: int, delta_floor: float
) -> None:
    """Set the true values of some instruments at a row, each once."""
    kind, inverse, is_call = tape.kind, tape.inverse, tape.is_call
    size, strike, asset, expiry_ms = tape.contract_size, tape.strike, tape.asset, tape.expiry_ms
    index, mark, iv, ratio = tape.index, tape.mark, tape.iv, tape.forward_ratio
    iv_column, expiry_column = tape.iv_column, tape.expiry_column
    units, values_usd, notionals = state.unit, state.value_usd, state.notional_usd
    deltas, exposures, priced_row = state.delta_usd, state.exposure_usd, state.priced_row
    snapshot, now = tape.snapshot[row], tape.ts[row]
    for i in which:
        if priced_row[i] == row:
            continue
        spot = index[row, asset[i]]
        perpetual = kind[i] == PERPETUAL
        forward, sigma, years = spot, np.nan, 0.0
        if not perpetual and snapshot >= 0:
            forward = spot * ratio[snapshot, expiry_column[i]]
            sigma = iv[snapshot, iv_column[i]]
            years = (expiry_ms[i] - now) / _MS_PER_YEAR
        unit, usd, notional, delta = contract_values(
            perpetual,
            inverse[i] == 1,
            is_call[i] == 1,
            size[i],
            strike[i],
            spot,
            mark[row, asset[i]],
            forward,
            sigma,
            years,
        )
        units[i] = unit
        values_usd[i] = usd
        notionals[i] = notional
        deltas[i] = delta
        # An option far from the money has almost no delta but is not free to trade.
        exposures[i] = max(abs(delta), delta_floor * notional)
        priced_row[i] = row


@compiled()
def price_seen(tape: TapeArrays, state: State, market: Market, which: np.ndarray, row: int) -> None:
    """Set what the venue sees of some instruments at a row, each once."""
    kind, inverse, is_call = tape.kind, tape.inverse, tape.is_call
    size, strike, asset, expiry_ms = tape.contract_size, tape.strike, tape.asset, tape.expiry_ms
    index, mark, iv, ratio = tape.index, tape.mark, tape.iv, tape.forward_ratio
    iv_column, expiry_column = tape.iv_column, tape.expiry_column
    values_usd, notionals, forwards = market.value_usd, market.notional_usd, market.forward
    sigmas, all_years, priced_row = market.sigma, market.years, state.seen_priced_row
    seen, snapshot = tape.seen[row], tape.seen_snapshot[row]
    at = tape.ts[seen]
    for i in which:
        if priced_row[i] == row:
            continue
        spot = index[seen, asset[i]]
        perpetual = kind[i] == PERPETUAL
        forward, sigma, years = spot, np.nan, 0.0
        if perpetual:
            forward, sigma = mark[seen, asset[i]], 0.0
        elif snapshot >= 0:
            forward = spot * ratio[snapshot, expiry_column[i]]
            sigma = iv[snapshot, iv_column[i]]
            years = (expiry_ms[i] - at) / _MS_PER_YEAR
        _, usd, notional, _ = contract_values(
            perpetual,
            inverse[i] == 1,
            is_call[i] == 1,
            size[i],
            strike[i],
            spot,
            mark[seen, asset[i]],
            forward,
            sigma,
            years,
        )
        values_usd[i] = usd
        notionals[i] = notional
        forwards[i] = forward
        sigmas[i] = sigma
        all_years[i] = years
        priced_row[i] = row


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
