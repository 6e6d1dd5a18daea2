"""The desk on which `portfolio_grid` works out one account, and the sums of its legs and coins.

Nothing here is allocated per account: a desk is made once per call and cleared as it is used.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba import types

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import INLINED
from backtest.kernels.lanes import load, spread, store, zeros
from backtest.kernels.types import Holdings, KernelInput, Market
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.portfolio_terms import LANES

CONFIDENCE, NET, GROSS, LINEAR, SHORTS, CONTRACTS, NAKED, ROLL, BASIS = range(9)
"""Numbers per asset that an account holds: USD, but for the first (a share) and contracts."""
_F8, _I8 = types.Array(types.float64, 1, "C"), types.Array(types.int64, 1, "C")
_U8, _TABLE = types.Array(types.uint64, 1, "C"), types.Array(types.float64, 2, "C")


class Desk(NamedTuple):
    """What one account is worked out on; allocated once per call, cleared as it is used."""

    base: np.ndarray  # (2,) row of ``sums`` for the values of one expiry; columns that are plain
    sums: np.ndarray  # ((2 P + 2) * K,) profits of linear and coin-settled, all, then values
    places: np.ndarray  # (A,) where an asset stands among those held, -1 if nowhere
    assets: np.ndarray  # (P,) assets in the order they were met
    held: np.ndarray  # (P, 9) numbers of each
    rows: np.ndarray  # (E,) of each expiry: row of its kind's profits,
    years: np.ndarray  # (E,) time,
    present: np.ndarray  # (E,) value in the account's equity, USD,
    delta: np.ndarray  # (E,) USD per unit move,
    head: np.ndarray  # (E,) first of its options, -1 if none,
    tail: np.ndarray  # (E,) and last, both counted within the account
    following: np.ndarray  # (E,) after each option of an expiry the next, -1 after the last
    moves: np.ndarray  # (A, K) factor on the price
    weights: np.ndarray  # (A, K) share of the profit that counts


DESK_TYPE = types.NamedTuple(
    (_U8, _F8, _I8, _I8, _TABLE, _U8, _F8, _F8, _F8, _I8, _I8, _I8, _TABLE, _TABLE), Desk
)


@numba.extending.register_jitable(**INLINED)
def clear(desk: Desk, row: np.uint64, columns: np.uint64) -> None:
    """Set a row of the desk to zero."""
    for k in range(row * columns, (row + np.uint64(1)) * columns, np.uint64(LANES)):
        store(desk.sums, k, zeros(LANES))


@numba.extending.register_jitable(**INLINED)
def place_of(
    desk: Desk, market: Market, asset: np.uint64, count: np.uint64, columns: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return where an asset stands, and how many assets stand there by now."""
    place = desk.places[asset]
    if place < 0:
        place = np.int64(count)
        desk.places[asset] = place
        desk.assets[count] = asset
        own = desk.held[count]
        for number in range(BASIS + 1):
            own[np.uint64(number)] = 0.0
        own[CONFIDENCE] = market.index_confidence[asset]
        clear(desk, count + count, columns)
        clear(desk, count + count + np.uint64(1), columns)
        count += np.uint64(1)
    return np.uint64(place), count


