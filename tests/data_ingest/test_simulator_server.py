from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import ccxt
import numpy as np
import pytest
from scipy.special import ndtr

from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from data_ingest.simulator import ExchangeSimulator, MarketParameters

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-03-11")
START, END = PARAMETERS.start, PARAMETERS.end
BTC_INVERSE, BTC_LINEAR = "BTC/USD:BTC", "BTC/USDT:USDT"


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(END)
    yield running
    running.set_clock(END)


def deribit_client(url: str) -> Any:
    return ccxt.deribit({"urls": {"api": {"rest": url}}})


def binance_client(url: str) -> Any:
    client = ccxt.binanceusdm()
    client.urls["api"] = {
        name: url + urlsplit(address).path
        for name, address in client.urls["api"].items()
        if isinstance(address, str)
    }
    return client


@pytest.fixture
def deribit(simulator: ExchangeSimulator) -> Any:
    return deribit_client(simulator.url)


@pytest.fixture
def binance(simulator: ExchangeSimulator) -> Any:
    return binance_client(simulator.url)


def test_ccxt_loads_deribit_markets_of_every_kind(deribit: Any) -> None:
    markets = deribit.load_markets()
    assert deribit.enableRateLimit
    perpetual = markets[BTC_INVERSE]
    assert perpetual["inverse"]
    assert perpetual["swap"]
    assert perpetual["contractSize"] == 10
    options = [market for market in markets.values() if market["option"]]
    assert {market["base"] for market in options} == {"BTC", "ETH"}
    assert all(market["expiry"] > END and market["strike"] > 0 for market in options)


def test_ccxt_loads_binance_markets(binance: Any) -> None:
    markets = binance.load_markets()
    perpetuals = {name for name, market in markets.items() if market["swap"]}
    assert perpetuals == {BTC_LINEAR, "ETH/USDT:USDT", "ETH/USDC:USDC"}
    assert markets[BTC_LINEAR]["linear"]
    assert markets[BTC_LINEAR]["contractSize"] == 1
    assert markets[BTC_LINEAR]["precision"]["price"] == 0.1


def test_expired_options_are_listed_apart_from_living_ones(deribit: Any) -> None:
    alive = deribit.fetch_markets()
    expired = deribit.fetch_markets({"currency": "BTC", "kind": "option", "expired": True})
    assert expired
    assert all(market["expiry"] <= END and not market["active"] for market in expired)
    assert not {market["id"] for market in alive} & {market["id"] for market in expired}


@pytest.mark.parametrize("price", [None, "mark", "index"])
def test_binance_candles_are_the_markets(
    simulator: ExchangeSimulator, binance: Any, price: str | None
) -> None:
    rows = binance.fetch_ohlcv(BTC_LINEAR, "1h", START, 1000, {"price": price} if price else {})
    _, bars, volume = simulator.market.candles(
        "BTC", "binance", price or "trade", MS_PER_HOUR, START, START + 1000 * MS_PER_HOUR
    )
    got = np.array(rows, dtype=float)
    assert got.shape == (1000, 6)
    assert got[0, 0] == START
    assert (np.diff(got[:, 0]) == MS_PER_HOUR).all()
    np.testing.assert_allclose(got[:, 1:5], bars, atol=0.0051)
    if price is None:
        np.testing.assert_allclose(got[:, 5] * bars[:, 3], volume, rtol=1e-3)


def test_deribit_candles_are_the_markets(simulator: ExchangeSimulator, deribit: Any) -> None:
    rows = np.array(deribit.fetch_ohlcv(BTC_INVERSE, "1h", START, 500), dtype=float)
    _, bars, _ = simulator.market.candles(
        "BTC", "deribit", "trade", MS_PER_HOUR, START, START + 500 * MS_PER_HOUR
    )
    np.testing.assert_allclose(rows[:, 1:5], bars)


def test_a_window_too_wide_for_deribit_keeps_its_newest_bars(deribit: Any) -> None:
    answer = deribit.publicGetGetTradingviewChartData(
        {
            "instrument_name": "BTC-PERPETUAL",
            "resolution": "5",
            "start_timestamp": START,
            "end_timestamp": END,
        }
    )["result"]
    assert len(answer["ticks"]) == 5001
    assert answer["ticks"][-1] == END - 300_000


