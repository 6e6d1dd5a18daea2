from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backtest.errors import ConfigError, DataError
from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.clients import ExchangeClient, FeedError, ccxt_client, open_exchange
from data_ingest.coverage import LedgerKey, Window
from data_ingest.downloader import download
from data_ingest.feed_table import find_feed
from data_ingest.polls import poll_chain, poll_depth, pull_instruments
from data_ingest.pull_report import PullReport
from data_ingest.simulator import (
    ExchangeSimulator,
    FaultPlan,
    MarketParameters,
)
from data_ingest.store import DataStore
from tests.data_ingest.option_names import parse_option_name
from tests.data_ingest.samples import BTC

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-03-11")
START = PARAMETERS.start + 5 * MS_PER_DAY
WEEK = (START, START + 7 * MS_PER_DAY)
INVERSE = "BTC/USD:BTC"
KLINES = "fapipublic_get_klines"


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(PARAMETERS.end)
    yield running
    running.set_clock(PARAMETERS.end)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DataStore]:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def client_of(simulator: ExchangeSimulator, exchange: str, **patience: Any) -> ExchangeClient:
    client = open_exchange(exchange, simulator.url)
    client.sleep = lambda _: None
    for name, value in patience.items():
        setattr(client, name, value)
    return client


def pull_candles(
    store: DataStore,
    client: ExchangeClient,
    symbol: str,
    kind: str,
    timeframe_ms: int,
    window: Window,
) -> PullReport:
    feed = find_feed(client.exchange_id, f"{kind}_candles")
    return download(store, client, feed, symbol, window, timeframe_ms)


def pull_funding(
    store: DataStore, client: ExchangeClient, symbol: str, window: Window
) -> PullReport:
    return download(store, client, find_feed(client.exchange_id, "funding"), symbol, window)


def pull_option_trades(
    store: DataStore, client: ExchangeClient, asset: str, window: Window
) -> PullReport:
    return download(store, client, find_feed(client.exchange_id, "option_trades"), asset, window)


def table(store: DataStore, name: str) -> list[tuple[Any, ...]]:
    return store.rows(f"SELECT * EXCLUDE (batch_id) FROM {name} ORDER BY ALL")


def test_an_unknown_exchange_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'deribit'"):
        ccxt_client("deribt")


def test_a_client_of_another_host_keeps_its_limiter_and_every_path(
    simulator: ExchangeSimulator,
) -> None:
    client = ccxt_client("binanceusdm", simulator.url)
    assert client.enableRateLimit
    assert client.urls["api"]["fapiPublic"] == f"{simulator.url}/fapi/v1"
    assert all(url.startswith(simulator.url) for url in client.urls["api"].values())


@pytest.mark.parametrize("kind", ["trade", "mark", "index"])
def test_candles_are_the_markets_own_and_complete(
    simulator: ExchangeSimulator, store: DataStore, kind: str
) -> None:
    report = pull_candles(store, client_of(simulator, "binanceusdm"), BTC, kind, MS_PER_HOUR, WEEK)
    assert (report.rows_read, report.gaps) == (7 * 24, ())
    opens = store.columns("SELECT open_ms FROM candles ORDER BY 1")["open_ms"]
    assert opens[0] == WEEK[0]
    assert set(np.diff(opens)) == {MS_PER_HOUR}
    volumes = store.rows("SELECT count(volume_usd), min(volume_usd / volume_base / close) "
                         "FROM candles")[0]  # fmt: skip
    if kind == "trade":
        assert volumes[0] == 7 * 24
        assert volumes[1] == pytest.approx(1, abs=0.2)
    else:
        assert volumes == (0, None)


