"""Every declared feed of every exchange, through the real ccxt client, against the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.clients import ExchangeClient, open_exchange
from data_ingest.downloader import download
from data_ingest.feed import Paging
from data_ingest.feed_table import FEEDS
from data_ingest.inventory import inventory
from data_ingest.polls import poll_brackets, poll_chain, poll_depth, pull_instruments
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from data_ingest.store import DataStore
from data_ingest.symbols import EXCHANGES, perpetual_symbol

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-02-17")
END = PARAMETERS.end
WINDOW = (END - 3 * MS_PER_DAY, END)
# Binance delivers once in a quarter: see test_dated_futures.
HISTORIES = [key for key, feed in FEEDS.items() if feed.paging is not Paging.NOW
             and not (key[0].startswith("binance") and key[1] == "delivery_prices")]  # fmt: skip


@pytest.fixture(scope="module")
def simulator() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DataStore]:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def client_of(simulator: ExchangeSimulator, exchange: str) -> ExchangeClient:
    client = open_exchange(exchange, simulator.url)
    client.sleep = lambda _: None
    client.ccxt.enableRateLimit = False
    return client


@pytest.mark.parametrize(("exchange", "name"), HISTORIES)
def test_a_history_is_whole_and_asked_for_once(
    simulator: ExchangeSimulator, store: DataStore, exchange: str, name: str
) -> None:
    feed = FEEDS[exchange, name]
    target = "BTC" if feed.per_asset else perpetual_symbol(exchange, "BTC")
    period = MS_PER_HOUR if feed.periods else 0
    client = client_of(simulator, exchange)
    report = download(store, client, feed, target, WINDOW, period)
    assert (report.shortfalls, report.rows_quarantined) == ((), 0)
    if report.expected is not None:
        hours = {"funding": 8, "delivery_prices": 24}.get(name, 1)
        hours = 1 if exchange in ("deribit", "hyperliquid") and name == "funding" else hours
        assert report.expected == report.stored == 72 // hours
    assert report.stored > 0
    (held,) = [row for row in inventory(store) if row.start_ms]
    assert (held.exchange, held.rows) == (exchange, report.stored)
    asked = simulator.requests
    again = download(store, client, feed, target, WINDOW, period)
    assert (again.rows_read, again.stored) == (0, report.stored)
    assert simulator.requests == asked


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_volume_and_open_interest_have_one_unit_everywhere(
    simulator: ExchangeSimulator, store: DataStore, exchange: str
) -> None:
    client, symbol = client_of(simulator, exchange), perpetual_symbol(exchange, "BTC")
    for name in ("trade_candles", "open_interest"):
        if (exchange, name) in FEEDS:
            download(store, client, FEEDS[exchange, name], symbol, WINDOW, MS_PER_HOUR)
    ((low, high),) = store.rows(
        "SELECT min(volume_usd / volume_base / close), max(volume_usd / volume_base / close) "
        "FROM candles"
    )
    assert 0.8 < low <= high < 1.25
    for base, usd, close in store.rows(
        "SELECT amount_base, amount_usd, close FROM open_interest JOIN candles ON ts_ms = open_ms "
        "WHERE amount_base IS NOT NULL AND amount_usd IS NOT NULL"
    ):
        assert usd / base == pytest.approx(close, rel=0.05)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_present_is_stored_in_the_units_of_the_store(
    simulator: ExchangeSimulator,
    store: DataStore,
    exchange: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"REMARGIN_{exchange.upper()}_KEY", "reader")
    monkeypatch.setenv(f"REMARGIN_{exchange.upper()}_SECRET", "secret")
    client, symbol = client_of(simulator, exchange), perpetual_symbol(exchange, "BTC")
    pull_instruments(store, client, ["BTC"])
    poll_depth(store, client, symbol, END)
    ((mid, bid_usd, ask_usd),) = store.rows(
        "SELECT mid_price, bid_depth_usd, ask_depth_usd FROM depth"
    )
    index = simulator.market.assets["BTC"].index_usd[simulator.market.point(END)]
    assert mid == pytest.approx(index, rel=0.01)
    assert 1e5 < bid_usd < 1e9
    assert bid_usd == pytest.approx(ask_usd, rel=0.1)
    ((size, tick),) = store.rows(
        "SELECT contract_size, tick_size FROM instruments WHERE symbol = ?", [symbol]
    )
    convention = EXCHANGES[exchange].contract_size
    assert size == convention.get("BTC", convention[""])
    assert tick > 0
    if (exchange, "chain") in FEEDS:
        poll_chain(store, client, ("BTC",), END)
        ((count, iv, coin, ratio),) = store.rows(
            "SELECT count(*), median(mark_iv), max(mark_coin), median(index_price) FROM chain "
            "JOIN instruments USING (exchange, native_id)"
        )
        assert count > 100
        assert 0.2 < iv < 3
        assert coin < 20
        assert ratio == pytest.approx(index, rel=0.01)
    if (exchange, "brackets") in FEEDS:
        poll_brackets(store, client, (symbol,), END)
        tiers = store.rows(
            'SELECT "lower", "upper", initial_rate, maintenance_rate FROM brackets ORDER BY tier'
        )
        assert tiers[0][0] == 0
        assert all(0 < keep < start <= 1 for _, _, start, keep in tiers)
        joined = [(one[1], other[0]) for one, other in pairwise(tiers)]
        # OKX counts whole contracts, so a tier begins one after the last ends.
        assert all(begins - ends in (0, 1) for ends, begins in joined)


def test_an_option_of_okx_is_a_hundredth_of_a_coin(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    """Its ctVal is 1 and its ctMult 0.01; ccxt's contract size is ctVal alone."""
    client = client_of(simulator, "okx")
    pull_instruments(store, client, ["BTC"])
    sizes = store.rows(
        "SELECT DISTINCT contract_size, multiplier FROM instruments WHERE kind = 'option'"
    )
    assert sizes == [(0.01, 0.01)]
    option = next(m for m in client.ccxt.markets.values() if m["option"])
    assert option["contractSize"] == 1.0


