"""What follows a step of liquidation: penalty, keeper, the next step or the account's end."""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.cache import compiled
from backtest.instruments import OPTION
from backtest.kernels.keepers import keeper_time
from backtest.kernels.money import charge, close_out, fund_income
from backtest.kernels.queue import STEP, schedule
from backtest.kernels.records import (
    DECLINED,
    IN_PENALTIES,
    KEEPER_COST,
    LIQUIDATED_NOTIONAL,
    LIQUIDATIONS,
    PENALTIES,
    TAKEOVER,
    TAKEOVERS,
)
from backtest.kernels.state import (
    CLOCK,
    FEES,
    LIQUIDATORS,
    LIVE,
    LOGGED,
    NET,
    NEVER,
    OWED_BY_LONGS,
    OWED_BY_SHORTS,
    ROW,
    WORLD,
)
from backtest.kernels.valuation import equity_now


@compiled()
def end_liquidation(state: Any, account: int) -> None:
    """Forget that an account was being liquidated."""
    state.liquidation_ts[account] = NEVER
    state.steps[account] = 0
    state.reserved[account] = 0.0


@compiled()
def cancel_orders(world: Any, account: int) -> None:
    """Cancel what rests in the book for an account."""
    state, book = world.state, world.book
    if state.live_count[account] == 0:
        return
    state.counter[LIVE] -= state.live_count[account]
    for k in range(book.resting_start[account], book.resting_start[account + 1]):
        state.live[book.resting_order[k]] = 0
    state.live_count[account] = 0


@compiled(types.void(WORLD, types.int64, types.float64, types.float64))
def owe(world: Any, instrument: int, held: float, shortfall: float) -> None:
    """Book a shortfall to the asset of the last position, and to its side: puts are short."""
    if shortfall > 0.0:
        tape, assets = world.tape, world.state.assets
        put = tape.kind[instrument] == OPTION and tape.is_call[instrument] == 0
        long = held < 0.0 if put else held >= 0.0
        assets[OWED_BY_LONGS if long else OWED_BY_SHORTS, tape.asset[instrument]] += shortfall


@compiled()
def main_asset(state: Any) -> tuple[int, float]:
    """Return the asset of the largest delta in scratch row ``NET``, and the delta's sign."""
    net = state.assets[NET]
    largest = 0
    for a in range(1, net.shape[0]):
        if abs(net[a]) > abs(net[largest]):
            largest = a
    return largest, 1.0 if net[largest] >= 0.0 else -1.0


@compiled(types.void(WORLD, types.int64, types.int64, *[types.float64] * 8))
def log_step(
    world: Any,
    account: int,
    kind: int,
    notional: float,
    share: float,
    equity: float,
    maintenance: float,
    cost: float,
    penalty: float,
    discount: float,
    shortfall: float,
) -> None:
    """Write one row of the liquidation log; needs the deltas before it in scratch row ``NET``.

    The host gives the log as many rows as a stretch of the replay can need, and asks again with
    more should that prove too few; the count goes on.
    """
    state, log = world.state, world.records.log
    place = state.counter[LOGGED]
    state.counter[LOGGED] += 1
    asset, side = main_asset(state)
    state.assets[OWED_BY_LONGS if side > 0.0 else OWED_BY_SHORTS, asset] += shortfall
    series, row = world.records.series, state.counter[ROW]
    series[row, TAKEOVERS if kind == TAKEOVER else LIQUIDATIONS] += 1.0
    series[row, LIQUIDATED_NOTIONAL] += notional
    if place >= log.shape[0]:
        return
    log[place, 0] = row
    log[place, 1] = account
    log[place, 2] = asset
    log[place, 3] = side
    log[place, 4] = notional
    log[place, 5] = share
    log[place, 6] = equity
    log[place, 7] = maintenance
    log[place, 8] = cost
    log[place, 9] = penalty
    log[place, 10] = shortfall
    log[place, 11] = state.counter[CLOCK]
    log[place, 12] = kind
    log[place, 13] = discount


@compiled()
def penalise(world: Any, account: int, amount_usd: float) -> float:
    """Charge a penalty and share it out; return what was charged.

    A penalty is a claim on what is left; it must not create the deficit it is meant to avoid.
    """
    venue, purse = world.venue, world.state.purse
    penalty = min(amount_usd, max(equity_now(world, account), 0.0))
    charge(world, account, penalty, IN_PENALTIES)
    incentive = venue.incentive_share * penalty
    to_fund = venue.fund_share * penalty
    purse[LIQUIDATORS] += incentive
    fund_income(world, to_fund)
    purse[FEES] += penalty - incentive - to_fund
    world.records.series[world.state.counter[ROW], PENALTIES] += penalty
    return penalty


@compiled()
def pay_keeper_cost(world: Any, cost_usd: float) -> None:
    """Let the liquidators pay the outside market what their work costs."""
    if cost_usd > 0.0:
        world.state.purse[LIQUIDATORS] -= cost_usd
        world.state.flow[0] += cost_usd
        world.records.series[world.state.counter[ROW], KEEPER_COST] += cost_usd


@compiled()
def wait_for_keeper(world: Any, account: int, time_ms: int) -> None:
    """Schedule an account's next step for the first keeper that is free from a time on."""
    world.state.queued[account] = 1
    schedule(world.state, STEP, account, keeper_time(world, time_ms))


@compiled()
def settle_step(world: Any, account: int) -> float:
    """After a step: close a flat account out, or wait for the next step; return the shortfall."""
    state = world.state
    state.call_ts[account] = NEVER
    if state.count[account] == 0:
        end_liquidation(state, account)
        cancel_orders(world, account)
        return close_out(world, account)
    if world.venue.interval_ms > 0.0:
        wait_for_keeper(world, account, state.counter[CLOCK] + int(world.venue.interval_ms))
    return 0.0


@compiled(types.void(WORLD, types.int64, types.int64))
def decline(world: Any, account: int, again_ms: int) -> None:
    """Nobody works at a loss; the account is looked at again later."""
    state = world.state
    world.records.series[state.counter[ROW], DECLINED] += 1.0
    if again_ms > 0:
        state.queued[account] = 1
        schedule(state, STEP, account, state.counter[CLOCK] + again_ms)
