"""The event loop: what happens at an instant, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.reference.checks import arrive_deposit, check_all, enforce_call
from backtest.reference.liquidation import go_on
from backtest.reference.market import (
    advance,
    arrive_transfers,
    call_recheck,
    open_row,
    see,
    see_shift,
)
from backtest.reference.money import balance, record_purses
from backtest.reference.orders import act, meet_fates
from backtest.reference.schedule import DEADLINE, DEPOSIT, RECHECK, STEP
from backtest.reference.waterfall import waterfall

if TYPE_CHECKING:
    from backtest.reference.world import World


def run(world: World) -> None:
    """Replay every instant of the timeline."""
    for instant in range(len(world.timeline.at_ms)):
        happen(world, instant)


def happen(world: World, instant: int) -> None:
    """Replay one instant.

    What was scheduled for earlier comes first, at the market as it stood. Then: market, funding,
    expiry, what the venue sees, its protocol state, what is scheduled for now, transfers, the
    fate of resting orders, the margin check with its liquidations, waterfall and calls, orders,
    the waterfall again, and the records.
    """
    timeline = world.timeline
    at_ms = int(timeline.at_ms[instant])
    opens = bool(timeline.opens_row[instant])
    checks = bool(timeline.check[instant])
    run_scheduled(world, at_ms - 1)
    advance(world, at_ms)
    if opens:
        open_row(world, int(timeline.row[instant]))
    see(world, instant)
    run_scheduled(world, at_ms, everybody_follows=checks)
    if opens:
        arrive_transfers(world)
        meet_fates(world)
    if checks:
        check_all(world)
    waterfall(world)
    if opens:
        act(world)
        waterfall(world)
    call_recheck(world)
    balance(world)


def run_scheduled(world: World, last_ms: int, *, everybody_follows: bool = False) -> None:
    """Let what is scheduled up to an instant happen, each at its own time."""
    while event := world.schedule.pop_until(last_ms):
        if event.kind == RECHECK and everybody_follows:
            continue
        advance(world, event.at_ms)
        if event.kind == DEPOSIT:
            arrive_deposit(world, world.accounts[event.account])
            continue
        if event.kind == DEADLINE:
            enforce_call(world, world.accounts[event.account])
        elif event.kind == STEP:
            go_on(world, world.accounts[event.account])
        elif world.known:
            see_shift(world)
            check_all(world)
        waterfall(world)
        call_recheck(world)
        record_purses(world)
