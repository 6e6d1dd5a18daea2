"""A rate on what an account holds net of each asset, posted asset by asset.

::

    charge = sum over assets of rate * |net notional|

Options enter with their whole notional, so that a hedged book is charged for what it would take to
close it, not for its delta. Initial margin rises by the charge, maintenance by a share of it. The
charge is homogeneous of degree 1.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held, net_notional_usd
from strategies.kernels.single_part import told_as

MAINTENANCE_SHARE = 0


@numba.extending.register_jitable(**INLINED)
def _quiet(rates: np.ndarray) -> bool:
    """Tell whether no event is near; mostly none is."""
    quiet = True
    for rate in rates:
        quiet &= rate == 0.0
    return quiet


@requirement_kernel(allocates=False)
def event_charge_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `event_charge_reference`."""
    if _quiet(given.parameters):
        return
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
                extra += given.parameters[asset] * abs(net)
        requirement.initial[account] += extra
        requirement.maintenance[account] += given.constants[MAINTENANCE_SHARE] * extra


def event_charge_reference(
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
        ``parameters``: one rate of notional per asset. ``constants``: the share of the charge
        that maintenance margin asks.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds.
    """
    rates = given.parameters.tolist()
    if not any(rates):
        return
    for account in accounts:
        net = [0.0] * len(rates)
        for slot in range(
            holdings.start[account], holdings.start[account] + holdings.count[account]
        ):
            i = int(holdings.instrument[slot])
            net[market.asset[i]] += float(holdings.quantity[slot]) * float(market.notional_usd[i])
        extra = 0.0
        for rate, usd in zip(rates, net, strict=True):
            extra += rate * abs(usd)
        requirement.initial[account] += extra
        requirement.maintenance[account] += float(given.constants[MAINTENANCE_SHARE]) * extra


event_charge = RequirementRule(
    "event_charge",
    event_charge_kernel,
    event_charge_reference,
    explain=told_as("around an event", event_charge_reference),
)
"""A rate on net notional, asset by asset."""
