"""Positions change hands: fills, orders with their pre-trade margin check, liquidations."""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.book import CLOSE
from backtest.cache import compiled
from backtest.kernels.money import charge, close_out, deposit, withdraw
from backtest.kernels.state import (
    FEES,
    FUND,
    LIQUIDATED_NOTIONAL,
    LIQUIDATIONS,
    LIQUIDATORS,
    PENALTIES,
    REJECTED_NOTIONAL,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.types import Holdings, KernelInput, Market, Requirement
from backtest.kernels.valuation import (
    equity_now,
    equity_seen,
    price_now,
    price_seen,
    rate_to_usd,
    settlement_currency,
)
from backtest.venue import FULL, VenueNumbers


@compiled()
def find_slot(state: State, account: int, instrument: int) -> int:
    """Return the slot in which an account holds an instrument, or -1."""
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        if state.instrument[slot] == instrument:
            return slot
    return -1


@compiled()
def change_position(
    state: State, account: int, instrument: int, quantity: float, count_holders: bool
) -> None:
    """Add contracts to a position; a position of exactly nothing gives its slot back."""
    slot = find_slot(state, account, instrument)
    if slot < 0:
        slot = state.start[account] + state.count[account]
        state.count[account] += 1
        state.instrument[slot] = instrument
        state.quantity[slot] = quantity
        if count_holders:
            state.holders[instrument] += 1
        return
    state.quantity[slot] += quantity
    if state.quantity[slot] == 0.0:
        last = state.start[account] + state.count[account] - 1
        state.instrument[slot] = state.instrument[last]
        state.quantity[slot] = state.quantity[last]
        state.count[account] -= 1
        if count_holders:
            state.holders[instrument] -= 1


@compiled()
def impact_cost(volume_usd: float, already_usd: float, depth_usd: float, venue: VenueNumbers) -> float:
    """Cost of executing a volume after others in the same tick: the square-root law.

    The marginal price move after ``Q`` is ``c * sqrt(Q / depth)``, so executing from ``Q0`` to
    ``Q1`` costs ``2/3 * c * (Q1**1.5 - Q0**1.5) / sqrt(depth)``, and at most ``cap`` of the
    volume. The constant ``c`` is the move at ``Q = depth``: 1 % when depth is what rests within
    1 % of mid. Square-root impact: Donier and Bonart, arXiv 1412.4503.

    Returns
    -------
    float
        US dollars.
    """
    ceiling = venue.impact_cap * volume_usd
    if depth_usd <= 0.0:
        return ceiling
    until = already_usd + volume_usd
    swept = until * np.sqrt(until) - already_usd * np.sqrt(already_usd)
    return min(2.0 / 3.0 * venue.impact_at_depth * swept / np.sqrt(depth_usd), ceiling)


@compiled()
def liquidate(
    tape: TapeArrays,
    book: BookArrays,
    venue: VenueNumbers,
    state: State,
    series: np.ndarray,
    event: np.ndarray,
    account: int,
    row: int,
    equity_at_check: float,
    maintenance: float,
) -> float:
    """Close a share of an account's portfolio, all legs alike, against the book.

    To-target mode closes the share ``f`` that restores ``target x maintenance`` when margin
    shrinks with the portfolio and the penalty is paid on what is closed:
    ``equity - f * penalty * exposure = target * maintenance * (1 - f)``.

    Returns
    -------
    float
        The shortfall in USD if the account ends flat and below zero, else 0.
    """
    first = state.start[account]
    legs = state.count[account]
    exposure = 0.0
    net = np.zeros(tape.index.shape[1])
    for slot in range(first, first + legs):
        i = state.instrument[slot]
        exposure += abs(state.quantity[slot]) * state.exposure_usd[i]
        net[tape.asset[i]] += state.quantity[slot] * state.delta_usd[i]
    share = 1.0
    if venue.liquidation_mode != FULL and equity_at_check > 0.0:
        target = venue.liquidation_target * maintenance
        saved = target - venue.penalty * exposure
        if saved > 0.0:
            share = max((target - equity_at_check) / saved, venue.liquidation_minimum_share)
            share = min(share, 1.0)

    equity_before = equity_now(tape, state, account, row)
    closed_exposure = 0.0
    closed_notional = 0.0
    cost = 0.0
    for slot in range(first + legs - 1, first - 1, -1):
        i = state.instrument[slot]
        quantity = -state.quantity[slot] if share == 1.0 else -share * state.quantity[slot]
        volume = abs(quantity) * state.exposure_usd[i]
        asset = tape.asset[i]
        slippage = impact_cost(volume, state.sold[asset], tape.depth_usd[row, asset], venue)
        state.sold[asset] += volume
        currency = settlement_currency(tape, i)
        paid = quantity * state.unit[i] + slippage / rate_to_usd(tape, row, currency)
        state.cash[account, currency] -= paid
        state.flow[currency] += paid
        closed_exposure += volume
        closed_notional += abs(quantity) * state.notional_usd[i]
        cost += slippage
        change_position(state, account, i, quantity, True)

    # A penalty is a claim on what is left; it must not create the deficit it is meant to avoid.
    equity_after = equity_now(tape, state, account, row)
    penalty = min(venue.penalty * closed_exposure, max(equity_after, 0.0))
    charge(tape, book, state, account, row, penalty)
    incentive = venue.incentive_share * penalty
    state.purse[LIQUIDATORS] += incentive
    state.purse[FUND] += penalty - incentive

    shortfall = 0.0
    if state.count[account] == 0:
        shortfall = close_out(tape, book, state, series, account, row)
    state.call_ts[account] = -1
    series[row, LIQUIDATIONS] += 1.0
    series[row, LIQUIDATED_NOTIONAL] += closed_notional
    series[row, PENALTIES] += penalty

    largest = 0
    for asset in range(1, net.shape[0]):
        if abs(net[asset]) > abs(net[largest]):
            largest = asset
    event[0] = row
    event[1] = account
    event[2] = largest
    event[3] = 1.0 if net[largest] >= 0.0 else -1.0
    event[4] = closed_notional
    event[5] = share
    event[6] = equity_before
    event[7] = maintenance
    event[8] = cost
    event[9] = penalty
    event[10] = shortfall
    return shortfall


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
    reduces = True
    tradable = tape.seen[row] >= 0
    wanted = 0.0
    for order in range(first, last):
        i = book.order_instrument[order]
        alive = tape.listed_ms[i] <= tape.ts[row] and tape.ts[row] < tape.expiry_ms[i]
        tradable = tradable and alive
        if not tradable:
            break
        tradable = price_now(tape, state, i, row, venue.option_delta_floor)
        tradable = price_seen(tape, state, market, i, row) and tradable
        if not tradable:
            break
    for order in range(first, last):
        i = book.order_instrument[order]
        reduces = reduces and book.order_kind[order] == CLOSE
        price_now(tape, state, i, row, venue.option_delta_floor)
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
            fee += venue.taker_fee * abs(quantity) * state.exposure_usd[i]
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


@compiled()
def release_excess(
    tape: TapeArrays,
    book: BookArrays,
    state: State,
    series: np.ndarray,
    account: int,
    row: int,
    equity: float,
    initial: float,
) -> None:
    """Let a healthy account take home what it holds above its own target."""
    target = book.buffer[account] * initial
    if equity > book.release[account] * target:
        rate = rate_to_usd(tape, tape.seen[row], book.collateral_currency[account])
        withdraw(tape, book, state, series, account, row, equity - target, rate)
