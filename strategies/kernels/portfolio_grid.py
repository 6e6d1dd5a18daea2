"""Portfolio margin: the worst of a grid of scenarios, with the charges that venues add to it.

One law with the parts of Derive's PMRM and PMRM_2, Deribit's and Paradex's portfolio margins;
a part that a venue lacks has rates of zero. Every option is repriced in full (Black 1976) under
scenario ``s``, which moves the price of an asset by a factor ``x`` and shocks volatility.

For one account and one asset, ``g`` being the scenario's weight, ``V_e`` the value of the
options of one expiry and ``M_e`` their present value in the account's equity::

    profit_s = g * ( q * price * (x - 1)  +  coins * index * (x - 1)  +  sum_e (D(V_e) - M_e) )
    D(V)     = V * df * ( gain factor if V >= 0, else debt factor )
    loss     = max( -min_s profit_s, basis, delta floor, minimum of shorts ) + roll + delta

- *volatility*: ``z = (30 / days) ** p``; up is ``max(s + up * z * s, least)``, down is
  ``max(s - down * z * s, 0)`` (or points of volatility: without the factor ``s``); in a skew
  scenario the volatilities of far strikes change and every expiry counts with ``-|change|``.
- *discounting*: ``df = exp(-max(r, 0) t)``, gain factor ``base * exp(-t (r * m + a))``, debt
  factor ``min(1 / df, base * exp(t (r * m + a)))``.
- *settlement*: the part of an expiry's settlement average that is fixed does not move.
- *basis*: each expiry's worse loss when its forward alone moves, times ``add + mult * t``.
- *delta floor*: ``a * |net delta| + b * (gross - |net|) / 2``, Paradex.
- *roll*: ``sum_e |delta_e| * max(least, rate * t)``, all contracts of an expiry together,
  perpetuals being one; *delta*: a rate on net delta beyond a free amount, capped; Deribit.
- *kinds*: linear and coin-settled contracts are summed apart; a gain of one kind offsets the
  other only in part. A loss in coins is counted in coins, as in `scenario_grid`, unless coins
  are revalued with the scenario: then everything is counted in dollars.
- *tails* may be reduced by a dampener, and may move perpetuals by the range only (Deribit).

Losses of assets are added; optionally a share of what they would offset, if one scenario hit
them all, is given back. Then::

    maintenance = f_m * loss + charges
    initial     = (f_i + peg) * loss + charges + extra charges + doubt

or with the charges inside of the brackets. Charges are a rate on the notional of perpetuals and
futures at the index, on options sold beyond those bought of their expiry and strike (calls and
puts pooled), on coins, on gross notional (fees), and funding that is expected to be paid. Doubt
charges, in initial margin alone, notional whose oracles are less sure than a threshold.
Initial margin is never below maintenance. All is homogeneous of degree one in positions and
money, except where dampener or free delta, which are dollars, are not zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba import types

from backtest.instruments import OPTION, PERPETUAL
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
from backtest.kernels.types import (
    KERNEL_SIGNATURE,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.portfolio_law import portfolio_grid_explain, portfolio_grid_reference
from strategies.kernels.portfolio_prices import reprice_stale, scenario_row, tabulate_moves
from strategies.kernels.portfolio_terms import LANES

__all__ = ["portfolio_grid"]

_CONFIDENCE, _NET, _GROSS, _LINEAR, _SHORTS, _CONTRACTS, _NAKED, _ROLL, _BASIS = range(9)
"""Numbers per asset that an account holds: USD, but for the first (a share) and contracts."""
_F8, _I8 = types.Array(types.float64, 1, "C"), types.Array(types.int64, 1, "C")
_U8, _TABLE = types.Array(types.uint64, 1, "C"), types.Array(types.float64, 2, "C")


class _Desk(NamedTuple):
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


@numba.extending.register_jitable(**INLINED)
def _clear(desk: _Desk, row: np.uint64, columns: np.uint64) -> None:
    for k in range(row * columns, (row + np.uint64(1)) * columns, np.uint64(LANES)):
        store(desk.sums, k, zeros(LANES))


@numba.extending.register_jitable(**INLINED)
def _place(
    desk: _Desk, market: Market, asset: np.uint64, count: np.uint64, columns: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return where an asset stands, and how many assets stand there by now."""
    place = desk.places[asset]
    if place < 0:
        place = np.int64(count)
        desk.places[asset] = place
        desk.assets[count] = asset
        own = desk.held[count]
        for number in range(_BASIS + 1):
            own[np.uint64(number)] = 0.0
        own[_CONFIDENCE] = market.index_confidence[asset]
        _clear(desk, count + count, columns)
        _clear(desk, count + count + np.uint64(1), columns)
        count += np.uint64(1)
    return np.uint64(place), count


