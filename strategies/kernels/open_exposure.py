"""A charge on what an account has open, dearer where an oracle is in doubt.

Perpetuals and futures of an asset are netted; options count where they are sold, each by itself;
coins count where they are held and the policy says so. All of it is taken at the index, but for
coin-settled contracts, whose size in coins follows their mark::

    w(c)     = rate + factor * (1 - c)  where the confidence c is below a threshold, else rate
    charge   = |net perpetuals| * w(least confidence of them and of the index)
             + sum of shorts * w(confidence of the option or of the index, the lesser)
             + coins * w(confidence of the index)

Derive's standard manager charges doubt this way (``rate`` 0) and a settlement coin below its peg
(``factor`` 0, ``rate`` posted). Initial margin rises by the charge, maintenance by a share of it.
The charge is homogeneous of degree 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held
from strategies.kernels.order import greater, lesser
from strategies.kernels.single_part import told_as

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 0
THRESHOLD = 1
FACTOR = 2
MAINTENANCE_SHARE = 3
COINS = 4


@numba.extending.register_jitable(**INLINED)
def weight(parameters: Sequence[float], confidence: float) -> float:
    """Return the rate at which a notional of some confidence is charged."""
    doubt = 0.0
    if not confidence >= parameters[THRESHOLD]:
        doubt = parameters[FACTOR] * (1.0 - confidence)
    return parameters[RATE] + doubt


@numba.extending.register_jitable(**INLINED)
def _in_doubt(
    parameters: np.ndarray, market: Market, holdings: Holdings, first: int, last: int
) -> bool:
    """Tell whether some leg's own oracle is below the threshold; mostly none is."""
    doubted = False
    for slot in range(first, last):
        i = np.uint64(holdings.instrument[slot])
        doubted |= not market.confidence[i] >= parameters[THRESHOLD]
    return doubted


@numba.extending.register_jitable(**INLINED)
def _sold_usd(
    parameters: np.ndarray, market: Market, holdings: Holdings, first: int, last: int
) -> float:
    """Return the charge for options sold, each by itself."""
    extra = 0.0
    for slot in range(first, last):
        i = np.uint64(holdings.instrument[slot])
        asset = np.uint64(market.asset[i])
        confidence = lesser(market.index_confidence[asset], market.confidence[i])
        # Factors, for a branch on what the next leg is no processor can foresee.
        sold = max(-holdings.quantity[slot], 0.0) if market.kind[i] == OPTION else 0.0
        extra += sold * market.notional_usd[i] * weight(parameters, confidence)
    return extra


@numba.extending.register_jitable(**INLINED)
def _net_usd(
    parameters: np.ndarray, market: Market, holdings: Holdings, first: int, last: int, asset: int
) -> float:
    """Return the charge for the net of an asset's perpetuals and futures."""
    net = 0.0
    least = market.index_confidence[asset]
    for slot in range(first, last):
        i = np.uint64(holdings.instrument[slot])
        counts = market.asset[i] == asset and market.kind[i] != OPTION
        linear = market.contract_size[i] * market.index[asset]
        unit = linear if market.inverse[i] == 0 else market.notional_usd[i]
        net += holdings.quantity[slot] * unit if counts else 0.0
        least = lesser(least, market.confidence[i] if counts else least)
    return abs(net) * weight(parameters, least)


@requirement_kernel(allocates=False)
def open_exposure_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `open_exposure_reference`."""
    parameters = given.parameters
    if parameters[RATE] == 0.0 and parameters[FACTOR] == 0.0:
        return
    with_coins = parameters[COINS] > 0.5 and holdings.cash.shape[1] > 0
    assets = len(market.index)
    quiet = parameters[RATE] == 0.0
    for asset in range(assets):
        quiet &= market.index_confidence[asset] >= parameters[THRESHOLD]
    for account in accounts:
        first = np.uint64(holdings.start[account])
        last = first + np.uint64(holdings.count[account])
        if quiet and not _in_doubt(parameters, market, holdings, first, last):
            continue
        extra = _sold_usd(parameters, market, holdings, first, last)
        for block in range(0, assets, ASSETS_PER_WORD):
            held = assets_held(market, holdings, first, last, block)
            while held != np.uint64(0):
                one = block + np.int64(trailing_zeros(held))
                held &= held - np.uint64(1)
                extra += _net_usd(parameters, market, holdings, first, last, one)
        if with_coins:
            for coin in range(assets):
                usd = greater(holdings.cash[1 + coin, account], 0.0) * market.index[coin]
                extra += usd * weight(parameters, market.index_confidence[coin])
        requirement.initial[account] += extra
        requirement.maintenance[account] += parameters[MAINTENANCE_SHARE] * extra


def open_exposure_reference(
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
        ``parameters``: rate, threshold and factor of doubt, share of the charge that
        maintenance margin asks, 1 if coins count. No constants.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds. Without columns of cash, coins count as
        nothing.
    """
    parameters = given.parameters.tolist()
    if parameters[RATE] == 0.0 and parameters[FACTOR] == 0.0:
        return
    prices, of_index = market.index.tolist(), market.index_confidence.tolist()
    for account in accounts:
        first = int(holdings.start[account])
        extra = 0.0
        net, least = [0.0] * len(prices), list(of_index)
        for slot in range(first, first + int(holdings.count[account])):
            i, quantity = int(holdings.instrument[slot]), float(holdings.quantity[slot])
            asset, notional = int(market.asset[i]), float(market.notional_usd[i])
            confidence = lesser(of_index[asset], float(market.confidence[i]))
            if market.kind[i] == OPTION:
                extra += max(-quantity, 0.0) * notional * weight(parameters, confidence)
                continue
            linear = float(market.contract_size[i]) * prices[asset]
            net[asset] += quantity * (notional if market.inverse[i] else linear)
            least[asset] = lesser(least[asset], confidence)
        for usd, confidence in zip(net, least, strict=True):
            extra += abs(usd) * weight(parameters, confidence)
        if parameters[COINS] > 0.5 and holdings.cash.shape[1] > 0:
            for asset, index in enumerate(prices):
                usd = greater(float(holdings.cash[1 + asset, account]), 0.0) * index
                extra += usd * weight(parameters, of_index[asset])
        requirement.initial[account] += extra
        requirement.maintenance[account] += parameters[MAINTENANCE_SHARE] * extra


oracle_confidence = RequirementRule(
    "oracle_confidence",
    open_exposure_kernel,
    open_exposure_reference,
    explain=told_as("doubt of oracles", open_exposure_reference),
)
"""A charge on open positions and coins where an oracle is in doubt."""
de_peg = RequirementRule(
    "de_peg",
    open_exposure_kernel,
    open_exposure_reference,
    explain=told_as("below the peg", open_exposure_reference),
)
"""A charge on open positions while the settlement coin is below its peg."""
