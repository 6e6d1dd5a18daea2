from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import ccxt
import numpy as np
import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from tests.data_ingest.exchange_clients import client_of

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-04-30")
START, END = PARAMETERS.start, PARAMETERS.end
LINEAR, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(END)
    yield running
    running.set_clock(END)


@pytest.fixture
def bybit(simulator: ExchangeSimulator) -> Any:
    return client_of(simulator, "bybit")


def ask(client: Any, path: str, **params: Any) -> Any:
    return getattr(client, f"publicGetV5Market{path}")(params)["result"]


def test_ccxt_loads_both_perpetuals_and_the_options(bybit: Any) -> None:
    markets = bybit.load_markets()
    assert {name for name, market in markets.items() if market["swap"]} == {
        LINEAR, INVERSE, "ETH/USDT:USDT", "ETH/USD:ETH"}  # fmt: skip
    assert markets[INVERSE]["inverse"]
    assert markets[LINEAR]["info"]["fundingInterval"] == 480
    options = [market for market in markets.values() if market["option"]]
    assert {market["settle"] for market in options} == {"USDC"}
    assert all(market["expiry"] > END for market in options)


def test_instruments_page_by_a_cursor(bybit: Any) -> None:
    names: list[str] = []
    cursor = ""
    while True:
        page = ask(bybit, "InstrumentsInfo", category="option", limit=100, cursor=cursor)
        names += [row["symbol"] for row in page["list"]]
        assert len(page["list"]) <= 100
        cursor = page["nextPageCursor"]
        if not cursor:
            break
    whole = ask(bybit, "InstrumentsInfo", category="option", limit=1_000)
    assert names == [row["symbol"] for row in whole["list"]]
    assert len(names) > 200


@pytest.mark.parametrize("price", ["trade", "mark", "index", "premiumIndex"])
def test_candles_are_the_markets_own_a_thousand_to_a_page(
    simulator: ExchangeSimulator, bybit: Any, price: str
) -> None:
    asked = {} if price == "trade" else {"price": price}
    rows = np.array(bybit.fetch_ohlcv(LINEAR, "1h", START, 5_000, asked), dtype=float)
    kind = price.removesuffix("Index")
    _, bars, volume = simulator.market.candles(
        "BTC", "bybit", kind, MS_PER_HOUR, START, START + 1_000 * MS_PER_HOUR
    )
    assert rows.shape[0] == 1_000
    assert rows[0, 0] == START
    np.testing.assert_allclose(rows[:, 1:5], bars, atol=5e-7 if kind == "premium" else 0.0051)
    if kind == "trade":
        np.testing.assert_allclose(rows[:, 5] * bars[:, 3], volume, rtol=1e-3)


def test_an_inverse_candle_counts_its_volume_in_coins_at_ccxt(
    simulator: ExchangeSimulator, bybit: Any
) -> None:
    row = bybit.fetch_ohlcv(INVERSE, "1h", START, 1)[0]
    _, bars, usd = simulator.market.candles(
        "BTC", "bybit_inverse", "trade", MS_PER_HOUR, START, START + MS_PER_HOUR
    )
    assert row[5] * bars[0, 3] == pytest.approx(usd[0], rel=1e-4)


def test_a_window_wider_than_a_page_keeps_its_newest_candles(bybit: Any) -> None:
    window = {"start": START, "end": START + 50 * MS_PER_HOUR - 1, "limit": 10}
    rows = ask(bybit, "Kline", category="linear", symbol="BTCUSDT", interval="60", **window)
    assert [int(row[0]) for row in rows["list"]] == [
        START + n * MS_PER_HOUR for n in range(49, 39, -1)
    ]


def test_funding_needs_an_end_and_comes_newest_first_two_hundred_to_a_page(
    simulator: ExchangeSimulator, bybit: Any
) -> None:
    window = {"category": "linear", "symbol": "BTCUSDT", "startTime": START}
    with pytest.raises(ccxt.BadRequest, match="endTime"):
        ask(bybit, "FundingHistory", **window)
    rows = ask(bybit, "FundingHistory", **window, endTime=END)["list"]
    times = [int(row["fundingRateTimestamp"]) for row in rows]
    assert times == [END - n * 8 * MS_PER_HOUR for n in range(200)]
    unified = bybit.fetch_funding_rate_history(LINEAR, START, 200)
    known, rates = simulator.market.funding("BTC", "bybit", 8, END)
    assert [row["timestamp"] for row in unified] == known[:200].tolist()
    assert [row["fundingRate"] for row in unified] == pytest.approx(rates[:200], abs=5e-9)


