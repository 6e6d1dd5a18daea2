"""A charge on what an account has open, dearer where an oracle is in doubt.

Perpetuals and futures of an asset are netted; options count where they are sold, each by itself;
coins count where they are held and the policy says so. All of it is taken at the index::

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
def at_index_usd(size: float, inverse: int, notional: float, index: float) -> float:
    """Return the underlying of one contract at the index; a coin-settled one's is in coins."""
    return notional if inverse == 1 else size * index


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
    with_coins = parameters[COINS] > 0.5 and holdings.cash.shape[1] > 0
    assets = len(market.index)
    for account in accounts:
        first = np.uint64(holdings.start[account])
        last = first + np.uint64(holdings.count[account])
        extra = 0.0
        for block in range(0, assets, ASSETS_PER_WORD):
            held = assets_held(market, holdings, first, last, block)
            while held != np.uint64(0):
                asset = block + np.int64(trailing_zeros(held))
                held &= held - np.uint64(1)
                of_index = market.index_confidence[asset]
                net = 0.0
                least = of_index
                for slot in range(first, last):
                    i = np.uint64(holdings.instrument[slot])
                    if market.asset[i] != asset:
                        continue
                    quantity = holdings.quantity[slot]
                    confidence = lesser(of_index, market.confidence[i])
                    usd = quantity * at_index_usd(
                        market.contract_size[i],
                        market.inverse[i],
                        market.notional_usd[i],
                        market.index[asset],
                    )
                    if market.kind[i] != OPTION:
                        net += usd
                        least = lesser(least, confidence)
                    elif not quantity >= 0.0:
                        extra -= usd * weight(parameters, confidence)
                extra += abs(net) * weight(parameters, least)
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
    of_index = market.index_confidence.tolist()
    for account in accounts:
        first = int(holdings.start[account])
        legs: dict[int, list[int]] = {}
        for slot in range(first, first + int(holdings.count[account])):
            legs.setdefault(int(market.asset[holdings.instrument[slot]]), []).append(slot)
        extra = 0.0
        for asset in sorted(legs):
            index, net, least = float(market.index[asset]), 0.0, of_index[asset]
            for slot in legs[asset]:
                i, quantity = int(holdings.instrument[slot]), float(holdings.quantity[slot])
                confidence = lesser(of_index[asset], float(market.confidence[i]))
                inverse, notional = int(market.inverse[i]), float(market.notional_usd[i])
                size = float(market.contract_size[i])
                usd = quantity * at_index_usd(size, inverse, notional, index)
                if market.kind[i] != OPTION:
                    net += usd
                    least = lesser(least, confidence)
                elif not quantity >= 0.0:
                    extra -= usd * weight(parameters, confidence)
            extra += abs(net) * weight(parameters, least)
        if parameters[COINS] > 0.5 and holdings.cash.shape[1] > 0:
            for asset, index in enumerate(market.index.tolist()):
                usd = greater(float(holdings.cash[1 + asset, account]), 0.0) * index
                extra += usd * weight(parameters, of_index[asset])
        requirement.initial[account] += extra
        requirement.maintenance[account] += parameters[MAINTENANCE_SHARE] * extra


open_exposure = RequirementRule("open_exposure", open_exposure_kernel, open_exposure_reference)
"""A rate on open positions, and more where an oracle is in doubt."""
