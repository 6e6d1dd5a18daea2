"""The margin check: compare equity with margin; call, release, enforce."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.reference.accounts import Anchor, sum_by_halves
from backtest.reference.liquidation import begin
from backtest.reference.margin import (
    count_coins,
    delta_by_asset,
    haircut,
    margin_equity,
    require,
)
from backtest.reference.money import deposit, withdraw
from backtest.reference.schedule import DEADLINE, DEPOSIT
from backtest.reference.waterfall import waterfall
from backtest.reference.world import cash_usd

if TYPE_CHECKING:
    from backtest.reference.accounts import Account
    from backtest.reference.world import World

UNCOVERED_USD = 1e-9
"""A smaller deficit is rounding, and gates no withdrawal."""


def check_all(world: World) -> None:
    """Check every account that holds a position.

    Equity and margin of all are taken before anybody is liquidated. Deficits are shared out
    before anybody takes home what it won; who is looked after then is asked anew.
    """
    world.record("checks")
    count_coins(world)
    active = [account for account in world.accounts if account.positions]
    asked = require(world, active)
    haircuts = [haircut(world, a) if world.venue.haircuts_on else 0.0 for a in active]
    equities = [world.equity_seen(a) - taken for a, taken in zip(active, haircuts, strict=True)]
    record_levels(world, active, asked, haircuts)
    health = health_of(world)
    sound = [
        (account, equity, asked_of)
        for account, asked_of, taken, equity in zip(active, asked, haircuts, equities, strict=True)
        if enforce(world, account, equity, asked_of[1], taken)
    ]
    shared = waterfall(world)
    for account, equity, asked_of in sound:
        if account.positions:
            if shared:
                asked_of = require(world, [account])[0]
                equity = margin_equity(world, account)
            look_after(world, account, equity, *asked_of, health)


def record_levels(
    world: World,
    active: list[Account],
    asked: list[tuple[float, float]],
    haircuts: list[float],
) -> None:
    """Record what is open, locked and required at the moment of a check.

    Sums over accounts are kept apart by the account's number modulo eight.
    """
    notional = taken = 0.0
    locked, initial, maintenance = [0.0] * 8, [0.0] * 8, [0.0] * 8
    for i, contracts in world.open_contracts.items():
        notional += contracts * world.now(i).notional_usd
    for account, (im, mm), cut in zip(active, asked, haircuts, strict=True):
        part = account.number % 8
        locked[part] += max(world.equity_now(account), 0.0)
        initial[part] += im
        maintenance[part] += mm
        taken += cut
    world.set_level("open_notional_usd", notional)
    world.set_level("locked_collateral_usd", sum_by_halves(locked))
    world.set_level("required_initial_usd", sum_by_halves(initial))
    world.set_level("required_maintenance_usd", sum_by_halves(maintenance))
    world.set_level("haircut_usd", taken)
    world.set_level("accounts_open", len(active))


def health_of(world: World) -> float:
    """Return what is left of the fund or of the vault, whichever lost more, 0 to 1."""
    health = 1.0
    if world.venue.fund_start_usd > 0.0:
        health = min(health, world.fund / world.venue.fund_start_usd)
    if world.venue.vault_start_usd > 0.0:
        health = min(health, world.vault / world.venue.vault_start_usd)
    return max(health, 0.0)


def enforce(
    world: World, account: Account, equity: float, maintenance: float, taken: float
) -> bool:
    """Liquidate an account below its margin; say whether it is to be looked after instead."""
    breached = equity < maintenance
    if not world.enforceable(account):
        world.record("frozen", float(breached))
        return False
    if world.venue.trigger_on:
        if not trigger(world, account, maintenance, taken):
            world.record("missed_triggers", float(breached))
            return False
        world.record("needless_triggers", float(not breached))
    if breached:
        begin(world, account, equity, maintenance)
    return not breached


def look_after(
    world: World,
    account: Account,
    equity: float,
    initial: float,
    maintenance: float,
    health: float,
) -> None:
    """Call an account for margin, or let it take home what it can spare."""
    if equity < maintenance:
        begin(world, account, equity, maintenance)
        return
    if not account.queued:
        account.leave_liquidation()
    level = world.venue.call_level * maintenance
    if equity >= level:
        account.called_at = None
        release(world, account, equity, initial, health)
    elif account.called_at is None:
        call(world, account, max(initial, level) - equity)
    elif world.is_overdue(account):
        begin(world, account, equity, maintenance)


def trigger(world: World, account: Account, maintenance: float, taken: float) -> bool:
    """Say whether the cheap check calls for the full one.

    It moves the account's value since the last full check along straight lines, and compares
    it with the margin of then. An account that traded since, or was long not checked, is.
    """
    anchor = account.anchor
    fired = anchor is None or world.clock - anchor.at_ms >= int(world.venue.trigger_refresh_ms)
    if not fired:
        assert anchor is not None
        linear = cash_usd(account, world.seen_index) + anchor.value_usd
        for a in range(world.assets):
            linear += anchor.delta_usd[a] * (world.seen_index[a] / anchor.index[a] - 1.0)
        if world.venue.haircuts_on:
            linear -= taken
        fired = linear < world.venue.trigger_level * anchor.maintenance
    if fired:
        value = 0.0
        for p in account.positions:
            value += p.quantity * world.seen(p.instrument).value_usd
        account.anchor = Anchor(
            at_ms=world.clock,
            maintenance=maintenance,
            value_usd=value,
            delta_usd=delta_by_asset(world, account),
            index=list(world.seen_index),
        )
    return fired


def release(world: World, account: Account, equity: float, initial: float, health: float) -> None:
    """Let a healthy account take home what it can spare; in a run, the sooner and the more."""
    if world.recorded or (world.venue.gated_by_deficit and world.deficit < -UNCOVERED_USD):
        return
    n = account.number
    buffer, spare = float(world.book.buffer[n]), float(world.book.release[n])
    flight = float(world.book.flight[n])
    calm = health**flight if flight > 0.0 and health < 1.0 else 1.0
    if calm < 1.0:
        buffer = 1.0 + (buffer - 1.0) * calm
        spare = 1.0 + (spare - 1.0) * calm
    target = buffer * initial
    if equity > spare * target:
        rate = world.seen_rate(account.currency)
        there = max(balance_of(world, account, account.currency), 0.0) * rate
        if there > 0.0:
            withdraw(world, account, min(equity - target, there), rate)


def balance_of(world: World, account: Account, currency: int) -> float:
    """Return what an account holds of a currency, positions that settle in it included."""
    balance = account.cash[currency]
    for p in account.positions:
        if world.settles_in(p.instrument) == currency:
            balance += p.quantity * world.now(p.instrument).unit
    return balance


def call(world: World, account: Account, asked_usd: float) -> None:
    """Ask an account for more; it may pay a part of it after a while."""
    n = account.number
    account.called_at = world.clock
    world.record("margin_calls_usd", asked_usd)
    world.schedule.push(world.clock + int(world.venue.call_deadline_ms), DEADLINE, n)
    share = float(world.book.top_up_share[n])
    if not world.recorded and share > 0.0 and account.deposit_due is None:
        account.deposit_due = world.clock + int(world.book.top_up_delay_ms[n])
        account.deposit_usd = share * asked_usd
        world.schedule.push(account.deposit_due, DEPOSIT, n)


def arrive_deposit(world: World, account: Account) -> None:
    """Credit the payment of a margin call, unless a later call took its place."""
    if account.deposit_due != world.clock:
        return
    account.deposit_due = None
    if account.positions:
        deposit(world, account, account.deposit_usd, world.rate(account.currency))


def enforce_call(world: World, account: Account) -> None:
    """Enforce a margin call at its deadline, if the account is still below the call level."""
    deadline = int(world.venue.call_deadline_ms)
    if account.called_at is None or account.called_at + deadline != world.clock:
        return
    if not (account.positions and world.known and world.enforceable(account)) or account.queued:
        return
    equity = margin_equity(world, account)
    _, maintenance = require(world, [account])[0]
    if equity < maintenance or equity < world.venue.call_level * maintenance:
        begin(world, account, equity, maintenance)
    else:
        account.called_at = None
