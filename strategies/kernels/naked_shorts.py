"""A charge on options sold beyond those bought of the same strike.

Calls and puts of one asset, expiry and strike are pooled, as Derive's managers do: where more
are sold than bought, a rate of their notional is asked::

    rate * sum over (asset, expiry, strike) of max(0, -sum(quantity * notional))

Initial and maintenance margin have rates of their own. Homogeneous of degree 1; a long option
never raises it.
"""

from __future__ import annotations

import numba
import numpy as np

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
from strategies.kernels.order import greater
from strategies.kernels.single_part import told_as

INITIAL = 0
MAINTENANCE = 1


@numba.extending.register_jitable(**INLINED)
def _pooled(market: Market, i: int, j: int) -> bool:
    """Tell whether two instruments are options of the same asset, expiry and strike."""
    return (
        market.kind[i] == OPTION
        and market.strike[i] == market.strike[j]
        and market.years[i] == market.years[j]
        and market.asset[i] == market.asset[j]
    )


@requirement_kernel(allocates=False)
def naked_shorts_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `naked_shorts_reference`."""
    for account in accounts:
        first = np.uint64(holdings.start[account])
        last = first + np.uint64(holdings.count[account])
        naked = 0.0
        for slot in range(first, last):
            i = np.uint64(holdings.instrument[slot])
            if market.kind[i] != OPTION:
                continue
            counted = False
            for earlier in range(first, slot):
                counted |= _pooled(market, np.uint64(holdings.instrument[earlier]), i)
            if counted:
                continue
            held = holdings.quantity[slot] * market.notional_usd[i]
            for later in range(slot + np.uint64(1), last):
                j = np.uint64(holdings.instrument[later])
                if _pooled(market, j, i):
                    held += holdings.quantity[later] * market.notional_usd[j]
            naked += greater(-held, 0.0)
        requirement.initial[account] += given.parameters[INITIAL] * naked
        requirement.maintenance[account] += given.parameters[MAINTENANCE] * naked


def naked_shorts_reference(
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
        ``parameters``: initial and maintenance rate of notional. No constants.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds.
    """
    initial, maintenance = given.parameters.tolist()
    for account in accounts:
        first = int(holdings.start[account])
        held: dict[tuple[int, float, float], float] = {}
        for slot in range(first, first + int(holdings.count[account])):
            i = int(holdings.instrument[slot])
            if market.kind[i] == OPTION:
                key = int(market.asset[i]), float(market.years[i]), float(market.strike[i])
                usd = float(holdings.quantity[slot]) * float(market.notional_usd[i])
                held[key] = held[key] + usd if key in held else usd
        naked = 0.0
        for usd in held.values():
            naked += greater(-usd, 0.0)
        requirement.initial[account] += initial * naked
        requirement.maintenance[account] += maintenance * naked


naked_shorts = RequirementRule(
    "naked_shorts",
    naked_shorts_kernel,
    naked_shorts_reference,
    explain=told_as("shorts without a long", naked_shorts_reference),
)
"""A rate on options sold beyond those bought, strike by strike."""
