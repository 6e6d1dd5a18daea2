"""The margin check of everybody, and what follows short of a liquidation."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.aftermath import end_liquidation
from backtest.kernels.collateral import count_coins, haircut_usd
from backtest.kernels.liquidation import begin, enforceable
from backtest.kernels.margin_calls import call_margin, run_health
from backtest.kernels.records import (
    CHECKS,
    FROZEN,
    HAIRCUT_LEVEL,
    MISSED_TRIGGERS,
    NEEDLESS_TRIGGERS,
)
from backtest.kernels.requirement import include_orders, require
from backtest.kernels.state import (
    HEALTH,
    LIVE,
    MONEY_MOVED,
    ROW,
    SAME_VIEW,
    TRUE_INDEX,
)
from backtest.kernels.survey import (
    fill_equities,
    list_active,
    list_unsettled,
    record_levels,
)
from backtest.kernels.trigger import fires


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
    count = list_active(world)
    active = state.active
    require(world, kernels, active, count)
    if state.counter[LIVE] > 0:
        for k in range(count):
            account = active[k]
            if state.live_count[account] > 0:
                initial = ask.initial[account]
                ask.initial[account] = include_orders(world, kernels, account, initial, 0, 0)
    fill_equities(world, state.value_usd, state.assets[TRUE_INDEX])
    record_levels(world, count)
    if state.counter[SAME_VIEW] == 0:
        fill_equities(world, world.market.value_usd, world.market.index)
    series[row, HAIRCUT_LEVEL] = 0.0
    if world.venue.haircuts_on != 0.0:
        for k in range(count):
            account = active[k]
            taken = haircut_usd(world, account)
            state.equity[account] -= taken
            series[row, HAIRCUT_LEVEL] += taken
    series[row, CHECKS] += 1.0
    state.level[HEALTH] = run_health(world)
    found = list_unsettled(world, count)
    if found > 0:
        state.counter[MONEY_MOVED] = 1
    for k in range(found):
        check_one(world, kernels, state.listed[k])
