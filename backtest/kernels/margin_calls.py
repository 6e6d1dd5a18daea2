"""Between initial and maintenance margin: calls, their payment, and what may leave."""

from __future__ import annotations

import numpy as np

from backtest.cache import compiled
from backtest.kernels.money import withdraw
from backtest.kernels.state import (
    MARGIN_CALLS,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.types import Requirement
from backtest.kernels.valuation import (
    rate_to_usd,
)
from backtest.venue import VenueNumbers

NO_CALL = -1
"""``call_ts`` of an account without an open margin call."""


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
        state.call_ts[account] = NO_CALL
        if book.recorded[0] == 0:
            release_excess(tape, book, state, series, account, row, equity, initial)
        return False
    if called == NO_CALL:
        asked = max(initial, level) - equity
        state.call_ts[account] = now
        series[row, MARGIN_CALLS] += asked
        if book.recorded[0] == 0 and book.top_up_share[account] > 0.0:
            state.deposit_ts[account] = now + book.top_up_delay_ms[account]
            state.deposit_usd[account] = book.top_up_share[account] * asked
        return False
    return now - called >= venue.call_deadline_ms


@compiled()
def list_unsettled(
    book: BookArrays,
    venue: VenueNumbers,
    state: State,
    requirement: Requirement,
    equity: np.ndarray,
    active: np.ndarray,
    listed: np.ndarray,
) -> int:
    """List the accounts for which the margin check has something to do.

    The others are solvent beyond the call level, have no open call and nothing to take home:
    nearly everybody, nearly always.

    Returns
    -------
    int
        How many there are; they stand first in ``listed``.
    """
    call_ts, buffer, release = state.call_ts, book.buffer, book.release
    initial, maintenance = requirement.initial, requirement.maintenance
    elastic = book.recorded[0] == 0
    count = 0
    for account in active:
        settled = (
            equity[account] >= maintenance[account]
            and equity[account] >= venue.call_level * maintenance[account]
            and call_ts[account] == NO_CALL
        )
        if settled and elastic:
            target = buffer[account] * initial[account]
            settled = not equity[account] > release[account] * target
        if not settled:
            listed[count] = account
            count += 1
    return count
