"""Selling an account by auction: a falling price, and pay for taking over an insolvent one."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.aftermath import decline, log_step, pay_keeper_cost, penalise, settle_step
from backtest.kernels.execution import close_share, expected_slippage, portfolio_exposure
from backtest.kernels.laws.auction import insolvent_pay, largest_fraction, price_share
from backtest.kernels.money import charge
from backtest.kernels.records import AUCTIONED, IN_PENALTIES
from backtest.kernels.state import CLOCK, LIQUIDATORS, ROW
from backtest.kernels.valuation import equity_now


@compiled()
def auction_step(world: Any, account: int, equity: float, maintenance: float) -> None:
    """Sell a share of an account at the auction's present price, or wait for a lower one.

    The buyer takes over a fraction of the account at a discount and bears the slippage of
    unloading it; of an insolvent account it takes everything and is paid for that.
    """
    state, venue = world.state, world.venue
    elapsed = float(state.counter[CLOCK] - state.liquidation_ts[account])
    reserved = state.reserved[account]
    share = 1.0
    sold = 0.0
    if equity > 0.0:
        price = price_share(
            elapsed, venue.auction_fast_ms, venue.auction_slow_ms, venue.auction_start,
            venue.auction_cut,
        )  # fmt: skip
        share = largest_fraction(
            equity, equity - maintenance, price, reserved, venue.auction_buffer
        )
        sold = share * max(equity - reserved, 0.0)
        discount = sold * (1.0 - price)
        sold *= price
    else:
        discount = insolvent_pay(maintenance, elapsed, venue.auction_ramp_ms)
    keeper_cost = world.tape.keeper_cost_usd[state.counter[ROW]]
    portfolio_exposure(world, account)
    if venue.keeper_participation != 0.0:
        slippage = expected_slippage(world, account, share)
        if discount - slippage < keeper_cost:
            decline(world, account, int(venue.auction_every_ms))
            return
    before = equity_now(world, account)
    closed, notional, cost = close_share(world, account, share)
    pay = discount - cost
    charge(world, account, pay, IN_PENALTIES)
    state.purse[LIQUIDATORS] += pay
    base = maintenance * share if venue.penalty_on_maintenance != 0.0 else closed
    penalty = penalise(world, account, venue.penalty * base)
    pay_keeper_cost(world, keeper_cost)
    state.reserved[account] += sold
    state.steps[account] += 1
    shortfall = settle_step(world, account)
    log_step(
        world, account, AUCTIONED, notional, share, before, maintenance, cost, penalty, discount,
        shortfall,
    )  # fmt: skip
