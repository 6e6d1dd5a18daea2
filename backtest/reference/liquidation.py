"""After a breach: who closes how much, at what cost, and who is paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.reference.auction import is_worth_bidding, offer
from backtest.reference.execution import Closed, close_share, pay_keeper, pay_penalty
from backtest.reference.margin import margin_equity, require
from backtest.reference.money import charge, close_out
from backtest.reference.schedule import STEP as NEXT_STEP
from backtest.rules.liquidation import (
    AUCTION,
    FULL,
    PROPORTIONAL,
    STEP,
    STEP_DOWN,
    TO_TARGET,
)

if TYPE_CHECKING:
    from backtest.reference.accounts import Account
    from backtest.reference.world import World

LIQUIDATION, TAKEOVER, AUCTIONED = range(3)
ALL = 1.0 - 1e-9
"""Steps that add up to this share have closed everything: 5 x 20 % is not quite 1."""


def begin(world: World, account: Account, equity: float, maintenance: float) -> None:
    """Start or go on with an account's liquidation, as soon as there is a keeper."""
    if account.queued:
        return
    if is_for_the_vault(world, equity, maintenance):
        take_over(world, account, maintenance)
        return
    if account.liquidated_since is None:
        account.leave_liquidation()
        account.liquidated_since = world.clock
    at_ms = world.keepers.reserve(world.clock)
    if at_ms > world.clock:
        queue(world, account, at_ms)
        return
    step(world, account, equity, maintenance)


def queue(world: World, account: Account, at_ms: int) -> None:
    """Schedule an account's next step."""
    account.queued = True
    world.schedule.push(at_ms, NEXT_STEP, account.number)


def is_for_the_vault(world: World, equity: float, maintenance: float) -> bool:
    """Say whether the backstop vault takes an account over."""
    below = world.venue.backstop_below
    return below >= 0.0 and equity < below * maintenance


def go_on(world: World, account: Account) -> None:
    """Carry out a scheduled step, if the account still needs it."""
    account.queued = False
    if not account.positions:
        account.leave_liquidation()
        return
    if not (world.known and world.enforceable(account)):
        return
    equity = margin_equity(world, account)
    _, maintenance = require(world, [account])[0]
    if not is_still_due(world, account, equity, maintenance):
        account.leave_liquidation()
    elif is_for_the_vault(world, equity, maintenance):
        take_over(world, account, maintenance)
    else:
        step(world, account, equity, maintenance)


def is_still_due(world: World, account: Account, equity: float, maintenance: float) -> bool:
    """Say whether a liquidation goes on: a breach, a target not reached, or an unpaid call."""
    venue = world.venue
    if equity < maintenance:
        return True
    restored = venue.target if venue.mode in (STEP, TO_TARGET) else 1.0
    if account.steps > 0 and equity < restored * maintenance:
        return True
    return world.is_overdue(account) and equity < venue.call_level * maintenance


def exposure_of(world: World, account: Account) -> float:
    """Add up what executing all of an account's legs would move, US dollars."""
    exposure = 0.0
    for p in account.positions:
        exposure += abs(p.quantity) * world.now(p.instrument).exposure_usd
    return exposure


def step(world: World, account: Account, equity: float, maintenance: float) -> None:
    """Carry out one liquidation step."""
    venue = world.venue
    if venue.mode == AUCTION:
        auction_step(world, account, equity, maintenance)
        return
    exposure = exposure_of(world, account)
    unit_penalty = venue.penalty * (maintenance if venue.penalty_on_maintenance else exposure)
    share = share_to_close(world, account, equity, maintenance, exposure, unit_penalty)
    expected = venue.incentive_share * min(unit_penalty * share, max(equity, 0.0))
    if venue.keeper_participation and expected < world.tape.keeper_cost_usd[world.row]:
        world.record("declined")
        return
    closed = close_share(world, account, share)
    penalty = pay_penalty(world, account, closed, maintenance)
    pay_keeper(world)
    account.steps += 1
    finish(world, account, closed, maintenance, penalty, LIQUIDATION)


