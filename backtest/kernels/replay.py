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
from backtest.kernels.liquidation import liquidate
from backtest.kernels.margin_calls import call_margin, list_unsettled
from backtest.kernels.market import (
    accrue_funding,
    arrive_deposits,
    record_levels,
    see_market,
    settle_expired,
    update_protocol,
)
from backtest.kernels.money import imbalance, waterfall
from backtest.kernels.orders import place_group
from backtest.kernels.state import (
    BOOK_TYPE,
    FUND,
    FUND_LEVEL,
    LEDGER_IMBALANCE,
    LEDGER_SCALE,
    LIQUIDATION_COLUMNS,
    PATH_TYPE,
    SERIES_TYPE,
    STATE_TYPE,
    TAPE_TYPE,
    VENUE_TYPE,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.types import (
    HOLDINGS_TYPE,
    KERNEL_INPUT_TYPE,
    KERNEL_SLOTS,
    KERNELS_TYPE,
    MARKET_TYPE,
    REQUIREMENT_TYPE,
    Holdings,
    Market,
    Requirement,
)
from backtest.kernels.valuation import fill_equities
from backtest.venue import VenueNumbers


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
    legs = state.count
    spare = np.full(1, accounts, np.int64)
    who = np.empty(accounts, np.int64)
    unsettled = np.empty(accounts, np.int64)
    equity = np.empty(accounts)
    log = np.empty((64, LIQUIDATION_COLUMNS))
    logged = 0
    orders = book.order_row.shape[0]
    for row in range(first_row, last_row):
        state.sold[:] = 0.0
        see_market(tape, paths, given, state, market, row)
        accrue_funding(tape, state, row)
        shortfall = settle_expired(tape, book, state, series, row)
        update_protocol(state, market, tape)
        arrive_deposits(tape, book, state, series, row)

        count = 0
        for account in range(accounts):
            if legs[account] > 0:
                who[count] = account
                count += 1
        active = who[:count]
        if tape.seen[row] >= 0:
            for layer in range(KERNEL_SLOTS):
                kernels[layer](given[layer], market, holdings, active, requirement)
            fill_equities(state, state.value_usd, tape.index[row], active, equity)
            record_levels(state, requirement, series, equity, active, row)
            seen = tape.seen[row]
            if seen != row or tape.seen_snapshot[row] != tape.snapshot[row]:
                fill_equities(state, market.value_usd, tape.index[seen], active, equity)
            count = list_unsettled(book, venue, state, requirement, equity, active, unsettled)
            for account in unsettled[:count]:
                initial = requirement.initial[account]
                maintenance = requirement.maintenance[account]
                if equity[account] >= maintenance and not call_margin(
                    tape, book, venue, state, series, account, row,
                    equity[account], initial, maintenance,
                ):  # fmt: skip
                    continue
                if logged == log.shape[0]:
                    grown = np.empty((2 * logged, LIQUIDATION_COLUMNS))
                    grown[:logged] = log
                    log = grown
                shortfall += liquidate(
                    tape, book, venue, state, series, log[logged], account, row,
                    equity[account], maintenance,
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
