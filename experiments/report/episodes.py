"""Crises: found in the data by the size of the move, then replayed side by side.

The report may not choose the crises that flatter a proposal, so they are the largest 24-hour
moves of the index, either way, whatever they did to either policy. Events that the field
knows by name are added when they lie inside the window and the market is a recorded one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR, iso_utc, parse_utc_ms

if TYPE_CHECKING:
    from backtest.result import ReplayResult

EPISODES = 5
"""Worst episodes shown over both windows together."""
HOLDOUT_EPISODES = 3
"""Worst episodes of the hold-out window that are shown whatever happened before it."""
SPAN_MS = MS_PER_DAY
LEAD_MS = MS_PER_DAY
AFTERMATH_MS = MS_PER_DAY
"""How long before and after a move liquidations and losses still belong to it: a crash and the
rebound that was larger are one crisis."""
SEPARATION_MS = LEAD_MS + SPAN_MS + AFTERMATH_MS
"""Two moves closer than this are one episode, so that no loss is counted in two."""
CRISIS_MOVE = 0.10
"""A smaller move in which neither policy lost anything is listed, but judges nothing."""
SPAN_SLACK_MS = 6 * MS_PER_HOUR
"""A 24-hour move may be read over a longer step of the tape, but not much longer."""

NAMED_EVENTS = (
    ("Black Thursday", "2020-03-12", "2020-03-14"),
    ("May 2021 crash", "2021-05-19", "2021-05-20"),
    ("FTX collapse", "2022-11-06", "2022-11-15"),
    ("Carry-trade unwind", "2024-08-04", "2024-08-06"),
    ("October 2025 cascade", "2025-10-10", "2025-10-12"),
)
"""Name, first day and the day after the last, UTC."""


@dataclass(frozen=True)
class Episode:
    """One crisis: the largest 24-hour move of one asset around one date.

    Parameters
    ----------
    label
        The event's name where the field has one, else the date.
    asset
        Position of the asset that moved most.
    start_ms, end_ms
        Where the move begins and ends, milliseconds UTC.
    move
        Fraction of the starting price; negative for a fall.
    held_out
        True in the window that the search never saw.
    """

    label: str
    asset: int
    start_ms: int
    end_ms: int
    move: float
    held_out: bool

    @property
    def from_ms(self) -> int:
        """Where the days that belong to the episode begin."""
        return self.end_ms - SPAN_MS - LEAD_MS

    @property
    def until_ms(self) -> int:
        """Where its aftermath ends."""
        return self.end_ms + AFTERMATH_MS


@dataclass(frozen=True)
class Outcome:
    """What one policy did in one episode; flows are sums over the days around the move."""

    margin_before: float
    margin_peak: float
    open_notional_usd: float
    liquidations: float
    liquidated_notional_usd: float
    gross_bad_debt_usd: float
    insurance_drawdown_usd: float
    residual_bad_debt_usd: float


def daily_moves(ts: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's 24-hour price move and the row it is measured from.

    Parameters
    ----------
    ts
        ``(T,)`` milliseconds UTC, ascending.
    index
        ``(T, A)`` US dollars.

    Returns
    -------
    tuple of numpy.ndarray
        ``(T, A)`` moves as fractions, NaN where the tape has no row about 24 hours before,
        and ``(T,)`` rows of the starting price.
    """
    origin = np.searchsorted(ts, ts - SPAN_MS, side="right") - 1
    known = origin >= 0
    known[known] &= ts[known] - ts[origin[known]] <= SPAN_MS + SPAN_SLACK_MS
    moves = np.full(index.shape, np.nan)
    moves[known] = index[known] / index[origin[known]] - 1.0
    return moves, origin


def _label(start_ms: int, end_ms: int, named: bool) -> str:
    if named:
        for name, first, after in NAMED_EVENTS:
            if start_ms < parse_utc_ms(after) and end_ms >= parse_utc_ms(first):
                return name
    return iso_utc(end_ms)[:10]


