"""Orders: a margin check on a copy of the account, then all legs of a group or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.book import CLOSE
from backtest.instruments import OPTION
from backtest.kernels.state import FILL, TRADE
from backtest.reference.margin import (
    initial_with_orders,
    margin_equity,
    require,
    require_as_held,
    wanted_quantity,
)
from backtest.reference.money import charge, deposit, end_flat_account, exchange, fund_income
from backtest.venue import UNLIMITED

if TYPE_CHECKING:
    from backtest.reference.accounts import Account
    from backtest.reference.world import World

ENOUGH = 1.0 - 1e-12
"""Of the margin that is missing; a difference of equities is exact to no more than that."""
Leg = tuple[int, float]
"""Instrument and signed contracts."""


def act(world: World) -> None:
    """Carry out what the book does up to the present row, in its order."""
    book = world.book
    while (k := world.next_action) < len(book.action_row) and book.action_row[k] <= world.row:
        world.next_action += 1
        orders = list(range(book.action_first[k], book.action_last[k]))
        kind = book.action_kind[k]
        if kind == TRADE:
            trade(world, orders)
        else:
            rest(world, orders[0])


def meet_fates(world: World) -> None:
    """Fill or cancel the resting orders that the present row has reached."""
    book = world.book
    while (k := world.next_fate) < len(book.fate_row) and book.fate_row[k] <= world.row:
        world.next_fate += 1
        order = int(book.fate_order[k])
        if book.fate_kind[k] == FILL:
            fill(world, order)
        else:
            world.live[order] = False


def account_of(world: World, order: int) -> Account:
    """Return the account that gave an order."""
    return world.accounts[int(world.book.order_account[order])]


def legs_of(world: World, orders: list[int]) -> list[Leg]:
    """List what the orders of one account trade now."""
    account, instrument = account_of(world, orders[0]), world.book.order_instrument
    return [(int(instrument[k]), wanted_quantity(world, account, k)) for k in orders]


def is_tradable(world: World, legs: list[Leg]) -> bool:
    """Whether all legs are listed, quoted, and on prices that the venue acts on."""
    tape, now = world.tape, world.tape.ts[world.row]
    enforce = world.timeline.enforce[world.instant]
    return world.known and all(
        tape.listed_ms[i] <= now < tape.expiry_ms[i]
        and enforce[tape.asset[i]]
        and world.try_now(i) is not None
        and world.try_seen(i) is not None
        for i, _ in legs
    )


def reject(world: World, legs: list[Leg]) -> None:
    """Count the notional that was asked for in vain, priced or not."""
    total = 0.0
    for i, quantity in legs:
        total += abs(quantity) * notional_usd(world, i)
    world.record("rejected_notional_usd", total)


def notional_usd(world: World, i: int) -> float:
    """Return the underlying notional of one contract, even of an option without a quote."""
    found = world.try_now(i)
    if found is not None:
        return found.notional_usd
    return float(world.tape.contract_size[i]) * world.index[int(world.tape.asset[i])]


def fee_usd(world: World, i: int, quantity: float, share: float) -> float:
    """Return the fee of a leg: a share of what it moves, for options at most one of its value."""
    held, cap = world.now(i), world.venue.option_fee_cap
    fee = share * abs(quantity) * held.exposure_usd
    if world.tape.kind[i] == OPTION and cap < UNLIMITED:
        fee = min(fee, cap * abs(quantity) * abs(held.value_usd))
    return fee


def trade(world: World, orders: list[int]) -> None:
    """Try a group on a copy of the account and margin it there; then do it or not."""
    account, legs = account_of(world, orders[0]), legs_of(world, orders)
    reduces = all(world.book.order_kind[k] == CLOSE for k in orders)
    if not is_tradable(world, legs):
        # An order to close what expired meanwhile asks for nothing, so nothing is refused.
        if not reduces:
            reject(world, legs)
        return
    fee = 0.0
    trial = account.copy()
    for i, quantity in legs:
        if quantity:
            trial.cash[world.settles_in(i)] -= quantity * world.now(i).unit
            fee += fee_usd(world, i, quantity, world.venue.taker_fee)
            trial.trade(i, quantity, world.now(i).unit)
    post = 0.0
    if not reduces:
        missing = fund(world, trial, fee)
        if missing is None:
            reject(world, legs)
            return
        post = missing
    execute(world, orders, fee, post)


def fund(world: World, trial: Account, fee: float) -> float | None:
    """Return what the owner posts for a portfolio; nothing if that is not enough for it.

    In a recorded book the collateral is as observed, and only an account that has nothing left
    is refused. Coins may count for less than they are worth, or be charged for, so more of them
    are posted.
    """
    initial, _ = require(world, [trial])[0]
    equity = margin_equity(world, trial) - fee
    if world.recorded:
        return 0.0 if equity > 0.0 else None
    rate, buffer = world.seen_rate(trial.currency), float(world.book.buffer[trial.number])
    wallet_usd = world.wallets[trial.owner] * rate
    missing = buffer * initial - equity
    post = min(max(missing, 0.0), wallet_usd)
    if not trial.currency or not post:
        return post if post >= initial - equity else None
    orders = initial_with_orders(world, trial)

    def look(more_usd: float) -> tuple[float, float]:
        trial.cash[trial.currency] += more_usd / rate
        ((asked, _),) = require_as_held(world, [trial])
        return max(asked, *orders, 0.0), margin_equity(world, trial) - fee

    asked, counted = look(post)
    gained = missing - (buffer * asked - counted)
    if 0.0 < gained < missing:
        more = min(post * missing / gained, wallet_usd)
        asked, counted = look(more - post)
        post = more
    return post if counted - equity >= (asked - equity) * ENOUGH else None


def execute(
    world: World, orders: list[int], fee: float, post: float, limit: float | None = None
) -> None:
    """Trade a group at the market's price or at a limit, pay the fee, post collateral."""
    account, legs = account_of(world, orders[0]), legs_of(world, orders)
    for i, quantity in legs:
        if quantity:
            unit, size = world.now(i).unit, float(world.tape.contract_size[i])
            if limit is not None:
                unit = -size / limit if world.tape.inverse[i] else size * limit
            exchange(world, account, i, quantity, unit)
    charge(world, account, fee, "fees_usd")
    to_fund = world.venue.fee_share_to_fund * fee
    fund_income(world, to_fund)
    world.fees += fee - to_fund
    if post > 0.0:
        deposit(world, account, post, world.seen_rate(account.currency))
    if not account.positions:
        # Whoever closes by an order of its own was on the other side of that order.
        held = -float(world.book.order_quantity[orders[0]])
        end_flat_account(world, account, legs[0][0], held)


def rest(world: World, order: int) -> None:
    """Let an order rest in the book, if the account could bear that it fills."""
    account, legs = account_of(world, order), legs_of(world, [order])
    post = None
    if is_tradable(world, legs):
        world.live[order] = True
        post = fund(world, account.copy(), 0.0)
    if post is None:
        world.live[order] = False
        if world.book.order_kind[order] != CLOSE:
            reject(world, legs)
    elif post > 0.0:
        deposit(world, account, post, world.seen_rate(account.currency))


def fill(world: World, order: int) -> None:
    """Execute a resting order at its limit; it was margined when it came to rest."""
    if not world.live[order]:
        return
    world.live[order] = False
    legs = legs_of(world, [order])
    if is_tradable(world, legs):
        ((i, quantity),) = legs
        fee = fee_usd(world, i, quantity, world.venue.maker_fee) if quantity else 0.0
        execute(world, [order], fee, 0.0, float(world.book.order_limit[order]))
