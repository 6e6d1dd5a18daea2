"""A charge for what it costs to close a position in a thin market.

Selling moves the price by the square root of what is sold against what rests (the law that
`backtest.kernels.laws.collateral` states for coins). Perpetuals, futures and options by delta
are netted asset by asset::

    |net delta| * min(1, cost * sqrt(|net delta| / depth))

Initial and maintenance margin rise alike. It grows with the power 3/2 of size.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.kernels.black76 import INLINED
from backtest.kernels.laws.collateral import depth_haircut
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held
from strategies.kernels.order import lesser
from strategies.kernels.single_part import told_as

COST = 0
FIRST_DEPTH = 1


@numba.extending.register_jitable(**INLINED)
def _slippage_usd(net: float, depth: float, cost: float) -> float:
    """Return what closing a net delta costs, at most all of it."""
    size = abs(net)
    return size * lesser(1.0, depth_haircut(size, depth, cost))


@requirement_kernel(allocates=False)
def liquidity_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `liquidity_reference`."""
    cost, assets = given.parameters[COST], len(market.index)
    for account in accounts:
        first = np.uint64(holdings.start[account])
        last = first + np.uint64(holdings.count[account])
        extra = 0.0
        for block in range(0, assets, ASSETS_PER_WORD):
            held = assets_held(market, holdings, first, last, block)
            while held != np.uint64(0):
                asset = block + np.int64(trailing_zeros(held))
                held &= held - np.uint64(1)
                net = 0.0
                for slot in range(first, last):
                    i = np.uint64(holdings.instrument[slot])
                    if market.asset[i] == asset:
                        net += holdings.quantity[slot] * market.delta_usd[i]
                extra += _slippage_usd(net, given.parameters[FIRST_DEPTH + asset], cost)
        requirement.initial[account] += extra
        requirement.maintenance[account] += extra


def liquidity_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: cost of closing as much as the depth, fraction of it; then the depth of
        every asset in USD. No constants.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds.
    """
    cost, *depth = given.parameters.tolist()
    for account in accounts:
        first = int(holdings.start[account])
        net = [0.0] * len(depth)
        for slot in range(first, first + int(holdings.count[account])):
            i = int(holdings.instrument[slot])
            net[market.asset[i]] += float(holdings.quantity[slot]) * float(market.delta_usd[i])
        extra = 0.0
        for asset, usd in enumerate(depth):
            size = abs(net[asset])
            extra += size * lesser(1.0, depth_haircut(size, usd, cost))
        requirement.initial[account] += extra
        requirement.maintenance[account] += extra


liquidity = RequirementRule(
    "liquidity",
    liquidity_kernel,
    liquidity_reference,
    explain=told_as("slippage of closing", liquidity_reference),
)
"""Square-root cost of closing what is held net of an asset."""
