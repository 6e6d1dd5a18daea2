"""Margin by leverage brackets of every asset's own: a table of rates by net notional.

*Perpetuals and dated futures* of one asset, linear and inverse, are netted, and the bracket
that ``|net|`` ends in gives rate and deduction, for either margin with rates of its own::

    rate_k * |net| - deduction_k,   deduction_k = sum over j <= k of lower_j (rate_j - rate_{j-1})

The deduction makes the charge continuous: it is what each bracket's rate asks on what lies
inside it (the tables of Binance, Bybit, OKX and Hyperliquid, "maintenance amount" there). A
position right on an edge is in the bracket below. Bounds count dollars, or coins where the
venue's tiers do: then the sums are done in coins and valued at the index. *Options* are passed
over. Everything is asked for so many times as the policy posts. Margin is
homogeneous of degree one within a bracket, and more than that across ascending ones; bounds in
coins make it homogeneous in price.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.bracketed_law import (
    COLUMNS,
    FIRST_TABLE,
    IN_COINS,
    INITIAL_DEDUCTION,
    INITIAL_RATE,
    LOWER,
    MAINTENANCE_DEDUCTION,
    MAINTENANCE_RATE,
    bracketed_constants,
    bracketed_explain,
    bracketed_reference,
)
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held, net_notional_usd

__all__ = ["bracketed", "bracketed_constants"]


@numba.extending.register_jitable(**INLINED)
def _charge(constants: np.ndarray, market: Market, asset: int, net: float) -> tuple[float, float]:
    """Return initial and maintenance margin of a net notional."""
    unit_usd = market.index[np.uint64(asset)] if constants[IN_COINS] > 0.5 else 1.0
    size = abs(net) / unit_usd
    at = np.uint64(FIRST_TABLE + 2 * asset)
    row = np.uint64(constants[at])
    for _ in range(1, int(constants[at + np.uint64(1)])):
        above = row + np.uint64(COLUMNS)
        if not size > constants[above + np.uint64(LOWER)]:
            break
        row = above
    initial = constants[row + np.uint64(INITIAL_RATE)] * size
    maintenance = constants[row + np.uint64(MAINTENANCE_RATE)] * size
    return (
        (initial - constants[row + np.uint64(INITIAL_DEDUCTION)]) * unit_usd,
        (maintenance - constants[row + np.uint64(MAINTENANCE_DEDUCTION)]) * unit_usd,
    )


@requirement_kernel(allocates=False)
def bracketed_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `bracketed_reference`."""
    assets, scale = len(market.index), given.parameters[0]
    for account in accounts:
        first = np.uint64(holdings.start[account])
        last = first + np.uint64(holdings.count[account])
        initial = maintenance = 0.0
        i = np.uint64(holdings.instrument[first]) if last > first else np.uint64(0)
        if last - first == np.uint64(1) and market.kind[i] != OPTION:
            net = holdings.quantity[first] * market.notional_usd[i]
            initial, maintenance = _charge(given.constants, market, market.asset[i], net)
        elif last > first:
            for block in range(0, assets, ASSETS_PER_WORD):
                held = assets_held(market, holdings, first, last, block)
                while held != np.uint64(0):
                    asset = block + np.int64(trailing_zeros(held))
                    held &= held - np.uint64(1)
                    net = net_notional_usd(market, holdings, first, last, asset, 0.0)
                    one, other = _charge(given.constants, market, asset, net)
                    initial += one
                    maintenance += other
        initial = maintenance if maintenance > initial else initial
        requirement.initial[account] = scale * initial
        requirement.maintenance[account] = scale * maintenance
        requirement.worst_scenario[account] = -1


bracketed = RequirementRule(
    "bracketed", bracketed_kernel, bracketed_reference, explain=bracketed_explain
)
"""Initial and maintenance rates by brackets of net notional, a table per asset."""
