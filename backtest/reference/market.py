"""What happens to everybody at once: time, prices, funding, expiry, transfers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.types import DEBTS, DEPOSITS, FUND_USD, NET_NOTIONAL, OPEN_NOTIONAL
from backtest.reference.accounts import sum_by_halves
from backtest.reference.money import end_flat_account, exchange
from backtest.reference.quotes import price_move, settlement_unit
from backtest.reference.schedule import RECHECK

if TYPE_CHECKING:
    from backtest.reference.world import World

DEEPEST_SHIFT = -0.95
"""Sales never push a price lower than this share of what the tape says."""


def advance(world: World, at_ms: int) -> None:
    """Let time pass: the book refills, and what was sold has moved the price."""
    if at_ms > world.clock:
        if world.venue.feedback_on:
            apply_pushes(world)
        world.sold = [0.0] * world.assets
        world.clock = at_ms


def push_of(world: World, a: int) -> float:
    """Return how far what was liquidated at this instant moves an asset's price."""
    if world.pushed[a] == 0.0:
        return 0.0
    depth = float(world.tape.depth_usd[world.row, a])
    move = price_move(abs(world.pushed[a]), depth, world.venue)
    return -move if world.pushed[a] > 0.0 else move


def apply_pushes(world: World) -> None:
    """Move prices by what was liquidated: a part stays, the rest will decay."""
    if not any(world.pushed):
        return
    stays = world.venue.permanent_share
    for a in range(world.assets):
        move = push_of(world, a)
        if world.pushed[a] != 0.0:
            world.permanent[a] += stays * move
            world.transient[a] += (1.0 - stays) * move
            world.pushed[a] = 0.0
    set_shift(world)
    world.price_truly()


def set_shift(world: World) -> None:
    """Put the two parts of the price shift together."""
    world.shift = [
        max(lasting + passing, DEEPEST_SHIFT)
        for lasting, passing in zip(world.permanent, world.transient, strict=True)
    ]


def call_recheck(world: World) -> None:
    """Have everybody checked soon, if what was liquidated at this instant moves a price."""
    venue = world.venue
    if venue.feedback_on and not world.schedule.holds(RECHECK):
        largest = max(abs(push_of(world, a)) for a in range(world.assets))
        if largest >= venue.feedback_least_move:
            world.schedule.push(world.clock + int(venue.feedback_delay_ms), RECHECK)


def open_row(world: World, row: int) -> None:
    """Begin a market row: its prices, less and less shifted, its funding, its expiries."""
    before, world.row = world.row, row
    if world.venue.feedback_on:
        if before >= 0:
            waited = int(world.tape.ts[row]) - int(world.tape.ts[before])
            left = 2.0 ** (-waited / world.venue.half_life_ms)
            world.transient = [passing * left for passing in world.transient]
        set_shift(world)
        world.shift_at_row[row] = list(world.shift)
    world.price_truly()
    accrue_funding(world)
    settle_expired(world)


def accrue_funding(world: World) -> None:
    """Longs pay the rate on the value of their contracts."""
    rates = world.tape.funding[world.row].tolist()
    if not any(rates):
        return
    for account in world.accounts:
        for p in account.positions:
            if world.tape.kind[p.instrument] == PERPETUAL:
                currency = world.settles_in(p.instrument)
                rate = rates[world.tape.asset[p.instrument]]
                paid = p.quantity * abs(world.now(p.instrument).unit) * rate
                account.cash[currency] -= paid
                world.flow[currency] += paid
                paid_usd = paid * world.rate(currency)
                world.record("funding_usd", max(paid_usd, 0.0))
                world.enter(account, "funding_usd", -paid_usd)


def settle_expired(world: World) -> None:
    """Pay what expired contracts are worth at their settlement price."""
    tape = world.tape
    for account in world.accounts:
        expired = [
            p for p in account.positions if tape.expiry_ms[p.instrument] <= tape.ts[world.row]
        ]
        for p in expired[::-1]:
            i, held = p.instrument, p.quantity
            exchange(world, account, i, -held, settlement_unit(tape, i))
        if expired and not account.positions:
            end_flat_account(world, account, i, held)


def see(world: World, instant: int) -> None:
    """Take in what reached the venue: prices, option snapshots, the policy's parameters."""
    timeline = world.timeline
    world.instant, world.seen_at = instant, int(timeline.at_ms[instant])
    for a, row in enumerate(timeline.seen_row[instant].tolist()):
        if row != world.seen_row[a]:
            world.seen_row[a] = row
            world.seen_shift[a] = world.shift_at_row.get(row, [0.0] * world.assets)[a]
    policy_row = int(timeline.policy_row[instant])
    world.known = policy_row >= 0 and min(world.seen_row) >= 0
    if policy_row >= 0:
        world.desk.post(policy_row)
    world.price_as_seen()
    update_protocol(world)


def see_shift(world: World) -> None:
    """Take in how liquidations have moved the prices that the venue acts on."""
    for a, acts in enumerate(world.timeline.enforce[world.instant].tolist()):
        if acts:
            world.seen_shift[a] = world.shift[a]
    world.price_as_seen()
    update_protocol(world)


def update_protocol(world: World) -> None:
    """Show the policy the venue's own state: fund, open and net notional, coins held and owed.

    Sums over accounts are kept apart by the account's number modulo eight.
    """
    tape = world.tape
    gross = dict.fromkeys(range(len(tape.asset)), 0.0)
    net = dict(gross)
    for account in world.accounts:
        for p in account.positions:
            gross[p.instrument] += abs(p.quantity)
            net[p.instrument] += p.quantity
    world.open_contracts = {i: contracts for i, contracts in gross.items() if contracts}
    protocol = world.desk.market.protocol
    protocol[:] = 0.0
    for i, contracts in world.open_contracts.items():
        a, notional_usd = tape.asset[i], world.seen(i).notional_usd
        protocol[OPEN_NOTIONAL, a] += contracts * notional_usd
        if tape.kind[i] != OPTION:
            protocol[NET_NOTIONAL, a] += net[i] * notional_usd
    for a in range(world.assets):
        held, owed = [0.0] * 8, [0.0] * 8
        for account in world.accounts:
            held[account.number % 8] += max(account.cash[1 + a], 0.0)
            owed[account.number % 8] += max(-account.cash[1 + a], 0.0)
        protocol[FUND_USD, a] = world.fund
        protocol[DEPOSITS, a] = sum_by_halves(held) * world.seen_index[a]
        protocol[DEBTS, a] = sum_by_halves(owed) * world.seen_index[a]


def arrive_transfers(world: World) -> None:
    """Credit the observed deposits and withdrawals of the row."""
    book = world.book
    while (k := world.next_transfer) < len(book.transfer_row) and (
        book.transfer_row[k] <= world.row
    ):
        account = world.accounts[book.transfer_account[k]]
        currency, amount = int(book.transfer_currency[k]), float(book.transfer_amount[k])
        if amount < 0.0:
            # Who lost its collateral under this policy cannot take it home as it once did.
            left = max(world.equity_now(account), 0.0) / world.rate(currency)
            amount = max(amount, -left)
        account.cash[currency] += amount
        world.flow[currency] -= amount
        world.enter(account, "transfers_usd", amount * world.rate(currency))
        world.next_transfer += 1
