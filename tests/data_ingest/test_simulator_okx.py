from __future__ import annotations

from collections.abc import Iterator
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
SWAP = "BTC-USDT-SWAP"


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
def okx(simulator: ExchangeSimulator) -> Any:
    return client_of(simulator, "okx")


def test_ccxt_loads_swaps_and_options_with_their_contract_sizes(okx: Any) -> None:
    markets = okx.load_markets()
    assert markets[LINEAR]["linear"]
    assert markets[LINEAR]["contractSize"] == 0.01
    assert markets[INVERSE]["inverse"]
    assert markets[INVERSE]["contractSize"] == 100
    options = [market for market in markets.values() if market["option"]]
    assert {market["base"] for market in options} == {"BTC", "ETH"}
    assert all(market["expiry"] > END for market in options)
    # ccxt forgets the multiplier: one contract is a hundredth of a bitcoin.
    assert {(market["contractSize"], market["info"]["ctMult"]) for market in options} == {
        (1.0, "0.01"), (1.0, "0.1")}  # fmt: skip


@pytest.mark.parametrize(("price", "most"), [("trade", 300), ("mark", 100), ("index", 100)])
def test_candles_are_the_markets_own_and_a_page_is_no_longer_than_documented(
    simulator: ExchangeSimulator, okx: Any, price: str, most: int
) -> None:
    asked = {} if price == "trade" else {"price": price}
    rows = np.array(okx.fetch_ohlcv(LINEAR, "1h", START, 1_000, asked), dtype=float)
    _, bars, volume = simulator.market.candles(
        "BTC", "okx", price, MS_PER_HOUR, START, START + most * MS_PER_HOUR
    )
    assert rows.shape[0] == most
    assert rows[0, 0] == START
    np.testing.assert_allclose(rows[:, 1:5], bars, atol=0.0051)
    if price == "trade":
        np.testing.assert_allclose(rows[:, 5] * bars[:, 3], volume, rtol=1e-3)


def test_pages_come_newest_first_between_two_marks_that_are_left_out(okx: Any) -> None:
    marks = {"before": START, "after": START + 10 * MS_PER_HOUR}
    rows = okx.publicGetMarketHistoryCandles({"instId": SWAP, "bar": "1H", **marks})["data"]
    assert [int(row[0]) for row in rows] == [START + n * MS_PER_HOUR for n in range(9, 0, -1)]
    assert {row[-1] for row in rows} == {"1"}


def test_the_candle_in_progress_says_that_it_is_not_confirmed(
    simulator: ExchangeSimulator, okx: Any
) -> None:
    simulator.set_clock(START + 30 * MS_PER_HOUR + 1_200_000)
    rows = okx.publicGetMarketCandles({"instId": SWAP, "bar": "1H"})["data"]
    assert len(rows) == 31
    assert [row[-1] for row in rows[:2]] == ["0", "1"]
    assert int(rows[0][0]) == START + 30 * MS_PER_HOUR


