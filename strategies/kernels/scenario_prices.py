"""What one contract gains or loses under every scenario of the grid, once per tick.

`strategies.kernels.scenario_grid` states the law. Here it is applied to all instruments whose
row is stale at a time: numbers are looked up and their logarithms taken first, so that what is
left is arithmetic on neighbours, which a compiler vectorises.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import types

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED, STRICT, exp_negative, price_from_moneyness
from backtest.kernels.types import KERNEL_SIGNATURE, Holdings, KernelInput, Market
from strategies.kernels.legs import list_stale
from strategies.kernels.scenario_law import (
    FIRST_SCENARIO,
    IN_COIN,
    LEAST_DAYS,
    LEAST_MOVE,
    LEAST_VOL,
    POWER_BEYOND,
    POWER_TO_30_DAYS,
)

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
    scratch_tick, now = given.scratch_tick, market.tick[0]
    listed = np.empty(len(market.kind), np.int64)
    stale = list_stale(scratch_tick, now, holdings, accounts, listed)
    if stale > 0:
        listed = listed[:stale]
        moves = np.empty((6, len(market.index), given.scratch.shape[1]))
        deviations = np.empty((3, stale))
        _tabulate_moves(given, moves)
        _shock_volatility(given, market, listed, deviations)
        _price_options(given, market, listed, moves, deviations, np.empty((5, stale)))
        _price_perpetuals(given, market, listed, moves)
