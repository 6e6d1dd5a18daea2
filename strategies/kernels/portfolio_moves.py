"""What the scenarios of a portfolio margin do to a price and to a volatility's skew."""

from __future__ import annotations

import math

import numba
import numpy as np

from backtest.kernels.black76 import INLINED
from backtest.kernels.types import KernelInput
from strategies.kernels import portfolio_terms as terms

LINEAR_MOVE, LOG_MOVE, COIN_MOVE, NO_MOVE = range(4)
"""Rows of the table of factors: on a forward, their logarithms, on a coin-settled value."""


@numba.extending.register_jitable(**INLINED)
def scenario_row(constants: np.ndarray, assets: int, row: int) -> int:
    """Return where a row of the table of scenarios begins."""
    return terms.SINGLES + assets * terms.ASSET_COLUMNS + row * int(constants[terms.SCENARIOS])


@numba.extending.register_jitable(**INLINED)
def _moved(given: KernelInput, assets: int, asset: int, k: int) -> float:
    """Return the factor of a scenario on an asset's price."""
    base = given.constants[scenario_row(given.constants, assets, terms.MOVE) + k]
    slope = given.constants[scenario_row(given.constants, assets, terms.MOVE_BY_RANGE) + k]
    return max(base + slope * given.parameters[terms.RANGES + asset], terms.LEAST_MOVE)


@numba.extending.register_jitable(**INLINED)
def tabulate_moves(given: KernelInput, moves: np.ndarray, weights: np.ndarray) -> None:
    """Fill ``(A, K)``: factor on the price and weight of the profit, by asset and scenario."""
    assets, columns = moves.shape
    base = scenario_row(given.constants, assets, terms.WEIGHT)
    slope = scenario_row(given.constants, assets, terms.WEIGHT_BY_RANGE)
    for asset in range(assets):
        for k in range(columns):
            moves[asset, k] = _moved(given, assets, asset, k)
            by_range = given.constants[slope + k] * given.parameters[terms.RANGES + asset]
            weights[asset, k] = given.constants[base + k] + by_range


@numba.extending.register_jitable(**INLINED)
def tabulate_factors(
    given: KernelInput,
    moves: np.ndarray,
    asset: int,
    settled: float,
    coins_move: bool,
    factors: np.ndarray,
) -> None:
    """Fill ``(4, K)`` for options of one asset, of which a share is settled already.

    A value in coins is divided by the price it is marked at; where the coin itself is revalued
    it is multiplied by the price of the coin, which a basis scenario leaves alone.
    """
    columns, basis = moves.shape[1], int(given.constants[terms.BASIS_COLUMN])
    for k in range(columns):
        move = moves[asset, k]
        forward = move if settled == 0.0 else settled + (1.0 - settled) * move
        index = move if coins_move and not (basis <= k < basis + 2 and basis >= 0) else 1.0
        factors[LINEAR_MOVE, k] = forward
        factors[COIN_MOVE, k] = index / forward
        factors[LOG_MOVE, k] = math.log(forward)
        factors[NO_MOVE, k] = 1.0


@numba.extending.register_jitable(error_model="numpy")
def skew_factor(constants: np.ndarray, log_strike: float, root: float, absolute: bool) -> float:
    """Return the factor on the volatility of a strike ``log(K/F)`` when the skew changes."""
    cap = constants[terms.ABS_CAP] if absolute else constants[terms.LINEAR_CAP]
    cap += (constants[terms.ABS_SLOPE] if absolute else constants[terms.LINEAR_SLOPE]) * root
    flat = (
        root
        * constants[terms.WIDTH]
        * (constants[terms.WIDTH_STATIC] + root * constants[terms.WIDTH_SLOPE])
    )
    least = constants[terms.LEAST_WIDTH]
    k = abs(log_strike) if absolute else log_strike
    tilt = k * cap / (least if flat < least else flat)
    below, above = (-cap if tilt < -cap else tilt), (cap if cap < tilt else tilt)
    factor = 1.0 + (above if k >= 0.0 else below)
    return 0.0 if factor < 0.0 else factor


@numba.extending.register_jitable(**INLINED)
def coins_move(given: KernelInput, asset: int) -> bool:
    """Tell whether coins of an asset are revalued in the asset's own scenarios."""
    return given.constants[terms.SINGLES + asset * terms.ASSET_COLUMNS + terms.MOVES_WITH] == asset
