"""A market that was pulled whole has nothing to warn of; a hole in any bars of it is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.pull import pull_market
from data_ingest.quality.findings import Finding, read_findings
from data_ingest.quality.verify import keep, markets_of, verify
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore, StoreError

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-01-15")
START = PARAMETERS.start + 5 * MS_PER_DAY
MARKET = MarketSpec.model_validate(
    {
        "exchange": "binanceusdm",
        "assets": ["BTC"],
        "start": START,
        "end": START + 2 * MS_PER_DAY,
        "depth": {"recorded": True, "poll": "12h"},
        "options": {"poll": "8h"},
        "feeds": ["open_interest", "long_short_ratio", "dvol"],
    }
)


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pulled") / "market.duckdb"
    with ExchangeSimulator(PARAMETERS) as simulator, DataStore(path) as store:
        simulator.set_clock(PARAMETERS.end)
        pull_market(store, MARKET, simulator.url, simulate_clock=True)
    return path


@pytest.fixture
def store(pulled: Path, tmp_path: Path) -> Iterator[DataStore]:
    copyfile(pulled, tmp_path / "market.duckdb")
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def found_in(store: DataStore, rule: str) -> list[Finding]:
    return [each for each in verify(store).findings if each.rule == rule]


def test_a_market_that_was_pulled_whole_has_no_errors_and_no_warnings(store: DataStore) -> None:
    verified = verify(store)
    assert [each for each in verified.findings if each.severity != "note"] == []
    assert {each.rule for each in verified.findings} == {"no_quote"}


@pytest.mark.parametrize(
    ("table", "time"),
    [("candles", "open_ms"), ("open_interest", "ts_ms"), ("long_short_ratio", "ts_ms"),
     ("volatility_index", "open_ms")],
)  # fmt: skip
def test_a_hole_that_the_ledger_does_not_know_is_an_error_and_a_gap(
    store: DataStore, table: str, time: str
) -> None:
    hole = START + 5 * MS_PER_HOUR, START + 8 * MS_PER_HOUR
    store.connection.execute(f"DELETE FROM {table} WHERE {time} >= ? AND {time} < ?", list(hole))
    for rule in ("gap", "false_coverage"):
        found = found_in(store, rule)
        assert found
        assert {(each.start_ms, each.end_ms, each.rows) for each in found} == {(*hole, 3)}


def test_a_payment_that_was_lost_is_found_at_its_hour(store: DataStore) -> None:
    lost = START + 24 * MS_PER_HOUR
    store.connection.execute("DELETE FROM funding WHERE ts_ms = ?", [lost])
    (found,) = found_in(store, "funding_gap")
    assert (found.start_ms, found.end_ms, found.rows) == (lost, lost + 8 * MS_PER_HOUR, 1)


def test_findings_are_kept_in_order_and_replaced_and_read_again(store: DataStore) -> None:
    store.connection.execute("DELETE FROM candles WHERE open_ms = ?", [START + 5 * MS_PER_HOUR])
    verified = verify(store)
    assert len(verified.findings) > 3
    keep(store, verified)
    keep(store, verified)
    assert tuple(read_findings(store)) == verified.findings
    ((state,),) = store.rows("SELECT DISTINCT data_state FROM findings")
    assert state == verified.data_state


def test_the_digest_of_the_data_changes_with_the_data(store: DataStore) -> None:
    before = verify(store).data_state
    assert verify(store).data_state == before
    store.connection.execute("UPDATE batches SET rows_added = rows_added + 1 WHERE batch_id = 1")
    assert verify(store).data_state != before


def test_a_study_is_told_of_its_own_markets_only(store: DataStore) -> None:
    assert markets_of(MARKET) == {("binanceusdm", "BTC/USDT:USDT"), ("deribit", "BTC")}
    store.connection.execute("DELETE FROM candles WHERE open_ms = ?", [START + 5 * MS_PER_HOUR])
    other = frozenset({("binanceusdm", "ETH/USDT:USDT")})
    assert verify(store, other).findings == ()


def test_progress_ends_at_the_last_step(store: DataStore) -> None:
    said: list[tuple[int, int]] = []
    verify(store, advance=lambda done, total: said.append((done, total)))
    assert [done for done, _ in said] == list(range(1, said[-1][1] + 1))


def test_an_empty_store_cannot_be_verified(tmp_path: Path) -> None:
    with DataStore(tmp_path / "empty.duckdb") as store, pytest.raises(StoreError, match="is empty"):
        verify(store)
