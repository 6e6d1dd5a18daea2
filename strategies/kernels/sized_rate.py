"""Margin as a rate of net notional that grows with size or with open interest.

*Perpetuals and dated futures* of one asset, linear and inverse, are netted to ``net`` dollars,
``|net| / index`` coins. Each margin of each asset has a rate, and asks
``(rate + fee) * |net| + flat``, nothing where ``net`` is zero::

    rate = clip(base + a * coins + b * sqrt(coins) + c * sqrt(max(|net| - from, 0))
                     + d * max(open interest - from, 0),  least, most)

==================  ========================================================================
Deribit, linear     ``base + a * coins``
Synthetix v3        ``least ratio + coins / skew scale * ratio``, scaled for maintenance; flat
Drift v2            at least ``r``, of ``0.8 r + b * sqrt(coins)``
Paradex, cross      at least ``r``, of ``c * sqrt(|net| - from)``
dYdX v4             ``base``, rising to 1 between two open interests, initial margin only
GMX v2              at least 1 %, initially of ``d * open interest``; at entry, and fees
==================  ========================================================================

Open interest is that of one side, ``(gross + |net|) / 2`` of what all accounts hold: of the
larger side, or of the position's own where the venue looks at that. *Options* are passed over.
Initial margin is at least maintenance, position by position. Everything is asked for so many
times as the policy posts. Of a position ``k`` times as large at least ``k`` times the margin is
asked, but for the flat amount; with neither growth nor flat amount it is homogeneous.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    NET_NOTIONAL,
    OPEN_NOTIONAL,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held, net_notional_usd
from strategies.kernels.sized_law import (
    AT_ENTRY,
    BASE,
    COLUMNS,
    FEE,
    FIRST_RATE,
    FLAT_USD,
    LEAST,
    MOST,
    OPEN_FROM_USD,
    OWN_SIDE,
    PER_COIN,
    PER_OPEN_USD,
    PER_ROOT_COIN,
    PER_ROOT_USD,
    ROOT_FROM_USD,
    GrowingRate,
    sized_rate_constants,
    sized_rate_explain,
    sized_rate_reference,
)

__all__ = ["GrowingRate", "sized_rate", "sized_rate_constants"]


@numba.extending.register_jitable(**INLINED)
def _positive(x: float) -> float:
    return 0.0 if x <= 0.0 else x


@numba.extending.register_jitable(**INLINED)
def _open_interest_usd(market: Market, asset: int, net: float, own_side: bool) -> float:
    """Return the open interest of the side that counts."""
    tilt = market.protocol[NET_NOTIONAL, asset]
    against = tilt < 0.0 if not own_side else net < 0.0
    tilt = -tilt if against else tilt
    return _positive(0.5 * (market.protocol[OPEN_NOTIONAL, asset] + tilt))


@numba.extending.register_jitable(**INLINED)
def _entry_over_present(
    market: Market, holdings: Holdings, first: int, last: int, asset: int
) -> float:
    """Return what an asset's legs cost over what they are worth; a fixed notional in USD is 1."""
    paid = 0.0
    worth = 0.0
    for slot in range(first, last):
        i = np.uint64(holdings.instrument[slot])
        if market.kind[i] == OPTION or market.asset[i] != asset:
            continue
        now = abs(holdings.quantity[slot] * market.notional_usd[i])
        entry = abs(holdings.quantity[slot] * holdings.entry[slot])
        paid += now if market.inverse[i] == 1 else entry
        worth += now
    return paid / worth


@numba.extending.register_jitable(**INLINED)
def _charge(
    constants: np.ndarray, at: int, coins: float, notional: float, open_usd: float
) -> float:
    """Return one margin of one net position."""
    row = np.uint64(at)
    rate = constants[row + np.uint64(BASE)] + constants[row + np.uint64(PER_COIN)] * coins
    rate += constants[row + np.uint64(PER_ROOT_COIN)] * math.sqrt(coins)
    beyond = _positive(notional - constants[row + np.uint64(ROOT_FROM_USD)])
    rate += constants[row + np.uint64(PER_ROOT_USD)] * math.sqrt(beyond)
    crowded = _positive(open_usd - constants[row + np.uint64(OPEN_FROM_USD)])
    rate += constants[row + np.uint64(PER_OPEN_USD)] * crowded
    least, most = constants[row + np.uint64(LEAST)], constants[row + np.uint64(MOST)]
    rate = least if rate < least else rate
    rate = most if rate > most else rate
    fee = constants[row + np.uint64(FEE)] * notional
    return rate * notional + fee + constants[row + np.uint64(FLAT_USD)]


@numba.extending.register_jitable(**INLINED)
def _ask_asset(
    constants: np.ndarray,
    market: Market,
    holdings: Holdings,
    first: int,
    last: int,
    asset: int,
    net: float,
) -> tuple[float, float]:
    """Return initial and maintenance margin of one asset's net position."""
    if net == 0.0:
        return 0.0, 0.0
    coins = abs(net) / market.index[np.uint64(asset)]
    open_usd = _open_interest_usd(market, asset, net, constants[OWN_SIDE] > 0.5)
    notional = abs(net)
    if constants[AT_ENTRY] > 0.5:
        notional *= _entry_over_present(market, holdings, first, last, asset)
    at = FIRST_RATE + 2 * asset * COLUMNS
    initial = _charge(constants, at, coins, notional, open_usd)
    maintenance = _charge(constants, at + COLUMNS, coins, notional, open_usd)
    return maintenance if maintenance > initial else initial, maintenance


@requirement_kernel(allocates=False)
def sized_rate_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `sized_rate_reference`."""
    assets, numbers, scale = len(market.index), given.constants, given.parameters[0]
    for account in accounts:
        first = np.uint64(holdings.start[account])
        last = first + np.uint64(holdings.count[account])
        initial = maintenance = 0.0
        i = np.uint64(holdings.instrument[first]) if last > first else np.uint64(0)
        if last - first == np.uint64(1) and market.kind[i] != OPTION:
            net = holdings.quantity[first] * market.notional_usd[i]
            asset = np.int64(market.asset[i])
            initial, maintenance = _ask_asset(numbers, market, holdings, first, last, asset, net)
        elif last > first:
            for block in range(0, assets, ASSETS_PER_WORD):
                held = assets_held(market, holdings, first, last, block)
                while held != np.uint64(0):
                    asset = block + np.int64(trailing_zeros(held))
                    held &= held - np.uint64(1)
                    net = net_notional_usd(market, holdings, first, last, asset, 0.0)
                    one, other = _ask_asset(numbers, market, holdings, first, last, asset, net)
                    initial += one
                    maintenance += other
        requirement.initial[account] = scale * initial
        requirement.maintenance[account] = scale * maintenance
        requirement.worst_scenario[account] = -1


sized_rate = RequirementRule(
    "sized_rate", sized_rate_kernel, sized_rate_reference, explain=sized_rate_explain
)
"""A rate of net notional that grows with size or with open interest, per asset and margin."""
