"""The one loop that fills the store: it reads a feed's declaration and asks until nothing is left.

ccxt's own pagination loses rows without an error, so it is never used. The loop asks the ledger
what is missing, walks it page by page, and stores each page with the coverage that it proves,
in one transaction. Killed anywhere, it resumes there. What could not be had is stored as a
shortfall with its reason, never passed over.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data_ingest.clients import FeedError, RefusedError
from data_ingest.coverage import (
    REASONS,
    LedgerKey,
    Shortfall,
    Window,
    mark_incomplete,
    merge,
    subtract,
    write_shortfalls,
)
from data_ingest.feed import Ask, Paging
from data_ingest.funding_intervals import missing_payments, payment_times, record_intervals
from data_ingest.numbering import mend_jumps
from data_ingest.page_writer import write_page
from data_ingest.paging import beside, complete_parts, pieces, read_page
from data_ingest.pull_report import Advance, PullReport
from data_ingest.schema import OPTION_TRADES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.clients import ExchangeClient
    from data_ingest.feed import Feed, Row
    from data_ingest.paging import Page
    from data_ingest.pull_report import Progress
    from data_ingest.store import DataStore

IDLE_PASSES = 2
"""How often missing rows are asked for again before the exchange is believed not to have them."""

DOUBTS = 3
"""How often a page that contradicts its question is asked for again."""

SHORTEST_SPLIT_MS = 2


class PagingError(FeedError):
    """Pages that contradict what was asked, or do not lead on."""


def download(
    store: DataStore,
    client: ExchangeClient,
    feed: Feed,
    target: str,
    window: Window,
    timeframe_ms: int = 0,
    progress: Progress | None = None,
) -> PullReport:
    """Pull what the store lacks of one feed, of one market or asset, over a window.

    Parameters
    ----------
    store : DataStore
        An open store.
    client : ExchangeClient
        The exchange.
    feed : Feed
        From `data_ingest.feed_table`.
    target : str
        Unified symbol, or the asset for a feed that is asked for by asset.
    window : (int, int)
        Half-open, milliseconds UTC; of bars, those that open in it.
    timeframe_ms : int
        Bar length; 0 for a feed without bars.
    progress : callable, optional
        Called before the first page and after each.

    Returns
    -------
    PullReport
        An exchange that refuses or does not answer is reported, not raised: other feeds may
        still be had. What was stored before stays.
    """
    if feed.periods is not None and timeframe_ms not in feed.periods:
        valid = ", ".join(str(period) for period in feed.periods)
        raise FeedError(
            f"{feed.exchange} has no {feed.name} of {timeframe_ms} ms; valid: {valid} ms."
        )
    return _Pull(store, client, feed, target, window, timeframe_ms, progress).run()


class _Pull:
    """One feed of one market on its way into the store."""

    def __init__(
        self,
        store: DataStore,
        client: ExchangeClient,
        feed: Feed,
        target: str,
        window: Window,
        timeframe_ms: int,
        progress: Progress | None,
    ) -> None:
        self.store, self.client, self.feed = store, client, feed
        self.progress = progress
        self.step_ms = feed.step(timeframe_ms)
        start = window[0] // timeframe_ms * timeframe_ms if timeframe_ms else window[0]
        self.window = (start, window[1])
        self.key = LedgerKey(feed.exchange, target, feed.name, timeframe_ms)
        self.ask = Ask(feed.exchange, target, feed.kind, timeframe_ms, *self.window,
                       feed.page_limit)  # fmt: skip
        self.usable = self.window
        self.closed: dict[str, Window] = {}
        self.aside: list[Window] = []
        self.unnumbered: list[Shortfall] = []
        self.cut_elsewhere = False
        self.read = self.added = self.quarantined = 0

    def run(self) -> PullReport:
        """Walk what is missing, settle what only a whole history can tell, and report."""
        given_up: tuple[str, str] | None = None
        try:
            if self._missing():
                self._prepare()
                self._tell()
                self._walk_missing()
                if self.feed.steps_vary:
                    self._ask_for_missing_payments()
        except RefusedError as error:
            given_up = ("refused", str(error))
        except PagingError as error:
            given_up = ("not trusted", str(error))
        except FeedError as error:
            given_up = ("unanswered", str(error))
        if self.feed.steps_vary:
            record_intervals(self.store, self.key.exchange, self.key.market)
        if self.feed.numbering:
            self._ask_for_numbers(bool(given_up))
        return self._conclude(given_up)

    def _prepare(self) -> None:
        """Learn from the exchange what of the window can exist: not before listing, not open."""
        if not self.feed.per_asset:
            market = self.client.market(self.key.market)
            self.ask = replace(self.ask, market=market)
            if market.get("created"):
                self.closed["not listed"] = (0, int(market["created"]))
        if self.feed.signed:
            self.client.sign_in()
        # An archive has no order books to tell the time by.
        bookless = self.feed.per_asset or self.feed.archived
        now_ms = self.client.now_ms(None if bookless else self.key.market)
        bar_ms = self.key.timeframe_ms
        # A bar that has not ended is not a fact yet.
        over_ms = now_ms // bar_ms * bar_ms if bar_ms else now_ms + 1
        kept_from = max(
            now_ms - self.feed.kept_ms if self.feed.kept_ms else 0,
            over_ms - self.feed.kept_rows * bar_ms if self.feed.kept_rows else 0,
        )
        if bar_ms:
            kept_from = -(-kept_from // bar_ms) * bar_ms
        self.closed["not kept"] = (0, kept_from)
        self.closed["not yet"] = (over_ms, max(over_ms, self.window[1]))
        self.usable = (max(self.window[0], kept_from), min(self.window[1], over_ms))

    def _missing(self) -> list[Window]:
        """Return what is worth asking for."""
        if self.usable[0] >= self.usable[1]:
            return []
        aside = merge(self.aside)
        missing = self.store.missing(self.key, self.usable)
        return [part for window in missing for part in subtract(window, aside)]

    def _walk_missing(self) -> None:
        longest_ms = self.usable[1] - self.usable[0]
        if self.feed.paging is Paging.WINDOW:
            longest_ms = self.feed.page_limit * self.step_ms
        longest_ms = max(1, min(longest_ms, self.feed.longest_window_ms or longest_ms))
        page_ms = min(longest_ms, self.feed.page_limit * self.step_ms)
        idle, left = -1, self._missing()
        while left and idle < IDLE_PASSES:
            # Last, each hole is asked for alone: rows that are there cannot then fill the page.
            shared_ms = page_ms if idle < 1 else 0
            for start, end in pieces(left, longest_ms, shared_ms):
                self._walk(replace(self.ask, start_ms=start, end_ms=end))
            still = self._missing()
            idle = idle + 1 if still == left else 0
            left = still

    def _walk(self, ask: Ask) -> None:
        """Store page after page of one window."""
        seen: frozenset[Row] = frozenset()
        following: Ask | None = ask
        while following is not None:
            page = self._page(following, seen)
            if not seen and not page.doubt and not self._cut_as_declared(following, page):
                page = replace(page, doubt="a page is cut at another end than declared")
            if page.doubt:
                self._halve(following, page)
                return
            self._keep(page)
            following, seen = page.next_ask, page.keys

    def _page(self, ask: Ask, seen: frozenset[Row]) -> Page:
        """Ask for a page until nothing speaks against it.

        A page that stays doubtful is returned only where smaller windows may help.
        """
        wait_s = self.client.first_wait_s
        for attempt in range(1 + DOUBTS):
            if attempt:
                self.client.sleep(wait_s)
                wait_s *= 2
            answer, rows = self._rows(ask)
            follows = self._follows(answer)
            page = read_page(self.feed, ask, rows, *follows, seen)
            if page.cut_elsewhere and self.cut_elsewhere:
                return page
            if page.doubt:
                continue
            if self._vouched_for(ask, page, follows):
                return page
            page = replace(page, doubt="two readings of one page differ")
        if not page.cut_elsewhere:
            raise PagingError(
                f"{self.key.exchange} {self.key.market} {self.key.feed}: {page.doubt} in the "
                f"window from {ask.start_ms} to {ask.end_ms} ms, asked {1 + DOUBTS} times."
            )
        return page

    def _rows(self, ask: Ask) -> tuple[Any, list[Row]]:
        """Ask one question."""
        answer, rows = self.client.call(
            str(self.feed.endpoint),
            self.feed.ask(ask),  # type: ignore[operator]
            read=lambda answer: (answer, self.feed.read(answer, ask)),
        )
        return answer, rows

    def _vouched_for(self, ask: Ask, page: Page, follows: tuple[bool | None, str | None]) -> bool:
        """Say whether anything but the page itself speaks for it.

        A row that is missing from a grid shows. Events leave no hole, but a page that holds as
        many as were asked for lacks none. Any other is asked for again, and for no more than it
        held: a row left out of its middle then lets another onto it, and a row left out at its
        end is what the answer says is to follow. Where it says nothing, one more is asked for.
        """
        held = len(page.keys)
        if self.step_ms or held >= ask.limit:
            return True
        tells = self.feed.more or self.feed.token
        limit = (held if tells else held + 1) or ask.limit
        answer, rows = self._rows(replace(ask, limit=limit))
        width = len(self.feed.table.key)
        again = frozenset(row[:width] for row in rows)
        return (again, self._follows(answer)) == (page.keys, follows)

    def _follows(self, answer: Any) -> tuple[bool | None, str | None]:
        """Read what an answer says of further pages."""
        more = self.feed.more(answer) if self.feed.more else None
        return more, self.feed.token(answer) if self.feed.token else None

    def _cut_as_declared(self, ask: Ask, page: Page) -> bool:
        """Ask for what a full first page passed over: it must be nothing but the page's edge."""
        if self.step_ms or not (found := beside(self.feed, ask, page)):
            return True
        question, expected = found
        width = len(self.feed.table.key)
        for _ in range(2):
            _, rows = self._rows(question)
            if frozenset(row[:width] for row in rows) == expected:
                return True
        return False

    def _halve(self, ask: Ask, page: Page) -> None:
        """Ask for both halves of a window, until pages are not full and so not cut anywhere."""
        self.cut_elsewhere = True
        start, end = ask.start_ms, ask.end_ms
        if end - start < SHORTEST_SPLIT_MS:
            raise PagingError(
                f"{self.key.exchange} {self.key.market} {self.key.feed}: {page.doubt} at "
                f"millisecond {start}."
            )
        middle = (start + end) // 2
        self._walk(replace(ask, end_ms=middle))
        self._walk(replace(ask, start_ms=middle, end_ms=end))

    def _keep(self, page: Page) -> None:
        table = self.feed.table
        at = list(table.columns).index(table.time)
        complete: list[Window] = [page.proven] if page.proven else []
        if page.proven and self.step_ms:
            times = [int(row[at]) for row in page.rows]
            complete = complete_parts(times, page.proven, self.step_ms)
        result, refused = write_page(
            self.store, self.client, table, self.key, page.rows, {self.key: complete},
            grid=bool(self.step_ms),
        )  # fmt: skip
        self.read += result.read
        self.added += result.added
        self.quarantined += len(refused)
        if self.step_ms:
            self.aside += [(int(row[at]), int(row[at]) + self.step_ms) for row in refused
                           if row[at] is not None]  # fmt: skip
        self._tell()

    def _tell(self) -> None:
        if self.progress:
            total = max(0, self.usable[1] - self.usable[0])
            done = total - sum(end - start for start, end in self._missing())
            self.progress(Advance(*self.key.names, done, total, self.read))

    def _ask_for_missing_payments(self) -> None:
        """Ask again where the spacing of payments shows that one is missing."""
        if self._without_missing_payments():
            self._walk_missing()
            # The walk knows only the longest interval, so it called the hole complete again.
            self._without_missing_payments()

    def _without_missing_payments(self) -> bool:
        times = payment_times(self.store, self.key.exchange, self.key.market)
        holes = [
            (start, end) for start, end in missing_payments(times)
            if start < self.window[1] and end > self.window[0]
        ]  # fmt: skip
        with self.store.transaction() as cursor:
            for hole in holes:
                mark_incomplete(cursor, self.key, hole)
        return bool(holes)

    def _ask_for_numbers(self, silent: bool) -> None:
        """Ask for events whose number was passed over, wherever the ledger calls them complete.

        Also where nothing was left to ask: an earlier pull may have been killed before this.
        """
        written, self.unnumbered = mend_jumps(
            self.store, self.client, self.feed, self.ask, self.key, silent=silent
        )
        self.read += sum(one.read for one in written)
        self.added += sum(one.added for one in written)

    def _conclude(self, given_up: tuple[str, str] | None) -> PullReport:
        found = self._shortfalls(given_up)
        now_ms = time.time_ns() // 1_000_000
        with self.store.transaction() as cursor:
            for one in self.unnumbered:  # it may reach back into what an earlier pull asked for
                write_shortfalls(cursor, self.key, one.window, [one], now_ms)
            write_shortfalls(cursor, self.key, self.window, found, now_ms)
        stored = self._stored()
        return PullReport(
            *self.key.names, self.read, self.added, self.quarantined, self.key.timeframe_ms,
            self._expected(stored, found), stored, tuple(found),
        )  # fmt: skip

    def _shortfalls(self, given_up: tuple[str, str] | None) -> list[Shortfall]:
        """Say of each missing part of the window why it is missing."""
        everything = (0, 2**62)
        regions = [(window, reason, REASONS[reason]) for reason, window in self.closed.items()]
        regions += [(window, "put aside", REASONS["put aside"]) for window in merge(self.aside)]
        regions += [(one.window, one.reason, one.detail) for one in self.unnumbered]
        regions.append((everything, *(given_up or ("not served", REASONS["not served"]))))
        found = []
        left = self.store.missing(self.key, self.window)
        for (start, end), reason, detail in regions:
            if start >= end:
                continue
            for gap in left:
                cut = max(gap[0], start), min(gap[1], end)
                if cut[0] < cut[1]:
                    found.append(Shortfall(*cut, reason, detail))
            left = [part for gap in left for part in subtract(gap, [(start, end)])]
        return sorted(found, key=lambda one: one.start_ms)

    def _expected(self, stored: int, found: Sequence[Shortfall]) -> int | None:
        if not self.step_ms:
            return None
        if self.feed.steps_vary:
            return stored + sum(_grid(one.window, self.step_ms) for one in found)
        return _grid(self.window, self.step_ms)

    def _stored(self) -> int:
        table, market = self.feed.table, self.key.market
        values: dict[str, Any] = {"exchange": self.key.exchange}
        if table is OPTION_TRADES:
            market = f"{market}-"
        else:
            values["asset" if self.feed.per_asset else "symbol"] = market
        if "kind" in table.key and self.feed.kind:
            values["kind"] = self.feed.kind
        if "timeframe_ms" in table.key:
            values["timeframe_ms"] = self.key.timeframe_ms
        where = " AND ".join(f"{name} = ?" for name in values)
        parameters = [*values.values(), *self.window]
        if table is OPTION_TRADES:
            where += " AND starts_with(native_id, ?)"
            parameters = [*values.values(), market, *self.window]
        ((count,),) = self.store.rows(
            f"SELECT count(*) FROM {table.name} WHERE {where} AND {table.time} >= ? "
            f"AND {table.time} < ?",
            parameters,
        )
        return int(count)


def _grid(window: Window, step_ms: int) -> int:
    """Count the multiples of a step in a half-open window."""
    return -(-window[1] // step_ms) - -(-window[0] // step_ms)
