"""Who pays for a deficit: insurance fund, then winners, then everybody.

Shortfalls of an instant are gathered per asset and per side of the accounts that failed, so
that an asset's draws on the fund can be capped and the winners of the other side be asked.
"""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.adl import deleverage, unrealised_gain
from backtest.kernels.laws.deleveraging import fund_payment, pro_rata_share
from backtest.kernels.money import charge
from backtest.kernels.records import (
    IN_SOCIALISED,
    INSURANCE_DRAWDOWN,
    RESIDUAL_BAD_DEBT,
    SOCIALISED,
)
from backtest.kernels.state import (
    CLIENT_FUNDS,
    DEFICIT,
    DRAWN,
    FEES,
    FUND,
    OWED_BY_LONGS,
    OWED_SO_FAR,
    ROW,
)
from backtest.kernels.valuation import equity_now
from backtest.rules.waterfall import (
    BY_FUNDING,
    BY_PROFIT,
    BY_WITHDRAWAL,
    DUST_SHARE,
    DUST_USD,
    NO_ADL,
)


@compiled()
def _take(world: Any, account: int, amount_usd: float) -> None:
    state = world.state
    charge(world, account, amount_usd, IN_SOCIALISED)
    state.purse[DEFICIT] += amount_usd
    world.records.series[state.counter[ROW], SOCIALISED] += amount_usd


@compiled()
def _share_by_equity(world: Any, residual: float) -> None:
    """Share a loss in proportion to equity among the accounts that hold positions."""
    state = world.state
    solvent = 0.0
    for account in range(state.cash.shape[1] - 1):
        if state.count[account] > 0:
            solvent += max(equity_now(world, account), 0.0)
    share = pro_rata_share(residual, solvent)
    if share <= 0.0:
        return
    for account in range(state.cash.shape[1] - 1):
        if state.count[account] > 0:
            equity = equity_now(world, account)
            if equity > 0.0:
                _take(world, account, share * equity)


@compiled()
def _share_by_profit(world: Any, residual: float) -> float:
    """Share a loss in proportion to unrealised profit; return what is left."""
    state, gain = world.state, world.state.gain
    accounts = state.cash.shape[1] - 1
    total = 0.0
    for account in range(accounts):
        gain[account] = 0.0
        if state.count[account] > 0:
            profit = max(unrealised_gain(world, account, -1), 0.0)
            gain[account] = min(profit, max(equity_now(world, account), 0.0))
            total += gain[account]
    share = pro_rata_share(residual, total)
    for account in range(accounts):
        if gain[account] > 0.0:
            _take(world, account, share * gain[account])
            residual -= share * gain[account]
    return residual


@compiled()
def _share_by_contract(world: Any, asset: int, loss: float) -> float:
    """Charge a loss per contract of an asset, as a funding index does; return what is left."""
    state, amount = world.state, world.state.gain
    accounts = state.cash.shape[1] - 1
    total = 0.0
    for account in range(accounts):
        amount[account] = 0.0
        first = state.start[account]
        for slot in range(first, first + state.count[account]):
            i = state.instrument[slot]
            if world.tape.asset[i] == asset:
                amount[account] += abs(state.quantity[slot]) * state.notional_usd[i]
        total += amount[account]
    residual = loss
    for account in range(accounts):
        if amount[account] > 0.0:
            due = loss * amount[account] / total
            due = min(due, max(equity_now(world, account), 0.0))
            if due > 0.0:
                _take(world, account, due)
                residual -= due
    return residual


@compiled()
def _socialise(world: Any, asset: int, residual: float) -> None:
    """Share out what neither fund nor winners paid; what nobody can pay stays uncovered."""
    by = world.venue.socialised_by
    if by == BY_WITHDRAWAL:
        return
    if by == BY_PROFIT:
        residual = _share_by_profit(world, residual)
    elif by == BY_FUNDING:
        residual = _share_by_contract(world, asset, residual)
    if residual > 0.0:
        _share_by_equity(world, residual)


@compiled()
def waterfall(world: Any) -> bool:
    """Cover the shortfalls of this instant, asset by asset; return whether there were any."""
    state, venue, series = world.state, world.venue, world.records.series
    purse, assets, row = state.purse, state.assets, state.counter[ROW]
    shared = False
    for a in range(assets.shape[1]):
        for side in range(2):
            owed = assets[OWED_BY_LONGS + side, a]
            assets[OWED_BY_LONGS + side, a] = 0.0
            state.level[OWED_SO_FAR] += owed
            if owed <= DUST_USD:
                continue
            shared = True
            cap_left = venue.market_cap_usd[a] - assets[DRAWN, a]
            paid = fund_payment(purse[FUND], owed, cap_left)
            purse[FUND] -= paid
            purse[DEFICIT] += paid
            assets[DRAWN, a] += paid
            series[row, INSURANCE_DRAWDOWN] += paid
            residual = owed - paid
            if residual <= 0.0:
                continue
            series[row, RESIDUAL_BAD_DEBT] += residual
            if venue.adl_mode != NO_ADL:
                residual = deleverage(world, a, side, residual)
            if residual > 0.0:
                _socialise(world, a, residual)
    if abs(purse[DEFICIT]) <= DUST_SHARE * state.level[OWED_SO_FAR]:
        purse[FEES] += purse[DEFICIT]
        purse[DEFICIT] = 0.0
    state.level[CLIENT_FUNDS] = 0.0
    if venue.socialised_by == BY_WITHDRAWAL and purse[DEFICIT] < 0.0:
        for account in range(state.cash.shape[1] - 1):
            state.level[CLIENT_FUNDS] += max(equity_now(world, account), 0.0)
    return shared