def test_open_interest_pages_backwards_by_cursor_and_does_not_heed_a_start_alone(
    bybit: Any,
) -> None:
    asked = {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1h", "limit": 500}
    alone = ask(bybit, "OpenInterest", **asked, startTime=START)["list"]
    assert len(alone) == 200
    assert int(alone[0]["timestamp"]) == END
    end, times, cursor = START + 600 * MS_PER_HOUR, [], ""
    while True:
        page = ask(bybit, "OpenInterest", **asked, startTime=START, endTime=end, cursor=cursor)
        times += [int(row["timestamp"]) for row in page["list"]]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
    assert times == list(range(end, START - 1, -MS_PER_HOUR))


def test_ratios_of_long_and_short_accounts_add_up(bybit: Any) -> None:
    rows = ask(bybit, "AccountRatio", category="linear", symbol="BTCUSDT", period="1h", limit=9_999)
    assert len(rows["list"]) == 500
    assert all(
        float(row["buyRatio"]) + float(row["sellRatio"]) == pytest.approx(1.0)
        for row in rows["list"]
    )
    assert rows["nextPageCursor"]
    leans = bybit.fetch_long_short_ratio_history(LINEAR, "1h", None, 50)
    assert len(leans) == 50
    assert len({row["longShortRatio"] for row in leans}) > 10


@pytest.mark.parametrize("symbol", [LINEAR, INVERSE])
def test_the_deduction_of_a_tier_makes_the_requirement_continuous(bybit: Any, symbol: str) -> None:
    tiers = bybit.fetch_market_leverage_tiers(symbol)
    for low, high in pairwise(tiers):
        edge = low["maxNotional"]
        below = edge * low["maintenanceMarginRate"] - float(low["info"]["mmDeduction"] or 0)
        above = edge * high["maintenanceMarginRate"] - float(high["info"]["mmDeduction"])
        assert above == pytest.approx(below, abs=1e-3)
        assert high["maxLeverage"] < low["maxLeverage"]


def test_the_book_holds_the_markets_depth_and_no_more_than_its_levels(
    simulator: ExchangeSimulator, bybit: Any
) -> None:
    assert len(bybit.fetch_order_book(LINEAR, 5_000)["bids"]) == 500
    book = bybit.fetch_order_book(LINEAR, 500)
    mid = 0.5 * (book["bids"][0][0] + book["asks"][0][0])
    held = sum(coins * price for price, coins, *_ in book["bids"] if price >= 0.99 * mid)
    model = simulator.market.venue("BTC", "bybit").depth_usd[simulator.market.point(END)]
    assert held == pytest.approx(model, rel=0.02)


def test_recent_trades_are_all_there_are(bybit: Any) -> None:
    trades = bybit.fetch_trades(LINEAR, None, 5_000)
    assert len(trades) == 1_000
    assert trades[-1]["timestamp"] < END
    options = ask(bybit, "RecentTrade", category="option", baseCoin="BTC", limit=1_000)["list"]
    times = [int(row["time"]) for row in options]
    assert times == sorted(times, reverse=True)
    assert all(0.05 < float(row["iv"]) < 5 for row in options)


def test_the_chain_comes_with_volatilities_and_dollar_prices(
    simulator: ExchangeSimulator, bybit: Any
) -> None:
    bybit.load_markets()
    chain = bybit.fetch_option_chain("BTC")
    deribit = client_of(simulator, "deribit").fetch_option_chain("BTC")
    coin = {option["info"]["instrument_name"]: option for option in deribit.values()}
    assert len(chain) == len(deribit)
    for option in chain.values():
        other = coin[option["info"]["symbol"]]["info"]
        assert option["impliedVolatility"] == pytest.approx(float(other["mark_iv"]) / 100, abs=1e-4)
        usd = float(other["mark_price"]) * float(other["underlying_price"])
        assert option["markPrice"] == pytest.approx(usd, abs=0.01)
        assert option["bidPrice"] <= option["markPrice"] + 1e-6


def test_delivery_prices_page_through_everything_that_expired(bybit: Any) -> None:
    rows: list[dict[str, str]] = []
    cursor = ""
    while True:
        page = ask(
            bybit, "DeliveryPrice", category="option", baseCoin="BTC", limit=200, cursor=cursor
        )
        rows += page["list"]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
    times = [int(row["deliveryTime"]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert times[0] <= END
    assert len({row["symbol"] for row in rows}) == len(rows) > 200
    assert len({(row["deliveryTime"], row["deliveryPrice"]) for row in rows}) == len(set(times))


def test_realised_volatility_is_the_indexs_own(simulator: ExchangeSimulator, bybit: Any) -> None:
    asked = {"category": "option", "baseCoin": "BTC", "period": 7}
    rows = ask(bybit, "HistoricalVolatility", **asked, startTime=END - MS_PER_DAY, endTime=END)
    assert [int(row["time"]) for row in rows] == [END - n * MS_PER_HOUR for n in range(25)]
    hourly = np.log(simulator.market.assets["BTC"].index_usd[::12][-169:])
    expected = np.sqrt(np.mean(np.diff(hourly) ** 2) * 24 * 365)
    assert float(rows[0]["value"]) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ccxt.BadRequest, match="30 days"):
        ask(bybit, "HistoricalVolatility", **asked, startTime=START, endTime=END)


@pytest.mark.parametrize(
    "asked",
    [
        {"category": "linear", "symbol": "DOGEUSDT", "interval": "60"},
        {"category": "linear", "symbol": "BTCUSDT", "interval": "1"},
        {"category": "linear", "interval": "60"},
        {"category": "linear", "symbol": "BTCUSDT", "interval": "60", "limit": "x"},
    ],
)
def test_refusals_reach_ccxt_as_the_exchanges_own(bybit: Any, asked: dict[str, str]) -> None:
    with pytest.raises(ccxt.BadRequest, match='"retCode":10001'):
        ask(bybit, "Kline", **asked)


def test_nothing_after_the_clock_is_served(simulator: ExchangeSimulator, bybit: Any) -> None:
    now = START + 33 * MS_PER_DAY + 17 * MS_PER_HOUR + 123_456
    simulator.set_clock(now)
    swap = {"category": "linear", "symbol": "BTCUSDT"}
    newest = {
        "candle": ask(bybit, "Kline", **swap, interval="5")["list"][0][0],
        "funding": ask(bybit, "FundingHistory", **swap)["list"][0]["fundingRateTimestamp"],
        "held": ask(bybit, "OpenInterest", **swap, intervalTime="5min")["list"][0]["timestamp"],
        "trade": ask(bybit, "RecentTrade", **swap)["list"][0]["time"],
        "option": ask(bybit, "RecentTrade", category="option")["list"][0]["time"],
        "delivery": ask(bybit, "DeliveryPrice", category="option")["list"][0]["deliveryTime"],
    }
    for feed, at_ms in newest.items():
        assert now - 8 * MS_PER_DAY < int(at_ms) <= now, feed