def test_a_window_without_bars_says_no_data(deribit: Any) -> None:
    assert deribit.fetch_ohlcv(BTC_INVERSE, "1h", START - 10 * MS_PER_DAY, 24) == []


def test_binance_pages_join_without_hole_or_repeat(binance: Any) -> None:
    whole = binance.fetch_ohlcv(BTC_LINEAR, "1h", START, 48)
    first = binance.fetch_ohlcv(BTC_LINEAR, "1h", START, 20)
    rest = binance.fetch_ohlcv(BTC_LINEAR, "1h", first[-1][0] + 1, 28)
    assert first + rest == whole
    bounded = binance.fetch_ohlcv(BTC_LINEAR, "1h", START, 48, {"until": START + MS_PER_DAY - 1})
    assert bounded == whole[:24]
    newest = binance.fetch_ohlcv(BTC_LINEAR, "1h", None, 5)
    assert newest[-1][0] == END - MS_PER_HOUR


def test_binance_funding_is_eight_hourly_with_late_milliseconds(
    simulator: ExchangeSimulator, binance: Any
) -> None:
    rows = binance.fetch_funding_rate_history("ETH/USDT:USDT", START, 1000)
    times = np.array([row["timestamp"] for row in rows])
    expected_times, rates = simulator.market.binance_funding("ETH", END)
    late = times - expected_times[: len(times)]
    assert (late >= 0).all()
    assert 0 < late.max() < 10
    np.testing.assert_allclose([row["fundingRate"] for row in rows], rates[: len(rows)], atol=5e-9)


def test_deribit_funding_is_hourly_and_capped_at_744_rows(
    simulator: ExchangeSimulator, deribit: Any
) -> None:
    rows = deribit.fetch_funding_rate_history(BTC_INVERSE, START, 1000, {"until": END})
    assert len(rows) == 744
    assert rows[-1]["timestamp"] == END
    _, hourly = simulator.market.deribit_funding("BTC", END)
    np.testing.assert_allclose([float(row["info"]["interest_1h"]) for row in rows], hourly[-744:])
    eight = sum(float(row["info"]["interest_1h"]) for row in rows[-8:])
    assert float(rows[-1]["info"]["interest_8h"]) == pytest.approx(eight)


def test_option_trades_page_forward_by_currency_and_time(deribit: Any) -> None:
    until, cursor, seen = START + 6 * MS_PER_DAY, START, {}
    for _page in range(50):
        answer = deribit.publicGetGetLastTradesByCurrencyAndTime(
            {
                "currency": "BTC",
                "kind": "option",
                "start_timestamp": cursor,
                "end_timestamp": until,
                "count": 500,
                "sorting": "asc",
            }
        )["result"]
        seen.update({trade["trade_id"]: trade for trade in answer["trades"]})
        if not answer["has_more"]:
            break
        cursor = int(answer["trades"][-1]["timestamp"])
    newest = deribit.publicGetGetLastTradesByCurrencyAndTime(
        {
            "currency": "BTC",
            "kind": "option",
            "start_timestamp": START,
            "end_timestamp": until,
            "count": 1000,
        }
    )["result"]
    times = [int(trade["timestamp"]) for trade in newest["trades"]]
    assert len(seen) > 1000
    assert newest["has_more"]
    assert times == sorted(times, reverse=True)
    assert {trade["trade_id"] for trade in newest["trades"]} <= set(seen)
    assert all(float(trade["iv"]) > 5 for trade in seen.values())


def test_trades_of_one_option_are_those_of_the_currency(deribit: Any) -> None:
    window = {
        "start_timestamp": START,
        "end_timestamp": START + 3 * MS_PER_DAY,
        "sorting": "asc",
        "count": 1000,
    }
    everything = deribit.publicGetGetLastTradesByCurrencyAndTime(
        {"currency": "ETH", "kind": "option", **window}
    )["result"]["trades"]
    names = [trade["instrument_name"] for trade in everything]
    favourite = max(set(names), key=names.count)
    one = deribit.publicGetGetLastTradesByInstrumentAndTime(
        {"instrument_name": favourite, **window}
    )["result"]["trades"]
    assert one == [trade for trade in everything if trade["instrument_name"] == favourite]


