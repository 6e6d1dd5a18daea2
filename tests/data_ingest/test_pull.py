from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest import pull as pull_module
from data_ingest.clients import ExchangeClient
from data_ingest.pull import pull_market
from data_ingest.simulator import ExchangeSimulator, Fault, FaultSchedule, MarketParameters
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-01-15")
START = PARAMETERS.start + 5 * MS_PER_DAY


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


def market(**changes: Any) -> MarketSpec:
    return MarketSpec.model_validate(
        {
            "exchange": "binanceusdm",
            "assets": ["BTC"],
            "start": START,
            "end": START + MS_PER_DAY,
            "depth": {"recorded": True, "poll": "12h"},
            "options": {"poll": "8h"},
        }
        | changes
    )


def test_one_call_pulls_a_market_and_a_second_asks_for_nothing_stored(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    reports = pull_market(store, market(), simulator.url, simulate_clock=True)
    assert [report.feed for report in reports] == [
        "trade_candles", "mark_candles", "index_candles", "funding", "chain", "depth",
        "instruments", "instruments",
    ]  # fmt: skip
    instants = store.rows("SELECT DISTINCT ts_ms FROM chain ORDER BY 1")
    assert [row[0] for row in instants] == list(
        range(START, START + MS_PER_DAY + 1, 8 * MS_PER_HOUR)
    )
    assert store.rows("SELECT count(*) FROM depth") == [(3,)]
    assert store.rows("SELECT bool_and(is_synthetic) FROM batches") == [(True,)]
    again = pull_market(store, market(), simulator.url, simulate_clock=True)
    assert {r.feed: r.rows_added for r in again if r.rows_read} == {"instruments": 0}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a market's clients wait for nothing."""
    opened = pull_module.open_exchange

    def at_once(*arguments: Any, **named: Any) -> ExchangeClient:
        client = opened(*arguments, **named)
        client.sleep = lambda _: None
        client.attempts = 3
        return client

    monkeypatch.setattr(pull_module, "open_exchange", at_once)


@pytest.mark.usefixtures("hasty")
def test_a_refused_feed_does_not_stop_the_others(store: DataStore) -> None:
    """A 451 is for good: its feed is given up with the exchange's sentence after one question."""
    plan = FaultSchedule(faults=(Fault(kind="451", path="*markPriceKlines"),))
    with ExchangeSimulator(PARAMETERS, faults=plan) as server:
        reports = pull_market(store, market(), server.url, simulate_clock=True)
        assert [fault.kind for fault in server.fired] == ["451"]
    assert [report.feed for report in reports if report.failure] == ["mark_candles"]
    assert store.rows("SELECT feed, reason FROM shortfalls") == [("mark_candles", "refused")]
    assert store.rows("SELECT count(*) FROM candles") == [(48,)]
    assert store.rows("SELECT count(DISTINCT ts_ms) FROM chain") == [(4,)]


@pytest.mark.usefixtures("hasty")
def test_an_exchange_that_is_down_is_not_asked_for_each_of_its_feeds(store: DataStore) -> None:
    plan = FaultSchedule(faults=(Fault(kind="503", path="/fapi/*"),))
    with ExchangeSimulator(PARAMETERS, faults=plan) as server:
        reports = pull_market(store, market(), server.url, simulate_clock=True)
        # Three attempts at its markets and three at its clock, then no more.
        assert len(server.fired) == 6
    failed = [report for report in reports if report.failure]
    assert {report.exchange for report in failed} == {"binanceusdm"}
    assert len(failed) == 6
    assert store.rows("SELECT count(DISTINCT ts_ms) FROM chain") == [(4,)]
    noted = store.rows("SELECT DISTINCT feed FROM shortfalls WHERE reason = 'unanswered'")
    assert len(noted) == 6


@pytest.mark.usefixtures("hasty")
def test_further_feeds_come_from_the_exchange_that_has_them(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    spec = market(feeds=["open_interest", "dvol", "settlements"])
    reports = pull_market(store, spec, simulator.url, simulate_clock=True)
    found = {report.feed: report for report in reports}
    assert (found["open_interest"].exchange, found["dvol"].exchange) == ("binanceusdm", "deribit")
    assert found["dvol"].stored == 24
    with pytest.raises(ValueError, match="have no further feed 'dvl'; feeds may name"):
        market(feeds=["dvl"])


@pytest.mark.usefixtures("hasty")
def test_trades_come_from_the_options_exchange_under_its_own_symbol(
    simulator: ExchangeSimulator, store: DataStore
) -> None:
    reports = pull_market(store, market(feeds=["trades"]), simulator.url, simulate_clock=True)
    (trades,) = [report for report in reports if report.feed == "trades"]
    assert (trades.exchange, trades.market) == ("deribit", "BTC/USD:BTC")
    assert trades.stored == 1_152
    assert not trades.shortfalls
