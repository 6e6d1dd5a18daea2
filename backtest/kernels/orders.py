"""Orders: a pre-trade margin check on a spare account, then all legs or none."""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.book import CLOSE
from backtest.cache import compiled
from backtest.kernels.money import charge, close_out, deposit
from backtest.kernels.positions import change_position, find_slot
from backtest.kernels.state import (
    FEES,
    REJECTED_NOTIONAL,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
)
from backtest.kernels.valuation import (
    equity_seen,
    exposure_usd,
    price_now,
    price_seen,
    rate_to_usd,
    settlement_currency,
)
from backtest.venue import VenueNumbers


@compiled()
def order_quantity(book: BookArrays, state: State, order: int) -> float:
    """Return the contracts an order would trade; a closing order never opens a position."""
    quantity = book.order_quantity[order]
    if book.order_kind[order] != CLOSE:
        return quantity
    slot = find_slot(state, book.order_account[order], book.order_instrument[order])
    if slot < 0:
        return 0.0
    held = state.quantity[slot]
    if held * quantity >= 0.0:
        return 0.0
    return -held if abs(quantity) >= abs(held) else quantity


@compiled()
def place_group(
    tape: TapeArrays,
    book: BookArrays,
    venue: VenueNumbers,
    kernels: Any,
    given: tuple[KernelInput, ...],
    market: Market,
    state: State,
    holdings: Holdings,
    requirement: Requirement,
    series: np.ndarray,
    spare: np.ndarray,
    first: int,
    last: int,
    row: int,
) -> float:
    """Execute the orders ``first .. last`` of one account together, or reject them together.

    The portfolio as it would be is laid out in the spare account and margined there. In an
    elastic book the account then posts up to ``buffer x initial margin`` from its wallet; with
    less than the initial margin the group is rejected. Orders that only close are never
    rejected for margin.

    Returns
    -------
    float
        A shortfall in USD, if the account closed its last position below zero.
    """
    account = book.order_account[first]
    trial = spare[0]
    asked = book.order_instrument[first:last]
    price_now(tape, state, asked, row)
    tradable = tape.seen[row] >= 0
    if tradable:
        price_seen(tape, state, market, asked, row)
    reduces = True
    wanted = 0.0
    for order in range(first, last):
        i = book.order_instrument[order]
        reduces = reduces and book.order_kind[order] == CLOSE
        alive = tape.listed_ms[i] <= tape.ts[row] and tape.ts[row] < tape.expiry_ms[i]
        priced = not np.isnan(state.unit[i]) and not np.isnan(market.value_usd[i])
        tradable = tradable and alive and priced
        wanted += abs(order_quantity(book, state, order)) * state.notional_usd[i]
    if not tradable:
        # An order to close what expired meanwhile asks for nothing, so nothing is refused.
        if not reduces:
            series[row, REJECTED_NOTIONAL] += wanted
        return 0.0

    source = state.start[account]
    base = state.start[trial]
    state.count[trial] = state.count[account]
    for k in range(state.count[account]):
        state.instrument[base + k] = state.instrument[source + k]
        state.quantity[base + k] = state.quantity[source + k]
    for currency in range(state.cash.shape[1]):
        state.cash[trial, currency] = state.cash[account, currency]

    fee = 0.0
    for order in range(first, last):
        i = book.order_instrument[order]
        quantity = order_quantity(book, state, order)
        if quantity != 0.0:
            currency = settlement_currency(tape, i)
            state.cash[trial, currency] -= quantity * state.unit[i]
            fee += venue.taker_fee * abs(quantity) * exposure_usd(state, i, venue)
            change_position(state, trial, i, quantity, False)

    currency = book.collateral_currency[account]
    seen_rate = rate_to_usd(tape, tape.seen[row], currency)
    post = 0.0
    if not reduces:
        for layer in range(len(given)):
            kernels[layer](given[layer], market, holdings, spare, requirement)
        initial = requirement.initial[trial]
        equity = equity_seen(tape, state, market, trial, row) - fee
        if book.recorded[0] == 0:
            missing = max(book.buffer[account] * initial - equity, 0.0)
            post = min(missing, state.wallet[account] * seen_rate)
            if equity + post < initial:
                series[row, REJECTED_NOTIONAL] += wanted
                return 0.0

    for order in range(first, last):
        i = book.order_instrument[order]
        quantity = order_quantity(book, state, order)
        if quantity != 0.0:
            paid = quantity * state.unit[i]
            traded = settlement_currency(tape, i)
            state.cash[account, traded] -= paid
            state.flow[traded] += paid
            change_position(state, account, i, quantity, True)
    charge(tape, book, state, account, row, fee)
    state.purse[FEES] += fee
    if post > 0.0:
        deposit(tape, book, state, series, account, row, post, seen_rate)
    if state.count[account] == 0:
        state.call_ts[account] = -1
        return close_out(tape, book, state, series, account, row)
    return 0.0
