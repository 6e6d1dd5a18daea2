"""Orders: a pre-trade margin check on a spare account, then all legs or none; resting orders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from backtest.book import CLOSE
from backtest.cache import compiled
from backtest.instruments import OPTION
from backtest.kernels.aftermath import cancel_orders, end_liquidation, owe
from backtest.kernels.collateral import margin_equity
from backtest.kernels.money import (
    charge,
    close_out,
    deposit,
    fund_income,
    pay_for_contracts,
)
from backtest.kernels.positions import add_contracts
from backtest.kernels.records import IN_FEES, REJECTED_NOTIONAL
from backtest.kernels.requirement import (
    closing_quantity,
    copy_to_spare,
    include_orders,
    require_one,
)
from backtest.kernels.state import (
    FEES,
    INSTANT,
    KNOWN,
    NEVER,
    ROW,
    WORLD,
)
from backtest.kernels.types import KERNELS_TYPE
from backtest.kernels.valuation import (
    exposure_usd,
    price_now,
    price_seen,
    rate_seen,
    settlement_currency,
)
from backtest.venue import UNLIMITED

ENOUGH = 1.0 - 1e-12
"""Of the margin that is missing; a difference of equities is exact to no more than that."""


@compiled()
def order_quantity(world: Any, order: int) -> float:
    """Return the contracts an order would trade; a closing order never opens a position."""
    book = world.book
    quantity = book.order_quantity[order]
    if book.order_kind[order] != CLOSE:
        return quantity
    account, i = book.order_account[order], book.order_instrument[order]
    return closing_quantity(world.state, account, i, quantity)


@compiled()
def can_trade(world: Any, first: int, last: int) -> bool:
    """Price what a group asks for; return whether all of it can be traded now."""
    tape, book, state = world.tape, world.book, world.state
    known = state.counter[KNOWN] == 1
    now, instant = tape.ts[state.counter[ROW]], state.counter[INSTANT]
    tradable = known
    for order in range(first, last):
        i = book.order_instrument[order]
        price_now(world, i)
        alive = tape.listed_ms[i] <= now < tape.expiry_ms[i]
        tradable = tradable and alive and not np.isnan(state.unit[i])
        if known:
            price_seen(world, i)
            tradable = tradable and not np.isnan(world.market.value_usd[i])
            tradable = tradable and world.timeline.enforce[instant, tape.asset[i]] == 1
    return tradable


@compiled()
def _fee(world: Any, i: int, quantity: float, rate: float) -> float:
    """Return the fee of trading contracts, USD; an option's is capped by its value."""
    state = world.state
    fee = rate * abs(quantity) * exposure_usd(world, i)
    if world.tape.kind[i] == OPTION and world.venue.option_fee_cap < UNLIMITED:
        fee = min(fee, world.venue.option_fee_cap * abs(quantity) * abs(state.value_usd[i]))
    return fee


@compiled()
def group_fee(world: Any, first: int, last: int, rate: float) -> float:
    """Return the fee of trading a group at a rate, USD."""
    total = 0.0
    for order in range(first, last):
        quantity = order_quantity(world, order)
        if quantity != 0.0:
            total += _fee(world, world.book.order_instrument[order], quantity, rate)
    return total


