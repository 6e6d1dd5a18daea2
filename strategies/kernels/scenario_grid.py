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

from typing import Any

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.lanes import first_equal, load, lowest, spread, where, zeros
from backtest.kernels.types import (
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
    LANES,
    MAINTENANCE_RATIO,
    SHORT_FLOOR,
    scenario_grid_constants,
    scenario_grid_reference,
)
from strategies.kernels.scenario_prices import reprice_stale

__all__ = ["LANES", "scenario_grid", "scenario_grid_constants"]


def _columns(constants: np.ndarray) -> int:
    return (len(constants) - FIRST_SCENARIO) // 3


_WIDE = 4 * LANES
"""Scenarios added up at a time, as long as so many are left: enough to keep a core busy."""


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


@requirement_kernel(allocates=False)
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
