"""The event loop: one compiled loop for every policy.

At one instant, in this order: market, funding, expiry, oracle, parameter post, protocol state,
deposits, margin check with its calls, liquidation, fund and socialised loss, orders, recording.
An account never trades on what it could not know, and money is counted after every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from backtest.cache import compiled
from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.money import close_out, deposit, imbalance, waterfall
from backtest.kernels.state import (
    ACCOUNTS_OPEN,
    BOOK_TYPE,
    FUND,
    FUND_LEVEL,
    LEDGER_IMBALANCE,
    LEDGER_SCALE,
    LIQUIDATION_COLUMNS,
    LOCKED_COLLATERAL,
    MARGIN_CALLS,
    OPEN_NOTIONAL,
    PATH_TYPE,
    REQUIRED_INITIAL,
    REQUIRED_MAINTENANCE,
    SERIES_TYPE,
    STATE_TYPE,
    TAPE_TYPE,
    VENUE_TYPE,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.trading import change_position, liquidate, place_group, release_excess
from backtest.kernels.types import (
    HOLDINGS_TYPE,
    KERNEL_INPUT_TYPE,
    KERNEL_SLOTS,
    KERNELS_TYPE,
    MARKET_TYPE,
    PROTOCOL_FUND_USD,
    PROTOCOL_OPEN_NOTIONAL_USD,
    REQUIREMENT_TYPE,
    Holdings,
    KernelInput,
    Market,
    Requirement,
)
from backtest.kernels.valuation import (
    equity_now,
    equity_seen,
    price_now,
    price_seen,
    settlement_currency,
)
from backtest.venue import VenueNumbers

_CALL_NONE = -1


@compiled()
def accrue_funding(tape: TapeArrays, state: State, row: int) -> None:
    """Let longs pay what the tape's funding says, per unit of notional, to the market."""
    if not np.any(tape.funding[row] != 0.0):
        return
    for account in range(state.wallet.shape[0]):
        first = state.start[account]
        for slot in range(first, first + state.count[account]):
            i = state.instrument[slot]
            if tape.kind[i] == PERPETUAL:
                rate = tape.funding[row, tape.asset[i]]
                paid = state.quantity[slot] * abs(state.unit[i]) * rate
                currency = settlement_currency(tape, i)
                state.cash[account, currency] -= paid
                state.flow[currency] += paid


@compiled()
def settle_expired(
    tape: TapeArrays, book: BookArrays, state: State, series: np.ndarray, row: int
) -> float:
    """Settle what expired, in cash, at the index; return the shortfall of accounts left flat."""
    due = False
    for i in range(state.holders.shape[0]):
        if state.holders[i] > 0 and tape.expiry_ms[i] <= tape.ts[row]:
            due = True
            break
    if not due:
        return 0.0
    shortfall = 0.0
    for account in range(state.wallet.shape[0]):
        first = state.start[account]
        settled = False
        for slot in range(first + state.count[account] - 1, first - 1, -1):
            i = state.instrument[slot]
            if tape.kind[i] == OPTION and tape.expiry_ms[i] <= tape.ts[row]:
                index = tape.index[row, tape.asset[i]]
                intrinsic = index - tape.strike[i]
                if tape.is_call[i] == 0:
                    intrinsic = -intrinsic
                payoff = tape.contract_size[i] * max(intrinsic, 0.0)
                if tape.inverse[i] == 1:
                    payoff = payoff / index
                received = state.quantity[slot] * payoff
                currency = settlement_currency(tape, i)
                state.cash[account, currency] += received
                state.flow[currency] -= received
                change_position(state, account, i, -state.quantity[slot], True)
                settled = True
        if settled and state.count[account] == 0:
            state.call_ts[account] = _CALL_NONE
            shortfall += close_out(tape, book, state, series, account, row)
    return shortfall


