"""The collector: every slot once, nothing twice, and what was missed is written down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.clients import FeedError
from data_ingest.collect import SimulatedClock, collect
from data_ingest.pull_report import PullReport
from data_ingest.simulator import ExchangeSimulator, Fault, FaultSchedule, MarketParameters
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore
from data_ingest.turns import WriterTurn

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-01-15")
START = PARAMETERS.start + 5 * MS_PER_DAY


@pytest.fixture
def simulator() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as running:
        yield running


def market(**changes: Any) -> MarketSpec:
    return MarketSpec.model_validate(
        {
            "exchange": "okx",
            "assets": ["BTC"],
            "start": START,
            "end": START + MS_PER_DAY,
            "depth": {"recorded": True, "poll": "12h"},
            "options": {"exchange": "deribit", "poll": "8h"},
            "feeds": ["brackets", "open_interest"],
        }
        | changes
    )


def run(
    simulator: ExchangeSimulator, path: Path, start_ms: int, hours: int, **changes: Any
) -> list[tuple[int, PullReport]]:
    """Collect for some hours of simulated time."""
    taken: list[tuple[int, PullReport]] = []
    collect(
        path,
        market(**changes),
        simulator.url,
        until_ms=start_ms + hours * MS_PER_HOUR,
        clock=SimulatedClock(simulator.url, start_ms),
        progress=lambda at_ms, report: taken.append((at_ms, report)),
    )
    return taken


def instants(path: Path, table: str) -> list[int]:
    with DataStore(path, read_only=True) as store:
        found = store.rows(f"SELECT DISTINCT ts_ms FROM {table} ORDER BY 1")
    return [int(row[0]) for row in found]


def test_each_feed_is_taken_once_per_slot_of_its_own(
    simulator: ExchangeSimulator, tmp_path: Path
) -> None:
    path = tmp_path / "market.duckdb"
    begun = START + 3 * MS_PER_HOUR
    taken = run(simulator, path, begun, hours=45)
    # Begun inside a slot, it takes that slot at once and every other one at its start.
    assert instants(path, "chain") == [
        begun, *(START + h * MS_PER_HOUR for h in (8, 16, 24, 32, 40))
    ]  # fmt: skip
    assert instants(path, "depth") == [
        begun, *(START + h * MS_PER_HOUR for h in (12, 24, 36))
    ]  # fmt: skip
    assert instants(path, "brackets") == [begun, START + 24 * MS_PER_HOUR]
    statistics = [report for _, report in taken if report.feed == "open_interest"]
    assert [report.rows_added > 0 for report in statistics] == [True, True]


def test_a_collector_started_again_takes_no_slot_twice_and_notes_what_it_missed(
    simulator: ExchangeSimulator, tmp_path: Path
) -> None:
    path = tmp_path / "market.duckdb"
    run(simulator, path, START, hours=10)
    assert instants(path, "chain") == [START, START + 8 * MS_PER_HOUR]
    run(simulator, path, START + 11 * MS_PER_HOUR, hours=1)
    assert instants(path, "chain") == [START, START + 8 * MS_PER_HOUR]
    run(simulator, path, START + 33 * MS_PER_HOUR, hours=1)
    assert instants(path, "chain") == [START + h * MS_PER_HOUR for h in (0, 8, 33)]
    with DataStore(path, read_only=True) as store:
        missed = store.rows("SELECT start_ms, end_ms, reason FROM shortfalls WHERE feed = 'chain'")
        asked = store.rows("SELECT reason FROM shortfalls WHERE feed = 'open_interest'")
    assert missed == [(START + 16 * MS_PER_HOUR, START + 32 * MS_PER_HOUR, "not asked")]
    # The exchange still remembers its statistics, so nothing of them is lost.
    assert ("not asked",) not in asked


def test_an_answer_that_cannot_be_had_is_noted_and_the_next_slot_is_asked_for(
    simulator: ExchangeSimulator, tmp_path: Path
) -> None:
    path = tmp_path / "market.duckdb"
    refusal = Fault(kind="451", path="*get_book_summary_by_currency", times=1)
    simulator.faults = FaultSchedule(faults=(refusal,))
    taken = run(simulator, path, START, hours=10, feeds=[])
    chains = [report for _, report in taken if report.feed == "chain"]
    assert [bool(report.failure) for report in chains] == [True, False]
    assert instants(path, "chain") == [START + 8 * MS_PER_HOUR]
    with DataStore(path, read_only=True) as store:
        assert store.rows("SELECT start_ms, reason FROM shortfalls WHERE feed = 'chain'") == [
            (START, "refused")
        ]


def test_a_slot_that_was_refused_stays_noted_as_refused(
    simulator: ExchangeSimulator, tmp_path: Path
) -> None:
    path = tmp_path / "market.duckdb"
    alone: dict[str, Any] = {"feeds": [], "depth": {"share_of_volume": 0.01}}
    run(simulator, path, START, hours=1, **alone)
    refusal = Fault(kind="451", path="*get_book_summary_by_currency", times=1)
    simulator.faults = FaultSchedule(faults=(refusal,))
    run(simulator, path, START + 8 * MS_PER_HOUR, hours=10, **alone)
    assert instants(path, "chain") == [START, START + 16 * MS_PER_HOUR]
    with DataStore(path, read_only=True) as store:
        assert store.rows("SELECT start_ms, reason FROM shortfalls WHERE feed = 'chain'") == [
            (START + 8 * MS_PER_HOUR, "refused")
        ]


def test_readers_get_in_while_an_exchange_makes_the_collector_wait(
    simulator: ExchangeSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested: list[float] = []
    monkeypatch.setattr(DataStore, "rest", lambda _, seconds: rested.append(seconds))
    busy = Fault(kind="502", path="*get_book_summary_by_currency", times=2)
    simulator.faults = FaultSchedule(faults=(busy,))
    run(simulator, tmp_path / "market.duckdb", START, hours=1, feeds=[])
    assert len(rested) == 2


def test_what_was_not_answered_is_asked_for_again_within_its_slot(
    simulator: ExchangeSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataStore, "rest", lambda _, seconds: None)
    path = tmp_path / "market.duckdb"
    down = Fault(kind="502", path="*get_book_summary_by_currency", times=8)
    simulator.faults = FaultSchedule(faults=(down,))
    run(simulator, path, START, hours=7, feeds=[], depth={"share_of_volume": 0.01})
    assert instants(path, "chain") == [START + 15 * 60_000]
    with DataStore(path, read_only=True) as store:
        assert store.rows("SELECT start_ms, reason FROM shortfalls") == [(START, "unanswered")]


def test_a_market_of_which_nothing_is_lost_needs_no_collector(
    simulator: ExchangeSimulator, tmp_path: Path
) -> None:
    changes = {"options": None, "depth": {"share_of_volume": 0.01}, "feeds": []}
    with pytest.raises(FeedError, match="nothing of this market has to be collected"):
        run(simulator, tmp_path / "market.duckdb", START, hours=1, **changes)


def test_while_another_process_writes_the_collector_waits_for_it(
    simulator: ExchangeSimulator, tmp_path: Path
) -> None:
    path = tmp_path / "market.duckdb"
    DataStore(path).close()
    other = WriterTurn(path)
    Timer(1.0, other.close).start()
    run(simulator, path, START, hours=1, feeds=[])
    assert instants(path, "chain") == [START]
