from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import ConfigError
from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator import (
    ExchangeSimulator,
    Fault,
    FaultPlan,
    FaultSchedule,
    MarketParameters,
)
from data_ingest.simulator.faults import BODY_FAULTS, FAULTS, FaultDesk
from data_ingest.simulator.throttle import RateLimit, TokenBucket
from tests.data_ingest.exchange_clients import client_of

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-02-10")
START, END = PARAMETERS.start, PARAMETERS.end
HOURS = {"symbol": "BTCUSDT", "interval": "1h", "startTime": START, "limit": 10}
ON_TIME = [START + n * MS_PER_HOUR for n in range(10)]


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(END)
    running.faults = FaultSchedule()
    yield running
    running.set_clock(END)
    running.faults = FaultSchedule()


@pytest.fixture
def binance(simulator: ExchangeSimulator) -> Any:
    client = client_of(simulator, "binanceusdm")
    client.load_markets()
    return client


def fail(simulator: ExchangeSimulator, *faults: Fault) -> None:
    simulator.faults = FaultSchedule(faults=faults)


def opens(rows: list[Any]) -> list[int]:
    return [int(row[0]) for row in rows]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("403", ccxt.ExchangeNotAvailable),
        ("404", ccxt.ExchangeNotAvailable),
        ("418", ccxt.DDoSProtection),
        ("429", ccxt.DDoSProtection),
        ("451", ccxt.ExchangeNotAvailable),
        ("500", ccxt.ExchangeNotAvailable),
        ("502", ccxt.ExchangeNotAvailable),
        ("503", ccxt.ExchangeNotAvailable),
        ("504", ccxt.RequestTimeout),
        ("truncated", ccxt.NetworkError),
        ("reset", ccxt.NetworkError),
    ],
)
def test_a_broken_request_reaches_ccxt_as_an_error(
    simulator: ExchangeSimulator, binance: Any, kind: Any, error: type[Exception]
) -> None:
    fail(simulator, Fault(kind=kind, times=1, retry_after_s=7))
    with pytest.raises(error):
        binance.fapiPublicGetKlines(HOURS)
    if kind in ("418", "429"):
        assert binance.last_response_headers["Retry-After"] == "7"
    assert opens(binance.fapiPublicGetKlines(HOURS)) == ON_TIME
    assert [(fault.request, fault.kind) for fault in simulator.fired] == [(1, kind)]


# A truncated body is shorter than it was announced, which ccxt does notice.
@pytest.mark.parametrize("kind", sorted(BODY_FAULTS - {"truncated"}))
def test_a_body_that_is_no_json_is_no_error_to_ccxt_but_leaves_no_answer(
    simulator: ExchangeSimulator, binance: Any, kind: Any
) -> None:
    fail(simulator, Fault(kind=kind, times=1))
    assert binance.fetch_ohlcv("BTC/USDT:USDT", "1h", START, 10) == []
    assert binance.last_json_response is None


def test_a_reset_is_one_and_not_a_farewell(simulator: ExchangeSimulator) -> None:
    fail(simulator, Fault(kind="reset", times=1))
    url = urlsplit(simulator.url)
    connection = HTTPConnection(str(url.hostname), url.port)
    connection.request("GET", "/fapi/v1/ping")
    with pytest.raises(ConnectionResetError):
        connection.getresponse()
    connection.close()
    connection.request("GET", "/fapi/v1/ping")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_hanging_request_runs_into_the_clients_time_out(
    simulator: ExchangeSimulator, binance: Any
) -> None:
    fail(simulator, Fault(kind="timeout", times=1, hang_s=5))
    binance.timeout = 300
    began = time.monotonic()
    with pytest.raises(ccxt.RequestTimeout):
        binance.fapiPublicGetKlines(HOURS)
    assert time.monotonic() - began < 4
    # Others are served meanwhile.
    assert opens(client_of(simulator, "binanceusdm").fapiPublicGetKlines(HOURS)) == ON_TIME