@pytest.mark.parametrize(
    ("bar", "hours", "opens_at"), [("6H", 6, 4), ("12H", 12, 4), ("1D", 24, 16), ("1Dutc", 24, 0)]
)
def test_long_bars_open_at_midnight_in_hong_kong_unless_asked_in_utc(
    okx: Any, bar: str, hours: int, opens_at: int
) -> None:
    rows = okx.publicGetMarketHistoryCandles({"instId": SWAP, "bar": bar, "limit": 5})["data"]
    assert {int(row[0]) // MS_PER_HOUR % hours for row in rows} == {opens_at % hours}
    assert int(rows[0][0]) // MS_PER_HOUR % 24 in range(opens_at % hours, 24, hours)
    opened = int(rows[1][0])
    hourly = okx.publicGetMarketHistoryCandles(
        {"instId": SWAP, "bar": "1H", "before": opened - 1, "after": opened + hours * MS_PER_HOUR}
    )["data"]
    assert rows[1][1] == hourly[-1][1]
    assert float(rows[1][2]) == max(float(row[2]) for row in hourly)
    assert rows[1][4] == hourly[0][4]
    held = okx.publicGetRubikStatContractsOpenInterestHistory({"instId": SWAP, "period": bar})
    assert {int(row[0]) // MS_PER_HOUR % hours for row in held["data"]} == {opens_at % hours}


def test_recent_candles_end_where_the_history_path_goes_on(okx: Any) -> None:
    recent = START + 30 * MS_PER_DAY
    window = {"instId": SWAP, "bar": "1H", "after": recent}
    assert okx.publicGetMarketCandles(window)["data"] == []
    assert len(okx.publicGetMarketHistoryCandles({**window, "limit": 300})["data"]) == 300


def test_funding_since_a_day_skips_the_oldest_rows_unless_after_is_given(
    simulator: ExchangeSimulator, okx: Any
) -> None:
    since = END - 60 * MS_PER_DAY
    every = 8 * MS_PER_HOUR
    naive = okx.fetch_funding_rate_history(LINEAR, since, 100)
    assert len(naive) == 100
    assert naive[0]["timestamp"] == END - 99 * every > since
    bounded = okx.fetch_funding_rate_history(LINEAR, since, 100, {"after": since + 100 * every})
    assert [row["timestamp"] for row in bounded] == [since + n * every for n in range(100)]
    times, rates = simulator.market.funding("BTC", "okx", 8, END)
    known = dict(zip(times.tolist(), rates.tolist(), strict=True))
    assert [row["fundingRate"] for row in bounded] == pytest.approx(
        [known[row["timestamp"]] for row in bounded], abs=1e-10
    )


def test_funding_older_than_three_months_is_gone(okx: Any) -> None:
    oldest, cursor = END, END + 1
    while True:
        page = okx.publicGetPublicFundingRateHistory({"instId": SWAP, "after": cursor})["data"]
        if not page:
            break
        cursor = oldest = int(page[-1]["fundingTime"])
    assert oldest == END - 92 * MS_PER_DAY


def test_open_interest_and_ratios_keep_1440_rows_and_page_a_hundred(
    simulator: ExchangeSimulator, okx: Any
) -> None:
    oldest = END - 1_439 * MS_PER_HOUR
    held = okx.fetch_open_interest_history(LINEAR, "1h", oldest, 500)
    assert [row["timestamp"] for row in held] == [oldest + n * MS_PER_HOUR for n in range(100)]
    usd = simulator.market.share("okx") * simulator.market.assets["BTC"].open_interest_usd
    path = [usd[simulator.market.point(row["timestamp"])] for row in held]
    assert [row["openInterestValue"] for row in held] == pytest.approx(path, rel=0.25)
    assert held[0]["openInterestValue"] != pytest.approx(path[0], rel=1e-6)
    leans = okx.fetch_long_short_ratio_history(LINEAR, "1h", oldest, 500)
    assert len(leans) == 100
    assert all(0.2 < row["longShortRatio"] < 5 for row in leans)
    assert okx.fetch_open_interest_history(LINEAR, "1h", oldest - 200 * MS_PER_HOUR, 100) == []


def test_tiers_are_in_contracts_though_ccxt_calls_them_dollars(okx: Any) -> None:
    tiers = okx.fetch_market_leverage_tiers(LINEAR)
    assert tiers[0]["maxNotional"] == 2_500
    assert tiers[0]["currency"] == "USDT"
    assert [tier["maintenanceMarginRate"] for tier in tiers] == sorted(
        tier["maintenanceMarginRate"] for tier in tiers
    )


def test_the_book_holds_the_markets_depth(simulator: ExchangeSimulator, okx: Any) -> None:
    book = okx.fetch_order_book(LINEAR, 400)
    assert len(book["bids"]) == 400
    okx.load_markets()
    with pytest.raises(ccxt.BadRequest, match="sz error"):
        okx.publicGetMarketBooks({"instId": SWAP, "sz": 401})
    full = okx.fetch_order_book(LINEAR, 5_000)
    mid = 0.5 * (full["bids"][0][0] + full["asks"][0][0])
    held = sum(
        contracts * 0.01 * price for price, contracts, *_ in full["bids"] if price >= 0.99 * mid
    )
    model = simulator.market.venue("BTC", "okx").depth_usd[simulator.market.point(END)]
    assert held == pytest.approx(model, rel=0.02)


def test_trades_page_backwards_by_their_id(okx: Any) -> None:
    newest = okx.fetch_trades(LINEAR, None, 100)
    cursor, ids = newest[0]["id"], []
    for _page in range(3):
        page = okx.publicGetMarketHistoryTrades({"instId": SWAP, "after": cursor, "type": "1"})
        ids += [int(row["tradeId"]) for row in page["data"]]
        cursor = ids[-1]
    last = int(newest[0]["id"])
    assert ids == list(range(last - 1, last - 301, -1))
    later = okx.publicGetMarketHistoryTrades({"instId": SWAP, "before": last - 5})["data"]
    assert [int(row["tradeId"]) for row in later] == list(
        range(int(newest[-1]["id"]), int(newest[-1]["id"]) - 100, -1)
    )
    top = int(newest[-1]["id"])
    few = okx.publicGetMarketHistoryTrades({"instId": SWAP, "before": top - 3})["data"]
    assert [int(row["tradeId"]) for row in few] == [top, top - 1, top - 2]
    by_time = {"instId": SWAP, "type": "2", "after": few[-1]["ts"], "limit": 2}
    older = okx.publicGetMarketHistoryTrades(by_time)["data"]
    assert [int(row["tradeId"]) for row in older] == [top - 3, top - 4]


def test_the_chain_reaches_ccxt_and_its_volatilities_come_apart(okx: Any) -> None:
    chain = okx.fetch_option_chain("BTC")
    summary = {
        row["instId"]: row for row in okx.publicGetPublicOptSummary({"uly": "BTC-USD"})["data"]
    }
    assert {option["info"]["instId"] for option in chain.values()} == set(summary)
    assert all(0.05 < float(row["markVol"]) < 5 for row in summary.values())
    asked = {"instType": "OPTION", "uly": "BTC-USD"}
    marks = {row["instId"]: row["markPx"] for row in okx.publicGetPublicMarkPrice(asked)["data"]}
    assert set(marks) == set(summary)
    for option in chain.values():
        mark = float(marks[option["info"]["instId"]])
        assert (option["bidPrice"] or 0.0) <= mark + 1e-6
        assert mark <= option["askPrice"] + 1e-6
    expiry = next(iter(summary)).split("-")[2]
    one = okx.publicGetPublicOptSummary({"uly": "BTC-USD", "expTime": expiry})["data"]
    assert {row["instId"].split("-")[2] for row in one} == {expiry}
    assert 0 < len(one) < len(summary)
    trades = okx.publicGetPublicOptionTrades({"instFamily": "BTC-USD"})["data"]
    assert len(trades) == 100
    times = [int(row["ts"]) for row in trades]
    assert times == sorted(times, reverse=True)
    assert okx.fetch_trades(next(s for s, o in chain.items()
                                 if o["info"]["instId"] == trades[0]["instId"]))  # fmt: skip


def test_deliveries_tell_what_was_exercised(simulator: ExchangeSimulator, okx: Any) -> None:
    rows = okx.publicGetPublicDeliveryExerciseHistory({"instType": "OPTION", "uly": "BTC-USD"})
    times = [int(row["ts"]) for row in rows["data"]]
    assert times == sorted(times, reverse=True)
    assert times[-1] >= END - 92 * MS_PER_DAY
    for row in rows["data"][0]["details"]:
        strike, side = float(row["insId"].split("-")[3]), row["insId"][-1]
        pays = (float(row["px"]) > strike) if side == "C" else (float(row["px"]) < strike)
        assert row["type"] == ("exercised" if pays else "expired_otm")


@pytest.mark.parametrize(
    ("asked", "error", "code"),
    [
        ({"instId": "DOGE-USDT-SWAP", "bar": "1H"}, ccxt.BadSymbol, "51001"),
        ({"instId": SWAP, "bar": "1m"}, ccxt.BadRequest, "51000"),
        ({"instId": SWAP, "bar": "1W"}, ccxt.BadRequest, "51000"),
        ({"bar": "1H"}, ccxt.BadRequest, "50014"),
    ],
)
def test_refusals_reach_ccxt_as_the_exchanges_own(
    okx: Any, asked: dict[str, str], error: type[Exception], code: str
) -> None:
    with pytest.raises(error, match=code):
        okx.publicGetMarketCandles(asked)


def test_nothing_after_the_clock_is_served(simulator: ExchangeSimulator, okx: Any) -> None:
    now = START + 33 * MS_PER_DAY + 17 * MS_PER_HOUR + 123_456
    simulator.set_clock(now)
    stamps = {
        "candles": okx.publicGetMarketHistoryCandles({"instId": SWAP, "bar": "5m"}),
        "mark": okx.publicGetMarketMarkPriceCandles({"instId": SWAP, "bar": "5m"}),
        "funding": okx.publicGetPublicFundingRateHistory({"instId": SWAP}),
        "held": okx.publicGetRubikStatContractsOpenInterestHistory({"instId": SWAP}),
        "trades": okx.publicGetMarketTrades({"instId": SWAP}),
        "option": okx.publicGetPublicOptionTrades({"instFamily": "BTC-USD"}),
    }
    for feed, answer in stamps.items():
        newest = answer["data"][0]
        key = {"funding": "fundingTime"}.get(feed, "ts")
        at_ms = int(newest[0] if isinstance(newest, list) else newest[key])
        assert now - 9 * MS_PER_HOUR < at_ms <= now, feed
