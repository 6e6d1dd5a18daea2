"""The margin check of everybody, and what follows short of a liquidation."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.aftermath import end_liquidation
from backtest.kernels.collateral import count_coins, haircut_usd
from backtest.kernels.liquidation import begin, enforceable
from backtest.kernels.margin_calls import call_margin, run_health
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
from backtest.kernels.state import (
    ACTIVE,
    HEALTH,
    LIST_STALE,
    LIVE,
    MONEY_MOVED,
    NEVER,
    ROW,
    SAME_VIEW,
    TRUE_INDEX,
)
from backtest.kernels.trigger import fires


@compiled()
def list_active(state: Any) -> int:
    """List the accounts that hold positions in ``state.active``, if any changed; count them."""
    if state.counter[LIST_STALE] == 1:
        count = 0
        held, active = state.count, state.active
        for account in range(held.shape[0] - 1):
            if held[account] > 0:
                active[count] = account
                count += 1
        state.counter[ACTIVE] = count
        state.counter[LIST_STALE] = 0
    return state.counter[ACTIVE]


@compiled()
def fill_equities(world: Any, count: int, value_usd: Any, index: Any) -> None:
    """Fill the equity in USD of the active accounts at given unit values and index prices.

    The same sums as `equity_seen`, in the same order; arrays are bound before the loop.
    """
    state = world.state
    cash, start, held, active = state.cash, state.start, state.count, state.active
    instrument, quantity, equity = state.instrument, state.quantity, state.equity
    currencies = cash.shape[1]
    for k in range(count):
        account = active[k]
        total = cash[account, 0]
        for currency in range(1, currencies):
            total += cash[account, currency] * index[currency - 1]
        first = start[account]
        for slot in range(first, first + held[account]):
            total += quantity[slot] * value_usd[instrument[slot]]
        equity[account] = total


@compiled()
def record_levels(world: Any, count: int) -> None:
    """Record what is open, locked and required at the moment of the margin check."""
    state, ask, series = world.state, world.ask, world.records.series
    gross, notional_usd, row = state.gross, state.notional_usd, state.counter[ROW]
    active, equity, initial, maintenance = state.active, state.equity, ask.initial, ask.maintenance
    notional = locked = asked = kept = 0.0
    for i in range(gross.shape[0]):
        notional += gross[i] * notional_usd[i]
    for k in range(count):
        account = active[k]
        locked += max(equity[account], 0.0)
        asked += initial[account]
        kept += maintenance[account]
    series[row, OPEN_NOTIONAL] = notional
    series[row, LOCKED_COLLATERAL] = locked
    series[row, REQUIRED_INITIAL] = asked
    series[row, REQUIRED_MAINTENANCE] = kept
    series[row, ACCOUNTS_OPEN] = count


@compiled()
def _list_unsettled(world: Any, count: int) -> int:
    """List the active accounts for which the check has something to do in ``state.listed``.

    The others are solvent beyond the call level, have no open call, no liquidation in progress
    and nothing to take home: nearly everybody, nearly always.
    """
    state, book, ask, venue = world.state, world.book, world.ask, world.venue
    call_ts, liquidation_ts = state.call_ts, state.liquidation_ts
    equity, active, listed = state.equity, state.active, state.listed
    buffer, release, level = book.buffer, book.release, venue.call_level
    initial, maintenance = ask.initial, ask.maintenance
    everybody = venue.trigger_on != 0.0 or state.level[HEALTH] < 1.0
    elastic = book.recorded == 0
    found = 0
    for k in range(count):
        account = active[k]
        held, kept = equity[account], maintenance[account]
        settled = held >= kept and held >= level * kept
        settled = settled and call_ts[account] == NEVER and liquidation_ts[account] == NEVER
        if settled and elastic:
            settled = not held > release[account] * (buffer[account] * initial[account])
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
    count = list_active(state)
    active = state.active
    require(world, kernels, active, count)
    if state.counter[LIVE] > 0:
        for k in range(count):
            account = active[k]
            if state.live_count[account] > 0:
                initial = ask.initial[account]
                ask.initial[account] = include_orders(world, kernels, account, initial, 0, 0)
    fill_equities(world, count, state.value_usd, state.assets[TRUE_INDEX])
    record_levels(world, count)
    if state.counter[SAME_VIEW] == 0:
        fill_equities(world, count, world.market.value_usd, world.market.index)
    series[row, HAIRCUT_LEVEL] = 0.0
    if world.venue.haircuts_on != 0.0:
        for k in range(count):
            account = active[k]
            taken = haircut_usd(world, account)
            state.equity[account] -= taken
            series[row, HAIRCUT_LEVEL] += taken
    series[row, CHECKS] += 1.0
    state.level[HEALTH] = run_health(world)
    found = _list_unsettled(world, count)
    if found > 0:
        state.counter[MONEY_MOVED] = 1
    for k in range(found):
        check_one(world, kernels, state.listed[k])
