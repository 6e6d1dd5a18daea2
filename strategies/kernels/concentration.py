"""An add-on for positions that are large against their market.

What an account holds net of one asset, in dollars of notional, beyond what its market could take
is charged at a rate of its own: closing it would move the price against whoever has to. Clearing
houses call this a concentration charge (CME SPAN 2, Vertex)::

    rate * max(0, |net notional| - free)

What is free is a share of the venue's open interest in the asset, ``share * max(open interest,
least)``, or a limit that the policy posts asset by asset from depth or volume; the least of what
is stated. Options enter with their whole notional, so a hedged book is charged for what it would
take to close it, not for its delta. Initial and maintenance margin rise by the same amount.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    OPEN_NOTIONAL,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held, net_notional_usd
from strategies.kernels.order import greater, lesser
from strategies.kernels.single_part import told_as

SHARE = 0
RATE = 1
LEAST = 2
FIRST_LIMIT = 3


@numba.extending.register_jitable(**INLINED)
def free_usd(parameters: np.ndarray, asset: int, open_interest: float) -> float:
    """Return what may be held net of an asset without a charge."""
    free = math.inf
    if parameters[SHARE] > 0.0:
        free = parameters[SHARE] * max(open_interest, parameters[LEAST])
    if len(parameters) > FIRST_LIMIT:
        free = lesser(free, parameters[FIRST_LIMIT + asset])
    return free


@requirement_kernel(allocates=False)
def concentration_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `concentration_reference`."""
    rate = given.parameters[RATE]
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
                net = net_notional_usd(market, holdings, first, last, asset, 1.0)
                free = free_usd(given.parameters, asset, market.protocol[OPEN_NOTIONAL, asset])
                extra += rate * greater(abs(net) - free, 0.0)
        requirement.initial[account] += extra
        requirement.maintenance[account] += extra


def concentration_reference(
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
        ``parameters``: share of open interest (0: it is not looked at), rate on what lies
        beyond, least open interest in USD; then, if the policy posts them, one limit per asset
        in USD. No constants.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds.
    """
    parameters = given.parameters.tolist()
    interest = [float(usd) for usd in market.protocol[OPEN_NOTIONAL]]
    for account in accounts:
        net = [0.0] * len(interest)
        for slot in range(
            holdings.start[account], holdings.start[account] + holdings.count[account]
        ):
            i = int(holdings.instrument[slot])
            net[market.asset[i]] += float(holdings.quantity[slot]) * float(market.notional_usd[i])
        extra = 0.0
        for asset, usd in enumerate(interest):
            beyond = abs(net[asset]) - free_usd(parameters, asset, usd)
            extra += parameters[RATE] * greater(beyond, 0.0)
        requirement.initial[account] += extra
        requirement.maintenance[account] += extra


concentration = RequirementRule(
    "concentration",
    concentration_kernel,
    concentration_reference,
    explain=told_as("beyond what is free", concentration_reference),
)
"""A rate on net notional beyond what its market could take."""
