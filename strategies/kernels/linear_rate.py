"""Margin as a rate of notional: bracketed for perpetuals, by formula for options.

*Perpetuals*, linear and inverse, of one asset are netted: ``net = sum(quantity * notional)``.
A rate applies to ``|net|`` in marginal brackets, as the leverage tiers of Binance, Bybit and
Hyperliquid do, so the charge is continuous in size::

    rate * sum over brackets of multiple * (part of |net| inside the bracket)

*Options* are not netted with anything; a grid policy exists for that. Equity counts an
option's value, so what is asked is on top of it. A long option asks for its own value: it
earns no credit, and it can lose no more. A short one asks, in the form that Deribit and Derive
use for standard margin (``otm`` is how far it is out of the money)::

    max(rate - otm / index, otm_share * rate) * notional,   rate = max(posted rate, option_floor)

Maintenance is a fixed share of all this, except for the value of long options, which both ask.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import PolicyError
from backtest.instruments import OPTION
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAINTENANCE_RATIO = 0
_OPTION_FLOOR = 1
_OTM_SHARE = 2
_BRACKETS = 3
_FIRST_BOUND = 4


def linear_rate_constants(
    maintenance_ratio: float,
    brackets: Sequence[tuple[float, float]] = ((math.inf, 1.0),),
    option_floor: float = 0.1,
    otm_share: float = 2.0 / 3.0,
) -> np.ndarray:
    """Lay out the constants of `linear_rate`.

    Parameters
    ----------
    maintenance_ratio
        Maintenance over initial margin, 0 to 1.
    brackets
        ``(upper bound in USD of net notional, multiple of the rate)``, ascending; the last
        bound must be infinite, because beyond it nothing would be asked.
    option_floor
        Least rate for short options, fraction of notional.
    otm_share
        What remains of the rate far out of the money.

    Returns
    -------
    numpy.ndarray
        ``(4 + 2 * brackets,)``.

    Raises
    ------
    PolicyError
        If the bounds do not ascend to infinity.
    """
    bounds = [upper for upper, _ in brackets]
    if not bounds or bounds[-1] != math.inf or any(np.diff([0.0, *bounds]) <= 0.0):
        raise PolicyError(
            f"size brackets end at {bounds} USD; they must ascend, and the last must be infinite."
        )
    multiples = [multiple for _, multiple in brackets]
    head = [maintenance_ratio, option_floor, otm_share, float(len(brackets))]
    return np.array([*head, *bounds, *multiples])


_PLAIN = linear_rate_constants(0.5)
"""In force where a policy states no constants: half for maintenance, no brackets."""


@requirement_kernel
def linear_rate_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `linear_rate_reference`."""
    assets = len(market.index)
    short_column = assets if len(given.parameters) == 2 * assets else 0
    constants = given.constants if len(given.constants) else _PLAIN
    brackets = int(constants[_BRACKETS])
    net = np.zeros(assets)
    for account in accounts:
        net[:] = 0.0
        risk = 0.0
        long_value = 0.0
        first = holdings.start[account]
        for slot in range(first, first + holdings.count[account]):
            i = holdings.instrument[slot]
            quantity = holdings.quantity[slot]
            asset = market.asset[i]
            if market.kind[i] != OPTION:
                net[asset] += quantity * market.notional_usd[i]
            elif quantity > 0.0:
                long_value += quantity * market.value_usd[i]
            else:
                index = market.index[asset]
                is_call = market.is_call[i] == 1
                rate = given.parameters[asset + (short_column if is_call else 0)]
                rate = max(rate, constants[_OPTION_FLOOR])
                otm = market.strike[i] - index if is_call else index - market.strike[i]
                charged = max(rate - max(otm, 0.0) / index, constants[_OTM_SHARE] * rate)
                risk += charged * (-quantity * market.notional_usd[i])
        for asset in range(assets):
            size = abs(net[asset])
            rate = given.parameters[asset + (short_column if net[asset] < 0.0 else 0)]
            lower = 0.0
            weighted = 0.0
            for k in range(brackets):
                if size <= lower:
                    break
                upper = constants[_FIRST_BOUND + k]
                part = min(size, upper) - lower
                weighted += constants[_FIRST_BOUND + brackets + k] * part
                lower = upper
            risk += rate * weighted
        requirement.initial[account] = risk + long_value
        requirement.maintenance[account] = constants[_MAINTENANCE_RATIO] * risk + long_value
        requirement.worst_scenario[account] = -1


def linear_rate_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for margin as the module describes, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: one rate per asset, or the rates for net longs of every asset followed
        by those for net shorts (a short call is short its asset, a short put long).
        ``constants``: from `linear_rate_constants`, or none for its plain form.
    market, holdings, accounts, requirement
        As for every requirement kernel.
    """
    rates = [float(rate) for rate in given.parameters]
    assets = len(market.index)
    rates_long, rates_short = rates[:assets], rates[-assets:]
    constants = [float(c) for c in (given.constants if len(given.constants) else _PLAIN)]
    ratio, option_floor, otm_share, count = constants[:_FIRST_BOUND]
    table = constants[_FIRST_BOUND:]
    brackets = list(
        zip([0.0, *table], table[: int(count)], table[int(count) :], strict=False)
    )  # (lower, upper, multiple)
    for account in accounts:
        net = [0.0] * assets
        risk = long_value = 0.0
        for slot in range(
            holdings.start[account], holdings.start[account] + holdings.count[account]
        ):
            i = int(holdings.instrument[slot])
            quantity = float(holdings.quantity[slot])
            asset = int(market.asset[i])
            notional_usd = float(market.notional_usd[i])
            if market.kind[i] != OPTION:
                net[asset] += quantity * notional_usd
                continue
            if quantity > 0.0:
                long_value += quantity * float(market.value_usd[i])
                continue
            index, strike = float(market.index[asset]), float(market.strike[i])
            if market.is_call[i]:
                rate, otm = max(rates_short[asset], option_floor), max(strike - index, 0.0)
            else:
                rate, otm = max(rates_long[asset], option_floor), max(index - strike, 0.0)
            risk += max(rate - otm / index, otm_share * rate) * (-quantity * notional_usd)
        for asset in range(assets):
            rate = rates_short[asset] if net[asset] < 0.0 else rates_long[asset]
            weighted = 0.0
            for lower, upper, multiple in brackets:
                if abs(net[asset]) > lower:
                    weighted += multiple * (min(abs(net[asset]), upper) - lower)
            risk += rate * weighted
        requirement.initial[account] = risk + long_value
        requirement.maintenance[account] = ratio * risk + long_value
        requirement.worst_scenario[account] = -1


linear_rate = RequirementRule("linear_rate", linear_rate_kernel, linear_rate_reference)
"""Rate of net notional in brackets, with the standard formula for options."""
