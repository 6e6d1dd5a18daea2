"""Margin as the worst loss over a grid of price moves and volatility shocks.

Each instrument is repriced in full, once per tick, under ``K`` scenarios; an account is then
a sparse row times that table. Scenario ``k`` moves the price of every asset ``a`` by the
factor ``x = 1 + fraction[k] * range[a]``, shocks volatility in direction ``d[k]`` and counts
with weight ``w[k]`` (tails beyond the range count in part, as in SPAN and at Deribit).
Profit of one contract, in US dollars, with ``V`` the undiscounted Black-76 price:

==================  =====================================================
linear perpetual    ``w * value * (x - 1)``, value being ``size * mark``
linear option       ``w * size * (V(F x, s') - V(F, s))``
inverse perpetual   ``w * value * (1/x - 1)``, value being ``-size * index / mark``
inverse option      ``w * size * (V(F x, s') / (F x) - V(F, s) / F) * index``
==================  =====================================================

A coin-settled contract pays in coins: ``size * (1/F - 1/(F x))`` of them for the perpetual.
Its loss is counted in coins and converted at the present index, because the coins that must
cover it are themselves in the account's equity at the present index: they suffice after the
move exactly if they suffice when both sides are counted in coins. With ``in_coin`` off, the
loss is converted at the moved index instead (both last rows times ``x``), which is exact for
an account that holds dollars.

Volatility is shocked by the power law that Deribit, Derive and Paradex share: with ``days`` to
expiry (floored) and ``z = (30 / days) ** p``, up is ``max(s * (1 + up * z), least)``, down is
``s * max(0, 1 - down * z)``; ``p`` has one value up to 30 days and another beyond.

Losses of different assets are added without offset, since one factor cannot tell how two
markets move together. To the worst loss a floor is added, ``short_floor`` of the notional of
every short option, and maintenance is a fixed share of the sum.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba import types
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.instruments import OPTION
from backtest.kernels.black76 import (
    INLINED,
    STRICT,
    exp_negative,
    price_from_moneyness,
)
from backtest.kernels.lanes import first_equal, load, lowest, spread, where, zeros
from backtest.kernels.types import (
    KERNEL_SIGNATURE,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held
from strategies.kernels.scenario_law import (
    FIRST_SCENARIO,
    IN_COIN,
    LANES,
    LEAST_DAYS,
    LEAST_MOVE,
    LEAST_VOL,
    MAINTENANCE_RATIO,
    POWER_BEYOND,
    POWER_TO_30_DAYS,
    SHORT_FLOOR,
    scenario_grid_constants,
    scenario_grid_reference,
)

__all__ = ["LANES", "scenario_grid", "scenario_grid_constants"]


def _columns(constants: np.ndarray) -> int:
    return (len(constants) - FIRST_SCENARIO) // 3


_WIDE = 4 * LANES
"""Scenarios added up at a time, as long as so many are left: enough to keep a core busy."""
_DOWN, _KEPT, _UP = range(3)
"""Rows of the table of deviations, `sigma * sqrt(years)`, by direction of the shock."""
_FORWARD, _STRIKE, _IS_CALL, _MONEYNESS, _PRICE = range(5)
"""Rows of the table of options before any shock."""
_MOVE, _LOG_MOVE, _ON_PRICE, _ON_BASE = 0, 1, 2, 4
"""Rows of the table of moves; the last two have a row for linear and one for inverse options."""


@numba.extending.register_jitable(**INLINED)
def _tabulate_moves(given: KernelInput, moves: np.ndarray) -> None:
    """Fill ``(6, A, K)``: an option worth V before and U after gains ``U * on - V * base``.

    The gain is in units of its coin's present value in dollars for inverse options, of one
    dollar for linear ones.
    """
    constants, ranges = given.constants, given.parameters
    in_coin = constants[IN_COIN] > 0.5
    for asset in range(moves.shape[1]):
        for k in range(moves.shape[2]):
            move = max(1.0 + constants[FIRST_SCENARIO + k] * ranges[asset], LEAST_MOVE)
            moves[_MOVE, asset, k] = move
            moves[_LOG_MOVE, asset, k] = math.log(move)
            moves[_ON_PRICE, asset, k] = 1.0
            moves[_ON_BASE, asset, k] = 1.0
            moves[_ON_PRICE + 1, asset, k] = 1.0 / move if in_coin else 1.0
            moves[_ON_BASE + 1, asset, k] = 1.0 if in_coin else move


@numba.extending.register_jitable(**INLINED)
def _shock_volatility(
    given: KernelInput, market: Market, listed: np.ndarray, deviations: np.ndarray
) -> None:
    """Fill ``(3, n)``: ``sigma * sqrt(years)`` with volatility shocked down, kept, shocked up."""
    constants = given.constants
    least_days, least_vol = constants[LEAST_DAYS], constants[LEAST_VOL]
    near, far = constants[POWER_TO_30_DAYS], constants[POWER_BEYOND]
    up, down = given.parameters[-2], given.parameters[-1]
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        years = market.years[i]
        days = max(years * 365.0, least_days)
        # Look-ups and a library's logarithm keep a loop from being vectorised: the rest follows.
        deviations[_DOWN, n] = market.sigma[i]
        deviations[_KEPT, n] = years
        deviations[_UP, n] = (near if days <= 30.0 else far) * math.log(30.0 / days)
    for n in range(len(listed)):
        sigma, root = deviations[_DOWN, n], math.sqrt(deviations[_KEPT, n])
        stretch = exp_negative(deviations[_UP, n])
        raised = sigma * (1.0 + up * stretch)
        deviations[_DOWN, n] = sigma * max(0.0, 1.0 - down * stretch) * root
        deviations[_KEPT, n] = sigma * root
        deviations[_UP, n] = (least_vol if raised < least_vol else raised) * root


@numba.extending.register_jitable(**INLINED)
def _price_options(
    given: KernelInput,
    market: Market,
    listed: np.ndarray,
    moves: np.ndarray,
    deviations: np.ndarray,
    before: np.ndarray,
) -> None:
    """Fill the scratch rows of the listed instruments, as if all of them were options."""
    constants, profit, columns = given.constants, given.scratch, moves.shape[2]
    asset_of, inverse_of, index = market.asset, market.inverse, market.index
    forwards, strikes, calls = market.forward, market.strike, market.is_call
    sizes = market.contract_size
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        before[_FORWARD, n] = forwards[i]
        before[_STRIKE, n] = strikes[i]
        before[_IS_CALL, n] = calls[i]
        before[_MONEYNESS, n] = math.log(forwards[i] / strikes[i])
    for n in range(len(listed)):
        before[_PRICE, n] = price_from_moneyness(
            before[_FORWARD, n],
            before[_STRIKE, n],
            before[_MONEYNESS, n],
            deviations[_KEPT, n],
            before[_IS_CALL, n],
        )
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        asset, inverse = np.uint64(asset_of[i]), np.uint64(inverse_of[i])
        forward, strike, is_call = before[_FORWARD, n], before[_STRIKE, n], before[_IS_CALL, n]
        moneyness, base = before[_MONEYNESS, n], before[_PRICE, n]
        lowered, kept, raised = deviations[_DOWN, n], deviations[_KEPT, n], deviations[_UP, n]
        on_price, on_base = np.uint64(_ON_PRICE) + inverse, np.uint64(_ON_BASE) + inverse
        scale = sizes[i] * (index[asset] / forward if inverse == 1 else 1.0)
        for k in range(columns):
            direction = constants[FIRST_SCENARIO + columns + k]
            shocked = raised if direction > 0.0 else lowered
            shocked = kept if direction == 0.0 else shocked
            price = price_from_moneyness(
                forward * moves[_MOVE, asset, k],
                strike,
                moneyness + moves[_LOG_MOVE, asset, k],
                shocked,
                is_call,
            )
            gain = price * moves[on_price, asset, k] - base * moves[on_base, asset, k]
            profit[i, k] = constants[FIRST_SCENARIO + 2 * columns + k] * (scale * gain)


@numba.extending.register_jitable(**INLINED)
def _price_perpetuals(
    given: KernelInput, market: Market, listed: np.ndarray, moves: np.ndarray
) -> None:
    """Fill the scratch rows of those of the listed instruments that are no options."""
    constants, profit, columns = given.constants, given.scratch, moves.shape[2]
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        if market.kind[i] != OPTION:
            value, asset = market.value_usd[i], market.asset[i]
            inverse = market.inverse[i] == 1
            for k in range(columns):
                after = moves[_ON_PRICE + 1, asset, k] if inverse else moves[_MOVE, asset, k]
                before = moves[_ON_BASE + 1, asset, k] if inverse else 1.0
                gain = value * (after - before)
                profit[i, k] = constants[FIRST_SCENARIO + 2 * columns + k] * gain


@numba.njit(types.void(*KERNEL_SIGNATURE.args[:4]), **STRICT)
def reprice_stale(
    given: KernelInput, market: Market, holdings: Holdings, accounts: np.ndarray
) -> None:
    """Reprice every instrument of some accounts whose scratch row is of another tick."""
    start, count, instrument = holdings.start, holdings.count, holdings.instrument
    scratch_tick, now = given.scratch_tick, market.tick[0]
    listed = np.empty(len(market.kind), np.int64)
    stale = 0
    missing = 0
    for i in range(len(scratch_tick)):
        missing += scratch_tick[i] != now
    for account in accounts:
        if stale == missing:
            break
        first = np.uint64(start[account])
        for slot in range(first, first + np.uint64(count[account])):
            i = np.uint64(instrument[slot])
            if scratch_tick[i] != now:
                scratch_tick[i] = now
                listed[stale] = i
                stale += 1
    if stale > 0:
        listed = listed[:stale]
        moves = np.empty((6, len(market.index), given.scratch.shape[1]))
        deviations = np.empty((3, stale))
        _tabulate_moves(given, moves)
        _shock_volatility(given, market, listed, deviations)
        _price_options(given, market, listed, moves, deviations, np.empty((5, stale)))
        _price_perpetuals(given, market, listed, moves)


def _scan_of(width: int) -> Any:
    """Make the scan of ``width`` scenarios over two neighbouring assets at once.

    Which asset the next leg is of no processor can foresee, so every leg is added to both sums
    under a mask.
    """

    @numba.extending.register_jitable(**INLINED)
    def scan(
        profit: np.ndarray,
        market: Market,
        holdings: Holdings,
        first: int,
        last: int,
        asset: int,
        column: int,
    ) -> tuple[float, int, float, int, float]:
        columns = np.uint64(profit.shape[1])
        left, right = zeros(width), zeros(width)
        short_notional = 0.0
        for slot in range(first, last):
            i = np.uint64(holdings.instrument[slot])
            quantity = holdings.quantity[slot]
            leg = spread(quantity, width) * load(profit, i * columns + column, width)
            short = max(-quantity, 0.0) * market.notional_usd[i]
            short_notional += short if market.kind[i] == OPTION else 0.0
            side = np.uint64(market.asset[i]) - asset
            left = where(side == np.uint64(0), left + leg, left)
            right = where(side == np.uint64(1), right + leg, right)
        low_left, low_right = lowest(left), lowest(right)
        at_left = np.int64(column) + first_equal(left, low_left)
        at_right = np.int64(column) + first_equal(right, low_right)
        return low_left, at_left, low_right, at_right, short_notional

    return scan


_scan_wide = _scan_of(_WIDE)
_scan_narrow = _scan_of(LANES)


@numba.extending.register_jitable(error_model="numpy")
def _scan_in_parts(
    profit: np.ndarray, market: Market, holdings: Holdings, first: int, last: int, asset: int
) -> tuple[float, int, float, int, float]:
    """Scan any number of scenarios, as many at a time as are left."""
    columns, wide, narrow = np.uint64(profit.shape[1]), np.uint64(_WIDE), np.uint64(LANES)
    left, at_left, right, at_right = np.inf, 0, np.inf, 0
    short_notional = 0.0
    column = np.uint64(0)
    while column < columns:
        if columns - column >= wide:
            one, at_one, two, at_two, short_notional = _scan_wide(
                profit, market, holdings, first, last, asset, column
            )
            column += wide
        else:
            one, at_one, two, at_two, short_notional = _scan_narrow(
                profit, market, holdings, first, last, asset, column
            )
            column += narrow
        if not one >= left:
            left, at_left = one, at_one
        if not two >= right:
            right, at_right = two, at_two
    return left, at_left, right, at_right, short_notional


@requirement_kernel
def scenario_grid_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `scenario_law`."""
    reprice_stale(given, market, holdings, accounts)
    # What indexes an array is unsigned: a signed one is first checked for counting from the end.
    profit, assets = given.scratch, len(market.index)
    columns, wide = np.uint64(profit.shape[1]), np.uint64(_WIDE)
    for account in accounts:
        first = np.uint64(holdings.start[np.uint64(account)])
        last = first + np.uint64(holdings.count[np.uint64(account)])
        loss = 0.0
        largest = 0.0
        worst = -1
        short_notional = 0.0
        for block in range(0, assets, ASSETS_PER_WORD):
            held = np.uint64(3)
            if assets > 2:
                held = assets_held(market, holdings, first, last, block)
            while held != np.uint64(0):
                shift = trailing_zeros(held) & np.uint64(ASSETS_PER_WORD - 2)
                held &= ~(np.uint64(3) << shift)
                asset = np.uint64(block) + shift
                if columns == wide:
                    left, at_left, right, at_right, short_notional = _scan_wide(
                        profit, market, holdings, first, last, asset, np.uint64(0)
                    )
                else:
                    left, at_left, right, at_right, short_notional = _scan_in_parts(
                        profit, market, holdings, first, last, asset
                    )
                if not left >= 0.0:
                    loss -= left
                if -left > largest:
                    largest, worst = -left, at_left
                if not right >= 0.0:
                    loss -= right
                if -right > largest:
                    largest, worst = -right, at_right
        asked = loss + given.constants[SHORT_FLOOR] * short_notional
        requirement.initial[np.uint64(account)] = asked
        requirement.maintenance[np.uint64(account)] = given.constants[MAINTENANCE_RATIO] * asked
        requirement.worst_scenario[np.uint64(account)] = worst


scenario_grid = RequirementRule(
    "scenario_grid", scenario_grid_kernel, scenario_grid_reference, scratch_columns=_columns
)
"""Worst loss over price moves and volatility shocks, every option repriced in full."""
