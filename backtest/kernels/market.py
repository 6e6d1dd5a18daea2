"""What happens to everybody at once: prices, funding, expiry, deposits, the venue's health."""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.cache import compiled
from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.margin_calls import NO_CALL
from backtest.kernels.money import close_out, deposit
from backtest.kernels.positions import change_position
from backtest.kernels.state import (
    ACCOUNTS_OPEN,
    FUND,
    LOCKED_COLLATERAL,
    OPEN_NOTIONAL,
    REQUIRED_INITIAL,
    REQUIRED_MAINTENANCE,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.types import (
    KERNEL_SLOTS,
    PROTOCOL_FUND_USD,
    PROTOCOL_OPEN_NOTIONAL_USD,
    KernelInput,
    Market,
    Requirement,
)
from backtest.kernels.valuation import (
    price_now,
    price_seen,
    settlement_currency,
)


@compiled()
def see_market(
    tape: TapeArrays,
    paths: Any,
    given: tuple[KernelInput, ...],
    state: State,
    market: Market,
    row: int,
) -> None:
    """Price what is held, truly and as the venue sees it, and post the parameters in force."""
    seen = tape.seen[row]
    market.tick[0] = row
    held = np.flatnonzero(state.holders)
    price_now(tape, state, held, row)
    if seen < 0:
        return
    market.index[:] = tape.index[seen]
    market.mark[:] = tape.mark[seen]
    price_seen(tape, state, market, held, row)
    for layer in range(KERNEL_SLOTS):
        given[layer].parameters[:] = paths[layer][seen]


@compiled()
def accrue_funding(tape: TapeArrays, state: State, row: int) -> None:
    """Let longs pay what the tape's funding says, per unit of notional, to the market."""
    if not np.any(tape.funding[row] != 0.0):
        return
    cash, flow, start, count = state.cash, state.flow, state.start, state.count
    instrument, quantity, unit = state.instrument, state.quantity, state.unit
    kind, asset, inverse, funding = tape.kind, tape.asset, tape.inverse, tape.funding
    for account in range(start.shape[0] - 1):
        first = start[account]
        for slot in range(first, first + count[account]):
            i = instrument[slot]
            if kind[i] == PERPETUAL:
                paid = quantity[slot] * abs(unit[i]) * funding[row, asset[i]]
                currency = 1 + asset[i] if inverse[i] == 1 else 0
                cash[account, currency] -= paid
                flow[currency] += paid


@compiled()
def settle_expired(
    tape: TapeArrays, book: BookArrays, state: State, series: np.ndarray, row: int
) -> float:
    """Settle what expired, in cash, at the index; return the shortfall of accounts left flat."""
    due = False
    holders, expiry_ms, now = state.holders, tape.expiry_ms, tape.ts[row]
    for i in range(holders.shape[0]):
        if holders[i] > 0 and expiry_ms[i] <= now:
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
            state.call_ts[account] = NO_CALL
            shortfall += close_out(tape, book, state, series, account, row)
    return shortfall


@compiled()
def update_protocol(state: State, market: Market, tape: TapeArrays) -> None:
    """Show the policy the venue's own health: its fund and the open notional per asset.

    Contracts are first added up per instrument, both sides alike, for `record_levels` too.
    """
    gross, start, count = state.gross, state.start, state.count
    instrument, quantity, asset = state.instrument, state.quantity, tape.asset
    gross[:] = 0.0
    for account in range(start.shape[0] - 1):
        first = start[account]
        for slot in range(first, first + count[account]):
            gross[instrument[slot]] += abs(quantity[slot])
    protocol, notional_usd = market.protocol, market.notional_usd
    protocol[:] = 0.0
    protocol[PROTOCOL_FUND_USD] = state.purse[FUND]
    for i in range(gross.shape[0]):
        protocol[PROTOCOL_OPEN_NOTIONAL_USD + asset[i]] += gross[i] * notional_usd[i]


@compiled()
def arrive_deposits(
    tape: TapeArrays, book: BookArrays, state: State, series: np.ndarray, row: int
) -> None:
    """Credit margin-call payments that are due, and the transfers of a recorded book."""
    deposit_ts = state.deposit_ts
    for account in range(deposit_ts.shape[0]):
        due = deposit_ts[account]
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
def record_levels(
    state: State,
    requirement: Requirement,
    series: np.ndarray,
    equity: np.ndarray,
    active: np.ndarray,
    row: int,
) -> None:
    """Record what is open, locked and required at the moment of the margin check."""
    gross, notional_usd = state.gross, state.notional_usd
    initial, maintenance = requirement.initial, requirement.maintenance
    notional = locked = asked = kept = 0.0
    for i in range(gross.shape[0]):
        notional += gross[i] * notional_usd[i]
    for account in active:
        locked += max(equity[account], 0.0)
        asked += initial[account]
        kept += maintenance[account]
    series[row, OPEN_NOTIONAL] = notional
    series[row, LOCKED_COLLATERAL] = locked
    series[row, REQUIRED_INITIAL] = asked
    series[row, REQUIRED_MAINTENANCE] = kept
    series[row, ACCOUNTS_OPEN] = active.shape[0]
