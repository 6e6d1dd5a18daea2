"""Three histories of which ccxt's own pagination loses rows without an error, and ours does not.

The exchanges' answers are made up here, by their documented rules, under the real ccxt clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.clients import ExchangeClient, open_exchange
from data_ingest.downloader import download
from data_ingest.feed_table import FEEDS
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from data_ingest.store import DataStore

MINUTE_MS = 60_000
START = 1_704_067_200_000
PARAMETERS = MarketParameters(start="2024-01-01", end="2024-02-01")
LINEAR, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"

Query = dict[str, str]


@pytest.fixture(scope="module")
def simulator() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DataStore]:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def client_with(
    simulator: ExchangeSimulator, exchange: str, path: str, answer: Callable[[Query], Any]
) -> ExchangeClient:
    """Return a real client of which one path is answered here, and every other by the simulator."""
    client = open_exchange(exchange, simulator.url)
    client.sleep = lambda _: None
    client.ccxt.enableRateLimit = False
    client.load_markets()
    original = client.ccxt.fetch

    def fetch(url: str, *arguments: Any, **named: Any) -> Any:
        parts = urlsplit(url)
        if not parts.path.endswith(path):
            return original(url, *arguments, **named)
        client.ccxt.last_json_response = answer(dict(parse_qsl(parts.query)))
        return client.ccxt.last_json_response

    client.ccxt.fetch = fetch
    client.ccxt.fetch_time = lambda: _told(client, START + 500 * MS_PER_DAY)
    return client


def _told(client: ExchangeClient, now_ms: int) -> int:
    client.ccxt.last_json_response = {"time": now_ms}
    return now_ms


def minute_bars(query: Query) -> Any:
    """Answer as Deribit does: of more than 5,001 bars the newest, and no word of the rest."""
    first = -(-int(query["start_timestamp"]) // MINUTE_MS) * MINUTE_MS
    ticks = list(range(first, int(query["end_timestamp"]) + 1, MINUTE_MS))[-5001:]
    ones = [1.0] * len(ticks)
    names = ("open", "high", "low", "close", "volume", "cost")
    return {"result": {"ticks": ticks, "status": "ok", **dict.fromkeys(names, ones)}}


def test_twenty_days_of_deribit_minutes(simulator: ExchangeSimulator, store: DataStore) -> None:
    window = (START, START + 20 * MS_PER_DAY)
    client = client_with(simulator, "deribit", "get_tradingview_chart_data", minute_bars)
    paged = client.ccxt.fetch_ohlcv(
        INVERSE, "1m", window[0], None, {"paginate": True, "until": window[1]}
    )
    assert len(paged) < 28_800 / 5, "ccxt's pagination has become whole"
    report = download(store, client, FEEDS["deribit", "trade_candles"], INVERSE, window, MINUTE_MS)
    assert (report.stored, report.expected, report.shortfalls) == (28_800, 28_800, ())


def test_a_start_without_an_end(simulator: ExchangeSimulator, store: DataStore) -> None:
    """Then ccxt's pagination begins ten pages before now, and what was asked for lies before."""
    window = (PARAMETERS.start, PARAMETERS.end)
    client = open_exchange("binanceusdm", simulator.url)
    client.ccxt.enableRateLimit = False
    assert client.ccxt.fetch_ohlcv(LINEAR, "1h", window[0], None, {"paginate": True}) == []
    report = download(
        store, client, FEEDS["binanceusdm", "trade_candles"], LINEAR, window, MS_PER_HOUR
    )
    assert (report.stored, report.shortfalls) == (31 * 24, ())


PAYMENTS = list(range(START, START + 390 * MS_PER_DAY + 1, 4 * MS_PER_HOUR))


def four_hourly(query: Query) -> Any:
    """Answer as Binance does: from the start on, at most a thousand, a few milliseconds late."""
    start, end = int(query.get("startTime", 0)), int(query.get("endTime", 2**62))
    rows = [
        {"symbol": "BTCUSDT", "fundingTime": at + 3, "fundingRate": "0.0001", "markPrice": "1"}
        for at in PAYMENTS
        if start <= at + 3 <= end
    ]
    return rows[: int(query.get("limit", 100))]


def test_a_year_of_four_hourly_funding(simulator: ExchangeSimulator, store: DataStore) -> None:
    window = (START, PAYMENTS[-1] + 1)
    client = client_with(simulator, "binanceusdm", "fundingRate", four_hourly)
    paged = client.ccxt.fetch_funding_rate_history(
        LINEAR, window[0], 1000, {"paginate": True, "until": window[1] + 1000}
    )
    assert len(paged) < len(PAYMENTS), "ccxt's pagination has become whole"
    report = download(store, client, FEEDS["binanceusdm", "funding"], LINEAR, window)
    assert (report.stored, report.expected, report.shortfalls) == (len(PAYMENTS),) * 2 + ((),)
    assert len(PAYMENTS) == 2341
    intervals = store.rows("SELECT DISTINCT interval_ms FROM funding")
    assert intervals == [(4 * MS_PER_HOUR,)]


def test_one_payment_missing_among_four_hourly_ones_is_found_by_their_spacing(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    """Eight hours is an interval that exists, but not between payments four hours apart."""
    lost = PAYMENTS[1234]
    window = (START, PAYMENTS[-1] + 1)
    client = client_with(
        simulator, "binanceusdm", "fundingRate",
        lambda query: [row for row in four_hourly(query) if row["fundingTime"] != lost + 3],
    )  # fmt: skip
    feed = FEEDS["binanceusdm", "funding"]
    report = download(store, client, feed, LINEAR, window)
    hole = (lost, lost + 4 * MS_PER_HOUR)
    assert [(one.window, one.reason) for one in report.shortfalls] == [(hole, "not served")]
    assert (report.stored, report.expected) == (2340, 2341)
    assert store.rows("SELECT DISTINCT interval_ms FROM funding") == [(4 * MS_PER_HOUR,)]
    healed = client_with(simulator, "binanceusdm", "fundingRate", four_hourly)
    assert download(store, healed, feed, LINEAR, window).stored == 2341


def newest_hundred(query: Query) -> Any:
    """Answer as OKX does: newest first, at most a hundred, both bounds exclusive."""
    before, after = int(query.get("before", 0)), int(query.get("after", 2**62))
    rows = [
        {"fundingTime": str(at), "fundingRate": "0.0001", "realizedRate": "0.0001",
         "instId": "BTC-USDT-SWAP", "instType": "SWAP"}
        for at in PAYMENTS[::2]
        if before < at < after
    ]  # fmt: skip
    return {"code": "0", "msg": "", "data": rows[::-1][:100]}


def test_okx_funding_from_a_start_on(simulator: ExchangeSimulator, store: DataStore) -> None:
    """Of what follows a start OKX gives the newest, so ccxt passes over the rows asked for."""
    start = PAYMENTS[-1] - 60 * MS_PER_DAY
    client = client_with(simulator, "okx", "funding-rate-history", newest_hundred)
    client.ccxt.fetch_time = lambda: _told(client, PAYMENTS[-1] + MS_PER_HOUR)
    given = client.ccxt.fetch_funding_rate_history(LINEAR, start, 100)
    assert given[0]["timestamp"] > start + 20 * MS_PER_DAY
    report = download(store, client, FEEDS["okx", "funding"], LINEAR, (start, PAYMENTS[-1] + 1))
    assert (report.stored, report.shortfalls) == (181, ())