def auction_step(world: World, account: Account, equity: float, maintenance: float) -> None:
    """Offer a share of an account to the keepers; if none takes it, look again later."""
    share, pay, reserve = offer(world, account, equity, maintenance)
    if not is_worth_bidding(world, account, share, pay):
        world.record("declined")
        queue(world, account, world.clock + int(world.venue.auction_every_ms))
        return
    closed = close_share(world, account, share)
    received = pay - closed.cost_usd
    charge(world, account, received, "penalties_usd")
    world.liquidators += received
    penalty = pay_penalty(world, account, closed, maintenance)
    pay_keeper(world)
    account.steps += 1
    account.reserved_usd += reserve
    finish(world, account, closed, maintenance, penalty, AUCTIONED, pay)


def share_to_close(
    world: World,
    account: Account,
    equity: float,
    maintenance: float,
    exposure: float,
    unit_penalty: float,
) -> float:
    """Return the share of a portfolio that one step closes, all legs alike.

    To-target mode closes the share ``f`` that restores ``target x maintenance`` when margin
    shrinks with the portfolio and the penalty is paid on what is closed:
    ``equity - f * unit_penalty = target * maintenance * (1 - f)``.
    """
    venue = world.venue
    too_small, too_often = exposure < venue.small_usd, account.steps >= venue.steps_before_full
    if venue.mode == FULL or too_small or too_often:
        return 1.0
    if equity <= 0.0:
        return 1.0
    if venue.mode == PROPORTIONAL:
        share = venue.proportional_cap
        if maintenance > 0.0:
            missing = venue.proportional_gain * (maintenance - equity) / maintenance
            share = max(min(share, missing), 0.0)
        return share if share > 0.0 else venue.minimum_share
    if venue.mode == TO_TARGET:
        wanted = venue.target * maintenance
        saved = wanted - unit_penalty
        if saved <= 0.0:
            return 1.0
        return min(max((wanted - equity) / saved, venue.minimum_share), 1.0)
    if venue.mode == STEP_DOWN:
        edges = [edge for edge in world.rules.brackets.tolist() if edge < exposure]
        return 1.0 - max(edges) / exposure if edges else 1.0
    assert venue.mode == STEP
    if venue.interval_ms > 0.0:
        done = account.steps * venue.step
        return 1.0 if done >= ALL else min(venue.step / (1.0 - done), 1.0)
    steps = 1
    while (share := steps * venue.step) < ALL:
        if maintenance * (1.0 - share) * venue.target <= equity - share * unit_penalty:
            return share
        steps += 1
    return 1.0


def finish(
    world: World,
    account: Account,
    closed: Closed,
    maintenance: float,
    penalty: float,
    kind: int,
    discount: float = 0.0,
) -> None:
    """Settle an account that is flat now, or schedule its next step; record what was done."""
    account.called_at = None
    shortfall = 0.0
    if not account.positions:
        shortfall = close_out(world, account)
        world.owed[closed.asset][closed.side] += shortfall
    elif world.venue.interval_ms > 0.0:
        after = world.clock + int(world.venue.interval_ms)
        queue(world, account, world.keepers.reserve(after))
    world.record("takeovers" if kind == TAKEOVER else "liquidations")
    world.record("liquidated_notional_usd", closed.notional_usd)
    world.records.liquidations.append(
        {
            "row": world.row,
            "account": account.number,
            "asset": closed.asset,
            "side": 1.0 if closed.side == 0 else -1.0,
            "notional_usd": closed.notional_usd,
            "share": closed.share,
            "equity_usd": closed.equity_before,
            "maintenance_usd": maintenance,
            "cost_usd": closed.cost_usd,
            "penalty_usd": penalty,
            "shortfall_usd": shortfall,
            "at_ms": world.clock,
            "kind": kind,
            "discount_usd": discount,
        }
    )


def take_over(world: World, account: Account, maintenance: float) -> None:
    """Let the vault take an account over: it keeps what is left, and pays what is missing."""
    closed = close_share(world, account, 1.0)
    equity = world.equity_now(account)
    passed = equity if equity >= 0.0 else -min(world.vault, -equity)
    charge(world, account, passed, "penalties_usd")
    world.vault += passed
    finish(world, account, closed, maintenance, max(passed, 0.0), TAKEOVER)