def test_a_long_window_is_paged_without_loss(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    window = (START, START + 10 * MS_PER_DAY)
    client = client_of(simulator, "binanceusdm")
    pages = []
    original = client.call

    def counting(method: str, *arguments: Any, **named: Any) -> Any:
        pages.append(method)
        return original(method, *arguments, **named)

    client.call = counting  # type: ignore[method-assign]
    report = pull_candles(store, client, BTC, "trade", 300_000, window)
    assert report.rows_added == 10 * 288
    assert pages.count(KLINES) == 3
    assert pull_candles(store, client, BTC, "trade", 300_000, window).rows_read == 0
    assert pages.count(KLINES) == 3


def test_deribit_turnover_is_in_dollars(simulator: ExchangeSimulator, store: DataStore) -> None:
    pull_candles(store, client_of(simulator, "deribit"), INVERSE, "trade", MS_PER_HOUR, WEEK)
    ratio = store.columns("SELECT volume_usd / volume_base / close AS r FROM candles")["r"]
    assert np.all(np.abs(ratio - 1) < 0.2)


def test_deribit_has_no_mark_candles_and_says_so(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    client = client_of(simulator, "deribit")
    with pytest.raises(DataError, match="deribit has no mark candles"):
        pull_candles(store, client, INVERSE, "mark", MS_PER_HOUR, WEEK)


def test_deribit_funding_is_the_hourly_accrual(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    client = client_of(simulator, "deribit")
    pull_funding(store, client, INVERSE, WEEK)
    rates = store.columns("SELECT rate FROM funding ORDER BY ts_ms")["rate"]
    raw = client.ccxt.fetch_funding_rate_history(INVERSE, WEEK[0], 1000, {"until": WEEK[1] - 1})
    assert rates.tolist() == [row["info"]["interest_1h"] for row in raw]
    assert rates.tolist() != [row["fundingRate"] for row in raw]


def test_binance_funding_loses_its_jitter_and_no_payment(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    window = (WEEK[0], WEEK[1] + 1)
    report = pull_funding(store, client_of(simulator, "binanceusdm"), BTC, window)
    times = store.columns("SELECT ts_ms FROM funding ORDER BY 1")["ts_ms"]
    assert times.tolist() == list(range(WEEK[0], WEEK[1] + 1, 8 * MS_PER_HOUR))
    assert report.gaps == ()


def test_option_trades_are_all_there_once_with_iv_as_a_fraction(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    window = (START, START + 2 * MS_PER_DAY)
    client = client_of(simulator, "deribit")
    pull_option_trades(store, client, "BTC", window)
    served = client.ccxt.public_get_get_last_trades_by_currency_and_time(
        {"currency": "BTC", "kind": "option", "start_timestamp": window[0],
         "end_timestamp": window[1] - 1, "count": 1000, "sorting": "asc"}
    )["result"]  # fmt: skip
    stored = table(store, "option_trades")
    assert {row[1] for row in stored} >= {str(t["trade_id"]) for t in served["trades"]}
    ((low, high, first, last),) = store.rows(
        "SELECT min(iv), max(iv), min(ts_ms), max(ts_ms) FROM option_trades"
    )
    assert 0 < low < high < 5
    assert window[0] <= first < last < window[1]


class _TradeTape:
    """A stand-in for Deribit's archive in which many trades share a millisecond."""

    id = "deribit"
    last_json_response: Any = None
    last_response_headers = None

    def fetch_time(self) -> int:
        self.last_json_response = {"result": PARAMETERS.end}
        return PARAMETERS.end

    def __init__(self, times: list[int], page: int) -> None:
        self.trades = [
            {"trade_id": i, "instrument_name": "BTC-2JAN22-48000-C", "timestamp": at,
             "price": 0.01, "iv": 60.0, "index_price": 48_000.0, "amount": 1.0,
             "direction": "buy"}
            for i, at in enumerate(times)
        ]  # fmt: skip
        self.page = page

    def public_get_get_last_trades_by_currency_and_time(self, query: dict[str, Any]) -> Any:
        found = [
            trade for trade in self.trades
            if query["start_timestamp"] <= trade["timestamp"] <= query["end_timestamp"]
        ]  # fmt: skip
        page = found[: self.page]
        self.last_json_response = {"result": {"trades": page, "has_more": len(found) > len(page)}}
        return self.last_json_response


def test_trades_that_share_a_millisecond_across_a_page_are_not_lost(store: DataStore) -> None:
    times = [START + i // 3 for i in range(30)]
    client = ExchangeClient(_TradeTape(times, page=4), "archive", sleep=lambda _: None)
    pull_option_trades(store, client, "BTC", (START, START + MS_PER_DAY))
    assert store.rows("SELECT count(*) FROM option_trades") == [(30,)]


def test_a_page_within_one_millisecond_is_refused_rather_than_cut(store: DataStore) -> None:
    client = ExchangeClient(_TradeTape([START] * 30, page=4), "archive", sleep=lambda _: None)
    report = pull_option_trades(store, client, "BTC", (START, START + MS_PER_DAY))
    assert [one.reason for one in report.shortfalls] == ["not trusted"]
    assert f"the rows after millisecond {START} do not advance" in report.failure
    assert store.covered(LedgerKey("deribit", "BTC", "option_trades")) == []


def test_instruments_hold_expired_options_with_their_terms(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    client = client_of(simulator, "deribit")
    pull_instruments(store, client, ["BTC", "ETH"])
    options = store.rows(
        "SELECT native_id, strike, is_call, expiry_ms, settlement, contract_size "
        "FROM instruments WHERE kind = 'option'"
    )
    assert any(expiry < PARAMETERS.end for *_, expiry, _, _ in options)
    assert any(expiry > PARAMETERS.end for *_, expiry, _, _ in options)
    for name, strike, is_call, expiry_ms, settlement, size in options:
        terms = parse_option_name(name)
        assert (terms.strike, terms.is_call, terms.expiry_ms) == (strike, is_call, expiry_ms)
        assert (settlement, size) == ("inverse", 1.0)
    assert store.rows(
        "SELECT settlement, contract_size FROM instruments WHERE symbol = ?", [INVERSE]
    ) == [("inverse", 10.0)]


def test_a_polled_chain_shows_only_its_own_instant(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    client = client_of(simulator, "deribit")
    simulator.set_clock(START)
    poll_chain(store, client, ("BTC", "ETH"), START)
    stored = table(store, "chain")
    names = {row[1] for row in stored}
    assert {name.split("-")[0] for name in names} == {"BTC", "ETH"}
    assert all(parse_option_name(name).expiry_ms > START for name in names)
    ((iv, index, forward),) = store.rows(
        "SELECT median(mark_iv), median(index_price), median(forward_price) FROM chain "
        "WHERE native_id LIKE 'BTC-%'"
    )
    assert 0.1 < iv < 3
    assert abs(forward / index - 1) < 0.1


def test_polled_depth_is_what_the_simulated_market_holds(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    for exchange, symbol in (("binanceusdm", BTC), ("deribit", INVERSE)):
        simulator.set_clock(START)
        poll_depth(store, client_of(simulator, exchange), symbol, START)
    ((mid, bid, ask),) = store.rows(
        "SELECT mid_price, bid_depth_usd, ask_depth_usd FROM depth WHERE exchange = 'binanceusdm'"
    )
    assert 1e6 < bid < 1e9
    assert bid == pytest.approx(ask, rel=0.05)
    ((other_mid, other_bid),) = store.rows(
        "SELECT mid_price, bid_depth_usd FROM depth WHERE exchange = 'deribit'"
    )
    assert other_mid == pytest.approx(mid, rel=0.01)
    assert 1e5 < other_bid < bid


EVERY_FAULT = ("429", "418", "500", "502", "empty", "html", "malformed", "truncated", "reset")


def pull_everything(store: DataStore, simulator: ExchangeSimulator) -> None:
    binance, deribit = client_of(simulator, "binanceusdm"), client_of(simulator, "deribit")
    window = (START, START + 2 * MS_PER_DAY)
    for kind in ("trade", "mark", "index"):
        pull_candles(store, binance, BTC, kind, 300_000, window)
    pull_funding(store, binance, BTC, window)
    pull_funding(store, deribit, INVERSE, window)
    pull_candles(store, deribit, INVERSE, "trade", MS_PER_HOUR, window)
    pull_option_trades(store, deribit, "BTC", window)
    for at_ms in (START, START + MS_PER_DAY):
        simulator.set_clock(at_ms)
        poll_chain(store, deribit, ("BTC",), at_ms)
    simulator.set_clock(PARAMETERS.end)


@pytest.mark.parametrize("every", [3, 5])
def test_an_exchange_in_a_bad_hour_leaves_the_same_store(
    simulator: ExchangeSimulator, tmp_path: Path, every: int
) -> None:
    names = ("candles", "funding", "option_trades", "chain", "coverage")
    found = []
    plan = FaultPlan(every=every, kinds=EVERY_FAULT, retry_after_s=0)
    with ExchangeSimulator(PARAMETERS, faults=plan) as faulty:
        for label, server in (("clean", simulator), ("faulty", faulty)):
            with DataStore(tmp_path / f"{label}.duckdb") as store:
                pull_everything(store, server)
                found.append({name: store.rows(f"SELECT * FROM {name} ORDER BY ALL")
                              if name == "coverage" else table(store, name)
                              for name in names})  # fmt: skip
        assert faulty.requests >= 20
    assert found[0]["candles"]
    assert found[0] == found[1]


def test_the_wait_grows_and_heeds_the_exchange(store: DataStore) -> None:
    waits: list[float] = []
    plan = FaultPlan(every=1, kinds=("502", "502", "429"), limit=3, retry_after_s=9)
    with ExchangeSimulator(PARAMETERS, faults=plan) as faulty:
        client = client_of(faulty, "binanceusdm", sleep=waits.append, first_wait_s=0.5)
        client.load_markets()
    assert waits == [0.5, 1.0, 9.0]


def test_an_exchange_that_stays_down_is_given_up_and_what_was_stored_stays(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    pull_candles(store, client_of(simulator, "binanceusdm"), BTC, "trade", MS_PER_HOUR, WEEK)
    before = table(store, "candles")
    with ExchangeSimulator(PARAMETERS, faults=FaultPlan(every=1, kinds=("502",))) as dead:
        client = client_of(dead, "binanceusdm", attempts=3)
        report = pull_candles(store, client, BTC, "trade", MS_PER_HOUR, (START, PARAMETERS.end))
    assert "did not answer load_markets after 3 attempts" in report.failure
    assert store.rows("SELECT start_ms, end_ms, reason FROM shortfalls") == [
        (WEEK[1], PARAMETERS.end, "unanswered")
    ]
    assert table(store, "candles") == before


def test_asking_again_is_not_tried_where_it_cannot_help(simulator: ExchangeSimulator) -> None:
    waits: list[float] = []
    client = client_of(simulator, "binanceusdm", sleep=waits.append)
    client.load_markets()
    with pytest.raises(FeedError, match=r"after 1 attempt: .*NOPE"):
        client.call("fetch_ohlcv", "NOPE/USDT:USDT", "1h")
    assert waits == []


def test_an_interrupted_pull_resumes_without_asking_twice(
    simulator: ExchangeSimulator, store: DataStore, tmp_path: Path
) -> None:
    window = (START, START + 20 * MS_PER_DAY)
    client = client_of(simulator, "binanceusdm")
    original, asked = client.call, []

    def interrupted(method: str, *arguments: Any, **named: Any) -> Any:
        if method == KLINES and len(asked) == 2:
            raise KeyboardInterrupt
        if method == KLINES:
            asked.append(arguments[0]["startTime"])
        return original(method, *arguments, **named)

    client.call = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        pull_candles(store, client, BTC, "trade", 300_000, window)
    assert store.rows("SELECT count(*) FROM candles") == [(2000,)]
    client.call = original  # type: ignore[method-assign]
    report = pull_candles(store, client, BTC, "trade", 300_000, window)
    assert report.rows_read == 20 * 288 - 2000
    with DataStore(tmp_path / "whole.duckdb") as whole:
        pull_candles(whole, client, BTC, "trade", 300_000, window)
        assert table(whole, "candles") == table(store, "candles")


class _Spoilt:
    """Answers of a real client in which some candles are changed or dropped."""

    def __init__(self, client: ExchangeClient, spoil: Callable[[list[Any]], list[Any]]) -> None:
        self.original, self.spoil, self.requests = client.ccxt.fapipublic_get_klines, spoil, 0
        client.ccxt.fapipublic_get_klines = self

    def __call__(self, query: dict[str, Any]) -> list[Any]:
        self.requests += 1
        return self.spoil(self.original(query))


def test_an_outage_is_asked_about_again_then_reported_and_never_called_complete(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    hole = (START + 5 * MS_PER_HOUR, START + 9 * MS_PER_HOUR)
    client = client_of(simulator, "binanceusdm")
    holed = _Spoilt(client, lambda bars: [b for b in bars if not hole[0] <= b[0] < hole[1]])
    report = pull_candles(store, client, BTC, "trade", MS_PER_HOUR, WEEK)
    assert report.gaps == (hole,)
    assert (report.expected, report.stored) == (7 * 24, 7 * 24 - 4)
    assert holed.requests == 3
    key = LedgerKey("binanceusdm", BTC, "trade_candles", MS_PER_HOUR)
    assert store.missing(key, WEEK) == [hole]


def test_an_impossible_candle_from_an_exchange_is_put_aside_and_leaves_a_gap(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    client = client_of(simulator, "binanceusdm")
    at_ms = START + 5 * MS_PER_HOUR
    _Spoilt(client, lambda bars: [[t, o, h, -1.0 if t == at_ms else low, *rest]
                                  for t, o, h, low, *rest in bars])  # fmt: skip
    report = pull_candles(store, client, BTC, "trade", MS_PER_HOUR, WEEK)
    assert report.rows_quarantined == 1
    assert store.rows("SELECT reason FROM quarantine") == [("low is -1.0 USD; it must be above 0",)]
    assert [one.reason for one in report.shortfalls] == ["put aside"]
    assert [window[0] for window in report.gaps] == [at_ms]


def test_a_malformed_market_list_is_asked_for_again(simulator: ExchangeSimulator) -> None:
    plan = FaultPlan(every=1, kinds=("malformed",), limit=2)
    with ExchangeSimulator(PARAMETERS, faults=plan) as faulty:
        client = client_of(faulty, "binanceusdm")
        client.load_markets()
        assert BTC in client.ccxt.markets


def test_a_chain_can_only_be_asked_of_an_exchange_with_options(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    with pytest.raises(DataError, match="binanceusdm has no chain; bybit, deribit, okx have"):
        poll_chain(store, client_of(simulator, "binanceusdm"), ("BTC",), START)
