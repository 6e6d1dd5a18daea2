"""Everything recorded loads: each file of the data folder is read by some shipped mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from data_ingest.inventory import inventory
from data_ingest.mapping import ImportMapping
from data_ingest.recorded import ImportReport, import_recorded
from data_ingest.source_files import source_files
from data_ingest.store import DataStore
from tests.data_ingest.samples import REPOSITORY, real_data

SHIPPED = sorted((REPOSITORY / "configs" / "import").glob("*.yaml"))


def import_all(store: DataStore, folder: Path) -> list[ImportReport]:
    mappings = map(ImportMapping.load, SHIPPED)
    return [report for mapping in mappings for report in import_recorded(store, mapping, folder)]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = real_data()
    with DataStore(tmp_path_factory.mktemp("everything") / "market.duckdb") as store:
        yield store, folder, import_all(store, folder)


def test_every_recorded_file_is_read_by_a_shipped_mapping() -> None:
    folder = real_data()
    read = {
        source.path
        for mapping in map(ImportMapping.load, SHIPPED)
        for group in mapping.files
        for source in source_files(mapping, group, folder)
    }
    unread = {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"} - read
    assert sorted(path.relative_to(folder).as_posix() for path in unread) == []


def test_no_recorded_row_is_lost_between_the_files_and_one_store(everything: Any) -> None:
    store, folder, reports = everything
    for report in reports:
        rows = parquet.read_metadata(folder / report.source).num_rows
        told = report.rows_read + report.rows_repeated + report.rows_left_out
        assert told == rows, report.source
    assert sum(report.rows_quarantined for report in reports) == 0
    held = [row for row in inventory(store) if row.feed != "instruments"]
    assert sum(row.rows for row in held) == sum(report.rows_added for report in reports)


def test_importing_everything_once_more_changes_nothing(everything: Any) -> None:
    store, folder, _ = everything
    before = [(row.feed, row.market, row.sha256) for row in inventory(store)]
    again = import_all(store, folder)
    assert sum(report.rows_added + report.rows_replaced for report in again) == 0
    assert [(row.feed, row.market, row.sha256) for row in inventory(store)] == before


def test_recorded_liquidations_of_aave_add_up_to_what_their_source_states(everything: Any) -> None:
    store, _, reports = everything
    (report,) = (report for report in reports if report.source.startswith("aave"))
    ((total, first),) = store.rows(
        "SELECT sum(notional_usd), min(ts_ms) FROM liquidations WHERE exchange = 'aave_v2'"
    )
    # PROVENANCE.md: 321m USD repaid in the normalised part, which starts on 2021-07-28.
    assert report.rows_added + report.rows_left_out == 11_488
    assert total == pytest.approx(321e6, rel=2e-3)
    assert first == 1_627_514_709_000


def test_trades_that_their_source_repeats_up_to_six_times_are_stored_once(everything: Any) -> None:
    store, _, reports = everything
    (report,) = (report for report in reports if report.feed == "option_trades")
    # PROVENANCE.md counts 3,719 rows and does not say that they are 1,350 trades.
    assert (report.rows_read, report.rows_repeated) == (1_350, 2_369)
    # Each instrument's own sequence starts anew, and no instrument has a number twice.
    assert store.rows("SELECT count(DISTINCT (native_id, trade_seq)) FROM option_trades") == [
        (1_350,)
    ]
