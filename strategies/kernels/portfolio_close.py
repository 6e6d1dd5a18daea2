"""From what an account holds of an asset to its lowest profit, for `portfolio_grid`."""

from __future__ import annotations

import numba
import numpy as np

from backtest.kernels.black76 import INLINED
from backtest.kernels.lanes import (
    first_equal,
    load,
    lowest,
    magnitude,
    spread,
    store,
    where_negative,
    zeros,
)
from backtest.kernels.types import Holdings, KernelInput, Market
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.portfolio_desk import BASIS, NAKED, ROLL, Desk, add_leg, clear, own_number
from strategies.kernels.portfolio_moves import scenario_row
from strategies.kernels.portfolio_terms import LANES


@numba.extending.register_jitable(**INLINED)
def _close_expiry(
    given: KernelInput,
    desk: Desk,
    e: np.uint64,
    asset: int,
    values: np.ndarray,
    source: np.uint64,
    quantity: float,
    i: np.uint64,
    skewed: np.uint64,
) -> None:
    """Turn the values of an expiry, ``quantity`` times some that are listed, into profits."""
    constants, scratch, row = given.constants, given.scratch, desk.rows[e]
    columns = np.uint64(constants[terms.SCENARIOS])
    gain = spread(scratch[i, columns + np.uint64(terms.GAIN_FACTOR)], LANES)
    debt = spread(scratch[i, columns + np.uint64(terms.DEBT_FACTOR)], LANES)
    present, size = spread(-desk.present[e], LANES), spread(quantity, LANES)
    to, own = row * columns, np.uint64(asset) * columns
    plain = desk.base[1]
    for k in range(np.uint64(0), plain, np.uint64(LANES)):
        value = size * load(values, source + k, LANES)
        profit = value * where_negative(value, debt, gain) + present
        store(desk.sums, to + k, load(desk.sums, to + k, LANES) + profit)
    for k in range(plain, columns, np.uint64(LANES)):
        value = size * load(values, source + k, LANES)
        profit = value * where_negative(value, debt, gain) + present
        loss = magnitude(profit) * spread(-1.0, LANES)
        marks = load(constants, skewed + k, LANES)
        profit = where_negative(marks, loss, profit) * load(desk.weights, own + k, LANES)
        store(desk.sums, to + k, load(desk.sums, to + k, LANES) + profit)


@numba.extending.register_jitable(**INLINED)
def close_expiries(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    desk: Desk,
    count: np.uint64,
) -> None:
    """Turn values of expiries into profits; find basis, roll and naked options of each."""
    constants, scratch = given.constants, given.scratch
    columns, basis = np.uint64(constants[terms.SCENARIOS]), int(constants[terms.BASIS_COLUMN])
    by_expiry, chained = constants[terms.BY_EXPIRY] > 0.5, constants[terms.NAKED] > 0.5
    rolled = constants[terms.ROLLED] > 0.5
    skewed = np.uint64(scenario_row(constants, len(market.index), terms.SKEWED))
    first = np.uint64(holdings.start[account])
    for e in range(count):
        row, head = desk.rows[e], desk.head[e]
        place = row >> np.uint64(1)
        asset, held = desk.assets[place], desk.held[place]
        if rolled:
            least = own_number(given, asset, terms.LEAST_ROLL)
            move = constants[terms.ROLL_PER_YEAR] * desk.years[e]
            held[ROLL] += abs(desk.delta[e]) * (least if move < least else move)
        if head < 0:
            continue
        if by_expiry:
            up = down = 0.0
            i = np.uint64(holdings.instrument[first + np.uint64(head)])
            at = np.uint64(i) * np.uint64(scratch.shape[1])
            quantity = holdings.quantity[first + np.uint64(head)]
            if head == desk.tail[e]:
                _close_expiry(given, desk, e, asset, scratch, at, quantity, i, skewed)
                if basis >= 0:
                    up = quantity * scratch[i, np.uint64(basis)]
                    down = quantity * scratch[i, np.uint64(basis + 1)]
            else:
                to = desk.base[0] * columns
                clear(desk, desk.base[0], columns)
                leg = head
                while leg >= 0:
                    slot = first + np.uint64(leg)
                    other = np.uint64(holdings.instrument[slot])
                    add_leg(desk, given, desk.base[0], other, holdings.quantity[slot])
                    leg = desk.following[np.uint64(leg)]
                _close_expiry(given, desk, e, asset, desk.sums, to, 1.0, i, skewed)
                if basis >= 0:
                    up = desk.sums[to + np.uint64(basis)]
                    down = desk.sums[to + np.uint64(basis + 1)]
            share = scratch[i, columns + np.uint64(terms.BASIS_SHARE)]
            held[BASIS] += min(min(up, down), 0.0) * share
        if chained:
            if head == desk.tail[e]:
                slot = first + np.uint64(head)
                size = market.contract_size[np.uint64(holdings.instrument[slot])]
                held[NAKED] += max(-(holdings.quantity[slot] * size), 0.0)
            else:
                held[NAKED] += _naked(market, holdings, first, desk, head)


