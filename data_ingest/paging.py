"""How one page leads to the next: what it proves, where to go on, and what is wrong with it.

Pure functions of a question and its page. A page proves a half-open part of its question's
window: whatever happened there is on the page. The next question begins with the millisecond
at which the page broke off, since further rows may share it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from data_ingest.coverage import Window, runs
from data_ingest.feed import NEWEST, Paging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.feed import Ask, Feed, Row

SLACK_MS = 60_000
"""How far outside its window an answer may reach: a bar that began before, a rounded stamp."""


@dataclass(frozen=True)
class Page:
    """What one answer brought.

    Parameters
    ----------
    rows : list of tuple
        Those within the window, as served.
    keys : frozenset
        Natural keys of all rows served, to recognise a page that comes twice.
    proven : (int, int), optional
        The part of the window that the page answers for; None if it answers for nothing.
    next_ask : Ask, optional
        Where to go on; None at the end.
    doubt : str
        What speaks against the page; empty if nothing does.
    cut_elsewhere : bool
        The doubt is about where a full page was cut, so smaller windows help.
    """

    rows: list[Row]
    keys: frozenset[Row]
    proven: Window | None
    next_ask: Ask | None
    doubt: str = ""
    cut_elsewhere: bool = False


def read_page(
    feed: Feed,
    ask: Ask,
    rows: Sequence[Row],
    more: bool | None = None,
    token: str | None = None,
    seen: frozenset[Row] = frozenset(),
) -> Page:
    """Judge a page and find where to go on.

    Parameters
    ----------
    feed : Feed
        Its declaration.
    ask : Ask
        The question.
    rows : sequence of tuple
        The page, as served.
    more : bool, optional
        What the answer says of further pages, where it says anything.
    token : str, optional
        The answer's mark of the next page.
    seen : frozenset
        Keys of the page before, with whose last row this one must begin.
    """
    columns = list(feed.table.columns)
    at = columns.index(feed.table.time)
    width = len(feed.table.key)
    times = [int(row[at]) for row in rows]
    inside = [row for row, time in zip(rows, times, strict=True)
              if ask.start_ms <= time < ask.end_ms]  # fmt: skip
    keys = frozenset(row[:width] for row in rows)
    timed = feed.paging in (Paging.WINDOW, Paging.FORWARD, Paging.BACKWARD)
    step_ms = feed.step(ask.timeframe_ms)
    # Events are stamped exactly; a row beside the window is from another page.
    slack_ms = max(step_ms, SLACK_MS) if step_ms else 0
    whole = (ask.start_ms, ask.end_ms)

    def doubtful(doubt: str, cut_elsewhere: bool = False) -> Page:
        return Page(inside, keys, None, None, doubt, cut_elsewhere)

    if timed and any(not ask.start_ms - slack_ms <= time < ask.end_ms + slack_ms for time in times):
        return doubtful("the answer belongs to another window")
    if feed.paging is Paging.WINDOW:
        return Page(inside, keys, whole, None)
    if timed and not step_ms and seen and not keys & seen:
        return doubtful("the page does not begin where the one before ended", cut_elsewhere=True)
    full = len(rows) >= ask.limit or bool(more)
    if full and not _in_order(times, feed.order):
        return doubtful(f"a full page is not {feed.order}", cut_elsewhere=timed)
    if feed.paging is Paging.FORWARD:
        newest = max((int(row[at]) for row in inside), default=ask.start_ms)
        fresh = newest > ask.start_ms
        if full and not fresh:
            return doubtful(_stuck(len(rows), newest, ask.limit))
        near_end = bool(step_ms) and newest + step_ms >= ask.end_ms
        if not more if more is not None else not fresh or near_end:
            return Page(inside, keys, whole, None)
        return Page(inside, keys, (ask.start_ms, newest), replace(ask, start_ms=newest))
    if feed.paging is Paging.BACKWARD:
        oldest = min((int(row[at]) for row in inside), default=ask.end_ms - 1)
        fresh = oldest < ask.end_ms - 1
        if full and not fresh:
            return doubtful(_stuck(len(rows), oldest, ask.limit))
        near_start = bool(step_ms) and oldest - step_ms < ask.start_ms
        if not more if more is not None else not fresh or near_start:
            return Page(inside, keys, whole, None)
        proven = (_settled(oldest, step_ms), ask.end_ms)
        return Page(inside, keys, proven, replace(ask, end_ms=oldest + 1))
    return _marked_page(feed, ask, inside, keys, times, token, seen, more)


def _marked_page(
    feed: Feed,
    ask: Ask,
    inside: list[Row],
    keys: frozenset[Row],
    times: list[int],
    token: str | None,
    seen: frozenset[Row],
    more: bool | None,
) -> Page:
    """Go on by the exchange's own mark or by a count, newest first, as the rows' times allow."""
    first = ask.token is None and ask.offset == 0
    whole = (ask.start_ms, ask.end_ms)
    if feed.paging is Paging.CONTINUATION:
        if token in ("", "none"):
            token = None
        if times and keys <= seen:
            return Page(inside, keys, None, None, "the page before came again")
        if token is not None and token == ask.token:
            return Page(inside, keys, None, None, f"the mark of the next page stays {token}")
        over = token is None
        going_on = replace(ask, token=token)
    else:
        # A later page begins with the last row of the page before; alone, it is the list's end.
        if not first and len(seen) > 1:
            if not keys & seen:
                return Page(inside, keys, None, None, "the list moved between two pages")
            if (len(times) > 1 or more) and keys <= seen:
                return Page(inside, keys, None, None, "the page before came again")
        over = not times or (not first and keys <= seen)
        going_on = replace(ask, offset=max(1, ask.offset + len(times) - 1))
    if not over and not times:
        return Page(inside, keys, None, going_on)
    oldest = min(times, default=ask.start_ms)
    if over or oldest < ask.start_ms:
        return Page(inside, keys, whole, None)
    end_ms = min(ask.end_ms, oldest + 1)
    settled = _settled(oldest, feed.step(ask.timeframe_ms))
    proven = (settled, ask.end_ms) if settled < ask.end_ms else None
    return Page(inside, keys, proven, replace(going_on, end_ms=end_ms))


def _settled(oldest_ms: int, step_ms: int) -> int:
    """Where a page's proof begins: a grid has one row an instant, events may share one."""
    return oldest_ms if step_ms else oldest_ms + 1


