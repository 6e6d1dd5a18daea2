"""The margin check of everybody, and what follows short of a liquidation."""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.cache import compiled
from backtest.kernels.collateral import count_coins, haircut_usd
from backtest.kernels.aftermath import end_liquidation
from backtest.kernels.liquidation import begin, enforceable
from backtest.kernels.margin_calls import call_margin, run_factor, run_health
from backtest.kernels.records import (
    ACCOUNTS_OPEN,
    CHECKS,
    FROZEN,
    HAIRCUT_LEVEL,
    LOCKED_COLLATERAL,
    MISSED_TRIGGERS,
    NEEDLESS_TRIGGERS,
    OPEN_NOTIONAL,
    REQUIRED_INITIAL,
    REQUIRED_MAINTENANCE,
)
from backtest.kernels.requirement import include_orders, require
from backtest.kernels.state import CLOCK, HEALTH, NEVER, ROW, TRUE_INDEX
from backtest.kernels.trigger import fires


@compiled()
def fill_equities(world: Any, count: int, value_usd: Any, index: Any, equity: Any) -> None:
    """Fill the equity in USD of ``who[:count]`` at given unit values and index prices.

    The same sums as `equity_seen`, in the same order; arrays are bound before the loop.
    """
    state = world.state
    cash, start, held, who = state.cash, state.start, state.count, state.who
    instrument, quantity = state.instrument, state.quantity
    currencies = cash.shape[1]
    for k in range(count):
        account = who[k]
        total = cash[account, 0]
        for currency in range(1, currencies):
            total += cash[account, currency] * index[currency - 1]
        first = start[account]
        for slot in range(first, first + held[account]):
            total += quantity[slot] * value_usd[instrument[slot]]
        equity[account] = total


@compiled()
def record_levels(world: Any, count: int, equity: Any) -> None:
    """Record what is open, locked and required at the moment of the margin check."""
    state, ask, series = world.state, world.ask, world.records.series
    gross, notional_usd, who, row = state.gross, state.notional_usd, state.who, state.counter[ROW]
    initial, maintenance = ask.initial, ask.maintenance
    notional = locked = asked = kept = 0.0
    for i in range(gross.shape[0]):
        notional += gross[i] * notional_usd[i]
    for k in range(count):
        account = who[k]
        locked += max(equity[account], 0.0)
        asked += initial[account]
        kept += maintenance[account]
    series[row, OPEN_NOTIONAL] = notional
    series[row, LOCKED_COLLATERAL] = locked
    series[row, REQUIRED_INITIAL] = asked
    series[row, REQUIRED_MAINTENANCE] = kept
    series[row, ACCOUNTS_OPEN] = count


@compiled()
def _list_active(state: Any) -> int:
    count = 0
    held, who = state.count, state.who
    for account in range(held.shape[0] - 1):
        if held[account] > 0:
            who[count] = account
            count += 1
    return count


@compiled()
def _list_unsettled(world: Any, count: int) -> int:
    """List the accounts of ``who[:count]`` for which the check has something to do.

    The others are solvent beyond the call level, have no open call, no liquidation in progress
    and nothing to take home: nearly everybody, nearly always.
    """
    state, book, ask, venue = world.state, world.book, world.ask, world.venue
    call_ts, liquidation_ts, equity, listed = (
        state.call_ts,
        state.liquidation_ts,
        state.equity,
        state.listed,
    )
    buffer, release, who, level = book.buffer, book.release, state.who, venue.call_level
    initial, maintenance = ask.initial, ask.maintenance
    everybody = venue.trigger_on != 0.0 or state.level[HEALTH] < 1.0
    elastic = book.recorded == 0
    found = 0
    for k in range(count):
        account = who[k]
        settled = (
            equity[account] >= maintenance[account]
            and equity[account] >= level * maintenance[account]
            and call_ts[account] == NEVER
            and liquidation_ts[account] == NEVER
        )
        if settled and elastic:
            target = buffer[account] * initial[account]
            settled = not equity[account] > release[account] * target
        if everybody or not settled:
            listed[found] = account
            found += 1
    return found


@compiled()
def check_one(world: Any, kernels: Any, account: int) -> None:
    """Compare one account's equity with its margin and act; both are already known."""
    state, series = world.state, world.records.series
    row = state.counter[ROW]
    equity = state.equity[account]
    initial, maintenance = world.ask.initial[account], world.ask.maintenance[account]
    breached = equity < maintenance
    if not enforceable(world, account):
        series[row, FROZEN] += 1.0 if breached else 0.0
        return
    if world.venue.trigger_on != 0.0:
        if not fires(world, account, maintenance):
            series[row, MISSED_TRIGGERS] += 1.0 if breached else 0.0
            return
        series[row, NEEDLESS_TRIGGERS] += 0.0 if breached else 1.0
    if breached:
        begin(world, account, equity, maintenance)
        return
    if state.queued[account] == 0:
        end_liquidation(state, account)
    if call_margin(world, account, equity, initial, maintenance):
        begin(world, account, equity, maintenance)


@compiled()
def check_all(world: Any, kernels: Any) -> None:
    """Check everybody who holds a position against the requirement of this moment.

    Requirement and equity of all are taken before anything is done to anybody.
    """
    state, ask, series = world.state, world.ask, world.records.series
    row = state.counter[ROW]
    count_coins(world)
    count = _list_active(state)
    require(world, kernels, count)
    # Asking for one account uses the list of whom to ask, so the active ones are kept apart.
    active = state.active
    for k in range(count):
        active[k] = state.who[k]
    for k in range(count):
        account = active[k]
        if state.live_count[account] > 0:
            initial = ask.initial[account]
            ask.initial[account] = include_orders(world, kernels, account, initial, 0, 0)
    for k in range(count):
        state.who[k] = active[k]
    fill_equities(world, count, state.value_usd, state.assets[TRUE_INDEX], state.equity)
    record_levels(world, count, state.equity)
    fill_equities(world, count, world.market.value_usd, world.market.index, state.equity)
    series[row, HAIRCUT_LEVEL] = 0.0
    if world.venue.haircuts_on != 0.0:
        for k in range(count):
            account = state.who[k]
            taken = haircut_usd(world, account)
            state.equity[account] -= taken
            series[row, HAIRCUT_LEVEL] += taken
    series[row, CHECKS] += 1.0
    state.level[HEALTH] = run_health(world)
    found = _list_unsettled(world, count)
    # What is asked of one account while others wait must not overwrite what waits.
    for k in range(found):
        account = state.listed[k]
        check_one(world, kernels, account)
