"""What one contract is worth under every scenario of a portfolio margin, once per tick.

`strategies.kernels.portfolio_grid` states the law. Here it is applied to all instruments whose
row is stale at a time: logarithms and factors are taken first, so that what is left is
arithmetic on neighbours, which a compiler vectorises.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba import types

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED, STRICT, exp_negative, price_from_moneyness
from backtest.kernels.types import KERNEL_SIGNATURE, Holdings, KernelInput, Market
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.legs import list_stale
from strategies.kernels.portfolio_moves import (
    COIN_MOVE,
    LINEAR_MOVE,
    LOG_MOVE,
    NO_MOVE,
    coins_move,
    scenario_row,
    skew_factor,
    tabulate_factors,
    tabulate_moves,
)

_BEFORE, _ROOT, _MONEYNESS, _LOWERED, _RAISED, _TIME = range(6)
"""Columns of the table of options before any shock."""


@numba.extending.register_jitable(**INLINED)
def _before_shocks(
    given: KernelInput, market: Market, listed: np.ndarray, before: np.ndarray
) -> None:
    """Fill ``(n, 6)`` and, expiry by expiry, what is taken of an expiry's value."""
    constants, scratch, columns = (
        given.constants,
        given.scratch,
        int(given.constants[terms.SCENARIOS]),
    )
    by_expiry = constants[terms.BY_EXPIRY] > 0.5
    near, far, least_days = (
        constants[terms.POWER_NEAR],
        constants[terms.POWER_FAR],
        constants[terms.LEAST_DAYS],
    )
    added = constants[terms.VOL_ADDED] > 0.5
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        days = market.years[i] * 365.0
        days = least_days if days < least_days else days
        # Look-ups and a library's logarithm keep a loop from being vectorised: the rest follows.
        before[n, _RAISED] = (near if days <= 30.0 else far) * math.log(30.0 / days)
        before[n, _MONEYNESS] = math.log(market.forward[i] / market.strike[i])
        before[n, _ROOT] = math.sqrt(market.years[i])
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        own = np.uint64(terms.SINGLES + market.asset[i] * terms.ASSET_COLUMNS)
        sigma, root = market.sigma[i], before[n, _ROOT]
        stretch = exp_negative(before[n, _RAISED])
        unit = 1.0 if added else sigma
        raised = sigma + constants[own + np.uint64(terms.VOL_UP)] * stretch * unit
        lowered = sigma - constants[own + np.uint64(terms.VOL_DOWN)] * stretch * unit
        least = constants[own + np.uint64(terms.LEAST_VOL)]
        before[n, _RAISED] = (least if raised < least else raised) * root
        before[n, _LOWERED] = (0.0 if lowered < 0.0 else lowered) * root
        before[n, _BEFORE] = price_from_moneyness(
            market.forward[i],
            market.strike[i],
            before[n, _MONEYNESS],
            sigma * root,
            market.is_call[i],
        )
    if by_expiry:
        for n in range(len(listed)):
            i = np.uint64(listed[n])
            years, rate = market.years[i], market.rate[i]
            rate = 0.0 if rate < 0.0 else rate
            # The exponential of what is unknown is not: the difference keeps it so.
            unknown = rate - rate
            time = exp_negative(-constants[terms.TIME_DISCOUNT] * rate * years) + unknown
            gain = exp_negative(
                -years * (rate * constants[terms.GAIN_RATE] + constants[terms.GAIN_ADD])
            )
            debt = exp_negative(
                years * (rate * constants[terms.DEBT_RATE] + constants[terms.DEBT_ADD])
            )
            debt = constants[terms.DEBT_BASE] * debt
            limit = 1.0 / time
            before[n, _TIME] = time
            scratch[i, columns + terms.GAIN_FACTOR] = time * (constants[terms.GAIN_BASE] * gain)
            scratch[i, columns + terms.DEBT_FACTOR] = time * (limit if limit < debt else debt)
            share = constants[terms.BASIS_ADD] + constants[terms.BASIS_PER_YEAR] * years
            scratch[i, columns + terms.BASIS_SHARE] = share


@numba.extending.register_jitable(**INLINED)
def _deviate(
    given: KernelInput,
    before: np.ndarray,
    kept: float,
    log_moves: np.ndarray,
    last_skewed: int,
    deviations: np.ndarray,
) -> None:
    """Fill ``(K,)``: ``sigma * sqrt(years)`` of one option under every scenario."""
    constants, columns = given.constants, len(deviations)
    first = len(constants) - terms.SCENARIO_ROWS * columns
    directions = constants[
        first + terms.DIRECTION * columns : first + (terms.DIRECTION + 1) * columns
    ]
    skewed = constants[first + terms.SKEWED * columns : first + (terms.SKEWED + 1) * columns]
    lowered, raised = before[_LOWERED], before[_RAISED]
    for k in range(columns):
        shocked = raised if directions[k] > 0.0 else lowered
        deviations[k] = kept if directions[k] == 0.0 else shocked
    for k in range(last_skewed + 1):
        if skewed[k] < 0.0:
            log_strike = -(before[_MONEYNESS] + log_moves[k])
            factor = skew_factor(constants, log_strike, before[_ROOT], directions[k] > terms.LINEAR)
            deviations[k] = kept * factor


