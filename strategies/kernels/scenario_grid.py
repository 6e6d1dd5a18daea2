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
from typing import TYPE_CHECKING

import numba
import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.black76 import (
    INLINED,
    exp_negative,
    price_from_moneyness,
    stressed_prices,
)
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule

if TYPE_CHECKING:
    from collections.abc import Sequence

LANES = 8
"""Scenarios come in multiples of this, so that loops over them leave no remainder."""
LEAST_MOVE = 0.01
"""No scenario takes a price below 1 % of the present one."""

_MAINTENANCE_RATIO = 0
_SHORT_FLOOR = 1
_POWER_TO_30_DAYS = 2
_POWER_BEYOND = 3
_LEAST_DAYS = 4
_LEAST_VOL = 5
_IN_COIN = 6
_FIRST_SCENARIO = 7


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


def _columns(constants: np.ndarray) -> int:
    return (len(constants) - _FIRST_SCENARIO) // 3


@numba.extending.register_jitable(**INLINED)
def _shocked_deviation(
    sigma: float, years: float, direction: float, up: float, down: float, constants: np.ndarray
) -> float:
    days = max(years * 365.0, constants[_LEAST_DAYS])
    power = constants[_POWER_TO_30_DAYS] if days <= 30.0 else constants[_POWER_BEYOND]
    stretch = exp_negative(power * math.log(30.0 / days))
    shocked = sigma
    if direction > 0.0:
        shocked = max(sigma * (1.0 + up * stretch), constants[_LEAST_VOL])
    elif direction < 0.0:
        shocked = sigma * max(0.0, 1.0 - down * stretch)
    return shocked * math.sqrt(years)


@numba.extending.register_jitable(**INLINED)
def _reprice(
    i: int, given: KernelInput, market: Market, moves: np.ndarray, work: np.ndarray
) -> None:
    """Fill row ``i`` of the scratch table with the profit of one contract per scenario."""
    constants = given.constants
    columns = moves.shape[2]
    asset = market.asset[i]
    move = moves[0, asset]
    profit = given.scratch[i]
    inverse = market.inverse[i] == 1
    in_coin = constants[_IN_COIN] > 0.5
    weights = constants[_FIRST_SCENARIO + 2 * columns :]
    if market.kind[i] != OPTION:
        value = market.value_usd[i]
        for k in range(columns):
            gain = move[k] - 1.0
            if inverse:
                gain = 1.0 / move[k] - 1.0 if in_coin else 1.0 - move[k]
            profit[k] = weights[k] * (value * gain)
        return
    forward = market.forward[i]
    strike = market.strike[i]
    is_call = float(market.is_call[i])
    size = market.contract_size[i]
    sigma = market.sigma[i]
    years = market.years[i]
    up = given.parameters[-2]
    down = given.parameters[-1]
    deviation_up = _shocked_deviation(sigma, years, 1.0, up, down, constants)
    deviation_down = _shocked_deviation(sigma, years, -1.0, up, down, constants)
    deviation = sigma * math.sqrt(years)
    directions = constants[_FIRST_SCENARIO + columns :]
    for k in range(columns):
        shocked = deviation_down if directions[k] < 0.0 else deviation
        work[k] = deviation_up if directions[k] > 0.0 else shocked
    base = price_from_moneyness(forward, strike, math.log(forward / strike), deviation, is_call)
    stressed_prices(forward, strike, is_call, move, moves[1, asset], work, profit)
    if not inverse:
        for k in range(columns):
            profit[k] = weights[k] * (size * (profit[k] - base))
        return
    coins = base / forward
    index = market.index[asset]
    for k in range(columns):
        at = index if in_coin else index * move[k]
        profit[k] = weights[k] * (size * (profit[k] / (forward * move[k]) - coins) * at)


