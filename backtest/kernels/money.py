"""Double-entry money: every transfer leaves one place and arrives in another.

Money lives in accounts, in their wallets outside the venue, in the purses (fund, liquidators,
fees, uncovered deficit) and with the market, which is the counterparty of every trade. What
the market receives is collected per tick in ``state.flow`` and posted once, so that its balance
does not gather a rounding error per transfer.
"""

from __future__ import annotations

import numpy as np

from backtest.cache import compiled
from backtest.kernels.state import (
    DEFICIT,
    DEPOSITS,
    FUND,
    GROSS_BAD_DEBT,
    INSURANCE_DRAWDOWN,
    PURSES,
    RESIDUAL_BAD_DEBT,
    WITHDRAWALS,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.valuation import equity_now, rate_to_usd


@compiled()
def charge(
    tape: TapeArrays, book: BookArrays, state: State, account: int, row: int, amount_usd: float
) -> None:
    """Take US dollars from an account, out of its collateral currency, at the index.

    The caller books the dollars where they go.
    """
    currency = book.collateral_currency[account]
    coins = amount_usd / rate_to_usd(tape, row, currency)
    state.cash[account, currency] -= coins
    if currency != 0:
        state.flow[currency] += coins
        state.flow[0] -= amount_usd


@compiled()
def deposit(
    tape: TapeArrays,
    book: BookArrays,
    state: State,
    series: np.ndarray,
    account: int,
    row: int,
    amount_usd: float,
    rate: float,
) -> None:
    """Move money from wallet to account: an amount in USD at a rate, at most the wallet."""
    currency = book.collateral_currency[account]
    coins = min(amount_usd / rate, state.wallet[account])
    state.wallet[account] -= coins
    state.cash[account, currency] += coins
    series[row, DEPOSITS] += coins * rate_to_usd(tape, row, currency)


@compiled()
def withdraw(
    tape: TapeArrays,
    book: BookArrays,
    state: State,
    series: np.ndarray,
    account: int,
    row: int,
    amount_usd: float,
    rate: float,
) -> None:
    """Move money from account to wallet: an amount in USD at a rate."""
    currency = book.collateral_currency[account]
    coins = amount_usd / rate
    state.cash[account, currency] -= coins
    state.wallet[account] += coins
    series[row, WITHDRAWALS] += coins * rate_to_usd(tape, row, currency)


@compiled()
def close_out(
    tape: TapeArrays, book: BookArrays, state: State, series: np.ndarray, account: int, row: int
) -> float:
    """Settle an account that holds no position any more.

    All its currencies are exchanged at the index. What is left goes back to the wallet (in a
    recorded book it stays); what is missing becomes a deficit, counted here and nowhere else,
    so that bad debt is a flow, once per account.

    Returns
    -------
    float
        The shortfall in USD, 0 if there is none.
    """
    equity = equity_now(tape, state, account, row)
    if equity >= 0.0 and book.recorded[0] == 1:
        return 0.0
    for currency in range(state.cash.shape[1]):
        state.flow[currency] += state.cash[account, currency]
        state.cash[account, currency] = 0.0
    state.flow[0] -= equity
    if equity < 0.0:
        state.purse[DEFICIT] += equity
        series[row, GROSS_BAD_DEBT] += -equity
        return -equity
    currency = book.collateral_currency[account]
    coins = equity / rate_to_usd(tape, row, currency)
    if currency != 0:
        state.flow[0] += equity
        state.flow[currency] -= coins
    state.wallet[account] += coins
    series[row, WITHDRAWALS] += equity
    return 0.0


@compiled()
def waterfall(
    tape: TapeArrays, book: BookArrays, state: State, series: np.ndarray, row: int, shortfall: float
) -> None:
    """Cover this instant's shortfall: insurance fund first, then every solvent account.

    The part that the fund cannot pay is shared in proportion to equity among the accounts that
    hold positions; should even that not do, the rest stays in the deficit purse.
    """
    if shortfall <= 0.0:
        return
    paid = min(state.purse[FUND], shortfall)
    state.purse[FUND] -= paid
    state.purse[DEFICIT] += paid
    series[row, INSURANCE_DRAWDOWN] += paid
    residual = shortfall - paid
    if residual <= 0.0:
        return
    series[row, RESIDUAL_BAD_DEBT] += residual
    accounts = state.wallet.shape[0]
    solvent = 0.0
    for account in range(accounts):
        if state.count[account] > 0:
            solvent += max(equity_now(tape, state, account, row), 0.0)
    if solvent <= 0.0:
        return
    share = min(residual / solvent, 1.0)
    for account in range(accounts):
        if state.count[account] > 0:
            equity = equity_now(tape, state, account, row)
            if equity > 0.0:
                charge(tape, book, state, account, row, share * equity)
                state.purse[DEFICIT] += share * equity


@compiled()
def imbalance(tape: TapeArrays, book: BookArrays, state: State, row: int) -> tuple[float, float]:
    """Add up all money there is and hold it against what there was at the start.

    Returns
    -------
    tuple of float
        What appeared or vanished, and the gross sum it is relative to, both in USD.
    """
    cash, wallet, collateral = state.cash, state.wallet, book.collateral_currency
    accounts = wallet.shape[0]
    leaked = 0.0
    gross = 0.0
    for currency in range(state.cash.shape[1]):
        total = state.outside[currency]
        scale = abs(total)
        for account in range(accounts):
            total += cash[account, currency]
            scale += abs(cash[account, currency])
            if collateral[account] == currency:
                total += wallet[account]
                scale += wallet[account]
        if currency == 0:
            for purse in range(PURSES):
                total += state.purse[purse]
                scale += abs(state.purse[purse])
        rate = rate_to_usd(tape, row, currency)
        leaked += abs(total - state.opening[currency]) * rate
        gross += scale * rate
    return leaked, gross