@compiled()
def arrive_deposits(
    tape: TapeArrays, book: BookArrays, state: State, series: np.ndarray, row: int
) -> None:
    """Credit margin-call payments that are due, and the transfers of a recorded book."""
    for account in range(state.wallet.shape[0]):
        due = state.deposit_ts[account]
        if due >= 0 and due <= tape.ts[row]:
            state.deposit_ts[account] = -1
            if state.count[account] > 0:
                currency = book.collateral_currency[account]
                rate = 1.0 if currency == 0 else tape.index[row, currency - 1]
                deposit(tape, book, state, series, account, row, state.deposit_usd[account], rate)
    transfer = state.cursor[1]
    while transfer < book.transfer_row.shape[0] and book.transfer_row[transfer] <= row:
        account = book.transfer_account[transfer]
        currency = book.collateral_currency[account]
        amount = book.transfer_amount[transfer]
        state.cash[account, currency] += amount
        state.flow[currency] -= amount
        transfer += 1
    state.cursor[1] = transfer


@compiled()
def call_margin(
    tape: TapeArrays,
    book: BookArrays,
    venue: VenueNumbers,
    state: State,
    series: np.ndarray,
    account: int,
    row: int,
    equity: float,
    initial: float,
    maintenance: float,
) -> bool:
    """Make, keep or drop a margin call; return whether an unpaid one is to be enforced."""
    level = venue.call_level * maintenance
    now = tape.ts[row]
    called = state.call_ts[account]
    if equity >= level:
        state.call_ts[account] = _CALL_NONE
        if book.recorded[0] == 0:
            release_excess(tape, book, state, series, account, row, equity, initial)
        return False
    if called == _CALL_NONE:
        asked = max(initial, level) - equity
        state.call_ts[account] = now
        series[row, MARGIN_CALLS] += asked
        if book.recorded[0] == 0 and book.top_up_share[account] > 0.0:
            state.deposit_ts[account] = now + book.top_up_delay_ms[account]
            state.deposit_usd[account] = book.top_up_share[account] * asked
        return False
    return now - called >= venue.call_deadline_ms


@compiled()
def update_protocol(state: State, market: Market, tape: TapeArrays) -> None:
    """Show the policy the venue's own health: its fund and the open notional per asset."""
    market.protocol[:] = 0.0
    market.protocol[PROTOCOL_FUND_USD] = state.purse[FUND]
    for account in range(state.wallet.shape[0]):
        first = state.start[account]
        for slot in range(first, first + state.count[account]):
            i = state.instrument[slot]
            market.protocol[PROTOCOL_OPEN_NOTIONAL_USD + tape.asset[i]] += (
                abs(state.quantity[slot]) * market.notional_usd[i]
            )


@compiled()
def see_market(
    tape: TapeArrays,
    venue: VenueNumbers,
    paths: Any,
    given: tuple[KernelInput, ...],
    state: State,
    market: Market,
    row: int,
) -> None:
    """Price what is held, truly and as the venue sees it, and post the parameters in force."""
    seen = tape.seen[row]
    market.tick[0] = row
    for i in range(state.holders.shape[0]):
        if state.holders[i] > 0:
            price_now(tape, state, i, row, venue.option_delta_floor)
    if seen < 0:
        return
    market.index[:] = tape.index[seen]
    market.mark[:] = tape.mark[seen]
    for i in range(state.holders.shape[0]):
        if state.holders[i] > 0:
            price_seen(tape, state, market, i, row)
    for layer in range(KERNEL_SLOTS):
        given[layer].parameters[:] = paths[layer][seen]


@compiled()
def record_levels(
    tape: TapeArrays,
    state: State,
    requirement: Requirement,
    series: np.ndarray,
    active: np.ndarray,
    row: int,
) -> None:
    """Record what is open, locked and required at the moment of the margin check."""
    for account in active:
        first = state.start[account]
        for slot in range(first, first + state.count[account]):
            i = state.instrument[slot]
            series[row, OPEN_NOTIONAL] += abs(state.quantity[slot]) * state.notional_usd[i]
        series[row, LOCKED_COLLATERAL] += max(equity_now(tape, state, account, row), 0.0)
        series[row, REQUIRED_INITIAL] += requirement.initial[account]
        series[row, REQUIRED_MAINTENANCE] += requirement.maintenance[account]
    series[row, ACCOUNTS_OPEN] = active.shape[0]


