"""After a breach: how much is closed, by whom, and what it costs."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.aftermath import (
    decline,
    log_step,
    pay_keeper_cost,
    penalise,
    settle_step,
)
from backtest.kernels.auction import auction_step
from backtest.kernels.execution import close_share, portfolio_exposure
from backtest.kernels.keepers import keeper_time
from backtest.kernels.laws.liquidation_size import (
    proportional_share,
    share_in_steps,
    share_of_remaining,
    share_to_bracket,
    share_to_target,
)
from backtest.kernels.money import charge
from backtest.kernels.queue import STEP as STEP_EVENT
from backtest.kernels.queue import schedule
from backtest.kernels.records import IN_PENALTIES, LIQUIDATION, TAKEOVER
from backtest.kernels.state import CLOCK, INSTANT, NEVER, ROW, VAULT
from backtest.kernels.valuation import equity_now
from backtest.rules.liquidation import AUCTION, FULL, PROPORTIONAL, STEP, STEP_DOWN


@compiled()
def enforceable(world: Any, account: int) -> bool:
    """Return whether the venue may act on every asset that an account holds."""
    state, enforce = world.state, world.timeline.enforce
    instant, first = state.counter[INSTANT], state.start[account]
    for slot in range(first, first + state.count[account]):
        if enforce[instant, world.tape.asset[state.instrument[slot]]] == 0:
            return False
    return True


@compiled()
def _share(
    world: Any,
    account: int,
    equity: float,
    maintenance: float,
    exposure: float,
    unit_penalty: float,
) -> float:
    """Return the share of every leg that one step closes."""
    venue, steps = world.venue, world.state.steps[account]
    mode = venue.mode
    if mode == FULL or exposure < venue.small_usd or steps >= venue.steps_before_full:
        return 1.0
    if equity <= 0.0:
        return 1.0
    if mode == PROPORTIONAL:
        return proportional_share(
            equity, maintenance, venue.proportional_gain, venue.proportional_cap,
            venue.minimum_share,
        )  # fmt: skip
    if mode == STEP:
        if venue.interval_ms > 0.0:
            return share_of_remaining(float(steps), venue.step)
        return share_in_steps(equity, maintenance, venue.target, unit_penalty, venue.step)
    if mode == STEP_DOWN:
        return share_to_bracket(exposure, venue.brackets)
    return share_to_target(equity, maintenance, venue.target, unit_penalty, venue.minimum_share)


@compiled()
def liquidation_step(world: Any, account: int, equity: float, maintenance: float) -> None:
    """Make one step of an account's liquidation now."""
    state, venue = world.state, world.venue
    if venue.mode == AUCTION:
        auction_step(world, account, equity, maintenance)
        return
    exposure = portfolio_exposure(world, account)
    base = maintenance if venue.penalty_on_maintenance != 0.0 else exposure
    unit_penalty = venue.penalty * base
    share = _share(world, account, equity, maintenance, exposure, unit_penalty)
    keeper_cost = world.tape.keeper_cost_usd[state.counter[ROW]]
    if venue.keeper_participation != 0.0:
        expected = venue.incentive_share * min(unit_penalty * share, max(equity, 0.0))
        if expected < keeper_cost:
            decline(world, account, 0)
            return
    before = equity_now(world, account)
    closed, notional, cost = close_share(world, account, share)
    base = maintenance * share if venue.penalty_on_maintenance != 0.0 else closed
    penalty = penalise(world, account, venue.penalty * base)
    pay_keeper_cost(world, keeper_cost)
    state.steps[account] += 1
    shortfall = settle_step(world, account)
    log_step(
        world, account, LIQUIDATION, notional, share, before, maintenance, cost, penalty, 0.0,
        shortfall,
    )  # fmt: skip


@compiled()
def take_over(world: Any, account: int, maintenance: float) -> None:
    """Let the backstop vault close an account at once and keep what is left, or pay what is not."""
    state = world.state
    portfolio_exposure(world, account)
    before = equity_now(world, account)
    _, notional, cost = close_share(world, account, 1.0)
    left = equity_now(world, account)
    to_vault = left if left >= 0.0 else -min(state.purse[VAULT], -left)
    charge(world, account, to_vault, IN_PENALTIES)
    state.purse[VAULT] += to_vault
    shortfall = settle_step(world, account)
    log_step(
        world, account, TAKEOVER, notional, 1.0, before, maintenance, cost, max(to_vault, 0.0),
        0.0, shortfall,
    )  # fmt: skip


@compiled()
def backstop_applies(venue: Any, equity: float, maintenance: float) -> bool:
    """Return whether an account is so far gone that the vault takes it over."""
    return venue.backstop_below >= 0.0 and equity < venue.backstop_below * maintenance


@compiled()
def begin(world: Any, account: int, equity: float, maintenance: float) -> None:
    """Start an account's liquidation or go on with it, as soon as a keeper is free."""
    state, venue = world.state, world.venue
    if state.queued[account] == 1:
        return
    if backstop_applies(venue, equity, maintenance):
        take_over(world, account, maintenance)
        return
    now = state.counter[CLOCK]
    if state.liquidation_ts[account] == NEVER:
        state.liquidation_ts[account] = now
        state.steps[account] = 0
        state.reserved[account] = 0.0
    when = keeper_time(world, now)
    if when > now:
        state.queued[account] = 1
        schedule(state, STEP_EVENT, account, when)
        return
    liquidation_step(world, account, equity, maintenance)
