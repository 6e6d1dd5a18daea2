"""What the replay scheduled itself, each at its own time: payments, deadlines, steps, re-checks."""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.cache import compiled
from backtest.kernels.aftermath import end_liquidation
from backtest.kernels.checks import check_all
from backtest.kernels.collateral import margin_equity
from backtest.kernels.execution import advance
from backtest.kernels.laws.impact import price_move
from backtest.kernels.liquidation import (
    backstop_applies,
    begin,
    enforceable,
    liquidation_step,
    take_over,
)
from backtest.kernels.margin_calls import call_is_overdue
from backtest.kernels.market import see_shift
from backtest.kernels.money import deposit, record_purses
from backtest.kernels.queue import (
    DEADLINE,
    DEPOSIT,
    RECHECK,
    STEP,
    is_scheduled,
    schedule,
    take_next,
)
from backtest.kernels.requirement import require_one
from backtest.kernels.state import CLOCK, EVENTS, KNOWN, MONEY_MOVED, NEVER, PUSHED, ROW, WORLD
from backtest.kernels.types import KERNELS_TYPE
from backtest.kernels.valuation import rate_now
from backtest.kernels.waterfall import waterfall
from backtest.rules.liquidation import STEP as STEP_MODE
from backtest.rules.liquidation import TO_TARGET


@compiled()
def _pay_in(world: Any, account: int, time_ms: int) -> None:
    state = world.state
    if state.deposit_ts[account] != time_ms:
        return
    state.deposit_ts[account] = NEVER
    if state.count[account] > 0:
        rate = rate_now(state, world.book.collateral_currency[account])
        deposit(world, account, state.deposit_usd[account], rate)


@compiled()
def _meet_deadline(world: Any, kernels: Any, account: int, time_ms: int) -> None:
    """Enforce a margin call that was not met in time."""
    state = world.state
    called = state.call_ts[account]
    due = called != NEVER and called + int(world.venue.call_deadline_ms) == time_ms
    if not due or state.count[account] == 0 or state.counter[KNOWN] == 0:
        return
    if state.queued[account] == 1 or not enforceable(world, account):
        return
    require_one(world, kernels, account)
    maintenance = world.ask.maintenance[account]
    equity = margin_equity(world, account)
    if equity < maintenance or equity < world.venue.call_level * maintenance:
        begin(world, account, equity, maintenance)
    else:
        state.call_ts[account] = NEVER


@compiled()
def _goes_on(world: Any, account: int, equity: float, maintenance: float) -> bool:
    """Return whether an account whose keeper has come is still to be liquidated."""
    state, venue = world.state, world.venue
    if equity < maintenance:
        return True
    to_target = venue.mode == STEP_MODE or venue.mode == TO_TARGET
    restored = venue.target if to_target else 1.0
    if state.steps[account] > 0 and equity < restored * maintenance:
        return True
    return call_is_overdue(world, account) and equity < venue.call_level * maintenance


@compiled()
def _take_step(world: Any, kernels: Any, account: int) -> None:
    state = world.state
    state.queued[account] = 0
    if state.count[account] == 0:
        end_liquidation(state, account)
        return
    if state.counter[KNOWN] == 0 or not enforceable(world, account):
        return
    require_one(world, kernels, account)
    maintenance = world.ask.maintenance[account]
    equity = margin_equity(world, account)
    if not _goes_on(world, account, equity, maintenance):
        end_liquidation(state, account)
    elif backstop_applies(world.venue, equity, maintenance):
        take_over(world, account, maintenance)
    else:
        liquidation_step(world, account, equity, maintenance)


@compiled()
def schedule_recheck(world: Any) -> None:
    """Have everybody checked again soon if what was executed moves a price.

    A check that is already due is not put off: it will see this move as well.
    """
    state, venue, depth = world.state, world.venue, world.tape.depth_usd
    if venue.feedback_on == 0.0 or is_scheduled(state, RECHECK, 0):
        return
    row, law = state.counter[ROW], int(venue.impact_law)
    for a in range(depth.shape[1]):
        pushed = abs(state.assets[PUSHED, a])
        if pushed > 0.0:
            move = price_move(pushed, depth[row, a], law, venue.impact_at_depth)
            if min(move, venue.impact_cap) >= venue.feedback_least_move:
                later = state.counter[CLOCK] + int(venue.feedback_delay_ms)
                schedule(state, RECHECK, 0, later)
                return


@compiled(types.void(WORLD, KERNELS_TYPE, types.int64, types.boolean))
def run_scheduled(world: Any, kernels: Any, until_ms: int, check_follows: bool) -> None:
    """Run every event due up to an instant, in order.

    A re-check due at the very instant of a check of everybody is that check.
    """
    state = world.state
    accounts = state.deposit_ts.shape[0]
    while state.counter[EVENTS] > 0 and state.event_time[state.event_heap[0]] <= until_ms:
        event = take_next(state)
        time_ms = state.event_time[event]
        kind, account = event // accounts, event % accounts
        if kind == RECHECK and check_follows and time_ms == until_ms:
            continue
        advance(world, time_ms)
        state.counter[MONEY_MOVED] = 1
        if kind == DEPOSIT:
            _pay_in(world, account, time_ms)
            continue
        if kind == DEADLINE:
            _meet_deadline(world, kernels, account, time_ms)
        elif kind == STEP:
            _take_step(world, kernels, account)
        elif state.counter[KNOWN] == 1:
            see_shift(world)
            check_all(world, kernels)
        waterfall(world)
        schedule_recheck(world)
        record_purses(world)
