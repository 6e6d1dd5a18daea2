"""Where fitted slices contradict each other or themselves: butterfly and calendar arbitrage."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_ingest.surfaces.svi import STEEPEST_WING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.surfaces.surface import FittedSlice

Kind = Literal["butterfly", "calendar"]
_POINTS = 801
_REACH = 10.0
"""How far to look beside the quotes, in deviations at the money; the tails are known exactly."""
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Violation:
    """One stretch of log-moneyness in which prices allow a riskless gain.

    Parameters
    ----------
    kind : {"butterfly", "calendar"}
        A negative density within one expiry, or less total variance at a later one.
    asset : str
        The underlying.
    ts_ms, expiry_ms : int
        The instant and the expiry; the later one of a calendar.
    log_moneyness : float
        Where it is worst; infinite where a wing is too steep for ever.
    size : float
        There: how far Durrleman's function is below zero; or by how much annual volatility at
        the later expiry would have to rise (0.01 is one point).
    quoted : bool
        Whether the stretch lies between quoted strikes; if not, it is extrapolation.
    """

    kind: Kind
    asset: str
    ts_ms: int
    expiry_ms: int
    log_moneyness: float
    size: float
    quoted: bool


def butterfly_violations(fitted: FittedSlice) -> list[Violation]:
    """Find where a slice implies a negative density, its tails included."""
    svi = fitted.svi
    k = _grid([fitted])
    size = -np.nan_to_num(svi.density_sign(k), nan=-np.inf)
    found = [
        _violation("butterfly", fitted, at, worst, quoted)
        for at, worst, quoted in _stretches(k, size, fitted.lowest_k, fitted.highest_k)
    ]
    # Far out the function tends to 1/4 - slope^2 / 16.
    for slope, end in zip(svi.wing_slopes, (-np.inf, np.inf), strict=True):
        if slope > STEEPEST_WING * (1.0 + _TOLERANCE):
            size_there = slope * slope / 16.0 - 0.25
            found.append(_violation("butterfly", fitted, end, size_there, False))
    return found


def calendar_violations(slices: Sequence[FittedSlice]) -> list[Violation]:
    """Find where total variance falls from one expiry to the next, at equal log-moneyness.

    Parameters
    ----------
    slices : sequence of FittedSlice
        Of one asset at one instant, by expiry.
    """
    found = []
    for early, late in pairwise(slices):
        k = _grid([early, late])
        before = early.svi.total_variance(k)
        after = late.svi.total_variance(k)
        missing = np.sqrt(np.maximum(before, 0.0)) - np.sqrt(np.maximum(after, 0.0))
        size = missing / np.sqrt(late.years)
        lowest = max(early.lowest_k, late.lowest_k)
        highest = min(early.highest_k, late.highest_k)
        found += [
            _violation("calendar", late, at, worst, quoted)
            for at, worst, quoted in _stretches(k, size, lowest, highest)
        ]
    return found


def _grid(slices: Sequence[FittedSlice]) -> np.ndarray:
    """Reach over the quotes of every slice, and some deviations."""
    ends = []
    for each in slices:
        deviation = float(np.sqrt(max(float(each.svi.total_variance(0.0)), 0.0)))
        ends += [each.lowest_k, each.highest_k, -_REACH * deviation, _REACH * deviation]
    return np.linspace(min(ends), max(ends), _POINTS)


def _stretches(
    k: np.ndarray, size: np.ndarray, lowest: float, highest: float
) -> list[tuple[float, float, bool]]:
    """Cut where ``size`` is positive into stretches: the worst place, its size, if quoted."""
    inside = (k >= lowest) & (k <= highest)
    found = []
    for part, quoted in ((inside, True), (~inside, False)):
        bad = np.concatenate(([False], part & (size > _TOLERANCE), [False]))
        starts = np.flatnonzero(bad[1:] & ~bad[:-1])
        stops = np.flatnonzero(bad[:-1] & ~bad[1:])
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            worst = start + int(np.argmax(size[start:stop]))
            found.append((float(k[worst]), float(size[worst]), quoted))
    return sorted(found)


def _violation(kind: Kind, at: FittedSlice, k: float, size: float, quoted: bool) -> Violation:
    return Violation(kind, at.asset, at.ts_ms, at.expiry_ms, k, size, quoted)
