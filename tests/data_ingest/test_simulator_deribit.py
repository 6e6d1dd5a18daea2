from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ccxt
import numpy as np
import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.feed_table import find_feed
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from tests.data_ingest.exchange_clients import client_of

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-03-11")
START, END = PARAMETERS.start, PARAMETERS.end
MORNING = START + 8 * MS_PER_HOUR
PERPETUAL = "BTC/USD:BTC"


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS, deribit_keeps_a_day=True) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(END)
    yield running
    running.set_clock(END)


@pytest.fixture
def deribit(simulator: ExchangeSimulator) -> Any:
    return client_of(simulator, "deribit")


@pytest.fixture
def archive(simulator: ExchangeSimulator) -> Any:
    client = client_of(simulator, "deribit")
    client.urls["api"] = {"rest": f"{simulator.url}/archive"}
    return client


def settlements(client: Any, **asked: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        page = client.publicGetGetLastSettlementsByCurrency({"currency": "BTC", **asked})["result"]
        rows += page["settlements"]
        if page["continuation"] is None:
            return rows
        asked["continuation"] = page["continuation"]


def test_settlements_come_newest_first_and_a_continuation_leads_through_all(
    simulator: ExchangeSimulator, deribit: Any
) -> None:
    rows = settlements(deribit, count=100)
    times = [int(row["timestamp"]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert rows == settlements(deribit, count=1_000)
    assert len({(row["timestamp"], row["instrument_name"]) for row in rows}) == len(rows)
    daily = [row for row in rows if row["type"] == "settlement"]
    assert [int(row["timestamp"]) for row in reversed(daily)] == [
        MORNING + n * MS_PER_DAY for n in range(70)
    ]
    assert {row["instrument_name"] for row in daily} == {"BTC-PERPETUAL"}


def test_an_option_is_delivered_at_its_payoff_in_coin(deribit: Any) -> None:
    rows = settlements(deribit, type="delivery", count=1_000)
    prices = {
        row["date"]: float(row["delivery_price"])
        for row in deribit.publicGetGetDeliveryPrices({"index_name": "btc_usd", "count": 100})[
            "result"
        ]["data"]
    }
    paid = 0
    for row in rows:
        _, _, strike, side = row["instrument_name"].split("-")
        index = prices[str(np.datetime64(int(row["timestamp"]), "ms").astype("datetime64[D]"))]
        gain = (index - float(strike)) * (1 if side == "C" else -1)
        assert float(row["index_price"]) == index
        assert float(row["mark_price"]) == pytest.approx(max(gain, 0) / index, abs=1e-6)
        paid += gain > 0
    assert 0 < paid < len(rows)


def test_a_search_starts_at_its_end(deribit: Any) -> None:
    bound = START + 20 * MS_PER_DAY
    rows = settlements(deribit, search_start_timestamp=bound, count=1_000)
    assert max(int(row["timestamp"]) for row in rows) <= bound
    assert min(int(row["timestamp"]) for row in rows) == MORNING


def test_one_instruments_settlements_are_its_own(deribit: Any) -> None:
    asked = {"instrument_name": "BTC-PERPETUAL", "count": 5}
    page = deribit.publicGetGetLastSettlementsByInstrument(asked)["result"]
    assert [row["instrument_name"] for row in page["settlements"]] == ["BTC-PERPETUAL"] * 5
    assert page["continuation"]
    assert settlements(deribit, type="bankruptcy") == []
    with pytest.raises(ccxt.BadRequest, match="count"):
        deribit.publicGetGetLastSettlementsByCurrency({"currency": "BTC", "count": 1_001})


def test_a_mornings_funding_is_the_days_accruals_on_what_is_open(
    simulator: ExchangeSimulator, deribit: Any
) -> None:
    row = settlements(deribit, type="settlement", count=1_000)[3]
    at_ms = int(row["timestamp"])
    accrued = deribit.fetch_funding_rate_history(
        PERPETUAL, at_ms - MS_PER_DAY + 1, 100, {"until": at_ms}
    )
    day = sum(float(hour["info"]["interest_1h"]) for hour in accrued)
    coins = float(row["position"]) / float(row["index_price"])
    assert len(accrued) == 24
    assert float(row["funding"]) == pytest.approx(day * coins, rel=1e-6, abs=1e-8)


def test_liquidations_are_flagged_and_crowd_where_the_price_runs(
    simulator: ExchangeSimulator, archive: Any
) -> None:
    trades: list[dict[str, Any]] = []
    cursor = START
    while len(trades) < 80_000:
        page = simulator.exchanges.deribit_archive.call(
            "get_last_trades_by_instrument_and_time",
            {"instrument_name": "BTC-PERPETUAL", "start_timestamp": str(cursor), "count": "1000",
             "sorting": "asc"},
            END,
        )  # fmt: skip
        trades += page["trades"]
        if not page["has_more"]:
            break
        cursor = trades[-1]["timestamp"] + 1
    flagged = [trade for trade in trades if "liquidation" in trade]
    bars = simulator.market.venue("BTC", "deribit").trade[: len(trades) // 4]
    run = np.abs(np.log(bars[:, 3] / bars[:, 0]))
    hit = np.array(["liquidation" in trade for trade in trades]).reshape(-1, 4).mean(axis=1)
    assert {trade["liquidation"] for trade in flagged} == {"M", "T"}
    assert 0.001 < len(flagged) / len(trades) < 0.02
    assert hit[run > np.quantile(run, 0.95)].mean() > 5 * hit[run < np.median(run)].mean() > 0
    first = flagged[0]["timestamp"]
    unified = archive.fetch_trades(PERPETUAL, first, 1, {"sorting": "asc"})
    assert unified[0]["info"]["liquidation"] == flagged[0]["liquidation"]


def test_the_trading_host_keeps_a_day_of_trades_and_the_archive_all(
    deribit: Any, archive: Any
) -> None:
    asked = {"currency": "BTC", "kind": "option", "count": 1_000, "sorting": "asc"}
    old = {**asked, "start_timestamp": START, "end_timestamp": START + MS_PER_DAY}
    assert deribit.publicGetGetLastTradesByCurrencyAndTime(old)["result"]["trades"] == []
    assert len(archive.publicGetGetLastTradesByCurrencyAndTime(old)["result"]["trades"]) > 100
    fresh = {**asked, "start_timestamp": END - MS_PER_DAY, "end_timestamp": END}
    both = [client.publicGetGetLastTradesByCurrencyAndTime(fresh)["result"]["trades"]
            for client in (deribit, archive)]  # fmt: skip
    assert both[0] == both[1] != []


def test_the_archive_has_no_volatility_index(deribit: Any, archive: Any) -> None:
    asked = {"currency": "BTC", "resolution": "3600", "start_timestamp": START,
             "end_timestamp": END}  # fmt: skip
    assert deribit.publicGetGetVolatilityIndexData(asked)["result"]["data"]
    with pytest.raises(ccxt.ExchangeError, match="Method not found"):
        archive.publicGetGetVolatilityIndexData(asked)


def test_ccxts_own_pages_lose_candles_without_an_error(
    simulator: ExchangeSimulator, deribit: Any
) -> None:
    until = START + 20 * MS_PER_DAY
    due = 20 * 288
    rows = deribit.fetch_ohlcv(PERPETUAL, "5m", START, None, {"paginate": True, "until": until})
    times = [row[0] for row in rows if row[0] < until]
    # Every page is asked with the same end, so every page is the newest 5,001 bars.
    assert len(set(times)) <= 5_001 < due
    assert min(times) > START


def test_funding_can_be_asked_for_in_the_first_hour(
    simulator: ExchangeSimulator, deribit: Any
) -> None:
    simulator.set_clock(START)
    assert deribit.fetch_funding_rate_history(PERPETUAL, START, 10, {"until": END}) == []
    assert deribit.fetch_ticker(PERPETUAL)["last"] > 0


def test_open_interest_is_known_of_now_only(simulator: ExchangeSimulator, deribit: Any) -> None:
    held = float(deribit.fetch_open_interest(PERPETUAL)["info"]["open_interest"])
    share = simulator.market.parameters.liquidity.deribit_share
    model = share * simulator.market.assets["BTC"].open_interest_usd[-1]
    assert held == pytest.approx(model, abs=10)
    option = next(iter(deribit.fetch_option_chain("BTC").values()))["info"]
    asked = {"instrument_name": option["instrument_name"]}
    assert deribit.publicGetGetBookSummaryByInstrument(asked)["result"] == [option]


def test_trades_of_an_option_are_numbered_one_by_one_and_served_by_number(archive: Any) -> None:
    window = {"start_timestamp": START, "end_timestamp": END, "count": 1_000, "sorting": "asc"}
    busy = archive.publicGetGetLastTradesByCurrency({"currency": "BTC", "kind": "option", **window})
    name = busy["result"]["trades"][-1]["instrument_name"]
    for instrument in (name, "BTC-PERPETUAL"):
        asked = {"instrument_name": instrument, "count": 1_000, "sorting": "asc"}
        trades = archive.publicGetGetLastTradesByInstrument(asked)["result"]["trades"]
        assert [int(row["trade_seq"]) for row in trades] == list(range(1, len(trades) + 1))
        some = {**asked, "start_seq": 2, "end_seq": 4}
        assert archive.publicGetGetLastTradesByInstrument(some)["result"]["trades"] == trades[1:4]


def test_the_volatility_index_has_the_documented_resolutions_and_longer_bars_hold_shorter_ones(
    deribit: Any,
) -> None:
    hour = {"currency": "BTC", "start_timestamp": START, "end_timestamp": START + MS_PER_HOUR - 1}

    def bars(resolution: str) -> Any:
        asked = {**hour, "resolution": resolution}
        return np.array(deribit.publicGetGetVolatilityIndexData(asked)["result"]["data"])

    minutes, (whole,) = bars("60"), bars("3600")
    assert np.diff(minutes[:, 0]).tolist() == [60_000] * 59
    assert (whole[1], whole[4]) == (minutes[0, 1], minutes[-1, 4])
    assert (whole[2], whole[3]) == (minutes[:, 2].max(), minutes[:, 3].min())
    assert len(bars("1")) == 1_000
    for resolution in find_feed("deribit", "dvol").periods.values():
        assert len(bars(resolution))
    with pytest.raises(ccxt.BadRequest, match="wrong resolution"):
        bars("300")
