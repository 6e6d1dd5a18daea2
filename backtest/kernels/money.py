"""Double-entry money: every transfer leaves one place and arrives in another.

Money lives in accounts, in their wallets outside the venue, in the purses (fund, liquidators,
fees, uncovered deficit, vault) and with the market, which is the counterparty of every trade.
What the market receives is collected in ``state.flow`` and posted once per instant, so that its
balance does not gather a rounding error per transfer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from backtest.cache import compiled
from backtest.kernels.lanes import LANES, load, magnitude, zeros
from backtest.kernels.lanes import total as sum_lanes
from backtest.kernels.laws.deleveraging import withdrawal_haircut
from backtest.kernels.records import (
    DEFICIT_LEVEL,
    DEPOSITS,
    FUND_LEVEL,
    GROSS_BAD_DEBT,
    IN_BAD_DEBT,
    IN_DEPOSITS,
    IN_SOCIALISED,
    IN_TRADING,
    IN_WITHDRAWALS,
    SOCIALISED,
    VAULT_LEVEL,
    WITHDRAWALS,
)
from backtest.kernels.state import (
    CLIENT_FUNDS,
    DEFICIT,
    FEES,
    FUND,
    MONEY_MOVED,
    PURSES,
    ROW,
    VAULT,
    WALLETS_MOVED,
    WORLD,
)
from backtest.kernels.valuation import equity_now, rate_now, settlement_currency
from backtest.rules.waterfall import BY_WITHDRAWAL


@compiled(types.void(WORLD, types.int64, types.float64, types.int64))
def charge(world: Any, account: int, amount_usd: float, column: int) -> None:
    """Take US dollars from an account, out of its collateral currency, at the index.

    The caller books the dollars where they go; ``column`` is that of the account's ledger.
    """
    state = world.state
    currency = world.book.collateral_currency[account]
    coins = amount_usd / rate_now(state, currency)
    state.cash[currency, account] -= coins
    if currency != 0:
        state.flow[currency] += coins
        state.flow[0] -= amount_usd
    world.records.ledger[account, column] -= amount_usd


@compiled()
def pay_for_contracts(
    world: Any, account: int, instrument: int, quantity: float, unit: float
) -> None:
    """Pay the market for contracts at a unit value; selling is paid the other way."""
    state = world.state
    currency = settlement_currency(world.tape, instrument)
    paid = quantity * unit
    state.cash[currency, account] -= paid
    state.flow[currency] += paid
    world.records.ledger[account, IN_TRADING] -= paid * rate_now(state, currency)


@compiled()
def fund_income(world: Any, amount_usd: float) -> None:
    """Put money into the insurance fund up to its target; the rest is the venue's."""
    purse = world.state.purse
    kept = min(amount_usd, max(world.venue.fund_target_usd - purse[FUND], 0.0))
    purse[FUND] += kept
    purse[FEES] += amount_usd - kept


@compiled()
def deposit(world: Any, account: int, amount_usd: float, rate: float) -> None:
    """Move money from wallet to account: an amount in USD at a rate, at most the wallet."""
    state, series = world.state, world.records.series
    currency = world.book.collateral_currency[account]
    owner = world.book.owner[account]
    coins = min(amount_usd / rate, state.wallet[owner])
    state.wallet[owner] -= coins
    state.counter[WALLETS_MOVED] = 1
    state.cash[currency, account] += coins
    worth = coins * rate_now(state, currency)
    series[state.counter[ROW], DEPOSITS] += worth
    world.records.ledger[account, IN_DEPOSITS] += worth


@compiled()
def haircut_on_withdrawal(world: Any, account: int, amount_usd: float) -> float:
    """Keep back a withdrawal's part of an uncovered deficit; return what may leave."""
    state = world.state
    if world.venue.socialised_by != BY_WITHDRAWAL or state.purse[DEFICIT] >= 0.0:
        return amount_usd
    cut = amount_usd * withdrawal_haircut(-state.purse[DEFICIT], state.level[CLIENT_FUNDS])
    charge(world, account, cut, IN_SOCIALISED)
    state.purse[DEFICIT] += cut
    world.records.series[state.counter[ROW], SOCIALISED] += cut
    return amount_usd - cut


@compiled()
def withdraw(world: Any, account: int, amount_usd: float, rate: float) -> None:
    """Move money from account to wallet: an amount in USD at a rate."""
    state, series = world.state, world.records.series
    currency = world.book.collateral_currency[account]
    coins = haircut_on_withdrawal(world, account, amount_usd) / rate
    state.cash[currency, account] -= coins
    state.wallet[world.book.owner[account]] += coins
    state.counter[WALLETS_MOVED] = 1
    worth = coins * rate_now(state, currency)
    series[state.counter[ROW], WITHDRAWALS] += worth
    world.records.ledger[account, IN_WITHDRAWALS] -= worth