@numba.extending.register_jitable(**INLINED)
def _naked(market: Market, holdings: Holdings, first: np.uint64, desk: Desk, head: int) -> float:
    """Return the coins of options of one expiry sold beyond those bought of their strike."""
    naked = 0.0
    leg = head
    while leg >= 0:
        strike = market.strike[holdings.instrument[first + np.uint64(leg)]]
        net, seen, other = 0.0, False, head
        while other >= 0:
            slot = first + np.uint64(other)
            i = holdings.instrument[slot]
            if market.strike[i] == strike:
                seen |= other < leg
                net += holdings.quantity[slot] * market.contract_size[i]
            other = desk.following[np.uint64(other)]
        naked += 0.0 if seen or net >= 0.0 else -net
        leg = desk.following[np.uint64(leg)]
    return naked


@numba.extending.register_jitable(**INLINED)
def scan(given: KernelInput, market: Market, desk: Desk, place: np.uint64, joint: int) -> float:
    """Return the lowest profit of an asset over all scenarios, and keep all of them."""
    constants, sums, asset = given.constants, desk.sums, desk.assets[place]
    columns, lane = np.uint64(constants[terms.SCENARIOS]), np.uint64(LANES)
    counted = spread(own_number(given, asset, terms.GAIN_COUNTED), LANES)
    dampener = own_number(given, asset, terms.DAMPENER)
    tails = np.uint64(scenario_row(constants, len(market.index), terms.TAIL))
    linear = (place + place) * columns
    coin = linear + columns
    low = spread(np.inf, LANES)
    for k in range(np.uint64(0), columns, lane):
        one, two = load(sums, linear + k, LANES), load(sums, coin + k, LANES)
        profit = where_negative(one, one, one * counted) + where_negative(two, two, two * counted)
        if dampener > 0.0:
            damped = profit + spread(dampener, LANES) * load(constants, tails + k, LANES)
            damped = where_negative(damped, damped, zeros(LANES))
            profit = where_negative(profit, damped, profit)
        if joint >= 0:
            to = np.uint64(joint) * columns + k
            store(sums, to, load(sums, to, LANES) + profit)
        store(sums, linear + k, profit)
        low = where_negative(low + profit * spread(-1.0, LANES), low, profit)
    return lowest(low)


@numba.extending.register_jitable(**INLINED)
def first_at(given: KernelInput, desk: Desk, place: int, low: float) -> int:
    """Return the first scenario with the lowest profit of an asset."""
    columns = np.uint64(given.constants[terms.SCENARIOS])
    linear, at = (place + place) * columns, int(columns)
    for k in range(np.uint64(0), columns, np.uint64(LANES)):
        here = first_equal(load(desk.sums, linear + k, LANES), low)
        found = int(k) + here
        at = found if (here < LANES) & (found < at) else at
    return at
