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

PARAMETERS = MarketParameters(start="2024-01-01", end="2025-01-25")
START, END = PARAMETERS.start, PARAMETERS.end
LINEAR, FOUR_HOURLY, INVERSE = "BTC/USDT:USDT", "ETH/USDC:USDC", "BTC/USD:BTC"


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
def linear(simulator: ExchangeSimulator) -> Any:
    return client_of(simulator, "binanceusdm")


@pytest.fixture
def inverse(simulator: ExchangeSimulator) -> Any:
    return client_of(simulator, "binancecoinm")


def test_ccxt_loads_coin_margined_markets_with_their_contract_sizes(inverse: Any) -> None:
    markets = inverse.load_markets()
    assert {name: market["contractSize"] for name, market in markets.items()} == {
        INVERSE: 100, f"{INVERSE}-250328": 100, f"{INVERSE}-250627": 100,
        "ETH/USD:ETH": 10, "ETH/USD:ETH-250328": 10, "ETH/USD:ETH-250627": 10}  # fmt: skip
    assert all(market["inverse"] and market["active"] for market in markets.values())


@pytest.mark.parametrize("price", ["trade", "mark", "index", "premiumIndex"])
def test_coin_margined_candles_are_the_markets_own(
    simulator: ExchangeSimulator, inverse: Any, price: str
) -> None:
    asked = {} if price == "trade" else {"price": price}
    rows = np.array(inverse.fetch_ohlcv(INVERSE, "1h", START, 1_000, asked), dtype=float)
    kind = price.removesuffix("Index")
    _, bars, usd = simulator.market.candles(
        "BTC", "binance_coinm", kind, MS_PER_HOUR, START, START + 1_000 * MS_PER_HOUR
    )
    assert rows.shape[0] == 1_000
    np.testing.assert_allclose(rows[:, 1:5], bars, atol=5e-9 if kind == "premium" else 0.0051)
    if kind == "trade":
        # The row counts contracts of a hundred dollars; ccxt takes the coins further right.
        np.testing.assert_allclose(rows[:, 5] * bars[:, 3], usd, rtol=1e-4)
        window = {"symbol": "BTCUSD_PERP", "interval": "1h", "startTime": START, "limit": 1}
        assert float(inverse.dapiPublicGetKlines(window)[0][5]) == round(usd[0] / 100)


def test_a_coin_margined_window_is_no_longer_than_two_hundred_days(inverse: Any) -> None:
    inverse.load_markets()
    with pytest.raises(ccxt.BadRequest, match="-1127"):
        inverse.fetch_ohlcv(INVERSE, "1d", START, 300)
    assert len(inverse.fetch_ohlcv(INVERSE, "1d", START, 200)) == 200
    window = {"pair": "BTCUSD", "interval": "1d", "limit": 1_500}
    first = inverse.dapiPublicGetIndexPriceKlines({**window, "startTime": START})
    assert [int(row[0]) for row in first] == [START + n * MS_PER_DAY for n in range(201)]
    newest = inverse.dapiPublicGetIndexPriceKlines({**window, "endTime": END})
    assert len(newest) == 200
    assert int(newest[-1][0]) == END - MS_PER_DAY


def test_both_exchanges_pay_their_own_funding(
    simulator: ExchangeSimulator, linear: Any, inverse: Any
) -> None:
    for client, symbol, venue in ((linear, LINEAR, "binance"), (inverse, INVERSE, "binance_coinm")):
        rows = client.fetch_funding_rate_history(symbol, START, 1_000)
        _, rates = simulator.market.funding("BTC", venue, 8, END)
        assert [row["fundingRate"] for row in rows] == pytest.approx(rates[:1_000], abs=5e-9)


def test_four_hourly_funding_is_half_of_the_dampened_eight_hourly_rate(
    simulator: ExchangeSimulator, linear: Any
) -> None:
    info = {row["symbol"]: int(row["fundingIntervalHours"])
            for row in linear.fapiPublicGetFundingInfo()}  # fmt: skip
    assert info == {"BTCUSDT": 8, "ETHUSDT": 8, "ETHUSDC": 4}
    rows = linear.fetch_funding_rate_history(FOUR_HOURLY, START, 1_000)
    steps = {later["timestamp"] - now["timestamp"] for now, later in pairwise(rows)}
    assert all(abs(step - 4 * MS_PER_HOUR) < 10 for step in steps)
    premium = simulator.market.venue("ETH", "binance_usdc").premium[:48].mean()
    rate = premium + np.clip(1e-4 - premium, -5e-4, 5e-4)
    assert rows[0]["fundingRate"] == pytest.approx(rate / 2, abs=5e-9)