@compiled(
    types.Array(types.float64, 2, "C")(
        TAPE_TYPE,
        BOOK_TYPE,
        VENUE_TYPE,
        KERNELS_TYPE,
        types.UniTuple(PATH_TYPE, KERNEL_SLOTS),
        types.UniTuple(KERNEL_INPUT_TYPE, KERNEL_SLOTS),
        MARKET_TYPE,
        STATE_TYPE,
        HOLDINGS_TYPE,
        REQUIREMENT_TYPE,
        SERIES_TYPE,
        types.int64,
        types.int64,
    ),
    nogil=True,
)
def replay_rows(
    tape: TapeArrays,
    book: BookArrays,
    venue: VenueNumbers,
    kernels: Any,
    paths: Any,
    given: Any,
    market: Market,
    state: State,
    holdings: Holdings,
    requirement: Requirement,
    series: np.ndarray,
    first_row: int,
    last_row: int,
) -> np.ndarray:
    """Replay the rows ``first_row .. last_row``, changing ``state`` and filling ``series``.

    Parameters
    ----------
    tape, book, venue
        Read-only inputs; the book's orders are those of the whole window.
    kernels, paths, given
        Per slot: the requirement kernel, its parameters along the tape ``(T, P)``, and the
        arrays it is handed.
    market, state, holdings, requirement
        Working arrays; ``holdings`` are the state's own position arrays.
    series
        ``(T, len(SERIES_NAMES))``, zero on entry.
    first_row, last_row
        Half-open range of tape rows; a replay may be cut into consecutive ranges.

    Returns
    -------
    numpy.ndarray
        ``(L, LIQUIDATION_COLUMNS)``, one row per liquidation step.
    """
    accounts = state.wallet.shape[0]
    spare = np.full(1, accounts, np.int64)
    who = np.empty(accounts, np.int64)
    log = np.empty((64, LIQUIDATION_COLUMNS))
    logged = 0
    orders = book.order_row.shape[0]
    for row in range(first_row, last_row):
        state.sold[:] = 0.0
        see_market(tape, venue, paths, given, state, market, row)
        accrue_funding(tape, state, row)
        shortfall = settle_expired(tape, book, state, series, row)
        update_protocol(state, market, tape)
        arrive_deposits(tape, book, state, series, row)

        count = 0
        for account in range(accounts):
            if state.count[account] > 0:
                who[count] = account
                count += 1
        active = who[:count]
        if tape.seen[row] >= 0:
            for layer in range(KERNEL_SLOTS):
                kernels[layer](given[layer], market, holdings, active, requirement)
            record_levels(tape, state, requirement, series, active, row)
            for account in active:
                equity = equity_seen(tape, state, market, account, row)
                initial = requirement.initial[account]
                maintenance = requirement.maintenance[account]
                if equity >= maintenance and not call_margin(
                    tape, book, venue, state, series, account, row, equity, initial, maintenance
                ):
                    continue
                if logged == log.shape[0]:
                    grown = np.empty((2 * logged, LIQUIDATION_COLUMNS))
                    grown[:logged] = log
                    log = grown
                shortfall += liquidate(
                    tape, book, venue, state, series, log[logged], account, row,
                    equity, maintenance,
                )  # fmt: skip
                logged += 1
        waterfall(tape, book, state, series, row, shortfall)

        shortfall = 0.0
        order = state.cursor[0]
        while order < orders and book.order_row[order] <= row:
            end = order + 1
            while end < orders and book.order_group[end] == book.order_group[order]:
                end += 1
            shortfall += place_group(
                tape, book, venue, kernels, given, market, state, holdings, requirement,
                series, spare, order, end, row,
            )  # fmt: skip
            order = end
        state.cursor[0] = order
        waterfall(tape, book, state, series, row, shortfall)

        state.outside[:] += state.flow
        state.flow[:] = 0.0
        series[row, FUND_LEVEL] = state.purse[FUND]
        leaked, gross = imbalance(tape, book, state, row)
        series[row, LEDGER_IMBALANCE] = leaked
        series[row, LEDGER_SCALE] = gross
    return log[:logged].copy()
