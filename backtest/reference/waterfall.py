"""Who pays for a deficit, in order: the insurance fund, winners, everybody."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.reference.money import charge, close_out, exchange, socialise
from backtest.rules.waterfall import (
    ADL_QUEUE,
    BY_FUNDING,
    BY_PROFIT,
    BY_WITHDRAWAL,
    DUST_SHARE,
    DUST_USD,
    NO_ADL,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.reference.accounts import Account, Position
    from backtest.reference.world import World


def waterfall(world: World) -> bool:
    """Pass every owed deficit on, asset by asset, bankrupt longs before bankrupt shorts.

    Returns whether there was one.
    """
    shared = False
    for asset in range(world.assets):
        for side in (0, 1):
            owed, world.owed[asset][side] = world.owed[asset][side], 0.0
            world.owed_so_far += owed
            if owed > DUST_USD:
                shared = True
                cover(world, asset, side, owed)
    if abs(world.deficit) <= DUST_SHARE * world.owed_so_far:
        world.fees += world.deficit
        world.deficit = 0.0
    world.client_funds = 0.0
    if world.venue.socialised_by == BY_WITHDRAWAL and world.deficit < 0.0:
        for account in world.accounts:
            world.client_funds += max(world.equity_now(account), 0.0)
    return shared


def cover(world: World, asset: int, side: int, owed: float) -> None:
    """Cover one deficit; what nobody can pay stays in the deficit purse."""
    allowed = float(world.rules.market_cap_usd[asset]) - world.drawn[asset]
    paid = max(min(world.fund, owed, allowed), 0.0)
    world.fund -= paid
    world.deficit += paid
    world.drawn[asset] += paid
    world.record("insurance_drawdown_usd", paid)
    residual = owed - paid
    if residual <= 0.0:
        return
    world.record("residual_bad_debt_usd", residual)
    if world.venue.adl_mode != NO_ADL:
        residual = deleverage(world, asset, side, residual)
    if residual <= 0.0:
        return
    if world.venue.socialised_by == BY_PROFIT:
        residual = socialise_by(world, residual, lambda account: profit_of(world, account))
    elif world.venue.socialised_by == BY_FUNDING:
        residual = socialise_by_contract(world, asset, residual)
    if residual > 0.0 and world.venue.socialised_by != BY_WITHDRAWAL:
        socialise_by(world, residual, lambda account: max(world.equity_now(account), 0.0))


@dataclass(frozen=True)
class Winner:
    """An account that gained where the bankrupt one lost."""

    account: Account
    gain: float
    score: float


def deleverage(world: World, asset: int, side: int, loss: float) -> float:
    """Let winners give up gains, and close as much of what they hold; return what is left."""
    budget = world.venue.adl_severity * loss
    winners = find_winners(world, asset, side)
    if world.venue.adl_mode == ADL_QUEUE:
        takings = []
        left = budget
        for winner in sorted(winners, key=lambda w: (-w.score, w.account.number)):
            taken = min(winner.gain, left)
            left -= taken
            takings.append((winner, taken))
    else:
        total = 0.0
        for winner in winners:
            total += winner.gain
        share = min(budget / total, 1.0) if total > 0.0 else 0.0
        takings = [(winner, share * winner.gain) for winner in winners]
    for winner, taken in takings:
        if taken > 0.0:
            take_gain(world, asset, winner, taken)
            loss -= taken
    return loss


def find_winners(world: World, asset: int, side: int) -> list[Winner]:
    """List the accounts on the other side of an asset that have a gain there, with their rank.

    The rank is profit, as a share of what the legs cost, times leverage.
    """
    winners = []
    for account in world.accounts:
        legs = legs_on(world, account, asset)
        delta = gain = cost = exposure = 0.0
        for p in legs:
            held, rate = world.now(p.instrument), world.rate(world.settles_in(p.instrument))
            delta += p.quantity * held.delta_usd
            gain += p.quantity * (held.unit - p.entry_unit) * rate
            cost += abs(p.quantity * p.entry_unit) * rate
            exposure += abs(p.quantity) * held.exposure_usd
        opposite = delta < 0.0 if side == 0 else delta > 0.0
        if not opposite or gain <= 0.0:
            continue
        equity = world.equity_now(account)
        gain = min(gain, max(equity, 0.0))
        if gain > 0.0:
            profit_share = gain / cost if cost > 0.0 else math.inf
            winners.append(Winner(account, gain, profit_share * (exposure / equity)))
    return winners


def legs_on(world: World, account: Account, asset: int) -> list[Position]:
    """List an account's positions on one asset."""
    return [p for p in account.positions if world.tape.asset[p.instrument] == asset]


def take_gain(world: World, asset: int, winner: Winner, taken: float) -> None:
    """Take a part of a winner's gain, and close that part of its legs at the market's price."""
    account = winner.account
    charge(world, account, taken, "adl_usd")
    world.deficit += taken
    world.record("adl_usd", taken)
    world.record("adl_accounts")
    share = taken / winner.gain
    for p in legs_on(world, account, asset)[::-1]:
        quantity = -p.quantity if share >= 1.0 else -share * p.quantity
        exchange(world, account, p.instrument, quantity, world.now(p.instrument).unit)
    world.records.winners.append(
        {
            "row": world.row,
            "at_ms": world.clock,
            "account": account.number,
            "asset": asset,
            "gain_usd": winner.gain,
            "taken_usd": taken,
            "share": share,
            "score": winner.score,
        }
    )
    if not account.positions:
        close_out(world, account)


def socialise_by(world: World, loss: float, weight: Callable[[Account], float]) -> float:
    """Share a loss among the accounts with positions; return what is left."""
    members = [account for account in world.accounts if account.positions]
    total = 0.0
    for account in members:
        total += weight(account)
    if total <= 0.0:
        return loss
    share = min(loss / total, 1.0)
    for account in members:
        charged = share * weight(account)
        if charged > 0.0:
            socialise(world, account, charged)
            loss -= charged
    return loss


def profit_of(world: World, account: Account) -> float:
    """Return an account's unrealised profit, as far as its equity covers it, US dollars."""
    profit = 0.0
    for p in account.positions:
        rate = world.rate(world.settles_in(p.instrument))
        profit += p.quantity * (world.now(p.instrument).unit - p.entry_unit) * rate
    return min(max(profit, 0.0), max(world.equity_now(account), 0.0))


def socialise_by_contract(world: World, asset: int, loss: float) -> float:
    """Share a loss over the notional held of an asset, as funding would; return what is left."""
    notionals = []
    for account in world.accounts:
        notional = 0.0
        for p in legs_on(world, account, asset):
            notional += abs(p.quantity) * world.now(p.instrument).notional_usd
        notionals.append(notional)
    total = 0.0
    for notional in notionals:
        total += notional
    if total <= 0.0:
        return loss
    left = loss
    for account, notional in zip(world.accounts, notionals, strict=True):
        charged = min(loss * notional / total, max(world.equity_now(account), 0.0))
        if charged > 0.0:
            socialise(world, account, charged)
            left -= charged
    return left