@compiled(
    types.float64(WORLD, KERNELS_TYPE, types.int64, types.int64, types.float64, types.boolean)
)
def money_to_post(
    world: Any, kernels: Any, first: int, last: int, fee: float, resting: bool
) -> float:
    """Margin the portfolio as it would be; return what the account posts, or -1 to refuse.

    In an elastic book the account posts up to ``buffer x initial margin`` from its wallet; with
    less than the initial margin the group is refused. In a recorded book the collateral is as
    observed, and only an account that has nothing left is refused.
    """
    state, book = world.state, world.book
    account = book.order_account[first]
    initial = 0.0
    if state.live_count[account] > 0:
        traded = first if resting else last
        initial = include_orders(world, kernels, account, 0.0, first, traded)
    trial = copy_to_spare(world, account)
    if not resting:
        for order in range(first, last):
            i = book.order_instrument[order]
            quantity = order_quantity(world, order)
            if quantity != 0.0:
                currency = settlement_currency(world.tape, i)
                state.cash[currency, trial] -= quantity * state.unit[i]
                add_contracts(state, trial, i, quantity, state.unit[i], False)
    require_one(world, kernels, trial)
    asked = max(world.ask.initial[trial], initial)
    equity = margin_equity(world, trial) - fee
    if book.recorded == 1:
        return 0.0 if equity > 0.0 else -1.0
    currency, buffer = book.collateral_currency[account], book.buffer[account]
    rate = rate_seen(world.market, currency)
    there = state.wallet[book.owner[account]] * rate
    missing = buffer * asked - equity
    post = min(max(missing, 0.0), there)
    if currency == 0 or post == 0.0:
        return post if post >= asked - equity else -1.0
    # Coins may count for less than they are worth, or be charged for, so more of them are posted.
    state.cash[currency, trial] += post / rate
    require_one(world, kernels, trial)
    asked = max(world.ask.initial[trial], initial)
    counted = margin_equity(world, trial) - fee
    gained = missing - (buffer * asked - counted)
    if 0.0 < gained < missing:
        more = min(post * missing / gained, there)
        state.cash[currency, trial] += (more - post) / rate
        post = more
        require_one(world, kernels, trial)
        asked = max(world.ask.initial[trial], initial)
        counted = margin_equity(world, trial) - fee
    return post if counted - equity >= (asked - equity) * ENOUGH else -1.0


@compiled()
def execute(world: Any, first: int, last: int, fee: float, post: float, limit: float) -> None:
    """Trade every order of a group at the market or at a limit, pay the fee, post the margin."""
    state, book = world.state, world.book
    account = book.order_account[first]
    for order in range(first, last):
        i = book.order_instrument[order]
        quantity = order_quantity(world, order)
        if quantity != 0.0:
            unit = state.unit[i]
            if limit > 0.0:
                size = world.tape.contract_size[i]
                unit = -size / limit if world.tape.inverse[i] == 1 else size * limit
            pay_for_contracts(world, account, i, quantity, unit)
            add_contracts(state, account, i, quantity, unit, True)
    charge(world, account, fee, IN_FEES)
    to_fund = world.venue.fee_share_to_fund * fee
    fund_income(world, to_fund)
    state.purse[FEES] += fee - to_fund
    if post > 0.0:
        rate = rate_seen(world.market, book.collateral_currency[account])
        deposit(world, account, post, rate)
    if state.count[account] == 0:
        state.call_ts[account] = NEVER
        if state.queued[account] == 0:
            end_liquidation(state, account)
        cancel_orders(world, account)
        # Whoever closes by an order of its own was on the other side of that order.
        i = book.order_instrument[first]
        owe(world, i, -book.order_quantity[first], close_out(world, account))


@compiled()
def wanted_notional(world: Any, first: int, last: int) -> float:
    """Return the notional that a group asks for, USD."""
    total = 0.0
    for order in range(first, last):
        i = world.book.order_instrument[order]
        total += abs(order_quantity(world, order)) * world.state.notional_usd[i]
    return total


@compiled()
def _reduces(world: Any, first: int, last: int) -> bool:
    reduces = True
    for order in range(first, last):
        reduces = reduces and world.book.order_kind[order] == CLOSE
    return reduces


@compiled()
def trade(world: Any, kernels: Any, first: int, last: int) -> None:
    """Execute the orders ``first .. last`` of one account together, or refuse them together.

    Orders that only close are never refused for margin.
    """
    state, series = world.state, world.records.series
    reduces = _reduces(world, first, last)
    if not can_trade(world, first, last):
        # An order to close what expired meanwhile asks for nothing, so nothing is refused.
        if not reduces:
            wanted = wanted_notional(world, first, last)
            series[state.counter[ROW], REJECTED_NOTIONAL] += wanted
        return
    fee = group_fee(world, first, last, world.venue.taker_fee)
    post = 0.0
    if not reduces:
        post = money_to_post(world, kernels, first, last, fee, False)
        if post < 0.0:
            wanted = wanted_notional(world, first, last)
            series[state.counter[ROW], REJECTED_NOTIONAL] += wanted
            return
    execute(world, first, last, fee, post, 0.0)
