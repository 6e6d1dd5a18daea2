"""The scenario grid in plain Python: how its constants are laid out, and what they mean.

`strategies.kernels.scenario_grid` states the law and compiles it; this is its specification,
with which it must agree bit for bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.black76 import exp_negative, price_from_moneyness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement

LANES = 8
"""Scenarios come in multiples of this, so that loops over them leave no remainder."""
LEAST_MOVE = 0.01
"""No scenario takes a price below 1 % of the present one."""

MAINTENANCE_RATIO = 0
SHORT_FLOOR = 1
POWER_TO_30_DAYS = 2
POWER_BEYOND = 3
LEAST_DAYS = 4
LEAST_VOL = 5
IN_COIN = 6
FIRST_SCENARIO = 7


def scenario_grid_constants(
    maintenance_ratio: float,
    scenarios: Sequence[tuple[float, int, float]],
    short_floor: float = 0.01,
    power_to_30_days: float = 0.3,
    power_beyond: float = 0.13,
    least_days: float = 1.0,
    least_vol: float = 0.4,
    in_coin: bool = True,
) -> np.ndarray:
    """Lay out the constants of `scenario_grid`.

    Parameters
    ----------
    maintenance_ratio
        Maintenance over initial margin, 0 to 1.
    scenarios
        ``(fraction of the price range, volatility direction -1, 0 or 1, weight)``.
    short_floor
        Added per short option, fraction of notional.
    power_to_30_days, power_beyond
        Exponent of the volatility shock's term structure.
    least_days
        Floor on days to expiry in that law.
    least_vol
        Floor on a volatility that was shocked up.
    in_coin
        Convert losses of coin-settled contracts at the present index (True) or the moved one.

    Returns
    -------
    numpy.ndarray
        ``(7 + 3 K,)``, padded with scenarios of weight zero to a multiple of `LANES`.
    """
    padding = [(0.0, 0, 0.0)] * (-len(scenarios) % LANES)
    head = [maintenance_ratio, short_floor, power_to_30_days, power_beyond]
    head += [least_days, least_vol, float(in_coin)]
    return np.array([*head, *np.array([*scenarios, *padding], dtype=float).T.ravel()])


def scenario_grid_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for margin as the module describes, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: the price range of every asset, then the volatility shocks up and
        down. ``constants``: from `scenario_grid_constants`. The scratch table is not used.
    market, holdings, accounts, requirement
        As for every requirement kernel; a leg whose volatility is NaN makes its account's
        requirement NaN.
    """
    ratio, short_floor = (float(c) for c in given.constants[:POWER_TO_30_DAYS])
    scenarios = given.constants[FIRST_SCENARIO:].reshape(3, -1).T.tolist()
    for account in accounts:
        profits: dict[int, list[float]] = {}
        short_notional = 0.0
        for slot in range(
            holdings.start[account], holdings.start[account] + holdings.count[account]
        ):
            i = int(holdings.instrument[slot])
            quantity = float(holdings.quantity[slot])
            leg = [
                quantity * _profit_usd(i, given, market, fraction, direction, weight)
                for fraction, direction, weight in scenarios
            ]
            asset = int(market.asset[i])
            before = profits.get(asset)
            profits[asset] = (
                leg if before is None else [a + b for a, b in zip(before, leg, strict=True)]
            )
            if quantity < 0.0 and market.kind[i] == OPTION:
                short_notional += -quantity * float(market.notional_usd[i])
        loss = largest = 0.0
        worst = -1
        for asset in sorted(profits):
            row = profits[asset]
            lowest = math.nan if any(math.isnan(p) for p in row) else min(row)
            if not lowest >= 0.0:
                loss -= lowest
            if -lowest > largest:
                largest, worst = -lowest, row.index(lowest)
        initial = loss + short_floor * short_notional
        requirement.initial[account] = initial
        requirement.maintenance[account] = ratio * initial
        requirement.worst_scenario[account] = worst


def _profit_usd(
    i: int, given: KernelInput, market: Market, fraction: float, direction: float, weight: float
) -> float:
    """Return the profit of one contract under one scenario, as the module's table has it."""
    asset = int(market.asset[i])
    up, down = (float(p) for p in given.parameters[-2:])
    in_coin = given.constants[IN_COIN] > 0.5
    x = max(1.0 + fraction * float(given.parameters[asset]), LEAST_MOVE)
    if market.kind[i] != OPTION:
        value = float(market.value_usd[i])
        if not market.inverse[i]:
            return weight * (value * (x - 1.0))
        return weight * (value * (1.0 / x - 1.0 if in_coin else 1.0 - x))
    power_to_30_days, power_beyond, least_days, least_vol = (
        float(c) for c in given.constants[POWER_TO_30_DAYS:IN_COIN]
    )
    years, sigma = float(market.years[i]), float(market.sigma[i])
    days = max(years * 365.0, least_days)
    stretch = exp_negative(
        (power_to_30_days if days <= 30.0 else power_beyond) * math.log(30.0 / days)
    )
    shocked = sigma
    if direction > 0.0:
        shocked = max(sigma * (1.0 + up * stretch), least_vol)
    if direction < 0.0:
        shocked = sigma * max(0.0, 1.0 - down * stretch)
    forward, strike = float(market.forward[i]), float(market.strike[i])
    is_call, size = float(market.is_call[i]), float(market.contract_size[i])
    moneyness, root = math.log(forward / strike), math.sqrt(years)
    before = price_from_moneyness(forward, strike, moneyness, sigma * root, is_call)
    after = price_from_moneyness(
        forward * x, strike, moneyness + math.log(x), shocked * root, is_call
    )
    if not market.inverse[i]:
        return weight * (size * (after - before))
    gain = after * (1.0 / x) - before if in_coin else after - before * x
    return weight * (size * (float(market.index[asset]) / forward) * gain)
