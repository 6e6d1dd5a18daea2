"""What happens to everybody at once: prices, funding, expiry, transfers, the venue's health."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.aftermath import cancel_orders, end_liquidation, owe
from backtest.kernels.execution import add_shift, set_true_prices
from backtest.kernels.money import close_out
from backtest.kernels.positions import add_contracts
from backtest.kernels.pricing import price_held_now, price_held_seen
from backtest.kernels.records import FUNDING_PAID, IN_FUNDING, IN_TRADING, IN_TRANSFERS
from backtest.kernels.state import (
    COINS,
    FUND,
    FUNDED,
    GROSS_STALE,
    INSTANT,
    KNOWN,
    MONEY_MOVED,
    NEVER,
    NEXT_TRANSFER,
    ROW,
    SAME_VIEW,
    SEEN_SHIFT,
    SHIFT,
    TRANSIENT,
)
from backtest.kernels.survey import sum_coins
from backtest.kernels.types import DEBTS, DEPOSITS, FUND_USD, NET_NOTIONAL, OPEN_NOTIONAL
from backtest.kernels.valuation import (
    equity_now,
    rate_now,
    see_prices,
    settlement_currency,
)


@compiled()
def open_row(world: Any, row: int) -> None:
    """Let the market move to a row: what liquidations did to the price decays on the way."""
    tape, state, venue = world.tape, world.state, world.venue
    assets, before = state.assets, state.counter[ROW]
    if venue.feedback_on != 0.0:
        if before >= 0:
            elapsed = float(tape.ts[row] - tape.ts[before])
            kept = 2.0 ** (-elapsed / venue.half_life_ms)
            for a in range(assets.shape[1]):
                assets[TRANSIENT, a] *= kept
        add_shift(assets)
        for a in range(assets.shape[1]):
            state.shift_at_row[row, a] = assets[SHIFT, a]
    state.counter[ROW] = row
    set_true_prices(world)
    price_held_now(world)


@compiled()
def add_up_contracts(world: Any) -> None:
    """Add up contracts per instrument, both sides alike, and list who pays funding.

    Only after positions have changed.
    """
    state, kind = world.state, world.tape.kind
    if state.counter[GROSS_STALE] == 0:
        return
    gross, net, start, count = state.gross, state.net, state.start, state.count
    instrument, quantity = state.instrument, state.quantity
    funded, payer = state.funded, state.funded_account
    gross[:] = 0.0
    net[:] = 0.0
    listed = 0
    for account in range(start.shape[0] - 1):
        first = start[account]
        for slot in range(first, first + count[account]):
            i = instrument[slot]
            gross[i] += abs(quantity[slot])
            net[i] += quantity[slot]
            if kind[i] == PERPETUAL:
                funded[listed] = slot
                payer[listed] = account
                listed += 1
    state.counter[FUNDED] = listed
    state.counter[GROSS_STALE] = 0


@compiled()
def accrue_funding(world: Any) -> None:
    """Let longs pay what the tape's funding says, per unit of notional, to the market."""
    tape, state, records = world.tape, world.state, world.records
    row, funding = state.counter[ROW], tape.funding
    due = False
    for a in range(funding.shape[1]):
        due = due or funding[row, a] != 0.0
    if not due:
        return
    state.counter[MONEY_MOVED] = 1
    add_up_contracts(world)
    cash, flow, funded, payer = state.cash, state.flow, state.funded, state.funded_account
    instrument, quantity, unit = state.instrument, state.quantity, state.unit
    asset, ledger = tape.asset, records.ledger
    total = 0.0
    for k in range(state.counter[FUNDED]):
        slot, account = funded[k], payer[k]
        i = instrument[slot]
        paid = quantity[slot] * abs(unit[i]) * funding[row, asset[i]]
        currency = settlement_currency(tape, i)
        cash[currency, account] -= paid
        flow[currency] += paid
        worth = paid * rate_now(state, currency)
        ledger[account, IN_FUNDING] -= worth
        total += max(worth, 0.0)
    records.series[row, FUNDING_PAID] += total


@compiled()
def _payoff(world: Any, i: int) -> float:
    """Return what one expired contract pays, in its settlement currency.

    An average of the index before expiry settles it; coins are counted at that average too.
    """
    tape = world.tape
    settled = tape.settlement_usd[i]
    size = tape.contract_size[i]
    if tape.kind[i] != OPTION:
        return -size / settled if tape.inverse[i] == 1 else size * settled
    intrinsic = settled - tape.strike[i]
    if tape.is_call[i] == 0:
        intrinsic = -intrinsic
    payoff = size * max(intrinsic, 0.0)
    return payoff / settled if tape.inverse[i] == 1 else payoff


