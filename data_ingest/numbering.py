"""Events that are numbered one by one: a number passed over is an event that was not served.

A server that leaves a trade out of the middle of a page leaves no hole in any grid. But where
an exchange numbers the trades of an instrument, two that follow one another in the store and
not in number, inside a window that counts as complete, tell that one between them is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from backtest.units import iso_utc
from data_ingest.clients import FeedError
from data_ingest.coverage import (
    LedgerKey,
    Shortfall,
    Window,
    mark_complete,
    mark_incomplete,
    merge,
    subtract,
)
from data_ingest.page_writer import write_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.clients import ExchangeClient
    from data_ingest.feed import Ask, Feed
    from data_ingest.store import DataStore, WriteResult


@dataclass(frozen=True)
class Jump:
    """Numbers of one instrument that were passed over.

    Parameters
    ----------
    instrument : str
        The exchange's own name.
    first, last : int
        The lowest and the highest number that is missing.
    start_ms, end_ms : int
        When the numbers before and after them happened; half-open, so that both belong to it.
    """

    instrument: str
    first: int
    last: int
    start_ms: int
    end_ms: int

    @property
    def window(self) -> Window:
        """Start and end."""
        return self.start_ms, self.end_ms


def find_jumps(
    store: DataStore, feed: Feed, target: str, window: Window, asked: Sequence[Window]
) -> list[Jump]:
    """Find numbers that were passed over between two events of a window that was asked for.

    Parameters
    ----------
    store, feed
        Where, and which.
    target : str
        The asset, or the market, that the feed is asked for by.
    window : (int, int)
        Half-open; a jump is found if it touches it, so the seam to what is older is seen too.
    asked : sequence of (int, int)
        Windows, merged, before and between which nothing is known.

    Returns
    -------
    list of Jump
        By instrument and number.
    """
    numbering, table = feed.numbering, feed.table
    assert numbering is not None
    number, name, time = numbering.column, numbering.instrument, table.time
    whose = f"starts_with({name}, ?)" if feed.per_asset else f"{name} = ?"
    of = [feed.exchange, f"{target}-" if feed.per_asset else target]
    rows = store.rows(
        f"WITH mine AS (SELECT {name} AS name, {number} AS number, {time} AS ts_ms "
        f"FROM {table.name} WHERE exchange = ? AND {whose} AND {number} IS NOT NULL), "
        # Counting and adding up is cheap; only instruments that lack a number are sorted.
        "lacking AS (SELECT name FROM mine GROUP BY name "
        "HAVING max(ts_ms) >= ? AND min(ts_ms) < ? "
        "AND (max(number) - min(number) + 1 <> count(*) "
        "OR 2 * sum(number) <> (max(number) + min(number)) * count(*))), "
        "stepped AS (SELECT name, number, ts_ms, lag(number) OVER follow AS before, "
        "lag(ts_ms) OVER follow AS before_ms FROM mine SEMI JOIN lacking USING (name) "
        "WINDOW follow AS (PARTITION BY name ORDER BY number, ts_ms)) "
        "SELECT name, before + 1, number - 1, least(ts_ms, before_ms), "
        "greatest(ts_ms, before_ms) + 1 FROM stepped "
        "WHERE number > before + 1 AND greatest(ts_ms, before_ms) >= ? "
        "AND least(ts_ms, before_ms) < ? ORDER BY name, number",
        [*of, *window, *window],
    )
    return [
        Jump(*row) for row in rows
        if any(start <= row[3] and row[4] <= end for start, end in asked)
    ]  # fmt: skip


def mend_jumps(
    store: DataStore, client: ExchangeClient, feed: Feed, ask: Ask, key: LedgerKey, *, silent: bool
) -> tuple[list[WriteResult], list[Shortfall]]:
    """Ask by number for what was passed over; what stays away is no longer called complete.

    Parameters
    ----------
    store, client, feed
        Where to, where from, what.
    ask : Ask
        The whole question; its window is looked at.
    key : LedgerKey
        Whose windows count as complete.
    silent : bool
        The exchange has been given up: only take back what cannot be vouched for.

    Returns
    -------
    (list of WriteResult, list of Shortfall)
        What was brought, and what is still missing.
    """
    window = ask.start_ms, ask.end_ms
    covered = store.covered(key)
    # A jump may span what an earlier one took out of the ledger; there, too, was asked.
    asked = merge([*covered, *_not_trusted(store, key)])
    jumps = find_jumps(store, feed, ask.target, window, asked)
    if not jumps:
        return [], []
    doubted = merge(jump.window for jump in jumps)
    with store.transaction() as cursor:
        # First, so that a pull killed while it asks does not leave them called complete.
        for hole in doubted:
            mark_incomplete(cursor, key, hole)
    failure = ""
    written: list[WriteResult] = []
    if not silent:
        try:
            if not feed.per_asset and not ask.market:
                ask = replace(ask, market=client.market(ask.target))
            for jump in jumps:
                written += _ask_by_number(store, client, feed, ask, key, jump)
        except FeedError as error:
            failure = f" ({error})"
    left = find_jumps(store, feed, ask.target, window, asked)
    missing = merge(jump.window for jump in left)
    with store.transaction() as cursor:
        # Only what was complete before can be so again.
        were = [part for hole in doubted for part in subtract(hole, subtract(hole, covered))]
        mark_complete(cursor, key, [part for whole in were for part in subtract(whole, missing)])
    return written, [_shortfall(feed, part, left, failure) for part in missing]


def _not_trusted(store: DataStore, key: LedgerKey) -> list[Window]:
    return store.rows(
        "SELECT start_ms, end_ms FROM shortfalls WHERE exchange = ? AND market = ? AND feed = ? "
        "AND timeframe_ms = ? AND reason = 'not trusted'",
        key.values,
    )


def _ask_by_number(
    store: DataStore, client: ExchangeClient, feed: Feed, ask: Ask, key: LedgerKey, jump: Jump
) -> list[WriteResult]:
    """Ask for the numbers of a jump, a page at a time."""
    numbering = feed.numbering
    assert numbering is not None
    native = jump.instrument if feed.per_asset else ask.native
    written = []
    for first in range(jump.first, jump.last + 1, numbering.page_limit):
        last = min(jump.last, first + numbering.page_limit - 1)
        rows = client.call(
            numbering.endpoint,
            numbering.ask(native, first, last),
            read=lambda answer: feed.read(answer, ask),
        )
        result, _ = write_page(store, client, feed.table, key, rows, {})
        written.append(result)
    return written


def _shortfall(feed: Feed, part: Window, jumps: Sequence[Jump], failure: str) -> Shortfall:
    """Say which numbers are missing in a window, the first instrument by name."""
    assert feed.numbering is not None
    inside = [jump for jump in jumps if part[0] <= jump.start_ms and jump.end_ms <= part[1]]
    first = inside[0]
    count = sum(jump.last - jump.first + 1 for jump in inside)
    names = len([name for name, _ in groupby(inside, key=lambda jump: jump.instrument)])
    others = f" and of {names - 1:,} more" if names > 1 else ""
    detail = (
        f"{feed.numbering.column} of {first.instrument}{others} passes over {count:,} from "
        f"{first.first} on, between {iso_utc(part[0])} and {iso_utc(part[1])} UTC, and asked by "
        f"number they are not served{failure}"
    )
    return Shortfall(*part, "not trusted", detail)