def _in_order(times: Sequence[int], order: str) -> bool:
    pairs = pairwise(reversed(times) if order == NEWEST else times)
    return all(earlier <= later for earlier, later in pairs)


def _stuck(rows: int, at_ms: int, limit: int) -> str:
    if rows >= limit:
        return f"more than {limit} rows share millisecond {at_ms}"
    return f"the rows after millisecond {at_ms} do not advance"


def beside(feed: Feed, ask: Ask, page: Page) -> tuple[Ask, frozenset[Row]] | None:
    """Find the part of a first page's window that should hold nothing but the page's edge.

    A server that cuts a page at another end than declared still serves rows in the declared
    order, and what it cut off lies there.

    Returns
    -------
    (Ask, frozenset) or None
        The question, and the keys that must answer it; None where the page leaves no such part.
    """
    at = list(feed.table.columns).index(feed.table.time)
    width = len(feed.table.key)
    times = [int(row[at]) for row in page.rows]
    if feed.paging not in (Paging.FORWARD, Paging.BACKWARD) or not times or not page.next_ask:
        return None
    forward = feed.paging is Paging.FORWARD
    edge_ms = min(times) if forward else max(times)
    if edge_ms == (ask.start_ms if forward else ask.end_ms - 1):
        return None
    keys = frozenset(row[:width] for row, time in zip(page.rows, times, strict=True)
                     if time == edge_ms)  # fmt: skip
    asked = replace(ask, end_ms=edge_ms + 1) if forward else replace(ask, start_ms=edge_ms)
    return asked, keys


def split(start_ms: int, end_ms: int, step_ms: int) -> list[Window]:
    """Cut ``[start_ms, end_ms)`` into windows of at most ``step_ms``."""
    return [(a, min(a + step_ms, end_ms)) for a in range(start_ms, end_ms, step_ms)]


def pieces(missing: Sequence[Window], longest_ms: int, page_ms: int) -> list[Window]:
    """Cut windows to what one question may span; holes that fit one page share a question."""
    found: list[Window] = []
    for start, end in missing:
        if found and end - found[-1][0] <= page_ms:
            found[-1] = (found[-1][0], end)
        else:
            found += split(start, end, longest_ms)
    return found


def complete_parts(times_ms: Sequence[int], window: Window, step_ms: int) -> list[Window]:
    """Return the parts of a window over which rows come at least every ``step_ms``.

    The window's start may lie up to one step before its first row, since a grid need not
    begin where a window does.
    """
    times = np.array(sorted(set(times_ms)), dtype=np.int64)
    parts = runs(times, step_ms, step_ms)
    if parts and 0 <= parts[0][0] - window[0] < step_ms:
        parts[0] = (window[0], parts[0][1])
    clipped = [(max(a, window[0]), min(b, window[1])) for a, b in parts]
    return [(a, b) for a, b in clipped if a < b]