@compiled()
def close_out(world: Any, account: int) -> float:
    """Settle an account that holds no position any more.

    All its currencies are exchanged at the index for its collateral currency. What is left goes
    back to the wallet (in a recorded book it stays); what is missing becomes a deficit, counted
    here and nowhere else, so that bad debt is a flow, once per account.

    Returns
    -------
    float
        The shortfall in USD, 0 if there is none.
    """
    state, book = world.state, world.book
    series, ledger, row = world.records.series, world.records.ledger, state.counter[ROW]
    equity = equity_now(world, account)
    if equity >= 0.0 and book.recorded == 0:
        equity = haircut_on_withdrawal(world, account, equity)
    for currency in range(state.cash.shape[0]):
        state.flow[currency] += state.cash[currency, account]
        state.cash[currency, account] = 0.0
    state.flow[0] -= equity
    if equity < 0.0:
        state.purse[DEFICIT] += equity
        series[row, GROSS_BAD_DEBT] += -equity
        ledger[account, IN_BAD_DEBT] -= equity
        return -equity
    currency = book.collateral_currency[account]
    coins = equity / rate_now(state, currency)
    if currency != 0:
        state.flow[0] += equity
        state.flow[currency] -= coins
    if book.recorded == 1:
        state.cash[currency, account] = coins
        return 0.0
    state.wallet[book.owner[account]] += coins
    state.counter[WALLETS_MOVED] = 1
    series[row, WITHDRAWALS] += equity
    ledger[account, IN_WITHDRAWALS] -= equity
    return 0.0


@compiled()
def record_purses(world: Any) -> None:
    """Write down what fund, vault and deficit stand at."""
    state, series, row = world.state, world.records.series, world.state.counter[ROW]
    series[row, FUND_LEVEL] = state.purse[FUND]
    series[row, VAULT_LEVEL] = state.purse[VAULT]
    series[row, DEFICIT_LEVEL] = 0.0 - state.purse[DEFICIT]


@compiled()
def post_flows(world: Any) -> None:
    """Post what the market received at this instant."""
    outside, flow = world.state.outside, world.state.flow
    for currency in range(flow.shape[0]):
        outside[currency] += flow[currency]
        flow[currency] = 0.0


@compiled()
def _count_wallets(state: Any, currency: int) -> float:
    wallet, wallet_currency = state.wallet, state.wallet_currency
    total = 0.0
    for owner in range(wallet.shape[0]):
        if wallet_currency[owner] == currency:
            total += wallet[owner]
    return total


@compiled()
def _count_cash(state: Any, currency: int) -> tuple[float, float]:
    """Add up accounts' cash of a currency and its magnitude, by account number modulo eight."""
    cash = state.cash
    width = np.uint64(cash.shape[1])
    first = np.uint64(currency) * width
    accounts = width - np.uint64(1)
    whole = accounts // np.uint64(LANES) * np.uint64(LANES)
    held, size = zeros(LANES), zeros(LANES)
    for account in range(np.uint64(0), whole, np.uint64(LANES)):
        coins = load(cash, first + account, LANES)
        held = held + coins
        size = size + magnitude(coins)
    few = state.last_few
    for k in range(np.uint64(LANES)):
        few[k] = cash[currency, whole + k] if whole + k < accounts else 0.0
    coins = load(few, np.uint64(0), LANES)
    return sum_lanes(held + coins), sum_lanes(size + magnitude(coins))


@compiled()
def imbalance(world: Any) -> tuple[float, float]:
    """Add up all money there is and hold it against what there was at the start.

    What cannot have moved since the last count is not counted again.

    Returns
    -------
    tuple of float
        What appeared or vanished, and the gross sum it is relative to, both in USD.
    """
    state, purse = world.state, world.state.purse
    cash, counted = state.cash, state.counted
    leaked = 0.0
    gross = 0.0
    for currency in range(cash.shape[0]):
        if state.counter[WALLETS_MOVED] == 1:
            counted[2, currency] = _count_wallets(state, currency)
        if state.counter[MONEY_MOVED] == 1:
            total, scale = _count_cash(state, currency)
            total += state.outside[currency] + counted[2, currency]
            scale += abs(state.outside[currency]) + counted[2, currency]
            if currency == 0:
                for place in range(PURSES):
                    total += purse[place]
                    scale += abs(purse[place])
            counted[0, currency] = abs(total - state.opening[currency])
            counted[1, currency] = scale
        rate = rate_now(state, currency)
        leaked += counted[0, currency] * rate
        gross += counted[1, currency] * rate
    state.counter[MONEY_MOVED] = 0
    state.counter[WALLETS_MOVED] = 0
    return leaked, gross
