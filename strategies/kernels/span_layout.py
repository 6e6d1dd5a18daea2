"""How the constants of SPAN are laid out, and the scenarios that they describe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SCENARIOS = 16
MONTH, TIER, DELIVERY = SCENARIOS, SCENARIOS + 1, SCENARIOS + 2
"""Scratch columns after the risk array: key of the month, its tier, its delivery rate."""
COLUMNS = 24
"""A risk array never straddles more lines of the cache than it must."""
PAIRED = 14
"""The scenarios before it come in pairs of one price, volatility up and down."""
LEAST_MOVE = 0.01
"""No scenario takes a price below 1 % of the present one."""
(
    INITIAL_RATIO,
    SHORT_MINIMUM,
    DELIVERY_RATE,
    DELIVERY_YEARS,
    DECAY_YEARS,
    VOL_RELATIVE,
    EXTREME_RANGES,
    EXTREME_COVER,
    TIERS,
    SPREADS,
    CREDITS,
) = range(11)
FIRST_TIER = 11
SPREAD_FIELDS = 3
CREDIT_FIELDS = 5

_THIRDS = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0)


def span_constants(
    *,
    initial_ratio: float,
    short_minimum: float,
    delivery: tuple[float, float],
    decay_years: float,
    vol_relative: bool,
    extremes: tuple[float, float],
    tiers: Sequence[float],
    spreads: Sequence[tuple[int, int, float]],
    credits: Sequence[tuple[int, float, int, float, float]],
) -> np.ndarray:
    """Lay out the constants of `span`.

    Parameters
    ----------
    initial_ratio
        Initial over maintenance margin, at least 1.
    short_minimum
        Least margin of a short option, fraction of its notional.
    delivery
        Rate on the delta of a month, and for how many years before its expiry.
    decay_years
        Time that passes in every scenario.
    vol_relative
        Whether the posted volatility range is a share of volatility or counts in points.
    extremes
        Size of the extreme moves in price ranges, and the share of their loss that counts.
    tiers
        Upper bounds in years to expiry, ascending; the last tier is without bound.
    spreads
        ``(tier, tier, rate)`` by priority, tiers counted from 0; either may be the long one.
    credits
        ``(asset, ratio, asset, ratio, rate)`` by priority, assets by their number.

    Returns
    -------
    numpy.ndarray
        ``(11 + tiers + 1 + 3 * directed spreads + 5 * credits,)``.
    """
    directed = [
        (long, short, rate)
        for one, other, rate in spreads
        for long, short in dict.fromkeys([(one, other), (other, one)])
    ]
    head = [initial_ratio, short_minimum, *delivery, decay_years, float(vol_relative), *extremes]
    counts = [len(tiers) + 1, len(directed), len(credits)]
    tables = [float(cell) for table in (directed, credits) for line in table for cell in line]
    return np.array([*head, *counts, *tiers, math.inf, *tables], dtype=np.float64)


def scenario_of(constants: Sequence[float], k: int) -> tuple[float, float, float]:
    """Return scenario ``k`` as fraction of the price range, direction of volatility, weight."""
    if k >= PAIRED:
        side = 1.0 if k == PAIRED else -1.0
        return side * constants[EXTREME_RANGES], 0.0, constants[EXTREME_COVER]
    return _THIRDS[k // 2] / 3.0, 1.0 if k % 2 == 0 else -1.0, 1.0


def month_key(asset: int, years: float, perpetual: bool) -> float:
    """Return a number that contracts share which expire together, and no others.

    A perpetual is a month of its own. Years are below 127; what is left of a double's digits
    tells expiries apart that lie a hundredth of a second from each other.
    """
    return 128.0 * asset + (-1.0 if perpetual else years)