def test_brackets_of_binance_need_a_key_and_say_which(
    simulator: ExchangeSimulator, store: DataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REMARGIN_BINANCEUSDM_KEY", raising=False)
    client = client_of(simulator, "binanceusdm")
    with pytest.raises(Exception, match="set REMARGIN_BINANCEUSDM_KEY and"):
        poll_brackets(store, client, ("BTC/USDT:USDT",), END)


def test_statistics_older_than_they_are_kept_are_said_to_be_gone(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    window = (END - 40 * MS_PER_DAY, END)
    report = download(store, client_of(simulator, "binanceusdm"),
                      FEEDS["binanceusdm", "open_interest"], "BTC/USDT:USDT", window,
                      MS_PER_DAY)  # fmt: skip
    assert [(one.reason, one.window) for one in report.shortfalls] == [
        ("not kept", (window[0], END - 30 * MS_PER_DAY))
    ]
    assert report.stored == 30


@pytest.mark.parametrize("exchange", ["deribit", "okx"])
def test_trades_are_in_coins_and_deribit_s_say_which_were_liquidations(
    simulator: ExchangeSimulator, store: DataStore, exchange: str
) -> None:
    client, symbol = client_of(simulator, exchange), perpetual_symbol(exchange, "BTC")
    for name in ("trades", "trade_candles"):
        period = MS_PER_HOUR if name == "trade_candles" else 0
        assert not download(store, client, FEEDS[exchange, name], symbol, WINDOW, period).shortfalls
    ((traded, low, high),) = store.rows(
        "SELECT count(*), min(coins / volume_base), max(coins / volume_base) FROM candles JOIN "
        "(SELECT ts_ms // 3600000 * 3600000 AS open_ms, sum(amount_base) AS coins FROM trades "
        "GROUP BY 1) USING (open_ms)"
    )
    assert traded == 72
    assert 0.98 < low <= high < 1.02
    flags = dict(store.rows("SELECT liquidation, count(*) FROM trades GROUP BY 1"))
    numbered = store.rows(
        "SELECT count(trade_seq), max(trade_seq) - min(trade_seq) + 1 FROM trades"
    )
    if exchange == "deribit":
        assert flags.keys() - {None} <= {"M", "T"}
        assert flags["T"] > 0
        assert numbered == [(72 * 48, 72 * 48)]
    else:
        assert flags == {None: 72 * 48}