def test_perpetual_trades_lie_inside_their_candle(deribit: Any) -> None:
    trades = deribit.fetch_trades(BTC_INVERSE, START, 1000, {"sorting": "asc"})
    bars = {row[0]: row for row in deribit.fetch_ohlcv(BTC_INVERSE, "5m", START, 300)}
    assert len(trades) == 1000
    for trade in trades:
        bar = bars[trade["timestamp"] // 300_000 * 300_000]
        assert bar[3] <= trade["price"] <= bar[2]


def test_the_newest_perpetual_trades_come_first_and_stop_at_the_clock(deribit: Any) -> None:
    deribit.load_markets()
    newest = deribit.publicGetGetLastTradesByInstrument(
        {"instrument_name": "ETH-PERPETUAL", "count": 7}
    )["result"]
    assert newest["has_more"]
    times = [int(trade["timestamp"]) for trade in newest["trades"]]
    assert times == [END - 75_000 * number for number in range(1, 8)]


@pytest.mark.parametrize("exchange", ["binance", "deribit"])
def test_the_candle_in_progress_stops_at_the_clock(
    simulator: ExchangeSimulator, exchange: str
) -> None:
    now = START + 12 * MS_PER_DAY + 7 * MS_PER_HOUR + 25 * 60_000
    simulator.set_clock(now)
    client = {"binance": binance_client, "deribit": deribit_client}[exchange](simulator.url)
    symbol = BTC_LINEAR if exchange == "binance" else BTC_INVERSE
    last = client.fetch_ohlcv(symbol, "1h", now - MS_PER_DAY, 1000)[-1]
    _, steps, _ = simulator.market.candles("BTC", exchange, "trade", 300_000, last[0], now)
    assert last[0] == now // MS_PER_HOUR * MS_PER_HOUR
    assert len(steps) == 5
    assert last[1:5] == [steps[0, 0], steps[:, 1].max(), steps[:, 2].min(), steps[-1, 3]]


def test_the_published_chain_can_be_repriced_from_its_own_fields(
    simulator: ExchangeSimulator, deribit: Any
) -> None:
    simulator.set_clock(START + 25 * MS_PER_DAY + 4_321)
    deribit.load_markets(True)
    for symbol, option in deribit.fetch_option_chain("BTC").items():
        row, market = option["info"], deribit.market(symbol)
        forward, strike = float(row["underlying_price"]), market["strike"]
        years = (market["expiry"] - simulator.now_ms) / MS_PER_YEAR
        deviation = float(row["mark_iv"]) / 100 * years**0.5
        upper = np.log(forward / strike) / deviation + deviation / 2
        call = ndtr(upper) - strike / forward * ndtr(upper - deviation)
        price = call if market["optionType"] == "call" else call - 1 + strike / forward
        assert float(row["mark_price"]) == pytest.approx(price, abs=1e-6)
        assert row["underlying_index"] == "SYN." + row["instrument_name"].rsplit("-", 2)[0]


def test_the_chain_is_a_snapshot_at_the_clock(simulator: ExchangeSimulator, deribit: Any) -> None:
    chains = []
    for days in (10, 40):
        simulator.set_clock(START + days * MS_PER_DAY)
        deribit.load_markets(True)
        chain = deribit.fetch_option_chain("BTC")
        rows = [option["info"] for option in chain.values()]
        assert {int(row["creation_timestamp"]) for row in rows} == {simulator.now_ms}
        assert all(deribit.market(symbol)["expiry"] > simulator.now_ms for symbol in chain)
        assert all(float(row["mark_iv"]) > 5 for row in rows)
        for row in rows:
            if row["bid_price"] is not None:
                assert float(row["bid_price"]) <= float(row["mark_price"]) + 1e-6
            assert float(row["mark_price"]) <= float(row["ask_price"]) + 1e-6
        chains.append(set(chain))
    assert chains[0] != chains[1]


def test_option_bars_end_at_the_chain_mark(simulator: ExchangeSimulator, deribit: Any) -> None:
    simulator.set_clock(START + 20 * MS_PER_DAY)
    chain = deribit.fetch_option_chain("BTC")
    symbol, option = next(
        (symbol, option) for symbol, option in chain.items() if option["openInterest"] > 100
    )
    bars = deribit.fetch_ohlcv(symbol, "1h", simulator.now_ms - MS_PER_DAY, 24)
    assert len(bars) == 24
    assert bars[-1][4] == option["markPrice"]
    assert all(bar[3] <= min(bar[1], bar[4]) <= max(bar[1], bar[4]) <= bar[2] for bar in bars)


def test_greeks_come_with_a_delta_between_nought_and_one(deribit: Any) -> None:
    chain = deribit.fetch_option_chain("ETH")
    symbol = next(symbol for symbol in chain if symbol.endswith("-C"))
    greeks = deribit.fetch_greeks(symbol)
    assert 0 < greeks["delta"] < 1
    assert greeks["gamma"] > 0
    assert greeks["vega"] > 0
    assert greeks["markPrice"] == chain[symbol]["markPrice"]


@pytest.mark.parametrize("exchange", ["binance", "deribit"])
def test_the_order_book_shows_the_models_depth(simulator: ExchangeSimulator, exchange: str) -> None:
    client = {"binance": binance_client, "deribit": deribit_client}[exchange](simulator.url)
    symbol = BTC_LINEAR if exchange == "binance" else BTC_INVERSE
    crisis = simulator.market.crises[0]
    depth = {}
    for label, at_ms in (("calm", crisis.start_ms), ("crisis", crisis.start_ms + MS_PER_HOUR)):
        simulator.set_clock(at_ms)
        book = client.fetch_order_book(symbol, 1000)
        mid = 0.5 * (book["bids"][0][0] + book["asks"][0][0])
        sizes = [
            amount * price if exchange == "binance" else amount
            for price, amount in book["bids"]
            if price >= 0.99 * mid
        ]
        depth[label] = sum(sizes)
        path = simulator.market.assets["BTC"].venues[exchange]
        model = path.depth_usd[simulator.market.point(at_ms)]
        assert depth[label] == pytest.approx(model, rel=0.02)


def test_the_volatility_index_pages_backwards_by_continuation(deribit: Any) -> None:
    request = {"currency": "BTC", "resolution": "3600", "start_timestamp": START}
    rows: list[list[float]] = []
    end: int | None = END
    while end is not None:
        answer = deribit.publicGetGetVolatilityIndexData({**request, "end_timestamp": end})
        rows = answer["result"]["data"] + rows
        end = answer["result"]["continuation"]
    times = [int(row[0]) for row in rows]
    assert times == list(range(START, END + 1, MS_PER_HOUR))
    assert all(row[3] <= min(row[1], row[4]) <= max(row[1], row[4]) <= row[2] for row in rows)


def test_delivery_prices_are_daily_newest_first_and_page(deribit: Any) -> None:
    def page(offset: int) -> dict[str, Any]:
        return deribit.publicGetGetDeliveryPrices(
            {"index_name": "btc_usd", "count": 30, "offset": offset}
        )["result"]

    dates = [row["date"] for offset in (0, 30, 60) for row in page(offset)["data"]]
    assert dates[0] == "2024-03-10"
    assert dates[-1] == "2024-01-01"
    assert len(dates) == int(page(0)["records_total"]) == 70


def instants(value: Any, key: str = "") -> Iterator[int]:
    """Yield every time at which something happened, wherever it is in an answer."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from instants(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from instants(inner, key)
    elif key in {"timestamp", "ticks", "creation_timestamp", "fundingTime", "E", "T", "time"}:
        yield int(value)


WINDOW = f"start_timestamp={START}&end_timestamp={END}"
DERIBIT_PATHS = [
    "get_instruments?currency=BTC",
    "get_instruments?currency=BTC&expired=true",
    f"get_tradingview_chart_data?instrument_name=BTC-PERPETUAL&resolution=60&{WINDOW}",
    f"get_funding_rate_history?instrument_name=BTC-PERPETUAL&{WINDOW}",
    f"get_last_trades_by_instrument_and_time?instrument_name=BTC-PERPETUAL&count=1000&{WINDOW}",
    "get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL",
    f"get_last_trades_by_currency_and_time?currency=BTC&kind=option&count=1000&{WINDOW}",
    "get_book_summary_by_currency?currency=BTC",
    "ticker?instrument_name=BTC-PERPETUAL",
    "get_order_book?instrument_name=BTC-PERPETUAL",
]
BINANCE_PATHS = [
    f"klines?symbol=BTCUSDT&interval=1h&limit=1500&endTime={END}",
    f"markPriceKlines?symbol=BTCUSDT&interval=1h&limit=1500&startTime={START}",
    "indexPriceKlines?pair=BTCUSDT&interval=1h&limit=1500",
    f"fundingRate?symbol=BTCUSDT&limit=1000&endTime={END}",
    "depth?symbol=BTCUSDT&limit=1000",
    "premiumIndex?symbol=BTCUSDT",
]


@pytest.mark.parametrize(
    "path",
    [f"/api/v2/public/{path}" for path in DERIBIT_PATHS]
    + [f"/fapi/v1/{path}" for path in BINANCE_PATHS],
)
def test_nothing_after_the_clock_is_served(simulator: ExchangeSimulator, path: str) -> None:
    now = START + 33 * MS_PER_DAY + 17 * MS_PER_HOUR + 123_456
    simulator.set_clock(now)
    with urllib.request.urlopen(simulator.url + path) as response:
        answer = json.load(response)
    result = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
    candles = "klines" in path.lower()
    times = [row[0] for row in result] if candles else list(instants(result))
    assert times
    assert max(times) <= now
    if any(word in path for word in ("Klines", "klines", "chart", "trades", "funding")):
        assert max(times) > now - 8 * MS_PER_HOUR - 60_000


def test_history_is_the_same_whenever_it_is_asked_for(simulator: ExchangeSimulator) -> None:
    early = START + 20 * MS_PER_DAY
    window = f"start_timestamp={START}&end_timestamp={early - 1}"
    paths = [
        f"/api/v2/public/get_tradingview_chart_data?instrument_name=ETH-PERPETUAL&resolution=60&{window}",
        f"/api/v2/public/get_last_trades_by_currency_and_time?currency=ETH&count=1000&{window}",
        f"/api/v2/public/get_funding_rate_history?instrument_name=ETH-PERPETUAL&{window}",
        f"/fapi/v1/klines?symbol=ETHUSDT&interval=4h&startTime={START}&endTime={early - 1}",
    ]

    def ask() -> list[Any]:
        answers = [json.loads(urllib.request.urlopen(simulator.url + p).read()) for p in paths]
        return [a.get("result") if isinstance(a, dict) else a for a in answers]

    late_view = ask()
    simulator.set_clock(early)
    assert ask() == late_view


@pytest.mark.parametrize(
    ("ask", "error", "code"),
    [
        (lambda d, b: d.fetch_ohlcv(BTC_INVERSE, "1m", START, 5), ccxt.BadRequest, "-32602"),
        (lambda d, b: d.publicGetTicker({"instrument_name": "X"}), ccxt.ExchangeError, "13020"),
        (
            lambda d, b: d.publicGetGetBookSummaryByCurrency({"currency": "DOGE"}),
            ccxt.BadRequest,
            "invalid currency",
        ),
        (lambda d, b: b.fetch_ohlcv(BTC_LINEAR, "1m", START, 5), ccxt.BadRequest, "-1120"),
        (
            lambda d, b: b.fapiPublicGetKlines({"symbol": "NONE", "interval": "1h"}),
            ccxt.BadSymbol,
            "-1121",
        ),
        (lambda d, b: b.fapiPublicGetKlines({"interval": "1h"}), ccxt.BadRequest, "-1102"),
        (
            lambda d, b: b.fapiPublicGetKlines(
                {"symbol": "BTCUSDT", "interval": "1h", "limit": 1501}
            ),
            ccxt.BadRequest,
            "-1130",
        ),
    ],
)
def test_refusals_reach_ccxt_as_the_exchanges_own(
    deribit: Any, binance: Any, ask: Any, error: type[Exception], code: str
) -> None:
    with pytest.raises(error, match=code):
        ask(deribit, binance)
