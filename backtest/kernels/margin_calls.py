"""Between initial and maintenance margin: calls, their payment, and what may leave."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.money import withdraw
from backtest.kernels.queue import DEADLINE, DEPOSIT, schedule
from backtest.kernels.records import MARGIN_CALLS
from backtest.kernels.state import CLOCK, DEFICIT, FUND, HEALTH, NEVER, ROW, VAULT
from backtest.kernels.valuation import rate_seen, settlement_currency
from backtest.rules.waterfall import DUST_USD


@compiled()
def run_health(world: Any) -> float:
    """Return how much of the fund and of the vault is left, 1 for all of it or more."""
    purse, venue = world.state.purse, world.venue
    health = 1.0
    if venue.fund_start_usd > 0.0:
        health = min(health, purse[FUND] / venue.fund_start_usd)
    if venue.vault_start_usd > 0.0:
        health = min(health, purse[VAULT] / venue.vault_start_usd)
    return max(health, 0.0)


@compiled()
def run_factor(world: Any, account: int) -> float:
    """Return how much of its cushion an account still leaves at the venue, 1 for all of it."""
    health, flight = world.state.level[HEALTH], world.book.flight[account]
    return health**flight if flight > 0.0 and health < 1.0 else 1.0


@compiled()
def settled_balance(world: Any, account: int, currency: int) -> float:
    """Return what an account holds of a currency, positions that settle in it included."""
    state = world.state
    balance = state.cash[currency, account]
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        i = state.instrument[slot]
        if settlement_currency(world.tape, i) == currency:
            balance += state.quantity[slot] * state.unit[i]
    return balance


@compiled()
def release_excess(world: Any, account: int, equity: float, initial: float) -> None:
    """Let a healthy account take home what it holds above its own target.

    In a run on the venue the target sinks towards the bare initial margin as fund and vault do.
    Only the collateral currency leaves, and no more of it than there is.
    """
    state, book = world.state, world.book
    if world.venue.gated_by_deficit != 0.0 and state.purse[DEFICIT] < -DUST_USD:
        return
    stays = run_factor(world, account)
    buffer = 1.0 + (book.buffer[account] - 1.0) * stays if stays < 1.0 else book.buffer[account]
    release = 1.0 + (book.release[account] - 1.0) * stays if stays < 1.0 else book.release[account]
    target = buffer * initial
    if equity > release * target:
        currency = book.collateral_currency[account]
        rate = rate_seen(world.market, currency)
        there = max(settled_balance(world, account, currency), 0.0) * rate
        if there > 0.0:
            withdraw(world, account, min(equity - target, there), rate)


@compiled()
def call_is_overdue(world: Any, account: int) -> bool:
    """Return whether an account's margin call is open and past its deadline."""
    state = world.state
    called = state.call_ts[account]
    return called != NEVER and state.counter[CLOCK] - called >= world.venue.call_deadline_ms


@compiled()
def call_margin(
    world: Any, account: int, equity: float, initial: float, maintenance: float
) -> bool:
    """Make, keep or drop a margin call; return whether an unpaid one is to be enforced."""
    state, book, series = world.state, world.book, world.records.series
    level = world.venue.call_level * maintenance
    now = state.counter[CLOCK]
    if equity >= level:
        state.call_ts[account] = NEVER
        if book.recorded == 0:
            release_excess(world, account, equity, initial)
        return False
    if state.call_ts[account] != NEVER:
        return call_is_overdue(world, account)
    asked = max(initial, level) - equity
    state.call_ts[account] = now
    series[state.counter[ROW], MARGIN_CALLS] += asked
    schedule(state, DEADLINE, account, now + int(world.venue.call_deadline_ms))
    on_its_way = state.deposit_ts[account] != NEVER
    if book.recorded == 0 and book.top_up_share[account] > 0.0 and not on_its_way:
        state.deposit_ts[account] = now + book.top_up_delay_ms[account]
        state.deposit_usd[account] = book.top_up_share[account] * asked
        schedule(state, DEPOSIT, account, state.deposit_ts[account])
    return False