@numba.extending.register_jitable(**INLINED)
def _lowest(row: np.ndarray, lanes: np.ndarray) -> float:
    """Return the minimum of ``LANES * n`` numbers, NaN if they are; ``lanes`` is work space."""
    for j in range(LANES):
        lanes[j] = row[j]
    for block in range(LANES, len(row), LANES):
        for j in range(LANES):
            candidate = row[block + j]
            lanes[j] = candidate if candidate < lanes[j] else lanes[j]
    lowest = lanes[0]
    for j in range(1, LANES):
        lowest = lanes[j] if lanes[j] < lowest else lowest
    return lowest


@requirement_kernel
def scenario_grid_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `scenario_grid_reference`."""
    constants = given.constants
    assets = len(market.index)
    columns = given.scratch.shape[1]
    now = market.tick[0]
    moves = np.empty((2, assets, columns))
    work = np.empty(columns)
    lanes = np.empty(LANES)
    moves_known = False
    total = np.zeros((assets, columns))
    seen_by = np.full(assets, -1)
    for n in range(len(accounts)):
        account = accounts[n]
        short_notional = 0.0
        first = holdings.start[account]
        for slot in range(first, first + holdings.count[account]):
            i = holdings.instrument[slot]
            quantity = holdings.quantity[slot]
            if given.scratch_tick[i] != now:
                if not moves_known:
                    moves_known = True
                    for asset in range(assets):
                        for k in range(columns):
                            shift = constants[_FIRST_SCENARIO + k] * given.parameters[asset]
                            moves[0, asset, k] = max(1.0 + shift, LEAST_MOVE)
                            moves[1, asset, k] = math.log(moves[0, asset, k])
                _reprice(i, given, market, moves, work)
                given.scratch_tick[i] = now
            asset = market.asset[i]
            seen_by[asset] = n
            for k in range(columns):
                total[asset, k] += quantity * given.scratch[i, k]
            # No branch on a sign that no processor can foresee.
            is_option = 1.0 if market.kind[i] == OPTION else 0.0
            short_notional += max(-quantity, 0.0) * market.notional_usd[i] * is_option
        loss = 0.0
        largest = 0.0
        worst = -1
        for asset in range(assets):
            if seen_by[asset] == n:
                lowest = _lowest(total[asset], lanes)
                if not lowest >= 0.0:
                    loss -= lowest
                    if -lowest > largest:
                        largest = -lowest
                        worst = asset
        if worst >= 0:
            asset = worst
            worst = 0
            while total[asset, worst] != -largest:
                worst += 1
        for asset in range(assets):
            if seen_by[asset] == n:
                total[asset] = 0.0
        initial = loss + constants[_SHORT_FLOOR] * short_notional
        requirement.initial[account] = initial
        requirement.maintenance[account] = constants[_MAINTENANCE_RATIO] * initial
        requirement.worst_scenario[account] = worst


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
    ratio, short_floor = (float(c) for c in given.constants[:_POWER_TO_30_DAYS])
    scenarios = given.constants[_FIRST_SCENARIO:].reshape(3, -1).T.tolist()
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
    in_coin = given.constants[_IN_COIN] > 0.5
    x = max(1.0 + fraction * float(given.parameters[asset]), LEAST_MOVE)
    if market.kind[i] != OPTION:
        value = float(market.value_usd[i])
        if not market.inverse[i]:
            return weight * (value * (x - 1.0))
        return weight * (value * (1.0 / x - 1.0 if in_coin else 1.0 - x))
    power_to_30_days, power_beyond, least_days, least_vol = (
        float(c) for c in given.constants[_POWER_TO_30_DAYS:_IN_COIN]
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
    index = float(market.index[asset])
    coins = after / (forward * x) - before / forward
    return weight * (size * coins * (index if in_coin else index * x))


scenario_grid = RequirementRule(
    "scenario_grid", scenario_grid_kernel, scenario_grid_reference, scratch_columns=_columns
)
"""Worst loss over price moves and volatility shocks, every option repriced in full."""
