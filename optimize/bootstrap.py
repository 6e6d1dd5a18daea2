"""Paired block-bootstrap intervals: how much of a difference could be luck of the days.

Both replays are cut into UTC days, the same blocks of days are drawn for both, added up and
turned into metrics by the one definition in `backtest.metrics`. Days that hang together stay
together: the stationary bootstrap of Politis and Romano (1994), with the block length of
Politis and White (2004, corrected by Patton, Politis and White 2009).

The interval covers the luck of which days were seen. It covers neither the model, nor the
accounts, nor a regime that the window does not hold.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError
from backtest.metrics import METRICS, daily_sums, from_sums
from backtest.seeds import stream
from backtest.venue import YARDSTICKS

if TYPE_CHECKING:
    from backtest.result import ReplayResult

SHORTEST_BLOCK_DAYS = 2
FEWEST_DAYS = 8
"""With fewer days every resample is nearly the sample, and any difference would look certain."""
ROUNDING = 1e-9
"""Days that differ by a smaller share differ by the order of additions, not by the policy."""


@dataclass(frozen=True)
class Interval:
    """A number with the bounds that hold it at the stated level."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedInterval:
    """One metric under the current and the proposed policy, and the difference.

    Parameters
    ----------
    metric
        Key of `backtest.metrics.METRICS`.
    current, proposed, difference
        ``difference`` is proposed minus current, on the same resampled days. Bounds are NaN
        where there were fewer than `FEWEST_DAYS` days to draw from.
    """

    metric: str
    current: Interval
    proposed: Interval
    difference: Interval

    @property
    def detectable(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return self.difference.low > 0.0 or self.difference.high < 0.0


@dataclass(frozen=True)
class Comparison:
    """Every additive metric of a pair, and how the days were drawn."""

    intervals: dict[str, PairedInterval]
    days: int
    block_days: int
    resamples: int
    level: float


def compare_paired(
    current: ReplayResult,
    proposed: ReplayResult,
    seed: int,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> Comparison:
    """Bootstrap the difference between two replays of the same market and book.

    Parameters
    ----------
    current, proposed
        Replays over the same rows.
    seed
        The run's seed; the draws have a stream of their own.
    resamples
        How many times the days are drawn.
    level
        Share of the resamples inside the interval (percentile method).

    Raises
    ------
    DataError
        If the two replays do not cover the same rows, or were measured differently.
    """
    if not np.array_equal(current.ts, proposed.ts):
        raise DataError("a paired comparison needs two replays over the same rows of one tape.")
    for name in YARDSTICKS:
        if getattr(current.venue, name) != getattr(proposed.venue, name):
            raise DataError(
                f"a paired comparison needs one venue.{name}, by which both replays are measured."
            )
    before_days, after_days = daily_sums(current), daily_sums(proposed)
    days = [before_days, without_rounding(before_days, after_days)]
    count = len(days[0]["hours"])
    block = block_length(days[0], days[1])
    draws = draw_days(count, block, resamples, seed)
    resampled = [
        from_sums({key: values[draws].sum(axis=1) for key, values in sums.items()}) for sums in days
    ]
    intervals = {}
    for key in resampled[0]:
        a, b = (result.metrics[key] for result in (current, proposed))
        before, after = (np.broadcast_to(values[key], (resamples,)) for values in resampled)
        if count < FEWEST_DAYS:
            before, after = np.full((2, resamples), np.nan)
        intervals[key] = PairedInterval(
            metric=key,
            current=_interval(a, before, level),
            proposed=_interval(b, after, level),
            difference=_interval(b - a, after - before, level),
        )
    ordered = {key: intervals[key] for key in METRICS if key in intervals}
    return Comparison(ordered, count, block, resamples, level)


def without_rounding(
    before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Let days that are equal but for rounding be equal: paired, it would look like an effect."""
    return {
        key: np.where(np.isclose(values, before[key], rtol=ROUNDING, atol=0.0), before[key], values)
        for key, values in after.items()
    }


def block_length(current: dict[str, np.ndarray], proposed: dict[str, np.ndarray]) -> int:
    """Choose the mean block length in days: the longest that any daily difference asks for.

    Differences that never change ask for nothing; at least two days, at most a third of all.
    """
    from arch.bootstrap import optimal_block_length

    longest = float(SHORTEST_BLOCK_DAYS)
    days = len(current["hours"])
    if days < FEWEST_DAYS:
        return SHORTEST_BLOCK_DAYS
    for key, values in current.items():
        difference = proposed[key] - values
        scale = np.abs(difference).max()
        if scale == 0.0 or np.ptp(difference) <= 1e-12 * scale:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            length = float(optimal_block_length(difference / scale)["stationary"].iloc[0])
        if np.isfinite(length):
            longest = max(longest, length)
    return math.ceil(min(longest, days / 3))


def draw_days(days: int, block_days: int, resamples: int, seed: int) -> np.ndarray:
    """Draw ``(resamples, days)`` day numbers in blocks of geometric length, wrapping around."""
    from arch.bootstrap import StationaryBootstrap

    bootstrap = StationaryBootstrap(
        block_days, np.arange(days), seed=stream(seed, "bootstrap", "days")
    )
    drawn = [data[0][0] for data in bootstrap.bootstrap(resamples)]
    return np.asarray(drawn, dtype=np.int64)


def _interval(value: float, resampled: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))