def test_ccxts_own_pages_lose_four_hourly_funding_without_an_error(
    simulator: ExchangeSimulator, linear: Any
) -> None:
    until = START + 390 * MS_PER_DAY
    paged = linear.fetch_funding_rate_history(
        FOUR_HOURLY, START, None, {"paginate": True, "until": until}
    )
    served, _ = simulator.market.funding("ETH", "binance_usdc", 4, END)
    due = int((served <= until).sum())
    got = {round(row["timestamp"] / MS_PER_HOUR) for row in paged}
    hours = sorted(got)
    holes = [later - now for now, later in pairwise(hours) if later - now > 4]
    assert due == 2_340
    assert len(got) == 1_340
    assert len(holes) == 1


@pytest.mark.parametrize(("exchange", "symbol"), [("linear", LINEAR), ("inverse", INVERSE)])
def test_statistics_are_kept_for_thirty_days(
    request: pytest.FixtureRequest, exchange: str, symbol: str
) -> None:
    client = request.getfixturevalue(exchange)
    oldest = END - 30 * MS_PER_DAY
    held = client.fetch_open_interest_history(symbol, "1h", oldest, 500)
    assert held[0]["timestamp"] in (oldest, oldest + MS_PER_HOUR)
    assert len(held) == 500
    assert all(row["openInterestValue"] > 0 for row in held)
    with pytest.raises(ccxt.BadRequest, match="startTime"):
        client.fetch_open_interest_history(symbol, "1h", oldest - MS_PER_HOUR, 500)
    with pytest.raises(ccxt.BadRequest, match="limit"):
        client.fetch_open_interest_history(symbol, "1h", oldest, 501)
    leans = client.fetch_long_short_ratio_history(symbol, "1h", oldest, 200)
    times = [row["timestamp"] for row in leans]
    assert times == sorted(times)
    assert times[-1] == END
    assert all(0.2 < row["longShortRatio"] < 5 for row in leans)


def test_the_history_of_open_interest_ends_at_what_is_open_now(
    simulator: ExchangeSimulator, linear: Any
) -> None:
    simulator.set_clock(START + 40 * MS_PER_DAY)
    now = linear.fetch_open_interest(LINEAR)["openInterestAmount"]
    history = linear.fetch_open_interest_history(LINEAR, "5m", None, 2)
    assert history[-1]["openInterestAmount"] == pytest.approx(now, abs=6e-4)


def test_top_traders_lean_otherwise_than_all_accounts(linear: Any) -> None:
    asked = {"symbol": "BTCUSDT", "period": "1h"}
    everyone = linear.fapiDataGetGlobalLongShortAccountRatio(asked)
    top = linear.fapiDataGetTopLongShortPositionRatio(asked)
    assert len(everyone) == len(top) == 30
    assert [row["longAccount"] for row in everyone] != [row["longPosition"] for row in top]


@pytest.mark.parametrize(("exchange", "symbol"), [("linear", LINEAR), ("inverse", INVERSE)])
def test_brackets_are_for_whoever_signs(
    request: pytest.FixtureRequest, exchange: str, symbol: str
) -> None:
    client = request.getfixturevalue(exchange)
    with pytest.raises(ccxt.AuthenticationError):
        client.fetch_leverage_tiers([symbol])
    client.apiKey, client.secret = "any key", "any secret"
    tiers = client.fetch_leverage_tiers([symbol])[symbol]
    for low, high in pairwise(tiers):
        edge = low["maxNotional"]
        below = edge * low["maintenanceMarginRate"] - float(low["info"]["cum"])
        above = edge * high["maintenanceMarginRate"] - float(high["info"]["cum"])
        assert high["minNotional"] == edge
        assert above == pytest.approx(below, rel=1e-9)


def test_an_unsigned_question_for_brackets_is_refused(
    simulator: ExchangeSimulator, linear: Any
) -> None:
    with pytest.raises(ccxt.AuthenticationError, match="-2014"):
        linear.fetch(f"{simulator.url}/fapi/v1/leverageBracket")
    with pytest.raises(ccxt.BadRequest, match="signature"):
        linear.fetch(
            f"{simulator.url}/fapi/v1/leverageBracket?timestamp=1", "GET", {"X-MBX-APIKEY": "key"}
        )


def test_a_key_does_not_keep_ccxt_from_loading_the_markets(
    simulator: ExchangeSimulator,
) -> None:
    client = client_of(simulator, "binanceusdm", apiKey="any key", secret="any secret")
    assert LINEAR in client.load_markets()
