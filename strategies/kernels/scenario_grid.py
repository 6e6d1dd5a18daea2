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

import numba
import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.black76 import (
    INLINED,
    STRICT,
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


@numba.extending.register_jitable(**INLINED)
def _shocked_deviation(
    sigma: float, years: float, direction: float, up: float, down: float, constants: np.ndarray
) -> float:
    days = max(years * 365.0, constants[LEAST_DAYS])
    power = constants[POWER_TO_30_DAYS] if days <= 30.0 else constants[POWER_BEYOND]
    stretch = exp_negative(power * math.log(30.0 / days))
    shocked = sigma
    if direction > 0.0:
        shocked = max(sigma * (1.0 + up * stretch), constants[LEAST_VOL])
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
    in_coin = constants[IN_COIN] > 0.5
    weights = constants[FIRST_SCENARIO + 2 * columns :]
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
    directions = constants[FIRST_SCENARIO + columns :]
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
def _lowest(total: np.ndarray, asset: int, lanes: np.ndarray) -> float:
    """Return the minimum of a row of ``LANES * n`` numbers, NaN if they are.

    ``lanes`` is work space. The row is indexed, not sliced: a slice is counted as a reference.
    """
    for j in range(LANES):
        lanes[j] = total[asset, j]
    for block in range(LANES, total.shape[1], LANES):
        for j in range(LANES):
            candidate = total[asset, block + j]
            lanes[j] = candidate if candidate < lanes[j] else lanes[j]
    lowest = lanes[0]
    for j in range(1, LANES):
        lowest = lanes[j] if lanes[j] < lowest else lowest
    return lowest


@numba.njit(**STRICT)
def reprice_stale(
    given: KernelInput, market: Market, holdings: Holdings, accounts: np.ndarray
) -> None:
    """Reprice every instrument of some accounts whose scratch row is of another tick."""
    start, count, instrument = holdings.start, holdings.count, holdings.instrument
    scratch_tick, now = given.scratch_tick, market.tick[0]
    assets, columns = len(market.index), given.scratch.shape[1]
    moves = np.empty((2, assets, columns))
    work = np.empty(columns)
    moves_known = False
    for account in accounts:
        first = start[account]
        for slot in range(first, first + count[account]):
            i = instrument[slot]
            if scratch_tick[i] == now:
                continue
            if not moves_known:
                moves_known = True
                for asset in range(assets):
                    for k in range(columns):
                        shift = given.constants[FIRST_SCENARIO + k] * given.parameters[asset]
                        moves[0, asset, k] = max(1.0 + shift, LEAST_MOVE)
                        moves[1, asset, k] = math.log(moves[0, asset, k])
            _reprice(i, given, market, moves, work)
            scratch_tick[i] = now


@requirement_kernel
def scenario_grid_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `scenario_law`."""
    constants = given.constants
    assets = len(market.index)
    columns = given.scratch.shape[1]
    # Arrays are taken out of their tuples once: doing so per leg costs more than the sums.
    start, count, instrument = holdings.start, holdings.count, holdings.instrument
    quantities, asset_of, kind = holdings.quantity, market.asset, market.kind
    notional_usd, profit = market.notional_usd, given.scratch
    initial, maintenance = requirement.initial, requirement.maintenance
    worst_scenario = requirement.worst_scenario
    lanes = np.empty(LANES)
    total = np.zeros((assets, columns))
    seen_by = np.full(assets, -1)
    reprice_stale(given, market, holdings, accounts)
    for n in range(len(accounts)):
        account = accounts[n]
        short_notional = 0.0
        first = start[account]
        for slot in range(first, first + count[account]):
            i = instrument[slot]
            quantity = quantities[slot]
            asset = asset_of[i]
            seen_by[asset] = n
            for k in range(columns):
                total[asset, k] += quantity * profit[i, k]
            # No branch on a sign that no processor can foresee.
            is_option = 1.0 if kind[i] == OPTION else 0.0
            short_notional += max(-quantity, 0.0) * notional_usd[i] * is_option
        loss = 0.0
        largest = 0.0
        worst = -1
        for asset in range(assets):
            if seen_by[asset] == n:
                lowest = _lowest(total, asset, lanes)
                if not lowest >= 0.0:
                    loss -= lowest
                    if -lowest > largest:
                        largest = -lowest
                        worst = asset
        if worst >= 0:
            # The first scenario that loses so much, without a branch that nobody can foresee.
            asset = worst
            worst = columns
            for k in range(columns):
                worst = min(worst, k if total[asset, k] == -largest else columns)
        for asset in range(assets):
            if seen_by[asset] == n:
                for k in range(columns):
                    total[asset, k] = 0.0
        asked = loss + constants[SHORT_FLOOR] * short_notional
        initial[account] = asked
        maintenance[account] = constants[MAINTENANCE_RATIO] * asked
        worst_scenario[account] = worst


scenario_grid = RequirementRule(
    "scenario_grid", scenario_grid_kernel, scenario_grid_reference, scratch_columns=_columns
)
"""Worst loss over price moves and volatility shocks, every option repriced in full."""