def test_a_simulator_that_stops_does_not_wait_for_hanging_requests() -> None:
    hanging = FaultSchedule(faults=(Fault(kind="timeout", hang_s=60),))
    with ExchangeSimulator(PARAMETERS, faults=hanging) as simulator:
        client = client_of(simulator, "binanceusdm", timeout=200)
        with pytest.raises(ccxt.RequestTimeout):
            client.fapiPublicGetPing()
        began = time.monotonic()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("reversed_page", ON_TIME[::-1]),
        ("duplicated_rows", sorted(ON_TIME * 2)),
        ("missing_rows", ON_TIME[:3] + ON_TIME[6:]),
        ("missing_row", ON_TIME[:5] + ON_TIME[6:]),
        ("other_end", ON_TIME[5:]),
    ],
)
def test_a_spoiled_page_says_nothing_of_it(
    simulator: ExchangeSimulator, binance: Any, kind: Any, expected: list[int]
) -> None:
    fail(simulator, Fault(kind=kind, times=1))
    assert opens(binance.fapiPublicGetKlines(HOURS)) == expected
    assert opens(binance.fapiPublicGetKlines(HOURS)) == ON_TIME


@pytest.mark.parametrize("kind", ["repeated_page", "stuck_cursor"])
def test_a_page_comes_again_though_the_window_moved_on(
    simulator: ExchangeSimulator, binance: Any, kind: Any
) -> None:
    fail(simulator, Fault(kind=kind, first=2, times=1))
    later = {**HOURS, "startTime": START + 10 * MS_PER_HOUR}
    pages = [opens(binance.fapiPublicGetKlines(asked)) for asked in (HOURS, later, later)]
    assert pages[0] == pages[1] == ON_TIME
    assert pages[2][0] == START + 10 * MS_PER_HOUR


def test_a_repeated_page_is_of_the_same_list(simulator: ExchangeSimulator, binance: Any) -> None:
    ether = {**HOURS, "symbol": "ETHUSDT"}
    fail(simulator, Fault(kind="repeated_page", first=3))
    before = [binance.fapiPublicGetKlines(asked) for asked in (HOURS, ether)]
    later = START + 30 * MS_PER_HOUR
    again = [binance.fapiPublicGetKlines({**asked, "startTime": later}) for asked in (HOURS, ether)]
    assert again == before


def test_a_page_of_any_shape_can_lose_its_middle(simulator: ExchangeSimulator) -> None:
    deribit, okx = client_of(simulator, "deribit"), client_of(simulator, "okx")
    bybit, hyperliquid = client_of(simulator, "bybit"), client_of(simulator, "hyperliquid")
    until = START + 30 * MS_PER_HOUR - 1
    window = {"start_timestamp": START, "end_timestamp": until}
    chart = {"instrument_name": "BTC-PERPETUAL", "resolution": "60", **window}
    trades = {"currency": "BTC", "kind": "option", "count": 30, **window}
    swap = {"instId": "BTC-USDT-SWAP", "bar": "1H", "limit": 30}
    line = {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "limit": 30}
    snapshot = {"coin": "BTC", "interval": "1h", "startTime": START, "endTime": until}

    def sizes() -> list[int]:
        bars = deribit.publicGetGetTradingviewChartData(chart)["result"]
        assert len(bars["ticks"]) == len(bars["close"]) == len(bars["volume"])
        prints = deribit.publicGetGetLastTradesByCurrencyAndTime(trades)["result"]["trades"]
        return [
            len(bars["ticks"]),
            len(prints),
            len(okx.publicGetMarketHistoryCandles(swap)["data"]),
            len(bybit.publicGetV5MarketKline(line)["result"]["list"]),
            len(hyperliquid.publicPostInfo({"type": "candleSnapshot", "req": snapshot})),
        ]

    assert sizes() == [30] * 5
    fail(simulator, Fault(kind="missing_rows"))
    assert sizes() == [20] * 5


def test_trades_cut_at_the_other_end_are_the_newest_in_the_order_asked_for(
    simulator: ExchangeSimulator,
) -> None:
    deribit = client_of(simulator, "deribit")
    asked = {"currency": "BTC", "kind": "option", "start_timestamp": START, "count": 50}

    def page(sorting: str) -> list[dict[str, Any]]:
        answer = deribit.publicGetGetLastTradesByCurrencyAndTime(
            {**asked, "end_timestamp": END, "sorting": sorting}
        )
        rows: list[dict[str, Any]] = answer["result"]["trades"]
        return rows

    oldest, newest = page("asc"), page("desc")
    fail(simulator, Fault(kind="other_end"))
    assert (page("asc"), page("desc")) == (newest[::-1], oldest[::-1])
    assert newest[::-1] != oldest


