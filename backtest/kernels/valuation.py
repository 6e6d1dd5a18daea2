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
from backtest.venue import VenueNumbers

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
def price_contracts(
    tape: TapeArrays,
    which: np.ndarray,
    row: int,
    snapshot: int,
    stamp: int,
    stamps: np.ndarray,
    units: np.ndarray,
    values_usd: np.ndarray,
    notionals_usd: np.ndarray,
    deltas_usd: np.ndarray,
    forwards: np.ndarray,
    sigmas: np.ndarray,
    all_years: np.ndarray,
) -> None:
    """Value one contract of some instruments at the prices of a row, each once per stamp.

    Parameters
    ----------
    tape
        The tape.
    which
        Rows of the instrument table; those whose ``stamps`` say ``stamp`` are left alone.
    row, snapshot
        Tape row and option snapshot (-1 for none) whose prices are used.
    stamp
        Names this pricing.
    units, values_usd, notionals_usd, deltas_usd, forwards, sigmas, all_years
        ``(I,)`` arrays to fill; see `contract_values`.
    """
    kind, inverse, is_call = tape.kind, tape.inverse, tape.is_call
    size, strike, asset, expiry_ms = tape.contract_size, tape.strike, tape.asset, tape.expiry_ms
    index, mark, iv, ratio = tape.index, tape.mark, tape.iv, tape.forward_ratio
    iv_column, expiry_column, now = tape.iv_column, tape.expiry_column, tape.ts[row]
    for i in which:
        if stamps[i] == stamp:
            continue
        spot, at_mark = index[row, asset[i]], mark[row, asset[i]]
        perpetual = kind[i] == PERPETUAL
        forward, sigma, years = spot, np.nan, 0.0
        if perpetual:
            forward, sigma = at_mark, 0.0
        elif snapshot >= 0:
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
            at_mark,
            forward,
            sigma,
            years,
        )
        units[i] = unit
        values_usd[i] = usd
        notionals_usd[i] = notional
        deltas_usd[i] = delta
        forwards[i] = forward
        sigmas[i] = sigma
        all_years[i] = years
        stamps[i] = stamp


@compiled()
def price_now(tape: TapeArrays, state: State, which: np.ndarray, row: int) -> None:
    """Set the true values of some instruments at a row, each once."""
    price_contracts(
        tape,
        which,
        row,
        tape.snapshot[row],
        row,
        state.priced_row,
        state.unit,
        state.value_usd,
        state.notional_usd,
        state.delta_usd,
        state.unused[0],
        state.unused[1],
        state.unused[2],
    )


@compiled()
def price_seen(tape: TapeArrays, state: State, market: Market, which: np.ndarray, row: int) -> None:
    """Set what the venue sees of some instruments at a row, each once."""
    price_contracts(
        tape,
        which,
        tape.seen[row],
        tape.seen_snapshot[row],
        row,
        state.seen_priced_row,
        state.unused[0],
        market.value_usd,
        market.notional_usd,
        state.unused[1],
        market.forward,
        market.sigma,
        market.years,
    )


@compiled()
def exposure_usd(state: State, instrument: int, venue: VenueNumbers) -> float:
    """Return what executing one contract moves in the underlying's market, USD, unsigned.

    An option far from the money has almost no delta but is not free to trade.
    """
    floor = venue.option_delta_floor * state.notional_usd[instrument]
    return max(abs(state.delta_usd[instrument]), floor)


@compiled()
def equity_at(
    state: State, account: int, value_usd: np.ndarray, index: np.ndarray, row: int
) -> float:
    """Return an account's equity in USD at given unit values and the index of a row."""
    total = state.cash[account, 0]
    for currency in range(1, state.cash.shape[1]):
        total += state.cash[account, currency] * index[row, currency - 1]
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        total += state.quantity[slot] * value_usd[state.instrument[slot]]
    return total


@compiled()
def equity_now(tape: TapeArrays, state: State, account: int, row: int) -> float:
    """Return an account's equity in USD at the market's own prices."""
    return equity_at(state, account, state.value_usd, tape.index, row)


@compiled()
def equity_seen(tape: TapeArrays, state: State, market: Market, account: int, row: int) -> float:
    """Return an account's equity in USD at the prices that the venue sees."""
    return equity_at(state, account, market.value_usd, tape.index, tape.seen[row])


@compiled()
def fill_equities(
    state: State,
    value_usd: np.ndarray,
    index: np.ndarray,
    accounts: np.ndarray,
    equity: np.ndarray,
) -> None:
    """Fill the equity in USD of many accounts at given unit values and index prices.

    The same sums as `equity_at`, in the same order. Arrays are taken out of
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
