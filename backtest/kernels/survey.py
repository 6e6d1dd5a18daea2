"""Equity, levels and the list of whom to look at, for everybody at once.

These passes see every account at every check, so they go over the accounts eight at a time. A
closed account has equity, initial and maintenance margin of nothing. Sums are kept apart by the
account's number modulo eight and added up by halves, which any engine can do in the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.cache import compiled
from backtest.kernels.lanes import (
    LANES,
    all_at_most,
    gather,
    load,
    magnitude,
    spread,
    store,
    total,
    where_negative,
    zeros,
)
from backtest.kernels.records import (
    ACCOUNTS_OPEN,
    LOCKED_COLLATERAL,
    OPEN_NOTIONAL,
    REQUIRED_INITIAL,
    REQUIRED_MAINTENANCE,
)
from backtest.kernels.state import ACTIVE, HEALTH, LIST_STALE, NEVER, ROW

_BLOCK = 64
"""Accounts among which single-leg neighbours are looked for."""
_U = np.uint64


@compiled()
def list_active(world: Any) -> int:
    """List the accounts that hold positions in ``state.active``, if any changed; count them."""
    state, ask = world.state, world.ask
    if state.counter[LIST_STALE] == 1:
        count = 0
        held, active = state.count, state.active
        for account in range(held.shape[0] - 1):
            if held[account] > 0:
                active[count] = account
                count += 1
            else:
                state.equity[account] = 0.0
                ask.initial[account] = 0.0
                ask.maintenance[account] = 0.0
        state.counter[ACTIVE] = count
        state.counter[LIST_STALE] = 0
    return state.counter[ACTIVE]


@compiled()
def _are_neighbours(start: Any, count: Any, first: int) -> bool:
    """Tell whether a block of accounts hold one leg each, side by side."""
    slot = start[first]
    apart = 0
    for k in range(_U(_BLOCK)):
        apart |= start[first + k] - slot - np.int64(k)
        apart |= count[first + k] - 1
    return apart == 0


@compiled()
def fill_equities(world: Any, value_usd: Any, index: Any) -> None:
    """Fill the equity in USD of every account at given unit values and index prices.

    The same sums as `equity_seen`, in the same order.
    """
    state = world.state
    cash, start, held, equity = state.cash, state.start, state.count, state.equity
    instrument, quantity = state.instrument, state.quantity
    currencies, width = _U(cash.shape[0]), _U(cash.shape[1])
    accounts = width - _U(1)
    first: Any = _U(0)
    while first < accounts:
        last = min(first + _U(_BLOCK), accounts)
        if last - first == _U(_BLOCK) and _are_neighbours(start, held, first):
            slots = _U(start[first]) - first
            for account in range(first, last, _U(LANES)):
                worth = load(cash, account, LANES)
                for currency in range(_U(1), currencies):
                    coins = load(cash, currency * width + account, LANES)
                    worth = worth + coins * spread(index[currency - _U(1)], LANES)
                slot = account + slots
                values = gather(value_usd, _U(0), instrument, slot, LANES)
                store(equity, account, worth + load(quantity, slot, LANES) * values)
        else:
            for account in range(first, last):
                if held[account] > 0:
                    money = cash[_U(0), account]
                    for currency in range(_U(1), currencies):
                        money += cash[currency, account] * index[currency - _U(1)]
                    begin = _U(start[account])
                    for slot in range(begin, begin + _U(held[account])):
                        money += quantity[slot] * value_usd[_U(instrument[slot])]
                    equity[account] = money
        first = last


@compiled(forceinline=True)
def _last_few(state: Any, numbers: Any, first: int, last: int) -> Any:
    """Load the accounts that do not fill a register, with nothing in the lanes beside them."""
    few = state.last_few
    for k in range(_U(LANES)):
        few[k] = numbers[first + k] if first + k < last else 0.0
    return load(few, _U(0), LANES)


@compiled()
def sum_coins(state: Any, currency: int) -> tuple[float, float]:
    """Add up what accounts hold of a currency, and what they owe of it."""
    cash = state.cash
    width = _U(cash.shape[1])
    accounts = width - _U(1)
    whole, first = accounts // _U(LANES) * _U(LANES), _U(currency) * width
    nothing = zeros(LANES)
    held, owed = zeros(LANES), zeros(LANES)
    for account in range(_U(0), whole, _U(LANES)):
        coins = load(cash, first + account, LANES)
        held = held + where_negative(coins, nothing, coins)
        owed = owed + where_negative(coins, magnitude(coins), nothing)
    coins = _last_few(state, cash[currency], whole, accounts)
    held = held + where_negative(coins, nothing, coins)
    owed = owed + where_negative(coins, magnitude(coins), nothing)
    return total(held), total(owed)


@compiled()
def record_levels(world: Any, count: int) -> None:
    """Record what is open, locked and required at the moment of the margin check."""
    state, ask, series = world.state, world.ask, world.records.series
    gross, notional_usd, row = state.gross, state.notional_usd, state.counter[ROW]
    equity, initial, maintenance = state.equity, ask.initial, ask.maintenance
    notional = 0.0
    for i in range(gross.shape[0]):
        notional += gross[i] * notional_usd[i]
    accounts = _U(state.start.shape[0] - 1)
    whole = accounts // _U(LANES) * _U(LANES)
    nothing = zeros(LANES)
    locked, asked, kept = zeros(LANES), zeros(LANES), zeros(LANES)
    for account in range(_U(0), whole, _U(LANES)):
        worth = load(equity, account, LANES)
        locked = locked + where_negative(worth, nothing, worth)
        asked = asked + load(initial, account, LANES)
        kept = kept + load(maintenance, account, LANES)
    worth = _last_few(state, equity, whole, accounts)
    locked = locked + where_negative(worth, nothing, worth)
    asked = asked + _last_few(state, initial, whole, accounts)
    kept = kept + _last_few(state, maintenance, whole, accounts)
    series[row, OPEN_NOTIONAL] = notional
    series[row, LOCKED_COLLATERAL] = total(locked)
    series[row, REQUIRED_INITIAL] = total(asked)
    series[row, REQUIRED_MAINTENANCE] = total(kept)
    series[row, ACCOUNTS_OPEN] = count


@compiled()
def list_unsettled(world: Any, count: int) -> int:
    """List the active accounts for which the check has something to do in ``state.listed``.

    The others are solvent beyond the call level, have no open call, no liquidation in progress
    and nothing to take home: nearly everybody, nearly always.
    """
    state, book, ask, venue = world.state, world.book, world.ask, world.venue
    call_ts, liquidation_ts, held = state.call_ts, state.liquidation_ts, state.count
    equity, active, listed = state.equity, state.active, state.listed
    buffer, release, level = book.buffer, book.release, venue.call_level
    initial, maintenance = ask.initial, ask.maintenance
    if venue.trigger_on != 0.0 or state.level[HEALTH] < 1.0:
        for k in range(count):
            listed[k] = active[k]
        return count
    elastic = book.recorded == 0
    accounts = _U(state.start.shape[0] - 1)
    found = _U(0)
    first = _U(0)
    while first < accounts:
        last = min(first + _U(LANES), accounts)
        settled = last - first == _U(LANES)
        if settled:
            waiting = 0
            for k in range(_U(LANES)):
                waiting |= (call_ts[first + k] - NEVER) | (liquidation_ts[first + k] - NEVER)
            worth, needed = load(equity, first, LANES), load(maintenance, first, LANES)
            settled = waiting == 0 and all_at_most(needed, worth)
            settled = settled and all_at_most(spread(level, LANES) * needed, worth)
            if settled and elastic:
                target = load(buffer, first, LANES) * load(initial, first, LANES)
                settled = all_at_most(worth, load(release, first, LANES) * target)
        if not settled:
            for account in range(first, last):
                worth_of, needed_by = equity[account], maintenance[account]
                quiet = worth_of >= needed_by and worth_of >= level * needed_by
                quiet = quiet and call_ts[account] == NEVER and liquidation_ts[account] == NEVER
                if quiet and elastic:
                    target_of = buffer[account] * initial[account]
                    quiet = not worth_of > release[account] * target_of
                if held[account] > 0 and not quiet:
                    listed[found] = account
                    found += _U(1)
        first = last
    return int(found)
