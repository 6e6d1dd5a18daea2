"""A charge for coins that serve as collateral: they count in equity, and only in part here.

Equity holds an account's coins at the index. What a venue does not count of them is asked as
margin, so that equity less requirement is what the venue calls weighted collateral::

    coins * index * (1 - w),  w = min(weight * min(1, start / deposits), 1.1 / (1 + f sqrt(coins)))

A weight shrinks as all accounts together deposit more of the coin than ``start`` dollars (Mango,
Drift; initial margin only), and as one account holds much of it (Drift's size discount). A coin
owed is left at its price. Accounts whose legs are margined one by one share their money, and
are not asked. Never less for more coins; it rises faster than their number.
"""

from __future__ import annotations

import numba
import numpy as np

from backtest.kernels.black76 import INLINED
from backtest.kernels.laws.collateral import deposit_scaling, size_discount
from backtest.kernels.types import (
    DEPOSITS,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.order import greater
from strategies.kernels.single_part import told_as


@numba.extending.register_jitable(**INLINED)
def _kept_back_usd(weight: float, factor: float, coins: float, index: float) -> float:
    """Return the part of a balance that does not count."""
    return coins * index * (1.0 - size_discount(weight, factor, coins))


@requirement_kernel(allocates=False)
def collateral_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `collateral_reference`."""
    if holdings.cash.shape[1] == 0:
        return
    assets = len(market.index)
    for account in accounts:
        initial = 0.0
        maintenance = 0.0
        for a in range(assets):
            coins = greater(holdings.cash[1 + a, account], 0.0)
            if coins == 0.0:
                continue
            scale = deposit_scaling(market.protocol[DEPOSITS, a], given.constants[a])
            factor, index = given.constants[assets + a], market.index[a]
            initial += _kept_back_usd(given.parameters[a] * scale, factor, coins, index)
            maintenance += _kept_back_usd(given.parameters[assets + a], factor, coins, index)
        requirement.initial[account] += initial
        requirement.maintenance[account] += maintenance


def collateral_reference(
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
        ``parameters``: weights of all coins in initial margin, then in maintenance.
        ``constants``: deposits in USD from which each weight shrinks (infinite: never), then
        the factors of each coin's size discount.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds.
    """
    if holdings.cash.shape[1] == 0:
        return
    prices, deposits = market.index.tolist(), market.protocol[DEPOSITS].tolist()
    weights = given.parameters.reshape(2, -1).T.tolist()
    scales = given.constants.reshape(2, -1).T.tolist()
    for account in accounts:
        initial = maintenance = 0.0
        for a, index in enumerate(prices):
            coins = greater(float(holdings.cash[1 + a, account]), 0.0)
            if coins == 0.0:
                continue
            (first, kept), (start, factor) = weights[a], scales[a]
            scaled = first * deposit_scaling(deposits[a], start)
            initial += coins * index * (1.0 - size_discount(scaled, factor, coins))
            maintenance += coins * index * (1.0 - size_discount(kept, factor, coins))
        requirement.initial[account] += initial
        requirement.maintenance[account] += maintenance


collateral = RequirementRule(
    "collateral",
    collateral_kernel,
    collateral_reference,
    explain=told_as("haircut on coins", collateral_reference),
)
"""What does not count of the coins that serve as collateral."""
