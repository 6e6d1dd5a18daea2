"""An add-on for positions that are large against their market.

What an account holds net of one asset, in dollars of notional, beyond a share of the venue's
open interest in it, is charged at a rate of its own: closing it would move the price against
whoever has to. Clearing houses call this a concentration charge (CME SPAN 2, Vertex)::

    rate * max(0, |net notional| - share * max(open interest, least))

Options enter with their whole notional, so a hedged book is charged for what it would take to
close it, not for its delta. Initial and maintenance margin rise by the same amount.
"""

from __future__ import annotations

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

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


@requirement_kernel(allocates=False)
def concentration_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `concentration_reference`."""
    share, rate, least_usd = given.parameters[0], given.parameters[1], given.parameters[2]
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
                interest = max(market.protocol[OPEN_NOTIONAL, asset], least_usd)
                beyond = abs(net) - share * interest
                if beyond > 0.0:
                    extra += rate * beyond
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
        ``parameters``: share of open interest, rate on what lies beyond, least open interest
        in USD. No constants.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds.
    """
    share, rate, least_usd = (float(p) for p in given.parameters)
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
            extra += rate * max(abs(net[asset]) - share * max(usd, least_usd), 0.0)
        requirement.initial[account] += extra
        requirement.maintenance[account] += extra


concentration = RequirementRule("concentration", concentration_kernel, concentration_reference)
"""A rate on net notional beyond a share of open interest."""
