from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ccxt
import numpy as np
import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from tests.data_ingest.exchange_clients import client_of

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-02-20")
START, END = PARAMETERS.start, PARAMETERS.end
BTC = "BTC/USDC:USDC"


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
def hyperliquid(simulator: ExchangeSimulator) -> Any:
    return client_of(simulator, "hyperliquid")


def test_candles_are_the_markets_own(simulator: ExchangeSimulator, hyperliquid: Any) -> None:
    rows = np.array(hyperliquid.fetch_ohlcv(BTC, "1h", START, 500), dtype=float)
    _, bars, usd = simulator.market.candles(
        "BTC", "hyperliquid", "trade", MS_PER_HOUR, START, START + 500 * MS_PER_HOUR
    )
    assert rows[0, 0] == START
    np.testing.assert_allclose(rows[:, 1:5], bars, atol=0.0051)
    np.testing.assert_allclose(rows[:, 5] * bars[:, 3], usd, rtol=1e-5)


def test_only_the_newest_five_thousand_candles_of_an_interval_exist(hyperliquid: Any) -> None:
    rows = hyperliquid.fetch_ohlcv(BTC, "5m", START, 100_000, {"until": END})
    known = END // 300_000 * 300_000
    assert rows[0][0] == known - 4_999 * 300_000
    assert rows[-1][0] == known - 300_000
    gone = {"until": START + MS_PER_DAY}
    assert hyperliquid.fetch_ohlcv(BTC, "5m", START, 100, gone) == []
    assert len(hyperliquid.fetch_ohlcv(BTC, "1h", START, 24, gone)) == 24


def test_funding_is_hourly_oldest_first_and_five_hundred_to_a_page(
    simulator: ExchangeSimulator, hyperliquid: Any
) -> None:
    times, rates = simulator.market.funding("BTC", "hyperliquid", 1, END)
    got: list[dict[str, Any]] = []
    cursor = START
    while page := hyperliquid.fetch_funding_rate_history(BTC, cursor, None, {"until": END}):
        assert len(page) <= 500
        got += page
        cursor = page[-1]["timestamp"] + 1
    late = np.array([row["timestamp"] for row in got]) - times[: len(got)]
    # The last hour is stamped after the clock, and so not known yet.
    assert len(times) - len(got) <= 1
    assert 0 <= late.min() < late.max() < 100
    assert [row["fundingRate"] for row in got] == pytest.approx(rates[: len(got)], abs=1e-10)


def test_margin_tables_belong_to_their_markets(hyperliquid: Any) -> None:
    meta = hyperliquid.publicPostInfo({"type": "meta"})
    tables = {number: table["marginTiers"] for number, table in meta["marginTables"]}
    tiered = [market for market in meta["universe"] if int(market["marginTableId"]) >= 50]
    assert len(tiered) == len(tables) == 2
    for market in tiered:
        tiers = tables[market["marginTableId"]]
        assert int(tiers[0]["maxLeverage"]) == int(market["maxLeverage"])
        bounds = [float(tier["lowerBound"]) for tier in tiers]
        assert bounds == sorted(bounds)
        assert int(tiers[-1]["maxLeverage"]) < int(market["maxLeverage"])


def test_a_book_has_twenty_levels(simulator: ExchangeSimulator, hyperliquid: Any) -> None:
    book = hyperliquid.fetch_order_book(BTC)
    assert len(book["bids"]) == len(book["asks"]) == 20
    assert book["bids"][0][0] < book["asks"][0][0]
    assert book["timestamp"] == simulator.now_ms


def test_open_interest_and_funding_of_now_come_with_the_markets(
    simulator: ExchangeSimulator, hyperliquid: Any
) -> None:
    held = hyperliquid.fetch_open_interests()[BTC]["openInterestAmount"]
    mark = hyperliquid.fetch_ticker(BTC)["info"]["markPx"]
    model = simulator.market.assets["BTC"].open_interest_usd[-1]
    share = simulator.market.parameters.liquidity.hyperliquid_share
    assert held * float(mark) == pytest.approx(share * model, rel=0.25)
    _, rates = simulator.market.funding("BTC", "hyperliquid", 1, END)
    assert hyperliquid.fetch_funding_rates()[BTC]["fundingRate"] == pytest.approx(rates[-1])


@pytest.mark.parametrize(
    "question",
    [
        {"type": "candleSnapshot", "req": {"coin": "BTC", "interval": "1m", "startTime": START}},
        {"type": "candleSnapshot", "coin": "BTC"},
        {"type": "fundingHistory", "coin": "BTC"},
        {"type": "fundingHistory", "coin": "DOGE", "startTime": START},
    ],
)
def test_what_is_not_understood_is_refused(hyperliquid: Any, question: dict[str, Any]) -> None:
    with pytest.raises(ccxt.ExchangeError, match="Failed to deserialize"):
        hyperliquid.publicPostInfo(question)


def test_nothing_after_the_clock_is_served(simulator: ExchangeSimulator, hyperliquid: Any) -> None:
    now = START + 33 * MS_PER_DAY + 17 * MS_PER_HOUR + 1_234_567
    simulator.set_clock(now)
    candle = hyperliquid.fetch_ohlcv(BTC, "1h", now - MS_PER_DAY, 100, {"until": END})[-1]
    paid = hyperliquid.fetch_funding_rate_history(BTC, now - MS_PER_DAY, None, {"until": END})
    assert candle[0] == now // MS_PER_HOUR * MS_PER_HOUR
    assert now - MS_PER_HOUR < paid[-1]["timestamp"] <= now
