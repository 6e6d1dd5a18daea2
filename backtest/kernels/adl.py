"""Auto-deleveraging: winners of the other side give up gains and positions.

What a winner gives up is part of its unrealised profit in the asset, never more, and the same
part of its position there is closed at the mark: on that part it walks away without a profit.
"""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.cache import compiled
from backtest.kernels.aftermath import cancel_orders, end_liquidation
from backtest.kernels.laws.deleveraging import (
    pro_rata_share,
    profit_leverage_rank,
    queue_taken,
)
from backtest.kernels.money import charge, close_out, pay_for_contracts
from backtest.kernels.positions import add_contracts
from backtest.kernels.records import ADL_ACCOUNTS, ADL_USD, IN_ADL
from backtest.kernels.state import ADL_LOGGED, CLOCK, DEFICIT, NEVER, ROW, WORLD
from backtest.kernels.valuation import (
    equity_now,
    exposure_usd,
    rate_now,
    settlement_currency,
)
from backtest.rules.waterfall import ADL_QUEUE


@compiled(types.float64(WORLD, types.int64, types.int64))
def unrealised_gain(world: Any, account: int, asset: int) -> float:
    """Return the unrealised profit of an account's legs in an asset (-1 for all), USD."""
    state, tape = world.state, world.tape
    gain = 0.0
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        i = state.instrument[slot]
        if asset < 0 or tape.asset[i] == asset:
            rate = rate_now(state, settlement_currency(tape, i))
            gain += state.quantity[slot] * (state.unit[i] - state.entry[slot]) * rate
    return gain


@compiled()
def _rank(world: Any, account: int, asset: int, gain: float, equity: float) -> float:
    """Return a winner's place in the queue: profit share times effective leverage."""
    state, tape = world.state, world.tape
    cost = 0.0
    exposure = 0.0
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        i = state.instrument[slot]
        if tape.asset[i] == asset:
            rate = rate_now(state, settlement_currency(tape, i))
            cost += abs(state.quantity[slot] * state.entry[slot]) * rate
            exposure += abs(state.quantity[slot]) * exposure_usd(world, i)
    return profit_leverage_rank(gain / cost, exposure / equity)


@compiled()
def _list_winners(world: Any, asset: int, side: int) -> int:
    """List the accounts of the other side with a gain, and fill their gains and scores."""
    state, tape = world.state, world.tape
    found = 0
    for account in range(state.cash.shape[1] - 1):
        net = 0.0
        first = state.start[account]
        for slot in range(first, first + state.count[account]):
            i = state.instrument[slot]
            if tape.asset[i] == asset:
                net += state.quantity[slot] * state.delta_usd[i]
        if net == 0.0 or (net < 0.0) != (side == 0):
            continue
        equity = max(equity_now(world, account), 0.0)
        gain = min(unrealised_gain(world, account, asset), equity)
        if gain > 0.0:
            state.gain[account] = gain
            state.score[account] = _rank(world, account, asset, gain, equity)
            state.winners[found] = account
            found += 1
    return found


@compiled()
def _next_in_queue(state: Any, found: int) -> int:
    """Return the place of the winner with the highest score not yet asked; ties by account."""
    best = 0
    for k in range(1, found):
        if state.score[state.winners[k]] > state.score[state.winners[best]]:
            best = k
    return best


@compiled()
def _take_from_winner(world: Any, account: int, asset: int, taken: float) -> None:
    """Charge a winner and close the same part of its position at the mark."""
    state, tape = world.state, world.tape
    series, log, row = world.records.series, world.records.adl_log, state.counter[ROW]
    gain = state.gain[account]
    share = taken / gain
    charge(world, account, taken, IN_ADL)
    state.purse[DEFICIT] += taken
    series[row, ADL_USD] += taken
    series[row, ADL_ACCOUNTS] += 1.0
    place = state.counter[ADL_LOGGED]
    state.counter[ADL_LOGGED] += 1
    if place < log.shape[0]:
        log[place, 0] = row
        log[place, 1] = state.counter[CLOCK]
        log[place, 2] = account
        log[place, 3] = asset
        log[place, 4] = gain
        log[place, 5] = taken
        log[place, 6] = share
        log[place, 7] = state.score[account]
    first = state.start[account]
    for slot in range(first + state.count[account] - 1, first - 1, -1):
        i = state.instrument[slot]
        if tape.asset[i] == asset:
            held = state.quantity[slot]
            quantity = -held if share >= 1.0 else -(share * held)
            pay_for_contracts(world, account, i, quantity, state.unit[i])
            add_contracts(state, account, i, quantity, state.unit[i], True)
    if state.count[account] == 0:
        state.call_ts[account] = NEVER
        if state.queued[account] == 0:
            end_liquidation(state, account)
        cancel_orders(world, account)
        # Rounding may leave a flat account a hair below nothing; that is no new deficit to share.
        close_out(world, account)


@compiled()
def deleverage(world: Any, asset: int, side: int, residual: float) -> float:
    """Take a deficit from the winners of the other side; return what they did not cover.

    Parameters
    ----------
    world
        The world; ``venue.adl_mode`` is the queue or pro rata.
    asset
        In which the failed accounts lost most.
    side
        0 if they were long, 1 if they were short.
    residual
        Deficit in USD; winners are asked for ``adl_severity`` of it.
    """
    state = world.state
    budget = world.venue.adl_severity * residual
    found = _list_winners(world, asset, side)
    if world.venue.adl_mode == ADL_QUEUE:
        while found > 0 and budget > 0.0:
            k = _next_in_queue(state, found)
            account = state.winners[k]
            found -= 1
            for later in range(k, found):
                state.winners[later] = state.winners[later + 1]
            taken = queue_taken(state.gain[account], budget)
            if taken > 0.0:
                _take_from_winner(world, account, asset, taken)
                budget -= taken
                residual -= taken
        return residual
    total = 0.0
    for k in range(found):
        total += state.gain[state.winners[k]]
    share = pro_rata_share(budget, total)
    for k in range(found):
        account = state.winners[k]
        taken = share * state.gain[account]
        if taken > 0.0:
            _take_from_winner(world, account, asset, taken)
            residual -= taken
    return residual
