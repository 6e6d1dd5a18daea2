"""What counts as equity for margin, and what the policy asks for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backtest.book import CLOSE
from backtest.venue import UNLIMITED

if TYPE_CHECKING:
    from backtest.reference.accounts import Account
    from backtest.reference.world import World


def margin_equity(world: World, account: Account) -> float:
    """Return equity as the venue sees it, less the haircut on coins."""
    equity = world.equity_seen(account)
    return equity - haircut(world, account) if world.venue.haircuts_on else equity


def haircut(world: World, account: Account) -> float:
    """Return what the venue does not count of an account's coins, US dollars."""
    total = 0.0
    for a in range(world.assets):
        balance = account.cash[1 + a]
        if balance > 0.0:
            value = balance * world.seen_index[a]
            total += (1.0 - weight(world, account, a, value)) * value
    return total


def weight(world: World, account: Account, a: int, value: float) -> float:
    """Return the share of a balance of a coin that counts; see `backtest.rules.collateral`."""
    (
        taken,
        depth_impact,
        scale_start,
        wrong_way,
        correlation,
        peg_usd,
        peg_threshold,
        peg_factor,
    ) = world.rules.collateral[a, :8].tolist()
    if depth_impact > 0.0:
        depth = float(world.tape.depth_usd[world.row, a])
        taken += depth_impact * math.sqrt(value / depth) if depth > 0.0 else 1.0
    if wrong_way > 0.0:
        adverse = 0.0
        for b, delta in enumerate(delta_by_asset(world, account)):
            adverse += (1.0 if b == a else correlation) * delta
        if adverse > 0.0:
            taken += wrong_way * min(adverse / value, 1.0)
    if peg_usd > 0.0:
        off = abs(world.seen_index[a] / peg_usd - 1.0) - peg_threshold
        if off > 0.0:
            taken += peg_factor * off
    counts: float = max(0.0, 1.0 - taken)
    if scale_start < UNLIMITED and not world.coins_held_usd[a] <= scale_start:
        counts *= scale_start / world.coins_held_usd[a]
    return counts


def count_coins(world: World) -> None:
    """Add up the coins that accounts hold, for the weights that shrink with them."""
    for a in range(world.assets):
        coins = 0.0
        for account in world.accounts:
            coins += max(account.cash[1 + a], 0.0)
        world.coins_held_usd[a] = coins * world.seen_index[a]


def delta_by_asset(world: World, account: Account) -> list[float]:
    """Return an account's exposure to each asset at the prices the venue sees."""
    delta = [0.0] * world.assets
    for p in account.positions:
        delta[world.tape.asset[p.instrument]] += p.quantity * world.seen(p.instrument).delta_usd
    return delta


def require(world: World, accounts: list[Account]) -> list[tuple[float, float]]:
    """Return initial margin, open orders included, and maintenance margin of each account."""
    return [
        (max(initial, *with_orders), maintenance)
        if (with_orders := initial_with_orders(world, account))
        else (initial, maintenance)
        for account, (initial, maintenance) in zip(
            accounts, require_as_held(world, accounts), strict=True
        )
    ]


def require_as_held(world: World, accounts: list[Account]) -> list[tuple[float, float]]:
    """Ask the policy: a portfolio as a whole, or each of its legs as an account of its own."""
    whole = [account for account in accounts if not account.legs_alone]
    answers = iter(
        world.desk.require([a.positions for a in whole], [a.cash for a in whole], world.seen)
    )
    totals = []
    for account in accounts:
        if not account.legs_alone:
            totals.append(next(answers))
            continue
        initial = maintenance = 0.0
        legs = [[p] for p in account.positions]
        for leg_initial, leg_maintenance in world.desk.require(legs, None, world.seen):
            initial += leg_initial
            maintenance += leg_maintenance
        totals.append((initial, maintenance))
    return totals


def initial_with_orders(world: World, account: Account) -> list[float]:
    """Return the initial margin if all resting buys had filled, and if all sells had."""
    book, expiry_ms = world.book, world.tape.expiry_ms
    live = [
        k
        for k in account.resting
        if world.live[k] and expiry_ms[book.order_instrument[k]] > world.clock
    ]
    outcomes = []
    for buys in (True, False):
        side = [k for k in live if (book.order_quantity[k] > 0.0) == buys]
        if side:
            filled = account.copy()
            for k in side:
                i, quantity = int(book.order_instrument[k]), wanted_quantity(world, filled, k)
                if quantity:
                    currency = world.settles_in(i)
                    unit = world.seen(i).value_usd / world.seen_rate(currency)
                    filled.cash[currency] -= quantity * unit
                    filled.trade(i, quantity, unit)
            outcomes.append(filled)
    return [initial for initial, _ in require_as_held(world, outcomes)]


def wanted_quantity(world: World, account: Account, order: int) -> float:
    """Contracts that an order trades; one that closes never opens."""
    quantity = float(world.book.order_quantity[order])
    if world.book.order_kind[order] != CLOSE:
        return quantity
    held = account.held(int(world.book.order_instrument[order]))
    if held * quantity >= 0.0:
        return 0.0
    return -held if abs(quantity) >= abs(held) else quantity
