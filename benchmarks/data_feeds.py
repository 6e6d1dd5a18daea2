"""Rows per second of every feed: what ``download`` stores, a bare ccxt loop, the server alone."""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from backtest.units import MS_PER_DAY
from benchmarks.exchange import PARAMETERS, hurried_client, running_exchange
from data_ingest.downloader import download
from data_ingest.feed import Feed, Paging
from data_ingest.feed_table import FEEDS, MINUTE_MS
from data_ingest.schema import OPTION_TRADES
from data_ingest.store import DataStore
from data_ingest.symbols import perpetual_symbol

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.clients import ExchangeClient

CANDLE_MS = 5 * MINUTE_MS
"""The simulator's own step: the finest bars that it has."""

LONGEST_MS = PARAMETERS.end - PARAMETERS.start
TRADE_MS = MS_PER_DAY // 400
"""About how often the simulator's options of one asset trade."""


@dataclass(frozen=True)
class FeedRate:
    """Rows per second of one feed, medians over the rounds.

    Parameters
    ----------
    exchange, feed : str
        Which feed.
    rows : int
        Rows that ``download`` stored each time.
    ours : float
        Asked, judged, stored with keys, ledger and provenance, one transaction a page.
    loop : float
        A loop over ccxt that puts rows into a list: its unified method for candles and funding,
        else the raw calls that ``download`` made.
    server : float
        The requests that ``download`` made, sent again on one connection, answers thrown away.
    """

    exchange: str
    feed: str
    rows: int
    ours: float
    loop: float
    server: float


@dataclass
class _Question:
    """One feed, its window, and what ``download`` sends for it."""

    client: ExchangeClient
    feed: Feed
    target: str
    period_ms: int
    window: tuple[int, int]
    calls: list[tuple[str, dict[str, Any]]]
    requests: list[tuple[str, str, dict[str, str], str | None]]


def feed_rates(pages: int, rounds: int) -> list[FeedRate]:
    """Measure every feed that has a history and needs no key.

    Parameters
    ----------
    pages : int
        About how many pages each feed's window has.
    rounds : int
        How often the three take turns.
    """
    with running_exchange() as url:
        clients = {exchange: hurried_client(exchange, url) for exchange, _ in FEEDS}
        return [
            _rate(clients[feed.exchange], feed, pages, rounds)
            for feed in FEEDS.values()
            if feed.paging is not Paging.NOW and not feed.signed
        ]


def _rate(client: ExchangeClient, feed: Feed, pages: int, rounds: int) -> FeedRate:
    question = _question(client, feed, pages)
    rows = _recorded(question)
    rates: dict[Callable[[_Question], int], list[float]] = {_ours: [], _loop: [], _server: []}
    for _ in range(rounds):
        for run, found in rates.items():
            begin = time.perf_counter()
            count = run(question)
            # The server's answers are those of ours, so they hold as many rows.
            found.append((count or rows) / (time.perf_counter() - begin))
    ours, loop, server = map(statistics.median, rates.values())
    return FeedRate(feed.exchange, feed.name, rows, ours, loop, server)


def _question(client: ExchangeClient, feed: Feed, pages: int) -> _Question:
    period_ms = 0
    if feed.periods:
        period_ms = min(period for period in feed.periods if period >= CANDLE_MS)
    row_ms = feed.step(period_ms) or (TRADE_MS if feed.table is OPTION_TRADES else MS_PER_DAY)
    span_ms = min(LONGEST_MS, pages * feed.page_limit * row_ms)
    target = "BTC" if feed.per_asset else perpetual_symbol(feed.exchange, "BTC")
    window = (PARAMETERS.end - span_ms, PARAMETERS.end)
    return _Question(client, feed, target, period_ms, window, [], [])


def _recorded(question: _Question) -> int:
    """Pull once, and keep what was asked of the exchange: ccxt's calls, and their requests."""
    client = question.client
    fetch, call = client.ccxt.fetch, client.call

    def fetch_and_keep(url: str, method: str, headers: Any, body: str | None) -> Any:
        question.requests.append((method, url, dict(headers or {}), body))
        return fetch(url, method, headers, body)

    def call_and_keep(method: str, *arguments: Any, **named: Any) -> Any:
        if arguments and isinstance(arguments[0], dict):
            question.calls.append((method, arguments[0]))
        return call(method, *arguments, **named)

    client.ccxt.fetch, client.call = fetch_and_keep, call_and_keep  # type: ignore[method-assign]
    try:
        return _ours(question)
    finally:
        del client.ccxt.fetch, client.call


def _ours(question: _Question) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        DataStore(Path(folder) / "market.duckdb") as store,
    ):
        report = download(store, question.client, question.feed, question.target,
                          question.window, question.period_ms)  # fmt: skip
        return report.stored


def _loop(question: _Question) -> int:
    """Do what a script does that has only ccxt, and stores nothing."""
    ccxt, feed = question.client.ccxt, question.feed
    if feed.kind:
        price = {} if feed.kind == "trade" else {"price": feed.kind}
        words = {ms: word for word, ms in _timeframes(ccxt).items()}
        return _walk(
            question,
            lambda since: [
                row[0]
                for row in ccxt.fetch_ohlcv(
                    question.target, words[question.period_ms], since, feed.page_limit, price
                )
            ],
        )
    if feed.name == "funding":
        return _walk(
            question,
            lambda since: [
                row["timestamp"]
                for row in ccxt.fetch_funding_rate_history(question.target, since, feed.page_limit)
            ],
        )
    kept: list[Any] = []
    for method, params in question.calls:
        kept.append(getattr(ccxt, method)(params))
    return 0


def _walk(question: _Question, page: Callable[[int], list[int]]) -> int:
    """Ask for page after page, each from the last row of the page before."""
    since, end = question.window
    times: list[int] = []
    while since < end and (found := page(since)) and found[-1] >= since:
        times += found
        since = found[-1] + 1
    return len(times)


def _timeframes(ccxt: Any) -> dict[str, int]:
    return {word: ccxt.parse_timeframe(word) * 1_000 for word in ccxt.timeframes}


def _server(question: _Question) -> int:
    """Send the recorded requests on one connection and throw the answers away."""
    connection: http.client.HTTPConnection | None = None
    for method, url, headers, body in question.requests:
        address = urlsplit(url)
        if connection is None:
            connection = http.client.HTTPConnection(address.netloc)
        path = f"{address.path}?{address.query}" if address.query else address.path
        connection.request(method, path, body, headers)
        connection.getresponse().read()
    if connection is not None:
        connection.close()
    return 0