@numba.extending.register_jitable(error_model="numpy")
def _price_options(
    given: KernelInput,
    market: Market,
    listed: np.ndarray,
    moves: np.ndarray,
    weights: np.ndarray,
    coins_counted: bool,
    before: np.ndarray,
    factors: np.ndarray,
) -> None:
    """Fill the scratch rows of the listed instruments, as if all of them were options."""
    constants, scratch = given.constants, given.scratch
    assets, columns = moves.shape
    skewed = scenario_row(constants, assets, terms.SKEWED)
    basis, by_expiry = int(constants[terms.BASIS_COLUMN]), constants[terms.BY_EXPIRY] > 0.5
    deviations, last_skewed = np.empty(columns), -1
    for k in range(columns):
        last_skewed = k if constants[skewed + k] < 0.0 else last_skewed
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        asset, inverse = market.asset[i], market.inverse[i] == 1
        row = asset
        if market.settled[i] != 0.0:
            row = assets
            moving = coins_counted and coins_move(given, asset)
            tabulate_factors(given, moves, asset, market.settled[i], moving, factors[row])
        forward, strike, is_call = market.forward[i], market.strike[i], float(market.is_call[i])
        scale = market.contract_size[i] * (market.index[asset] / forward if inverse else 1.0)
        on_forward, log_moves = factors[row, LINEAR_MOVE], factors[row, LOG_MOVE]
        on_value, values = factors[row, COIN_MOVE if inverse else NO_MOVE], scratch[i]
        moneyness = before[n, _MONEYNESS]
        kept = market.sigma[i] * before[n, _ROOT]
        _deviate(given, before[n], kept, log_moves, last_skewed, deviations)
        for k in range(columns):
            price = price_from_moneyness(
                forward * on_forward[k], strike, moneyness + log_moves[k], deviations[k], is_call
            )
            values[k] = scale * price * on_value[k]
        if by_expiry and basis >= 0:
            present = scale * before[n, _BEFORE]
            for k in range(basis, basis + 2):
                values[k] = before[n, _TIME] * (values[k] - present)
        if not by_expiry:
            value, weight = market.value_usd[i], weights[asset]
            for k in range(columns):
                values[k] = weight[k] * (values[k] - value)


@numba.extending.register_jitable(error_model="numpy")
def _price_linear(
    given: KernelInput,
    market: Market,
    listed: np.ndarray,
    moves: np.ndarray,
    weights: np.ndarray,
    coins_counted: bool,
) -> None:
    """Fill the scratch rows of those of the listed instruments that are no options."""
    constants, scratch = given.constants, given.scratch
    assets, columns = moves.shape
    tails = scenario_row(constants, assets, terms.TAIL)
    clamped = constants[terms.CLAMPED] > 0.5
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        if market.kind[i] != OPTION:
            asset, value, settled = market.asset[i], market.value_usd[i], market.settled[i]
            inverse = market.inverse[i] == 1
            moving = coins_counted and coins_move(given, asset)
            edge = given.parameters[terms.RANGES + asset]
            for k in range(columns):
                move, weight = moves[asset, k], weights[asset, k]
                if clamped and constants[tails + k] > 0.0:
                    move, weight = (1.0 - edge if move < 1.0 else 1.0 + edge), 1.0
                factor = move if settled == 0.0 else settled + (1.0 - settled) * move
                if inverse:
                    factor = (move if moving else 1.0) / factor
                scratch[i, k] = weight * (value * (factor - 1.0))


@numba.njit(types.void(*KERNEL_SIGNATURE.args[:4]), **STRICT)
def reprice_stale(
    given: KernelInput, market: Market, holdings: Holdings, accounts: np.ndarray
) -> None:
    """Reprice every instrument of some accounts whose scratch row is of another tick.

    Where coins are revalued with a scenario, a row also depends on whether there is money beside
    the positions; legs that are margined one by one have none, and rows of their own.
    """
    coins_counted = holdings.cash.shape[1] > 0
    with_coins = coins_counted and given.constants[terms.COINS_MATTER] > 0.5
    scratch_tick, now = given.scratch_tick, 2 * market.tick[0] + np.int64(with_coins)
    listed = np.empty(len(market.kind), np.int64)
    stale = list_stale(scratch_tick, now, holdings, accounts, listed)
    if stale > 0:
        listed = listed[:stale]
        assets, columns = len(market.index), int(given.constants[terms.SCENARIOS])
        moves, weights = np.empty((assets, columns)), np.empty((assets, columns))
        factors, before = np.empty((assets + 1, 4, columns)), np.empty((stale, 6))
        tabulate_moves(given, moves, weights)
        for asset in range(assets):
            moving = coins_counted and coins_move(given, asset)
            tabulate_factors(given, moves, asset, 0.0, moving, factors[asset])
        _before_shocks(given, market, listed, before)
        _price_options(given, market, listed, moves, weights, coins_counted, before, factors)
        _price_linear(given, market, listed, moves, weights, coins_counted)
