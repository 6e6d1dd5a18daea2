"""The margin check of everybody, and what follows short of a liquidation."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.aftermath import end_liquidation
from backtest.kernels.collateral import count_coins, haircut_usd, margin_equity
from backtest.kernels.liquidation import begin, enforceable
from backtest.kernels.margin_calls import call_margin, run_health
from backtest.kernels.records import (
    CHECKS,
    FROZEN,
    HAIRCUT_LEVEL,
    MISSED_TRIGGERS,
    NEEDLESS_TRIGGERS,
)
from backtest.kernels.requirement import include_orders, require, require_one
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
from backtest.kernels.waterfall import waterfall


@compiled()
def enforce_one(world: Any, account: int) -> bool:
    """Liquidate an account whose equity is below its margin; both are already known.

    Returns
    -------
    bool
        Whether the account is still to be looked after: it is sound, and the venue may act.
    """
    state, series = world.state, world.records.series
    row = state.counter[ROW]
    equity, maintenance = state.equity[account], world.ask.maintenance[account]
    breached = equity < maintenance
    if not enforceable(world, account):
        series[row, FROZEN] += 1.0 if breached else 0.0
        return False
    if world.venue.trigger_on != 0.0:
        if not fires(world, account, maintenance):
            series[row, MISSED_TRIGGERS] += 1.0 if breached else 0.0
            return False
        series[row, NEEDLESS_TRIGGERS] += 0.0 if breached else 1.0
    if breached:
        begin(world, account, equity, maintenance)
    return not breached


@compiled()
def look_after(world: Any, kernels: Any, account: int, again: bool) -> None:
    """Call an account for margin or let it take home what it can spare.

    Where deficits have just been shared out, what it has and needs is taken ``again``.
    """
    state, ask = world.state, world.ask
    if state.count[account] == 0:
        return
    if again:
        require_one(world, kernels, account)
        if state.live_count[account] > 0:
            initial = ask.initial[account]
            ask.initial[account] = include_orders(world, kernels, account, initial, 0, 0)
        state.equity[account] = margin_equity(world, account)
    equity, maintenance = state.equity[account], ask.maintenance[account]
    if equity < maintenance:
        begin(world, account, equity, maintenance)
        return
    if state.queued[account] == 0:
        end_liquidation(state, account)
    if call_margin(world, account, equity, ask.initial[account], maintenance):
        begin(world, account, equity, maintenance)


@compiled()
def check_all(world: Any, kernels: Any) -> None:
    """Check everybody who holds a position against the requirement of this moment.

    Requirement and equity of all are taken before anything is done to anybody. First the
    insolvent are liquidated and their deficits shared out; only then may winners go home.
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
        account = state.listed[k]
        state.done[account] = 0 if enforce_one(world, account) else 1
    if waterfall(world):
        # Whoever paid for others may be short of margin now, so everybody is asked anew.
        for k in range(count):
            if state.done[active[k]] == 0:
                look_after(world, kernels, active[k], True)
    else:
        for k in range(found):
            if state.done[state.listed[k]] == 0:
                look_after(world, kernels, state.listed[k], False)
    for k in range(found):
        state.done[state.listed[k]] = 0
