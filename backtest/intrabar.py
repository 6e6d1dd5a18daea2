"""A bar's worst moments: three rows instead of one, so that an hourly tape hides no wick.

The order of a bar's extremes is not recorded. It is taken to be low, then high, in a bar that
closes at or above the one before, and high, then low, in one that closes below: the shortest
way that ends with the recorded move. Policies see bars; only the venue lives through the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.errors import DataError

if TYPE_CHECKING:
    from backtest.tape import MarketTape

ROWS_PER_BAR = 3


class Expanded(NamedTuple):
    """A tape of ``T`` bars as the ``T2`` rows that a replay passes through."""

    tape: MarketTape
    bar_of_row: np.ndarray  # (T2,) int64, the bar that each row is part of
    last_row_of_bar: np.ndarray  # (T,) int64, the row that is each bar's close

    def rows(self, bars: slice) -> slice:
        """Return the rows of a stretch of bars, the extremes of its first bar included."""
        before = int(self.last_row_of_bar[bars.start - 1]) + 1 if bars.start else 0
        return slice(before, int(self.last_row_of_bar[bars.stop - 1]) + 1)

    def closed_bar(self, rows: np.ndarray) -> np.ndarray:
        """Return the last bar that is complete at each row; -1 before the first close, or at -1.

        A row inside a bar knows only the close of the bar before: signals, and with them the
        parameters in force, are those of that bar.
        """
        complete: np.ndarray = np.searchsorted(self.last_row_of_bar, rows, side="right")
        return complete - 1


def expand(tape: MarketTape) -> Expanded:
    """Lay out the rows that a replay passes through.

    With ``tape.intrabar == "high_low"`` each bar becomes three rows: its extremes at one and two
    thirds of its length, then its close. At an extreme the index stands as far from its close
    as the mark does from its own. Funding and volume belong to the close, depth to the whole
    bar; each row is known as much later as its bar is. Option snapshots stay as they are.

    Parameters
    ----------
    tape
        Bars; the first one is taken to be as long as the second.

    Returns
    -------
    Expanded
        With the tape itself, row for bar, if only closes count.

    Raises
    ------
    DataError
        If extremes are asked of a single bar, whose length nobody knows.
    """
    bars = len(tape)
    if tape.intrabar == "close":
        each = np.arange(bars, dtype=np.int64)
        return Expanded(tape, each, each)
    if bars < 2:
        raise DataError("intrabar: high_low needs a tape of at least two bars.")
    length = np.diff(tape.ts, prepend=2 * tape.ts[0] - tape.ts[1])
    ts = np.stack((tape.ts - 2 * length // 3, tape.ts - length // 3, tape.ts), axis=1)
    before_known = np.concatenate((ts[:1, 0], tape.known_ts[:-1]))
    known_ts = np.maximum(ts + (tape.known_ts - tape.ts)[:, None], before_known[:, None])
    before = np.vstack((tape.mark[:1], tape.mark[:-1]))
    rises = tape.mark >= before
    first, second = np.where(rises, tape.low, tape.high), np.where(rises, tape.high, tape.low)

    def three(*moments: np.ndarray) -> np.ndarray:
        return np.stack(moments, axis=1).reshape(ROWS_PER_BAR * bars, -1)

    nothing = np.zeros_like(tape.funding)
    expanded = replace(
        tape,
        ts=ts.ravel(),
        known_ts=known_ts.ravel(),
        index=three(tape.index * (first / tape.mark), tape.index * (second / tape.mark),
                    tape.index),
        mark=three(first, second, tape.mark),
        high=three(np.maximum(before, first), tape.high, tape.high),
        low=three(np.minimum(before, first), tape.low, tape.low),
        funding=three(nothing, nothing, tape.funding),
        volume_usd=three(nothing, nothing, tape.volume_usd),
        depth_usd=three(tape.depth_usd, tape.depth_usd, tape.depth_usd),
        intrabar="close",
        # Policies look at bars; what happens inside one reads no outside signal.
        signal_names=(),
        signals=None,
        events=None,
    )  # fmt: skip
    bar_of_row = np.repeat(np.arange(bars, dtype=np.int64), ROWS_PER_BAR)
    return Expanded(expanded, bar_of_row, np.arange(bars, dtype=np.int64) * ROWS_PER_BAR + 2)
