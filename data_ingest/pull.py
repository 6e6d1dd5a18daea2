"""Pull everything one market's tape needs, in one call, resuming where the last one stopped."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from data_ingest.clients import FeedError, RefusedError, open_exchange, simulator_clock
from data_ingest.coverage import LedgerKey, Shortfall, write_shortfalls
from data_ingest.downloader import download
from data_ingest.feed import Paging
from data_ingest.feed_table import FEEDS, candle_kinds, find_feed
from data_ingest.polls import (
    poll_brackets,
    poll_chain,
    poll_depth,
    pull_instruments,
    take_or_note,
)
from data_ingest.pull_report import Advance, PullReport
from data_ingest.symbols import EXCHANGES, perpetual_symbol

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.clients import ExchangeClient
    from data_ingest.coverage import Window
    from data_ingest.pull_report import Progress
    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore

    _Poll = tuple[ExchangeClient, list[LedgerKey], Callable[[int], PullReport]]


def pull_market(
    store: DataStore,
    market: MarketSpec,
    base_url: str | None = None,
    *,
    simulate_clock: bool = False,
    progress: Callable[[PullReport], None] | None = None,
    advance: Progress | None = None,
) -> list[PullReport]:
    """Pull candles, funding, instruments, polled chains and books, and what else is asked for.

    An exchange serves its option chain and its order book for the present only. With
    ``simulate_clock`` the simulator's clock is moved through the window, so that a whole
    history is polled as a patient collector would have; without it one poll is made now.

    Parameters
    ----------
    store : DataStore
        An open store.
    market : MarketSpec
        What to pull.
    base_url : str, optional
        Where to pull from instead of the exchange itself.
    simulate_clock : bool
        Drive the exchange simulator's clock.
    progress : callable, optional
        Called with the report of each feed.
    advance : callable, optional
        Called after each page.

    Returns
    -------
    list of PullReport
        One per feed and market; polls of one feed are summed. A feed that is refused or not
        answered says so in its report, and the others are pulled; the next call resumes.
    """
    return _MarketPull(store, market, base_url, simulate_clock, progress, advance).run()


class _MarketPull:
    def __init__(
        self,
        store: DataStore,
        market: MarketSpec,
        base_url: str | None,
        simulate_clock: bool,
        progress: Callable[[PullReport], None] | None,
        advance: Progress | None,
    ) -> None:
        self.store, self.market = store, market
        self.base_url, self.advance, self.progress = base_url, advance, progress
        self.reports: list[PullReport] = []
        self.down: dict[str, str] = {}
        self.set_clock = simulator_clock(base_url) if simulate_clock and base_url else None
        self.perpetuals = open_exchange(market.exchange, base_url, sleep=store.rest)
        options = market.options
        same = options is not None and options.exchange == market.exchange
        self.chain = (
            self.perpetuals if same else
            open_exchange(options.exchange, base_url, sleep=store.rest)
        ) if options else None  # fmt: skip

    def run(self) -> list[PullReport]:
        """Pull history first, then snapshots, and instruments last."""
        market = self.market
        if isinstance(market.clock, int):
            self._history(market.clock)
            self._index_sources(market.clock)
        if market.options and market.options.trades:
            archive = open_exchange(market.options.exchange, self.base_url, archive=True,
                                    sleep=self.store.rest)  # fmt: skip
            for asset in market.assets:
                self._download(archive, "option_trades", asset, (market.start, market.end))
        for name in market.feeds:
            self._further(name)
        self._poll()
        # Last, with the clock at the window's end: only now has every polled option been listed.
        for client in {id(c): c for c in (self.perpetuals, self.chain) if c}.values():
            self._deliveries(client)
            self._once(client, "instruments", ",".join(sorted(market.assets)),
                       partial(pull_instruments, self.store, client, market.assets))  # fmt: skip
        return self.reports

    def _history(self, clock_ms: int) -> None:
        market, client = self.market, self.perpetuals
        window = (market.start, market.end)
        for asset in market.assets:
            symbol = market.symbol(asset)
            for kind in candle_kinds(market.exchange):
                self._download(client, f"{kind}_candles", symbol, window, clock_ms)
            # The payment at the very end belongs to the last bar.
            self._download(client, "funding", symbol, (window[0], window[1] + 1))
        for future in market.dated_futures():
            # The bar in which it is delivered is its last.
            last_ms = -(-future.expiry_ms // clock_ms) * clock_ms
            life = (window[0], min(window[1], last_ms))
            if life[0] < life[1]:
                self._download(client, "trade_candles", future.symbol, life, clock_ms)

    def _deliveries(self, client: ExchangeClient) -> None:
        """Pull what names the expired options and futures, where they are not listed."""
        market = self.market
        options = client is self.chain
        futures = client is self.perpetuals and bool(market.futures)
        name = "delivery_prices"
        # Of the others only options are asked for, and Binance delivers futures alone.
        wanted = futures if client.exchange_id.startswith("binance") else options
        if client.exchange_id == "deribit" or (client.exchange_id, name) not in FEEDS:
            return
        if wanted and name not in market.feeds:
            for asset in market.assets:
                self._download(client, name, asset, (market.start, market.end))

    def _index_sources(self, clock_ms: int) -> None:
        """Pull what a composite index reads, and its sources' own indices to set beside it."""
        market = self.market
        if market.index is None:
            return
        clients = {self.perpetuals.exchange_id: self.perpetuals}
        for asset in market.assets:
            for exchange, symbol in market.index.of(asset):
                own = (exchange, symbol) == (market.exchange, market.symbol(asset))
                if own or exchange not in EXCHANGES:  # what is not pulled from is imported
                    continue
                if exchange not in clients:
                    clients[exchange] = open_exchange(exchange, self.base_url,
                                                      sleep=self.store.rest)  # fmt: skip
                kinds = ["trade"]
                if symbol == perpetual_symbol(exchange, asset) and exchange != market.exchange:
                    kinds += [kind for kind in candle_kinds(exchange) if kind == "index"]
                for kind in kinds:
                    self._download(clients[exchange], f"{kind}_candles", symbol,
                                   (market.start, market.end), clock_ms)  # fmt: skip

    def _further(self, name: str) -> None:
        """Pull a feed that the tape does not need, from the first exchange that has it."""
        market = self.market
        clients = (self.perpetuals, self.chain)
        client = next(c for c in clients if c and (c.exchange_id, name) in FEEDS)
        feed = find_feed(client.exchange_id, name)
        targets = market.assets if feed.per_asset else tuple(
            market.symbol(asset) if client is self.perpetuals
            else perpetual_symbol(client.exchange_id, asset) for asset in market.assets
        )  # fmt: skip
        if feed.archived:
            client = open_exchange(client.exchange_id, self.base_url, archive=True)
        if feed.paging is Paging.NOW:
            now_ms = market.end if self.set_clock else time.time_ns() // 1_000_000
            if self.set_clock:
                self.set_clock(now_ms)
            self._once(client, name, ",".join(sorted(targets)),
                       partial(poll_brackets, self.store, client, targets, now_ms))  # fmt: skip
            return
        clock_ms = market.clock if isinstance(market.clock, int) else 3_600_000
        for target in targets:
            window = (market.start, market.end)
            self._download(client, name, target, window, feed.period(clock_ms))

    def _download(
        self, client: ExchangeClient, name: str, target: str, window: Window, period_ms: int = 0
    ) -> None:
        feed = find_feed(client.exchange_id, name)
        if sentence := self.down.get(client.exchange_id):
            self._given_up(client, name, target, window, "unanswered", sentence, period_ms)
            return
        report = download(self.store, client, feed, target, window, period_ms, self.advance)
        if any(one.reason == "unanswered" for one in report.shortfalls):
            self._probe(client)
        self._done(report)

    def _once(
        self, client: ExchangeClient, name: str, target: str, pull: Callable[[], PullReport]
    ) -> None:
        """Run what needs one answer, unless its exchange is down."""
        if sentence := self.down.get(client.exchange_id):
            self._given_up(client, name, target, None, "unanswered", sentence)
            return
        try:
            self._done(pull())
        except FeedError as error:
            reason = "refused" if isinstance(error, RefusedError) else "unanswered"
            if reason == "unanswered":
                self._probe(client)
            self._given_up(client, name, target, None, reason, str(error))

    def _probe(self, client: ExchangeClient) -> None:
        """Find out whether only one feed is silent, or the whole exchange."""
        try:
            client.now_ms()
        except FeedError as error:
            self.down[client.exchange_id] = str(error)

    def _given_up(
        self,
        client: ExchangeClient,
        name: str,
        target: str,
        window: Window | None,
        reason: str,
        sentence: str,
        period_ms: int = 0,
    ) -> None:
        now_ms = time.time_ns() // 1_000_000
        window = window or (now_ms, now_ms + 1)
        key = LedgerKey(client.exchange_id, target, name, period_ms)
        left = self.store.missing(key, window)
        found = tuple(Shortfall(*part, reason, sentence) for part in left)
        with self.store.transaction() as cursor:
            write_shortfalls(cursor, key, window, found, now_ms)
        self._done(PullReport(*key.names, 0, 0, 0, period_ms, shortfalls=found))

    def _done(self, report: PullReport) -> None:
        self.reports.append(report)
        if self.progress:
            self.progress(report)

    def _poll(self) -> None:
        """Take the snapshots that are due and not yet stored, each feed on its own schedule."""
        market, store = self.market, self.store
        due: dict[int, list[_Poll]] = {}
        now_ms = time.time_ns() // 1_000_000

        def plan(
            client: ExchangeClient,
            markets: tuple[str, ...],
            feed: str,
            every_ms: int,
            poll: Callable[[int], PullReport],
        ) -> None:
            instants = (
                range(market.start, market.end + 1, every_ms) if self.set_clock else (now_ms,)
            )
            keys = [LedgerKey(client.exchange_id, name, feed) for name in markets]
            for at_ms in instants:
                if any(store.missing(key, (at_ms, at_ms + 1)) for key in keys):
                    due.setdefault(at_ms, []).append((client, keys, poll))

        if self.chain and market.options:
            take_chain = partial(poll_chain, store, self.chain, market.assets)
            plan(self.chain, market.assets, "chain", market.options.poll, take_chain)
        if market.depth.recorded:
            for symbol in map(market.symbol, market.assets):
                take_book = partial(poll_depth, store, self.perpetuals, symbol)
                plan(self.perpetuals, (symbol,), "depth", market.depth.poll, take_book)
        totals: dict[LedgerKey, PullReport] = {}
        for at_ms, polls in sorted(due.items()):
            if self.set_clock:
                self.set_clock(at_ms)
            for client, keys, poll in polls:
                report = self._taken(client, keys, poll, at_ms)
                key = LedgerKey(report.exchange, report.market, report.feed)
                totals[key] = totals[key] + report if key in totals else report
                if self.advance and self.set_clock:
                    span = market.end - market.start
                    self.advance(Advance(*key.names, at_ms - market.start, span,
                                         totals[key].rows_read))  # fmt: skip
        if self.set_clock:
            self.set_clock(market.end)
        for total in totals.values():
            self._done(total)

    def _taken(
        self,
        client: ExchangeClient,
        keys: list[LedgerKey],
        poll: Callable[[int], PullReport],
        at_ms: int,
    ) -> PullReport:
        """Take one snapshot, unless its exchange is down."""

        def ask(at_ms: int) -> PullReport:
            if sentence := self.down.get(client.exchange_id):
                raise FeedError(sentence)
            return poll(at_ms)

        report = take_or_note(self.store, keys, ask, at_ms)
        silent = any(one.reason == "unanswered" for one in report.shortfalls)
        if silent and client.exchange_id not in self.down:
            self._probe(client)
        return report
