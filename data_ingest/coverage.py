"""The coverage ledger: which half-open window of which feed is complete.

Rows alone cannot say whether a quiet stretch is quiet or missing; the ledger can. It is written
in the same transaction as the rows it vouches for, so a killed pull resumes where the ledger
ends, without loss and without duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

Window = tuple[int, int]
"""Half-open ``[start_ms, end_ms)``."""


@dataclass(frozen=True)
class LedgerKey:
    """What a coverage window vouches for; ``timeframe_ms`` is 0 for feeds without bars."""

    exchange: str
    market: str
    feed: str
    timeframe_ms: int = 0

    @property
    def names(self) -> tuple[str, str, str]:
        """Exchange, market and feed."""
        return self.exchange, self.market, self.feed

    @property
    def values(self) -> list[str | int]:
        """The key as SQL parameters."""
        return [self.exchange, self.market, self.feed, self.timeframe_ms]


_WHERE = "exchange = ? AND market = ? AND feed = ? AND timeframe_ms = ?"


def merge(windows: Iterable[Window]) -> list[Window]:
    """Return the union of windows as ascending windows that neither overlap nor touch."""
    merged: list[Window] = []
    for start, end in sorted(windows):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def subtract(window: Window, covered: Iterable[Window]) -> list[Window]:
    """Return the parts of ``window`` that ``covered`` (merged) does not hold."""
    start, end = window
    missing: list[Window] = []
    for covered_start, covered_end in covered:
        if covered_end <= start or covered_start >= end:
            continue
        if covered_start > start:
            missing.append((start, covered_start))
        start = covered_end
    if start < end:
        missing.append((start, end))
    return missing


def runs(times_ms: np.ndarray, longest_step_ms: int, tail_ms: int) -> list[Window]:
    """Return windows over which ascending times never step by more than a bound.

    Parameters
    ----------
    times_ms : numpy.ndarray
        Ascending instants, shape ``(n,)``, milliseconds UTC.
    longest_step_ms : int
        A longer step between neighbours starts a new window.
    tail_ms : int
        How far a window reaches past its last instant (a bar's length, a funding interval).
    """
    if len(times_ms) == 0:
        return []
    breaks = np.flatnonzero(np.diff(times_ms) > longest_step_ms)
    firsts = times_ms[np.concatenate(([0], breaks + 1))]
    lasts = times_ms[np.concatenate((breaks, [len(times_ms) - 1]))]
    return [(int(a), int(b) + tail_ms) for a, b in zip(firsts, lasts, strict=True)]


def covered(cursor: duckdb.DuckDBPyConnection, key: LedgerKey) -> list[Window]:
    """Return the complete windows of a key, merged and ascending."""
    rows = cursor.execute(
        f"SELECT start_ms, end_ms FROM coverage WHERE {_WHERE} ORDER BY start_ms", key.values
    ).fetchall()
    return merge((int(a), int(b)) for a, b in rows)


def mark_complete(
    cursor: duckdb.DuckDBPyConnection, key: LedgerKey, windows: Iterable[Window]
) -> None:
    """Add complete windows to the ledger; neighbours are stored as one row."""
    fresh = merge(windows)
    if not fresh:
        return
    touching = cursor.execute(
        f"SELECT start_ms, end_ms FROM coverage WHERE {_WHERE} AND end_ms >= ? AND start_ms <= ?",
        [*key.values, fresh[0][0], fresh[-1][1]],
    ).fetchall()
    union = merge([*fresh, *((int(a), int(b)) for a, b in touching)])
    if len(touching) == len(union) == 1 and touching[0][0] == union[0][0]:
        # Page after page of a pull lengthens one window: one statement where it takes two.
        cursor.execute(
            f"UPDATE coverage SET end_ms = ? WHERE {_WHERE} AND start_ms = ?",
            [union[0][1], *key.values, union[0][0]],
        )
        return
    if touching:
        cursor.execute(
            f"DELETE FROM coverage WHERE {_WHERE} AND end_ms >= ? AND start_ms <= ?",
            [*key.values, fresh[0][0], fresh[-1][1]],
        )
    starts, ends = zip(*union, strict=True)
    cursor.execute(
        "INSERT INTO coverage SELECT ?, ?, ?, ?, unnest(?::BIGINT[]), unnest(?::BIGINT[])",
        [*key.values, list(starts), list(ends)],
    )


def mark_incomplete(cursor: duckdb.DuckDBPyConnection, key: LedgerKey, hole: Window) -> None:
    """Take a window out of the ledger again: something in it turned out to be missing."""
    left = [part for window in covered(cursor, key) for part in subtract(window, [hole])]
    cursor.execute(f"DELETE FROM coverage WHERE {_WHERE}", key.values)
    mark_complete(cursor, key, left)


@dataclass(frozen=True)
class Shortfall:
    """A window of a feed that could not be had, and why.

    Parameters
    ----------
    start_ms, end_ms : int
        Half-open.
    reason : str
        One of `REASONS`.
    detail : str
        One sentence.
    """

    start_ms: int
    end_ms: int
    reason: str
    detail: str

    @property
    def window(self) -> Window:
        """Start and end."""
        return self.start_ms, self.end_ms


REASONS = {
    "not served": "the exchange has no rows there, asked three times",
    "not kept": "older than what the exchange keeps",
    "not yet": "not over by the exchange's own clock",
    "not listed": "before the market was listed",
    "not asked": "served for the present only, and nobody asked then",
    "put aside": "a row broke a quality rule and is in quarantine",
    "refused": "the exchange refuses the question",
    "unanswered": "the exchange did not answer",
    "not trusted": "the exchange's pages contradict what was asked",
}
"""Why a window can be missing."""


def write_shortfalls(
    cursor: duckdb.DuckDBPyConnection,
    key: LedgerKey,
    window: Window,
    found: Iterable[Shortfall],
    now_ms: int,
) -> None:
    """Replace what was known to be missing in a window by what is missing now."""
    known = cursor.execute(
        f"SELECT start_ms, end_ms, reason, detail, noticed_at_ms FROM shortfalls WHERE {_WHERE} "
        "AND end_ms > ? AND start_ms < ?",
        [*key.values, *window],
    ).fetchall()
    cursor.execute(
        f"DELETE FROM shortfalls WHERE {_WHERE} AND end_ms > ? AND start_ms < ?",
        [*key.values, *window],
    )
    # What an earlier, wider pull noticed beside this window is still so.
    kept = [
        (*part, reason, detail, noticed_ms)
        for start, end, reason, detail, noticed_ms in known
        for part in subtract((start, end), [window])
    ]
    fresh = [(*one.window, one.reason, one.detail, now_ms) for one in found]
    for row in [*kept, *fresh]:
        cursor.execute(
            "INSERT INTO shortfalls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [*key.values, *row]
        )
