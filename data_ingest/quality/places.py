"""Places: runs of odd rows in a series, told one by one, the many small ones together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.units import MS_PER_HOUR, iso_utc
from data_ingest.quality.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MOST_PLACES = 20
"""So many places of one rule are told for one series; the rest are counted in one finding."""


@dataclass(frozen=True)
class Series:
    """What a finding is about: a feed of a market."""

    feed: str
    exchange: str
    market: str

    def finding(self, rule: str, start_ms: int, end_ms: int, rows: int, detail: str) -> Finding:
        """Return one finding of this series."""
        return Finding(
            rule, self.feed, self.exchange, self.market, int(start_ms), int(end_ms), int(rows),
            detail,
        )  # fmt: skip


@dataclass(frozen=True)
class Stretch:
    """Neighbouring odd rows.

    Parameters
    ----------
    start_ms, end_ms : int
        Half-open.
    rows : int
        How many.
    worst : int
        Place of the worst row in the series.
    size : float
        How bad that one is.
    """

    start_ms: int
    end_ms: int
    rows: int
    worst: int
    size: float

    @property
    def length(self) -> str:
        """How long it is, in words."""
        hours = (self.end_ms - self.start_ms) / MS_PER_HOUR
        if hours < 2:
            return f"{60 * hours:.3g} min"
        return f"{hours:.3g} h" if hours < 72 else f"{hours / 24:.1f} days"


def counted(number: int, noun: str, plural: str = "s") -> str:
    """Write a number and its noun: ``1 bar``, ``12 bars``."""
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def stretches(
    odd: np.ndarray, times_ms: np.ndarray, step_ms: int, size: np.ndarray | None = None
) -> list[Stretch]:
    """Cut odd rows into runs of neighbours.

    Parameters
    ----------
    odd : numpy.ndarray
        ``(n,)`` boolean.
    times_ms : numpy.ndarray
        ``(n,)`` ascending; a bar lasts ``step_ms``.
    step_ms : int
        Rows further apart are no neighbours; 0 for instants, whose neighbours are the next.
    size : numpy.ndarray, optional
        ``(n,)`` how bad each row is; by default, how long the run is.
    """
    rows = np.flatnonzero(odd)
    if not len(rows):
        return []
    far = np.diff(rows) > 1
    if step_ms:
        far |= np.diff(times_ms[rows]) > step_ms
    found = []
    for part in np.split(rows, np.flatnonzero(far) + 1):
        worst = int(part[0] if size is None else part[np.argmax(size[part])])
        found.append(
            Stretch(
                int(times_ms[part[0]]),
                int(times_ms[part[-1]]) + (step_ms or 1),
                len(part),
                worst,
                float(len(part) if size is None else size[worst]),
            )
        )
    return found


def told(
    series: Series, rule: str, found: Sequence[Stretch], tell: Callable[[Stretch], str]
) -> Iterator[Finding]:
    """Make findings of stretches: the worst one by one, the rest counted in one more."""
    worst = sorted(found, key=lambda each: (-each.size, each.start_ms))
    named, rest = worst[:MOST_PLACES], worst[MOST_PLACES:]
    for each in named:
        yield series.finding(rule, each.start_ms, each.end_ms, each.rows, tell(each))
    if rest:
        first = min(each.start_ms for each in rest)
        last = max(each.end_ms for each in rest)
        rows = sum(each.rows for each in rest)
        yield series.finding(
            rule, first, last, rows,
            f"{counted(len(rest), 'lesser place')} more, from {iso_utc(first)} to "
            f"{iso_utc(last)} UTC.",
        )  # fmt: skip