@numba.extending.register_jitable(**INLINED)
def _expiry(
    desk: _Desk, row: np.uint64, years: float, count: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return the number of an expiry of one kind, and how many there are by now."""
    found = count
    # All are looked at: where a search ends no processor can foresee.
    for e in range(count):
        same = (desk.years[e] == years) & (desk.rows[e] == row)
        found = e if same else found
    if found == count:
        desk.years[count], desk.rows[count] = years, row
        desk.present[count] = desk.delta[count] = 0.0
        desk.head[count] = desk.tail[count] = -1
        count += np.uint64(1)
    return found, count


@numba.extending.register_jitable(**INLINED)
def _add_leg(desk: _Desk, given: KernelInput, row: np.uint64, i: np.uint64, size: float) -> None:
    columns = np.uint64(given.constants[terms.SCENARIOS])
    to, source = row * columns, i * np.uint64(given.scratch.shape[1])
    factor = spread(size, LANES)
    for k in range(np.uint64(0), columns, np.uint64(LANES)):
        leg = factor * load(given.scratch, source + k, LANES)
        store(desk.sums, to + k, load(desk.sums, to + k, LANES) + leg)


@numba.extending.register_jitable(**INLINED)
def _add_up(
    given: KernelInput, market: Market, holdings: Holdings, account: int, desk: _Desk
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
        place, assets = _place(desk, market, asset, assets, columns)
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
            _add_leg(desk, given, row, i, quantity)
        if netted:
            own[_NET] += delta
            own[_GROSS] += abs(delta)
        if counted:
            own[_CONTRACTS] += abs(quantity)
            if option:
                own[_SHORTS] += max(-quantity, 0.0) * market.notional_usd[i]
        if provided:
            notional += abs(quantity) * market.notional_usd[i]
        if not option:
            usd = market.notional_usd[i]
            if inverse == np.uint64(0):
                usd = market.contract_size[i] * market.index[asset]
            own[_LINEAR] += abs(quantity) * usd
            if market.kind[i] == PERPETUAL:
                expected = given.parameters[terms.RANGES + len(market.index) + asset]
                funding += quantity * market.notional_usd[i] * expected
            sure = market.confidence[i]
            if sure < own[_CONFIDENCE] or sure != sure:
                own[_CONFIDENCE] = sure
    fees = constants[terms.FEE_RATE] * notional
    return assets, expiries, fees + (0.0 if funding < 0.0 else funding)


@numba.extending.register_jitable(**INLINED)
def _own(given: KernelInput, asset: int, number: int) -> float:
    """Return a constant of an asset."""
    return given.constants[terms.SINGLES + asset * terms.ASSET_COLUMNS + number]


@numba.extending.register_jitable(**INLINED)
def _doubt(given: KernelInput, confidence: float) -> float:
    """Return one less a confidence where that is below the threshold, else nothing."""
    return 0.0 if confidence >= given.constants[terms.CONFIDENCE_FLOOR] else 1.0 - confidence


@numba.extending.register_jitable(**INLINED)
def _add_coins(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    desk: _Desk,
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
            driver = int(_own(given, coin, terms.MOVES_WITH))
            if driver >= 0:
                place, assets = _place(desk, market, np.uint64(driver), assets, np.uint64(columns))
                moves, weights = desk.moves[driver], desk.weights[driver]
                row = 2 * np.int64(place) * columns
                for k in range(columns):
                    desk.sums[row + k] += weights[k] * (value * (moves[k] - 1.0))
                if not market.index_confidence[driver] >= sure:
                    sure = market.index_confidence[driver]
            kept += abs(value) * _own(given, coin, terms.COIN_MM)
            extra += abs(value) * _own(given, coin, terms.COIN_IM)
            doubt += abs(value) * _doubt(given, sure)
    return assets, kept, extra, doubt * given.constants[terms.COIN_DOUBT_RATE]


@numba.extending.register_jitable(**INLINED)
def _close_expiry(
    given: KernelInput,
    desk: _Desk,
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
def _close_expiries(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    desk: _Desk,
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
            least = _own(given, asset, terms.LEAST_ROLL)
            move = constants[terms.ROLL_PER_YEAR] * desk.years[e]
            held[_ROLL] += abs(desk.delta[e]) * (least if move < least else move)
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
                _clear(desk, desk.base[0], columns)
                leg = head
                while leg >= 0:
                    slot = first + np.uint64(leg)
                    other = np.uint64(holdings.instrument[slot])
                    _add_leg(desk, given, desk.base[0], other, holdings.quantity[slot])
                    leg = desk.following[np.uint64(leg)]
                _close_expiry(given, desk, e, asset, desk.sums, to, 1.0, i, skewed)
                if basis >= 0:
                    up = desk.sums[to + np.uint64(basis)]
                    down = desk.sums[to + np.uint64(basis + 1)]
            share = scratch[i, columns + np.uint64(terms.BASIS_SHARE)]
            held[_BASIS] += min(min(up, down), 0.0) * share
        if chained:
            if head == desk.tail[e]:
                slot = first + np.uint64(head)
                size = market.contract_size[np.uint64(holdings.instrument[slot])]
                held[_NAKED] += max(-(holdings.quantity[slot] * size), 0.0)
            else:
                held[_NAKED] += _naked(market, holdings, first, desk, head)


@numba.extending.register_jitable(**INLINED)
def _naked(market: Market, holdings: Holdings, first: np.uint64, desk: _Desk, head: int) -> float:
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
def _scan(given: KernelInput, market: Market, desk: _Desk, place: np.uint64, joint: int) -> float:
    """Return the lowest profit of an asset over all scenarios, and keep all of them."""
    constants, sums, asset = given.constants, desk.sums, desk.assets[place]
    columns, lane = np.uint64(constants[terms.SCENARIOS]), np.uint64(LANES)
    counted = spread(_own(given, asset, terms.GAIN_COUNTED), LANES)
    dampener = _own(given, asset, terms.DAMPENER)
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
def _first_at(given: KernelInput, desk: _Desk, place: int, low: float) -> int:
    """Return the first scenario with the lowest profit of an asset."""
    columns = np.uint64(given.constants[terms.SCENARIOS])
    linear, at = (place + place) * columns, np.int64(columns)
    for k in range(np.uint64(0), columns, np.uint64(LANES)):
        here = first_equal(load(desk.sums, linear + k, LANES), low)
        found = np.int64(k) + here
        at = found if (here < LANES) & (found < at) else at
    return at


@numba.extending.register_jitable(**INLINED)
def _at_least(loss: float, least: float) -> float:
    """Raise a loss to a least one; unknown if either is."""
    excess = least - loss
    return loss if excess <= 0.0 else loss + excess


@numba.extending.register_jitable(**INLINED)
def _loss_usd(given: KernelInput, desk: _Desk, place: int, scanned: float) -> float:
    """Return the loss of an asset: the scan, what competes with it, and what is added."""
    constants, held = given.constants, desk.held[place]
    loss = _at_least(scanned, -held[_BASIS])
    net, hedged = constants[terms.NET_DELTA_FLOOR], constants[terms.HEDGED_DELTA_FLOOR]
    if net + hedged > 0.0:
        delta = abs(held[_NET])
        loss = _at_least(loss, net * delta + hedged * (0.5 * (held[_GROSS] - delta)))
    short, contract = constants[terms.SHORT_MINIMUM], constants[terms.CONTRACT_MINIMUM]
    if short + contract > 0.0:
        loss = _at_least(loss, short * held[_SHORTS] + contract * held[_CONTRACTS])
    loss += held[_ROLL]
    if constants[terms.DELTA_RATE] > 0.0:
        delta = abs(held[_NET])
        beyond, cap = delta - constants[terms.DELTA_FREE], constants[terms.DELTA_CAP] * delta
        shock = constants[terms.DELTA_RATE] * (0.0 if beyond < 0.0 else beyond)
        loss += cap if cap < shock else shock
    return loss


@numba.extending.register_jitable(**INLINED)
def _option_doubt(
    given: KernelInput, market: Market, holdings: Holdings, account: int, desk: _Desk
) -> float:
    """Return the notional of options times the doubt in their oracles, USD."""
    first, doubt = np.uint64(holdings.start[account]), 0.0
    for slot in range(first, first + np.uint64(holdings.count[account])):
        i = np.uint64(holdings.instrument[slot])
        if market.kind[i] == OPTION:
            sure = desk.held[desk.places[market.asset[i]], _CONFIDENCE]
            own = market.confidence[i]
            sure = own if own < sure or own != own else sure
            doubt += _doubt(given, sure) * (abs(holdings.quantity[slot]) * market.notional_usd[i])
    return doubt


@numba.extending.register_jitable(**INLINED)
def _plain_columns(given: KernelInput, assets: int) -> int:
    """Return how many of the first scenarios, in lanes, count in full and skew nothing."""
    constants, columns = given.constants, int(given.constants[terms.SCENARIOS])
    weight = scenario_row(constants, assets, terms.WEIGHT)
    slope = scenario_row(constants, assets, terms.WEIGHT_BY_RANGE)
    skewed = scenario_row(constants, assets, terms.SKEWED)
    plain = 0
    for k in range(columns):
        whole = constants[weight + k] == 1.0 and constants[slope + k] == 0.0
        if plain == k and whole and constants[skewed + k] == 0.0:
            plain += 1
    return plain - plain % LANES


_DESK_TYPE = types.NamedTuple(
    (_U8, _F8, _I8, _I8, _TABLE, _U8, _F8, _F8, _F8, _I8, _I8, _I8, _TABLE, _TABLE), _Desk
)


@numba.njit(
    types.void(*KERNEL_SIGNATURE.args, _DESK_TYPE),
    error_model="numpy",
    cache=True,
    nogil=True,
    _nrt=False,
)
def _ask(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
    desk: _Desk,
) -> None:
    """Fill ``requirement``, given prices and a desk; nothing is counted here, so it is fast."""
    constants, columns = given.constants, int(given.constants[terms.SCENARIOS])
    coins = constants[terms.COINS_MATTER] > 0.5 and holdings.cash.shape[1] > 0
    doubted = constants[terms.DOUBT_RATE] > 0.0
    offset = constants[terms.OFFSET_BETWEEN]
    joint = np.int64(desk.base[0]) - 1 if offset > 0.0 else -1
    for account in accounts:
        assets, expiries, kept = _add_up(given, market, holdings, account, desk)
        extra = doubt = 0.0
        if coins:
            assets, own, more, doubt = _add_coins(given, market, holdings, account, desk, assets)
            kept, extra = kept + own, extra + more
        _close_expiries(given, market, holdings, account, desk, expiries)
        if joint >= 0:
            _clear(desk, np.uint64(joint), np.uint64(columns))
        loss = scanned = largest = 0.0
        worst = -1
        for place in range(assets):
            asset, held = desk.assets[place], desk.held[place]
            low = _scan(given, market, desk, place, joint)
            own = 0.0 if low >= 0.0 else -low
            if own > largest:
                largest, worst = own, _first_at(given, desk, place, low)
            scanned += own
            loss += _loss_usd(given, desk, place, own)
            naked = held[_NAKED] * market.index[asset]
            kept += held[_LINEAR] * _own(given, asset, terms.PERPETUAL_MM)
            kept += naked * _own(given, asset, terms.OPTION_MM)
            extra += held[_LINEAR] * _own(given, asset, terms.PERPETUAL_IM)
            extra += naked * _own(given, asset, terms.OPTION_IM)
            if doubted:
                rate = constants[terms.DOUBT_RATE] * _doubt(given, held[_CONFIDENCE])
                doubt += rate * held[_LINEAR]
        if doubted:
            options = _option_doubt(given, market, holdings, account, desk)
            doubt += constants[terms.DOUBT_RATE] * options
        if joint >= 0:
            low = np.inf
            for k in range(joint * columns, (joint + 1) * columns):
                low = desk.sums[k] if not desk.sums[k] >= low else low
            together = 0.0 if low >= 0.0 else -low
            loss -= offset * (scanned - together)
        for place in range(assets):
            desk.places[desk.assets[place]] = -1
        factor = constants[terms.IM_FACTOR] + given.parameters[terms.PEG]
        if constants[terms.CHARGES_INSIDE] > 0.5:
            maintenance = constants[terms.MM_FACTOR] * (loss + kept)
            initial = factor * (loss + kept) + (extra + doubt)
        else:
            maintenance = constants[terms.MM_FACTOR] * loss + kept
            initial = factor * loss + kept + (extra + doubt)
        requirement.maintenance[account] = maintenance
        requirement.initial[account] = maintenance if initial < maintenance else initial
        requirement.worst_scenario[account] = worst


@requirement_kernel
def portfolio_grid_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `portfolio_law`."""
    reprice_stale(given, market, holdings, accounts)
    constants, listed = given.constants, len(market.index)
    columns = int(constants[terms.SCENARIOS])
    longest = 1
    for account in accounts:
        longest = max(longest, holdings.count[account])
    places = listed if constants[terms.COINS_MATTER] > 0.5 else min(listed, longest)
    moves, weights = np.empty((listed, columns)), np.empty((listed, columns))
    tabulate_moves(given, moves, weights)
    sums = np.empty((2 * places + 2) * columns + LANES)
    first = -(sums.ctypes.data // 8) % LANES
    desk = _Desk(
        np.array([2 * places + 1, _plain_columns(given, listed)], np.uint64),
        sums[first : first + len(sums) - LANES],
        np.full(listed, -1),
        np.empty(places, np.int64),
        np.empty((places, _BASIS + 1)),
        np.empty(longest, np.uint64),
        np.empty(longest),
        np.empty(longest),
        np.empty(longest),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        moves,
        weights,
    )
    _ask(given, market, holdings, accounts, requirement, desk)


portfolio_grid = RequirementRule(
    "portfolio_grid",
    portfolio_grid_kernel,
    portfolio_grid_reference,
    scratch_columns=terms.columns_of,
    explain=portfolio_grid_explain,
)
"""Worst of a scenario grid with the charges that venues add to it."""