@numba.extending.register_jitable(**INLINED)
def _expiry(
    desk: Desk, row: np.uint64, years: float, count: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return the number of an expiry of one kind, and how many there are by now."""
    found = count
    # All are looked at: where a search ends no processor can foresee.
    for e in range(count):
        same = (desk.years[e] == years) & (desk.rows[e] == row)
        found = np.uint64(e) if same else found
    if found == count:
        desk.years[count], desk.rows[count] = years, row
        desk.present[count] = desk.delta[count] = 0.0
        desk.head[count] = desk.tail[count] = -1
        count += np.uint64(1)
    return found, count


@numba.extending.register_jitable(**INLINED)
def add_leg(desk: Desk, given: KernelInput, row: np.uint64, i: np.uint64, size: float) -> None:
    """Add some contracts under every scenario to a row of the desk."""
    columns = np.uint64(given.constants[terms.SCENARIOS])
    to, source = row * columns, i * np.uint64(given.scratch.shape[1])
    factor = spread(size, LANES)
    for k in range(np.uint64(0), columns, np.uint64(LANES)):
        leg = factor * load(given.scratch, source + k, LANES)
        store(desk.sums, to + k, load(desk.sums, to + k, LANES) + leg)


@numba.extending.register_jitable(**INLINED)
def add_up(
    given: KernelInput, market: Market, holdings: Holdings, account: int, desk: Desk
) -> tuple[np.uint64, np.uint64, float]:
    """Add up the legs of an account; return assets and expiries met, and provisions in USD."""
    constants = given.constants
    columns = np.uint64(constants[terms.SCENARIOS])
    by_expiry, rolled = constants[terms.BY_EXPIRY] > 0.5, constants[terms.ROLLED] > 0.5
    chained = by_expiry | (constants[terms.NAKED] > 0.5)
    grouped = rolled | chained
    floored = constants[terms.NET_DELTA_FLOOR] + constants[terms.HEDGED_DELTA_FLOOR] > 0.0
    netted = floored | (constants[terms.DELTA_RATE] > 0.0)
    counted = constants[terms.SHORT_MINIMUM] + constants[terms.CONTRACT_MINIMUM] > 0.0
    provided = constants[terms.FEE_RATE] > 0.0
    first = np.uint64(holdings.start[account])
    assets = expiries = np.uint64(0)
    notional = funding = 0.0
    for slot in range(first, first + np.uint64(holdings.count[account])):
        i, quantity = np.uint64(holdings.instrument[slot]), holdings.quantity[slot]
        asset, inverse = np.uint64(market.asset[i]), np.uint64(market.inverse[i])
        option = market.kind[i] == OPTION
        place, assets = place_of(desk, market, asset, assets, columns)
        own, row = desk.held[place], place + place + inverse
        delta = 0.0
        if netted | rolled:
            inside = 1.0 if option & (inverse == np.uint64(1)) else 0.0
            delta = (market.delta_usd[i] - inside * market.value_usd[i]) * quantity
        if grouped:
            e, expiries = _expiry(desk, row, market.years[i], expiries)
            desk.delta[e] += delta
            if option & chained:
                at, tail = np.int64(slot - first), desk.tail[e]
                if tail < 0:
                    desk.head[e] = at
                else:
                    desk.following[np.uint64(tail)] = at
                desk.tail[e] = at
                desk.following[np.uint64(at)] = -1
                desk.present[e] += quantity * market.value_usd[i]
        if not (option & by_expiry):
            add_leg(desk, given, row, i, quantity)
        if netted:
            own[NET] += delta
            own[GROSS] += abs(delta)
        if counted:
            own[CONTRACTS] += abs(quantity)
            if option:
                own[SHORTS] += max(-quantity, 0.0) * market.notional_usd[i]
        if provided:
            notional += abs(quantity) * market.notional_usd[i]
        if not option:
            usd = market.notional_usd[i]
            if inverse == np.uint64(0):
                usd = market.contract_size[i] * market.index[asset]
            own[LINEAR] += abs(quantity) * usd
            if market.kind[i] == PERPETUAL:
                expected = given.parameters[terms.RANGES + len(market.index) + asset]
                funding += quantity * market.notional_usd[i] * expected
            sure = market.confidence[i]
            if sure < own[CONFIDENCE] or sure != sure:
                own[CONFIDENCE] = sure
    fees = constants[terms.FEE_RATE] * notional
    return assets, expiries, fees + (0.0 if funding < 0.0 else funding)


@numba.extending.register_jitable(**INLINED)
def own_number(given: KernelInput, asset: int, number: int) -> float:
    """Return a constant of an asset."""
    return given.constants[terms.SINGLES + asset * terms.ASSET_COLUMNS + number]


@numba.extending.register_jitable(**INLINED)
def doubt_in(given: KernelInput, confidence: float) -> float:
    """Return one less a confidence where that is below the threshold, else nothing."""
    return 0.0 if confidence >= given.constants[terms.CONFIDENCE_FLOOR] else 1.0 - confidence


@numba.extending.register_jitable(**INLINED)
def add_coins(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    desk: Desk,
    assets: np.uint64,
) -> tuple[np.uint64, float, float, float]:
    """Add coins to what an account holds; return assets met, charges and doubt in USD."""
    kept = extra = doubt = 0.0
    columns = desk.moves.shape[1]
    for coin in range(len(market.index)):
        amount = holdings.cash[1 + coin, account]
        if amount != 0.0:
            value = amount * market.index[coin]
            sure = market.index_confidence[coin]
            driver = int(own_number(given, coin, terms.MOVES_WITH))
            if driver >= 0:
                place, assets = place_of(
                    desk, market, np.uint64(driver), assets, np.uint64(columns)
                )
                moves, weights = desk.moves[driver], desk.weights[driver]
                row = 2 * np.int64(place) * columns
                for k in range(columns):
                    desk.sums[row + k] += weights[k] * (value * (moves[k] - 1.0))
                if not market.index_confidence[driver] >= sure:
                    sure = market.index_confidence[driver]
            kept += abs(value) * own_number(given, coin, terms.COIN_MM)
            extra += abs(value) * own_number(given, coin, terms.COIN_IM)
            doubt += abs(value) * doubt_in(given, sure)
    return assets, kept, extra, doubt * given.constants[terms.COIN_DOUBT_RATE]