@compiled()
def settle_expired(world: Any) -> None:
    """Settle what expired, in cash; close accounts out that are left without a position."""
    tape, state = world.tape, world.state
    holders, expiry_ms, now = state.holders, tape.expiry_ms, tape.ts[state.counter[ROW]]
    due = False
    for i in range(holders.shape[0]):
        due = due or (holders[i] > 0 and expiry_ms[i] <= now)
    if not due:
        return
    state.counter[MONEY_MOVED] = 1
    for account in range(state.cash.shape[1] - 1):
        first = state.start[account]
        last = -1
        held = 0.0
        for slot in range(first + state.count[account] - 1, first - 1, -1):
            i = state.instrument[slot]
            if expiry_ms[i] <= now:
                held = state.quantity[slot]
                last = i
                received = held * _payoff(world, i)
                currency = settlement_currency(tape, i)
                state.cash[currency, account] += received
                state.flow[currency] -= received
                worth = received * rate_now(state, currency)
                world.records.ledger[account, IN_TRADING] += worth
                add_contracts(state, account, i, -held, 0.0, True)
        if last >= 0 and state.count[account] == 0:
            state.call_ts[account] = NEVER
            if state.queued[account] == 0:
                end_liquidation(state, account)
            cancel_orders(world, account)
            owe(world, last, held, close_out(world, account))


@compiled()
def _post_parameters(world: Any, policy_row: int) -> None:
    ask = world.ask
    for k in range(ask.parameters0.shape[0]):
        ask.parameters0[k] = ask.path0[policy_row, k]
    for k in range(ask.parameters1.shape[0]):
        ask.parameters1[k] = ask.path1[policy_row, k]
    for k in range(ask.parameters2.shape[0]):
        ask.parameters2[k] = ask.path2[policy_row, k]
    for k in range(ask.parameters3.shape[0]):
        ask.parameters3[k] = ask.path3[policy_row, k]


@compiled()
def _sees_all(world: Any, instant: int) -> bool:
    """Return whether the venue sees every price just as it is now."""
    timeline, state, assets = world.timeline, world.state, world.state.assets
    row = state.counter[ROW]
    same = timeline.seen_snapshot[instant] == world.tape.snapshot[row]
    same = same and timeline.at_ms[instant] == world.tape.ts[row]
    for a in range(assets.shape[1]):
        same = same and timeline.seen_row[instant, a] == row
        same = same and assets[SEEN_SHIFT, a] == assets[SHIFT, a]
    return same


@compiled()
def see(world: Any, instant: int) -> None:
    """Let the venue see what has arrived by an instant: prices, parameters, its own health."""
    timeline, state = world.timeline, world.state
    seen_row, policy_row, assets = timeline.seen_row, timeline.policy_row[instant], state.assets
    state.counter[INSTANT] = instant
    known = policy_row >= 0
    moved = world.venue.feedback_on != 0.0
    for a in range(assets.shape[1]):
        row = seen_row[instant, a]
        known = known and row >= 0
        if moved and row >= 0 and (instant == 0 or row != seen_row[instant - 1, a]):
            assets[SEEN_SHIFT, a] = state.shift_at_row[row, a]
    state.counter[KNOWN] = 1 if known else 0
    state.counter[SAME_VIEW] = 1 if _sees_all(world, instant) else 0
    if known:
        see_prices(world, instant)
        _post_parameters(world, policy_row)
        price_held_seen(world)
    _update_protocol(world)


@compiled()
def see_shift(world: Any) -> None:
    """Let the venue's oracle follow prices that liquidations have moved."""
    state, instant = world.state, world.state.counter[INSTANT]
    for a in range(state.assets.shape[1]):
        if world.timeline.enforce[instant, a] == 1:
            state.assets[SEEN_SHIFT, a] = state.assets[SHIFT, a]
    state.counter[SAME_VIEW] = 1 if _sees_all(world, instant) else 0
    see_prices(world, instant)
    price_held_seen(world)
    _update_protocol(world)


@compiled()
def _update_protocol(world: Any) -> None:
    """Show the policy the venue's own state: fund, open and net notional, coins held and owed."""
    state, tape, market = world.state, world.tape, world.market
    add_up_contracts(world)
    gross, net, notional_usd = state.gross, state.net, market.notional_usd
    protocol = market.protocol
    protocol[:, :] = 0.0
    for i in range(gross.shape[0]):
        a = tape.asset[i]
        protocol[OPEN_NOTIONAL, a] += gross[i] * notional_usd[i]
        if tape.kind[i] != OPTION:
            protocol[NET_NOTIONAL, a] += net[i] * notional_usd[i]
    for a in range(protocol.shape[1]):
        protocol[FUND_USD, a] = state.purse[FUND]
        if state.counter[COINS] == 1:
            held, owed = sum_coins(state, 1 + a)
            protocol[DEPOSITS, a] = held * market.index[a]
            protocol[DEBTS, a] = owed * market.index[a]


@compiled()
def arrive_transfers(world: Any) -> None:
    """Credit the transfers that the book has seen up to the present row."""
    state, book = world.state, world.book
    transfer, row = state.counter[NEXT_TRANSFER], state.counter[ROW]
    while transfer < book.transfer_row.shape[0] and book.transfer_row[transfer] <= row:
        state.counter[MONEY_MOVED] = 1
        account = book.transfer_account[transfer]
        currency = book.transfer_currency[transfer]
        amount = book.transfer_amount[transfer]
        if amount < 0.0:
            # Who lost its collateral under this policy cannot take it home as it once did.
            left = max(equity_now(world, account), 0.0) / rate_now(state, currency)
            amount = max(amount, -left)
        state.cash[currency, account] += amount
        state.flow[currency] -= amount
        world.records.ledger[account, IN_TRANSFERS] += amount * rate_now(state, currency)
        transfer += 1
    state.counter[NEXT_TRANSFER] = transfer
