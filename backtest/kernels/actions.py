"""What the book does at a row: trade, let an order rest, and fill or cancel one that rested."""

from __future__ import annotations

from typing import Any

from backtest.book import CLOSE
from backtest.cache import compiled
from backtest.kernels.money import deposit
from backtest.kernels.orders import (
    can_trade,
    execute,
    group_fee,
    money_to_post,
    trade,
    wanted_notional,
)
from backtest.kernels.records import REJECTED_NOTIONAL
from backtest.kernels.state import (
    FILL,
    LIVE,
    MONEY_MOVED,
    NEXT_ACTION,
    NEXT_FATE,
    ROW,
    TRADE,
)
from backtest.kernels.valuation import rate_seen


@compiled()
def rest(world: Any, kernels: Any, order: int) -> None:
    """Let an order rest in the book, if the account can bear its margin."""
    state, series = world.state, world.records.series
    account = world.book.order_account[order]
    refused = not can_trade(world, order, order + 1)
    if not refused:
        state.live[order] = 1
        state.live_count[account] += 1
        state.counter[LIVE] += 1
        post = money_to_post(world, kernels, order, order + 1, 0.0, True)
        refused = post < 0.0
        if refused:
            cancel(world, order)
        elif post > 0.0:
            rate = rate_seen(world.market, world.book.collateral_currency[account])
            deposit(world, account, post, rate)
    if refused and world.book.order_kind[order] != CLOSE:
        wanted = wanted_notional(world, order, order + 1)
        series[state.counter[ROW], REJECTED_NOTIONAL] += wanted


@compiled()
def cancel(world: Any, order: int) -> None:
    """Take a resting order out of the book."""
    state = world.state
    if state.live[order] == 1:
        state.live[order] = 0
        state.live_count[world.book.order_account[order]] -= 1
        state.counter[LIVE] -= 1


@compiled()
def fill(world: Any, order: int) -> None:
    """Fill a resting order at its limit; its margin was tested when it came."""
    if world.state.live[order] == 0:
        return
    cancel(world, order)
    if can_trade(world, order, order + 1):
        fee = group_fee(world, order, order + 1, world.venue.maker_fee)
        execute(world, order, order + 1, fee, 0.0, world.book.order_limit[order])


@compiled()
def meet_fates(world: Any) -> None:
    """Fill or cancel the resting orders that the present row has reached."""
    state, book = world.state, world.book
    fate, row = state.counter[NEXT_FATE], state.counter[ROW]
    while fate < book.fate_row.shape[0] and book.fate_row[fate] <= row:
        state.counter[MONEY_MOVED] = 1
        if book.fate_kind[fate] == FILL:
            fill(world, book.fate_order[fate])
        else:
            cancel(world, book.fate_order[fate])
        fate += 1
    state.counter[NEXT_FATE] = fate


@compiled()
def act(world: Any, kernels: Any) -> None:
    """Do what the book wants up to the present row, in its order."""
    state, book = world.state, world.book
    action, row = state.counter[NEXT_ACTION], state.counter[ROW]
    while action < book.action_row.shape[0] and book.action_row[action] <= row:
        state.counter[MONEY_MOVED] = 1
        first = book.action_first[action]
        if book.action_kind[action] == TRADE:
            trade(world, kernels, first, book.action_last[action])
        else:
            rest(world, kernels, first)
        action += 1
    state.counter[NEXT_ACTION] = action
