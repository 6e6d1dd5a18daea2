"""SPAN's risk arrays: what one contract gains under every scenario, once per tick."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numba
import numpy as np
from numba import types

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import (
    INLINED,
    STRICT,
    black76,
    price_from_moneyness,
    stressed_prices,
)
from backtest.kernels.types import KERNEL_SIGNATURE, Holdings, KernelInput, Market
from strategies.kernels.legs import list_stale
from strategies.kernels.span_layout import (
    DECAY_YEARS,
    DELIVERY,
    DELIVERY_RATE,
    DELIVERY_YEARS,
    FIRST_TIER,
    LEAST_MOVE,
    MONTH,
    SCENARIOS,
    TIER,
    TIERS,
    VOL_RELATIVE,
    month_key,
    scenario_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_scenario_of = numba.extending.register_jitable(scenario_of)
_month_key = numba.extending.register_jitable(**INLINED)(month_key)


def profits_usd(
    i: int, given: KernelInput, market: Market, constants: Sequence[float]
) -> list[float]:
    """Return what one contract gains under every scenario, USD."""
    asset = int(market.asset[i])
    reach, shift = float(given.parameters[asset]), float(given.parameters[-1])
    value, inverse = float(market.value_usd[i]), bool(market.inverse[i])
    profits = []
    for k in range(SCENARIOS):
        fraction, direction, weight = scenario_of(constants, k)
        x = max(1.0 + fraction * reach, LEAST_MOVE)
        if market.kind[i] != OPTION:
            profits.append(weight * (value * ((1.0 / x if inverse else x) - 1.0)))
            continue
        forward, strike = float(market.forward[i]), float(market.strike[i])
        sigma, years = float(market.sigma[i]), float(market.years[i])
        is_call, size = float(market.is_call[i]), float(market.contract_size[i])
        moneyness = math.log(forward / strike)
        relative = constants[VOL_RELATIVE] > 0.5
        shocked = sigma * (1.0 + direction * shift) if relative else sigma + direction * shift
        shocked = 0.0 if shocked < 0.0 else shocked
        left = years - constants[DECAY_YEARS]
        left = 0.0 if left < 0.0 else left
        deviation = shocked * math.sqrt(left)
        before = price_from_moneyness(forward, strike, moneyness, sigma * math.sqrt(years), is_call)
        after = price_from_moneyness(
            forward * x, strike, moneyness + math.log(x), deviation, is_call
        )
        gain = after * (1.0 / x) - before if inverse else after - before
        scale = size * (float(market.index[asset]) / forward if inverse else 1.0)
        profits.append(weight * (scale * gain))
    return profits


@numba.extending.register_jitable(**INLINED)
def _shock(
    given: KernelInput, market: Market, scenarios: np.ndarray, i: int, deviations: np.ndarray
) -> None:
    """Fill each scenario's volatility times the root of the time that it leaves."""
    shift, sigma = given.parameters[-1], market.sigma[i]
    relative = given.constants[VOL_RELATIVE] > 0.5
    left = market.years[i] - given.constants[DECAY_YEARS]
    root = math.sqrt(0.0 if left < 0.0 else left)
    for k in range(SCENARIOS):
        direction = scenarios[1, k]
        shocked = sigma * (1.0 + direction * shift) if relative else sigma + direction * shift
        deviations[k] = (0.0 if shocked < 0.0 else shocked) * root


@numba.extending.register_jitable(**INLINED)
def _place_month(given: KernelInput, market: Market, i: int) -> None:
    """Fill what the month of an instrument is charged by, and what tells it from others."""
    constants, row, years = given.constants, given.scratch[i], market.years[i]
    perpetual = market.kind[i] == PERPETUAL
    tier, last = 0, int(constants[TIERS]) - 1
    while not perpetual and tier < last and not years <= constants[FIRST_TIER + tier]:
        tier += 1
    row[MONTH] = _month_key(market.asset[i], years, perpetual)
    row[TIER] = tier
    delivered = not perpetual and years <= constants[DELIVERY_YEARS]
    row[DELIVERY] = constants[DELIVERY_RATE] if delivered else 0.0


@numba.extending.register_jitable(**INLINED)
def _price_option(
    market: Market,
    moves: np.ndarray,
    log_moves: np.ndarray,
    i: int,
    deviations: np.ndarray,
    priced: np.ndarray,
    row: np.ndarray,
) -> None:
    """Fill what an option gains, in dollars; coins are counted at the present index."""
    forward, strike, is_call = market.forward[i], market.strike[i], float(market.is_call[i])
    before = black76(forward, strike, market.sigma[i], market.years[i], is_call)
    stressed_prices(forward, strike, is_call, moves, log_moves, deviations, priced)
    inverse, size = market.inverse[i] == 1, market.contract_size[i]
    scale = size * (market.index[np.uint64(market.asset[i])] / forward if inverse else 1.0)
    for k in range(SCENARIOS):
        gain = priced[k] * (1.0 / moves[k]) - before if inverse else priced[k] - before
        row[k] = scale * gain


@numba.njit(types.void(*KERNEL_SIGNATURE.args[:4]), **STRICT)
def fill_risk_arrays(
    given: KernelInput, market: Market, holdings: Holdings, accounts: np.ndarray
) -> None:
    """Fill the scratch row of every instrument of some accounts that is of another tick.

    As `profits_usd` has it.
    """
    listed = np.empty(len(market.kind), np.int64)
    listed = listed[: list_stale(given.scratch_tick, market.tick[0], holdings, accounts, listed)]
    if len(listed) == 0:
        return
    scenarios = np.empty((3, SCENARIOS))
    for k in range(SCENARIOS):
        fraction, direction, weight = _scenario_of(given.constants, k)
        scenarios[0, k], scenarios[1, k], scenarios[2, k] = fraction, direction, weight
    assets = len(market.index)
    moves, log_moves = np.empty((assets, SCENARIOS)), np.empty((assets, SCENARIOS))
    for asset in range(assets):
        for k in range(SCENARIOS):
            move = max(1.0 + scenarios[0, k] * given.parameters[asset], LEAST_MOVE)
            moves[asset, k], log_moves[asset, k] = move, math.log(move)
    deviations, priced = np.empty(SCENARIOS), np.empty(SCENARIOS)
    for n in range(len(listed)):
        i = np.uint64(listed[n])
        of, row = np.uint64(market.asset[i]), given.scratch[i]
        _place_month(given, market, i)
        if market.kind[i] == OPTION:
            _shock(given, market, scenarios, i, deviations)
            _price_option(market, moves[of], log_moves[of], i, deviations, priced, row)
        else:
            inverse, value = market.inverse[i] == 1, market.value_usd[i]
            for k in range(SCENARIOS):
                x = moves[of, k]
                row[k] = value * ((1.0 / x if inverse else x) - 1.0)
        for k in range(SCENARIOS):
            row[k] = scenarios[2, k] * row[k]
