"""A share of an account is closed against the book, and those who did it are paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.reference.money import charge, exchange, fund_income, pay_slippage
from backtest.reference.quotes import execution_cost

if TYPE_CHECKING:
    from backtest.reference.accounts import Account
    from backtest.reference.world import World


@dataclass(frozen=True)
class Closed:
    """What one step closed of an account; US dollars."""

    share: float
    asset: int
    side: int
    equity_before: float
    exposure_usd: float
    notional_usd: float
    cost_usd: float


def close_share(world: World, account: Account, share: float) -> Closed:
    """Close a share of every leg, the last one first, each against the depth that is left."""
    asset, side = world.largest_net_delta(account)
    before = world.equity_now(account)
    exposure = notional = cost = 0.0
    for p in account.positions[::-1]:
        held, a = world.now(p.instrument), int(world.tape.asset[p.instrument])
        quantity = -share * p.quantity
        volume = abs(quantity) * held.exposure_usd
        slippage = execution_cost(volume, world.sold[a], depth_of(world, a), world.venue)
        world.sold[a] += volume
        world.pushed[a] += volume if p.quantity * held.delta_usd >= 0.0 else -volume
        exchange(world, account, p.instrument, quantity, held.unit)
        pay_slippage(world, account, p.instrument, slippage)
        exposure += volume
        notional += abs(quantity) * held.notional_usd
        cost += slippage
    return Closed(share, asset, side, before, exposure, notional, cost)


def estimate_slippage(world: World, account: Account, share: float) -> float:
    """Return what `close_share` would cost, without doing it."""
    sold, cost = list(world.sold), 0.0
    for p in account.positions[::-1]:
        a = int(world.tape.asset[p.instrument])
        volume = abs(-share * p.quantity) * world.now(p.instrument).exposure_usd
        cost += execution_cost(volume, sold[a], depth_of(world, a), world.venue)
        sold[a] += volume
    return cost


def depth_of(world: World, a: int) -> float:
    """Return what rests in an asset's book at the present row, US dollars."""
    return float(world.tape.depth_usd[world.row, a])


def pay_penalty(world: World, account: Account, closed: Closed, maintenance: float) -> float:
    """Charge the penalty and share it out: liquidator, fund, venue.

    It is a claim on what is left of the account, and never makes the deficit it is meant to
    avoid.
    """
    venue = world.venue
    released = maintenance * closed.share
    base = released if venue.penalty_on_maintenance else closed.exposure_usd
    penalty = min(venue.penalty * base, max(world.equity_now(account), 0.0))
    charge(world, account, penalty, "penalties_usd")
    world.record("penalties_usd", penalty)
    incentive = venue.incentive_share * penalty
    to_fund = venue.fund_share * penalty
    world.liquidators += incentive
    fund_income(world, to_fund)
    world.fees += penalty - incentive - to_fund
    return penalty


def pay_keeper(world: World) -> None:
    """Let the liquidator pay for its work, to the outside."""
    cost = float(world.tape.keeper_cost_usd[world.row])
    if cost > 0.0:
        world.liquidators -= cost
        world.flow[0] += cost
        world.record("keeper_cost_usd", cost)