def find_episodes(result: ReplayResult, count: int, *, held_out: bool) -> list[Episode]:
    """Return the largest separate 24-hour moves of a window, and its named events.

    Parameters
    ----------
    result
        Any replay of the window; only its clock and index are read.
    count
        How many of the largest moves to return.
    held_out
        Whether the window is the hold-out.

    Returns
    -------
    list of Episode
        Largest first; named events that are not among the largest come last.
    """
    named = not result.synthetic_market
    moves, origin = daily_moves(result.ts, result.index)
    # A fall of a half and a doubling are the same size of move to a margin model.
    size = np.abs(np.log1p(moves))
    size[np.isnan(size)] = -1.0
    worst_asset = size.argmax(axis=1)
    worst = size.max(axis=1)
    taken: list[Episode] = []

    def take(rows: np.ndarray, limit: int) -> None:
        for row in rows[np.argsort(-worst[rows], kind="stable")]:
            if limit == 0 or worst[row] <= 0:
                return
            end = int(result.ts[row])
            if any(abs(end - other.end_ms) < SEPARATION_MS for other in taken):
                continue
            start = int(result.ts[origin[row]])
            asset = int(worst_asset[row])
            taken.append(
                Episode(
                    label=_label(start, end, named),
                    asset=asset,
                    start_ms=start,
                    end_ms=end,
                    move=float(moves[row, asset]),
                    held_out=held_out,
                )
            )
            limit -= 1

    take(np.arange(len(worst)), count)
    for name, first, after in NAMED_EVENTS if named else ():
        inside = slice(*np.searchsorted(result.ts, [parse_utc_ms(first), parse_utc_ms(after)]))
        if not any(episode.label == name for episode in taken):
            take(np.arange(len(worst))[inside], 1)
    return taken


def crisis_list(search: ReplayResult, holdout: ReplayResult) -> list[Episode]:
    """Return the crises of a report in the order of time.

    The largest moves of both windows together, at least `HOLDOUT_EPISODES` of the hold-out
    window, and every named event inside either.
    """
    unseen = find_episodes(holdout, EPISODES, held_out=True)
    seen = find_episodes(search, EPISODES, held_out=False)
    ranked = sorted(seen + unseen, key=lambda episode: -abs(np.log1p(episode.move)))
    names = {name for name, _, _ in NAMED_EVENTS}
    kept = set(ranked[:EPISODES]) | set(unseen[:HOLDOUT_EPISODES])
    kept |= {episode for episode in ranked if episode.label in names}
    return sorted(kept, key=lambda episode: (episode.start_ms, episode.held_out))


def outcome(result: ReplayResult, episode: Episode) -> Outcome:
    """Add up what a policy did in the days around a move.

    Margin is the initial margin rate of the side that the move hurt: a long position in a
    fall, a short one in a rise.
    """
    begin = int(np.searchsorted(result.ts, episode.start_ms, side="left"))
    first = int(np.searchsorted(result.ts, episode.from_ms, side="right"))
    last = int(np.searchsorted(result.ts, episode.until_ms, side="right"))
    rate = result.margin.initial[begin:last, episode.asset, 0 if episode.move < 0 else 1]

    def total(key: str) -> float:
        return float(result.series[key][first:last].sum())

    return Outcome(
        margin_before=float(rate[0]),
        margin_peak=float(np.nanmax(rate)) if np.isfinite(rate).any() else float("nan"),
        open_notional_usd=float(result.series["open_notional_usd"][begin]),
        liquidations=total("liquidations"),
        liquidated_notional_usd=total("liquidated_notional_usd"),
        gross_bad_debt_usd=total("gross_bad_debt_usd"),
        insurance_drawdown_usd=total("insurance_drawdown_usd"),
        residual_bad_debt_usd=total("residual_bad_debt_usd"),
    )