def test_a_cursor_that_is_stuck_leads_back_to_its_own_page(
    simulator: ExchangeSimulator,
) -> None:
    bybit, deribit = client_of(simulator, "bybit"), client_of(simulator, "deribit")
    asked = {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1h", "limit": 50}
    dvol = {"currency": "BTC", "resolution": "3600", "start_timestamp": 0, "end_timestamp": END}
    fail(simulator, Fault(kind="stuck_cursor"))
    first = bybit.publicGetV5MarketOpenInterest(asked)["result"]
    again = bybit.publicGetV5MarketOpenInterest({**asked, "cursor": first["nextPageCursor"]})
    assert again["result"] == first
    page = deribit.publicGetGetVolatilityIndexData({**dvol, "start_timestamp": START})["result"]
    # Forty days are 960 hours, one page: there is no cursor, and none is made up.
    assert page["continuation"] is None
    events = {"currency": "BTC", "count": 5}
    page = deribit.publicGetGetLastSettlementsByCurrency(events)["result"]
    stuck = deribit.publicGetGetLastSettlementsByCurrency(
        {**events, "continuation": page["continuation"]}
    )["result"]
    assert stuck == page


@pytest.mark.parametrize("exchange", ["binanceusdm", "deribit", "okx", "bybit"])
def test_a_skewed_clock_shows_in_what_the_exchange_says_of_the_time(
    simulator: ExchangeSimulator, exchange: str
) -> None:
    client = client_of(simulator, exchange)
    assert client.fetch_time() == END
    fail(simulator, Fault(kind="clock_skew", skew_ms=-90_000, times=1))
    assert client.fetch_time() == END - 90_000
    dated = parsedate_to_datetime(client.last_response_headers["Date"])
    assert dated == datetime.fromtimestamp((END - 90_000) / 1_000, tz=UTC)
    assert client.fetch_time() == END


def test_a_fault_is_for_its_paths_and_its_time_only(simulator: ExchangeSimulator) -> None:
    fail(
        simulator,
        Fault(kind="502", path="*/klines", since=START + MS_PER_DAY, until=START + 2 * MS_PER_DAY),
        Fault(kind="500", path="/info/fundingHistory"),
    )
    binance, hyperliquid = client_of(simulator, "binanceusdm"), client_of(simulator, "hyperliquid")
    for day, fails in ((0, False), (1, True), (2, False)):
        simulator.set_clock(START + day * MS_PER_DAY)
        assert binance.fapiPublicGetTime()
        if fails:
            with pytest.raises(ccxt.ExchangeNotAvailable, match="502"):
                binance.fapiPublicGetKlines(HOURS)
        else:
            binance.fapiPublicGetKlines(HOURS)
    assert hyperliquid.publicPostInfo({"type": "allMids"})
    with pytest.raises(ccxt.ExchangeNotAvailable, match="500"):
        hyperliquid.publicPostInfo({"type": "fundingHistory", "coin": "BTC", "startTime": START})
    assert [fault.path for fault in simulator.fired] == ["/fapi/v1/klines", "/info/fundingHistory"]


@given(
    first=st.integers(1, 6),
    every=st.integers(1, 5),
    times=st.none() | st.integers(0, 4),
    requests=st.integers(0, 40),
)
def test_a_fault_hits_the_requests_that_it_says(
    first: int, every: int, times: int | None, requests: int
) -> None:
    fault = Fault(kind="500", first=first, every=every, times=times)
    desk = FaultDesk(FaultSchedule(faults=(fault,)))
    hit = [number for number in range(1, requests + 1) if desk.next("/x", 0)]
    due = list(range(first, requests + 1, every))
    assert hit == (due if times is None else due[:times])
    assert [fired.request for fired in desk.fired] == hit


@given(every=st.integers(1, 4), kinds=st.lists(st.sampled_from(["500", "502", "html"]), min_size=1,
       max_size=4), limit=st.none() | st.integers(0, 9))  # fmt: skip
def test_a_plan_takes_its_kinds_in_turn(every: int, kinds: list[Any], limit: int | None) -> None:
    desk = FaultDesk(FaultPlan(every=every, kinds=tuple(kinds), limit=limit).schedule)
    for _request in range(60):
        desk.next("/x", 0)
    failures = 60 // every if limit is None else min(limit, 60 // every)
    assert [fault.request for fault in desk.fired] == [every * (n + 1) for n in range(failures)]
    assert [fault.kind for fault in desk.fired] == [kinds[n % len(kinds)] for n in range(failures)]


def post(simulator: ExchangeSimulator, body: bytes) -> dict[str, Any]:
    request = urllib.request.Request(f"{simulator.url}/simulator/faults", data=body)
    with urllib.request.urlopen(request) as answer:
        return dict(json.loads(answer.read()))


def test_faults_can_be_posted_and_told(simulator: ExchangeSimulator, binance: Any) -> None:
    told = post(simulator, b'{"faults": [{"kind": 503, "path": "*/ping", "times": 1}]}')
    assert told["faults"][0]["kind"] == "503"
    with pytest.raises(ccxt.ExchangeNotAvailable):
        binance.fapiPublicGetPing()
    with urllib.request.urlopen(f"{simulator.url}/simulator/faults") as answer:
        fired = json.loads(answer.read())["fired"]
    assert fired == [{"request": 1, "path": "/fapi/v1/ping", "kind": "503"}]
    assert post(simulator, b'{"faults": []}')["fired"] == []
    for wrong in (b'{"faults": [{"kind": "506"}]}', b"[]", b"x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(simulator, wrong)
        assert refused.value.code == 400
        refused.value.close()


def test_a_schedule_is_read_from_yaml_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(
        "faults:\n  - {kind: 429, retry_after_s: 3}\n  - {kind: html, since: 2024-01-03}\n"
    )
    schedule = FaultSchedule.from_yaml(path)
    assert [fault.kind for fault in schedule.faults] == ["429", "html"]
    assert schedule.faults[1].since == START + 2 * MS_PER_DAY
    for text, said in (
        ("faults: [{kind: htlm}]", "htlm"),
        ("faults: [{kind: html, evry: 2}]", "evry"),
        ("- html", "mapping"),
        ("faults: [", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said) as refused:
            FaultSchedule.from_yaml(path)
        assert str(path) in str(refused.value)
    with pytest.raises(ConfigError, match="nowhere"):
        FaultSchedule.from_yaml(tmp_path / "nowhere.yaml")


def test_every_kind_has_a_test_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{kind}"' in source for kind in FAULTS if kind not in BODY_FAULTS)


def hurry(ask: Any, client: Any) -> None:
    for _request in range(700):
        ask(client)


@pytest.mark.parametrize(
    ("exchange", "ask", "error"),
    [
        ("deribit", lambda c: c.publicGetTicker({"instrument_name": "BTC-PERPETUAL"}), "10028"),
        ("binanceusdm", lambda c: c.fapiPublicGetDepth({"symbol": "BTCUSDT"}), "-1003"),
        ("binancecoinm", lambda c: c.dapiPublicGetDepth({"symbol": "BTCUSD_PERP"}), "-1003"),
        (
            "okx",
            lambda c: c.publicGetMarketTrades({"instId": "BTC-USDT-SWAP", "limit": 1}),
            "50011",
        ),
        ("bybit", lambda c: c.publicGetV5MarketTime(), "10006"),
        ("hyperliquid", lambda c: c.publicPostInfo({"type": "meta"}), "429"),
    ],
)
def test_whoever_asks_too_fast_is_refused_as_the_exchange_does(
    exchange: str, ask: Any, error: str
) -> None:
    with ExchangeSimulator(PARAMETERS, rate_limits=True) as simulator:
        # Time stands still, or a slow machine would never be too fast.
        began = time.monotonic()
        for buckets in simulator.buckets.values():
            for bucket in buckets:
                bucket.clock = lambda: began
        client = client_of(simulator, exchange)
        with pytest.raises((ccxt.RateLimitExceeded, ccxt.DDoSProtection), match=error):
            hurry(ask, client)
        if exchange.startswith("binance"):
            assert int(client.last_response_headers["Retry-After"]) >= 1


@given(waits=st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_a_bucket_never_lets_more_through_than_its_pool_and_its_refill(waits: list[float]) -> None:
    now = [0.0]
    limit = RateLimit(pool=5, refill_per_s=2, costs=(("dear*", 3),))
    bucket = TokenBucket(limit, clock=lambda: now[0])
    spent = 0.0
    for number, wait in enumerate(waits):
        now[0] += wait
        path = "dear/x" if number % 3 == 0 else "cheap"
        refused = bucket.take(path)
        spent += 0 if refused else limit.cost_of(path)
        assert spent <= 5 + 2 * now[0] + 1e-9
        if refused:
            assert 0 < refused <= limit.cost_of(path) / 2 + 1e-9
