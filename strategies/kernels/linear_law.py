"""The bracketed rate in plain Python: how its constants are laid out, and what they mean.

`strategies.kernels.linear_rate` states the law and compiles it; this is its specification, with
which it must agree bit for bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import PolicyError
from backtest.instruments import OPTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement

MAINTENANCE_RATIO = 0
OPTION_FLOOR = 1
OTM_SHARE = 2
BRACKETS = 3
FIRST_BOUND = 4


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


PLAIN = linear_rate_constants(0.5)
"""In force where a policy states no constants: half for maintenance, no brackets."""


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
    constants = [float(c) for c in (given.constants if len(given.constants) else PLAIN)]
    ratio, option_floor, otm_share, count = constants[:FIRST_BOUND]
    table = constants[FIRST_BOUND:]
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
