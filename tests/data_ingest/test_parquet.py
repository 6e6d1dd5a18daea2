from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_ingest.coverage import LedgerKey, Shortfall, write_shortfalls
from data_ingest.manifest import MANIFEST, SnapshotError, read_manifest
from data_ingest.parquet import export_parquet, import_parquet
from data_ingest.schema import CANDLES, FUNDING, INSTRUMENTS, OPTION_TRADES
from data_ingest.snapshot import freeze, open_snapshot
from data_ingest.store import DataStore, StoreError
from data_ingest.surfaces.stored import SURFACES_SQL
from tests.data_ingest.samples import BTC, HOUR_MS, START_MS, write

DAY_MS = 24 * HOUR_MS
KEYS = {
    CANDLES.name: LedgerKey("binanceusdm", BTC, "trade_candles", HOUR_MS),
    FUNDING.name: LedgerKey("binanceusdm", BTC, "funding"),
    INSTRUMENTS.name: LedgerKey("deribit", "BTC", "instruments"),
    OPTION_TRADES.name: LedgerKey("deribit", "BTC", "option_trades"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two months of candles, funding, an instrument, trades, and every kind of record."""
    path = tmp_path / "market.duckdb"
    bars = [
        ("binanceusdm", BTC, "trade", HOUR_MS, START_MS + bar * HOUR_MS, 1.0, 2.0, 0.5, 1.5,
         bar / 7, None)
        for bar in range(24 * 20)
    ]  # fmt: skip
    perpetual = ("deribit", "P", "BTC/USD:BTC", "BTC", "perp", "inverse", 10.0, *[None] * 7)
    trades = [
        ("deribit", f"{n}", f"BTC-{n % 3}", START_MS + (7 * n) % 5 * DAY_MS * 6, 0.1, 0.5, 1.0, 2.0,
         "buy", None, "T" if n % 2 else None)
        for n in range(30)
    ]  # fmt: skip
    with DataStore(path) as opened:
        window = (START_MS, START_MS + 20 * DAY_MS)
        write(opened, CANDLES, bars, KEYS[CANDLES.name], [window])  # type: ignore[arg-type]
        payment = ("binanceusdm", BTC, START_MS, 0.0001, 28_800_000, None)
        write(opened, FUNDING, [payment], KEYS[FUNDING.name])
        write(opened, INSTRUMENTS, [perpetual], KEYS[INSTRUMENTS.name])
        write(opened, OPTION_TRADES, trades, KEYS[OPTION_TRADES.name])  # type: ignore[arg-type]
        with opened.transaction() as cursor:
            short = (Shortfall(5, 9, "refused", "the exchange's own words"),)
            write_shortfalls(cursor, KEYS[FUNDING.name], (0, 10), short, 3)
            cursor.execute(
                "INSERT INTO quarantine VALUES ('funding', 'it''s a file', 4, 'late', '{}', 8)"
            )
            cursor.execute(SURFACES_SQL)
    return path


@pytest.fixture
def exported(store: Path, tmp_path: Path) -> Path:
    with DataStore(store, read_only=True) as opened:
        export_parquet(opened, tmp_path / "export")
    return tmp_path / "export"


def everything(store: DataStore) -> dict[str, list[tuple[object, ...]]]:
    names = store.rows("SELECT table_name FROM duckdb_tables() WHERE NOT temporary ORDER BY 1")
    return {
        name: store.rows(f"SELECT * FROM {name} ORDER BY ALL")
        for (name,) in names
        if name != "schema_version"
    }


def test_an_export_comes_back_as_the_same_store(
    store: Path, exported: Path, tmp_path: Path
) -> None:
    with DataStore(tmp_path / "again.duckdb") as again:
        manifest = import_parquet(again, exported)
        with DataStore(store, read_only=True) as original:
            assert everything(again) == everything(original)
    assert freeze(store, tmp_path / "a").digest == manifest.digest
    assert freeze(tmp_path / "again.duckdb", tmp_path / "b").contents == manifest.contents


def test_a_pull_goes_on_in_an_imported_store(exported: Path, tmp_path: Path) -> None:
    with DataStore(tmp_path / "again.duckdb") as again:
        import_parquet(again, exported)
        assert again.missing(KEYS[CANDLES.name], (START_MS, START_MS + 21 * DAY_MS)) == [
            (START_MS + 20 * DAY_MS, START_MS + 21 * DAY_MS)
        ]
        payment = ("binanceusdm", BTC, START_MS + 1, 0.0001, 28_800_000, None)
        assert write(again, FUNDING, [payment], KEYS[FUNDING.name]).added == 1
        assert again.rows("SELECT batch_id FROM funding ORDER BY ts_ms") == [(2,), (5,)]
        with pytest.raises(StoreError, match="contradicts"):  # the keys are guarded again
            write(again, FUNDING, [(*payment[:3], 0.5, *payment[4:])], KEYS[FUNDING.name])


def test_files_are_partitioned_by_market_and_month_in_the_order_of_the_key(exported: Path) -> None:
    files = exported.rglob("*.parquet")
    assert sorted(path.relative_to(exported).as_posix() for path in files) == [
        "batches/all.parquet",
        "candles/exchange=binanceusdm/symbol=BTC%2FUSDT%3AUSDT/kind=trade/timeframe_ms=3600000/"
        "2023-11.parquet",
        "candles/exchange=binanceusdm/symbol=BTC%2FUSDT%3AUSDT/kind=trade/timeframe_ms=3600000/"
        "2023-12.parquet",
        "coverage/all.parquet",
        "funding/exchange=binanceusdm/symbol=BTC%2FUSDT%3AUSDT/2023-11.parquet",
        "instruments/exchange=deribit/all.parquet",
        "option_trades/exchange=deribit/2023-11.parquet",
        "option_trades/exchange=deribit/2023-12.parquet",
        "quarantine/all.parquet",
        "shortfalls/all.parquet",
    ]  # fmt: skip
    table = pq.read_table(exported / "candles")
    assert table.num_rows == 480
    assert set(table["symbol"].to_pylist()) == {BTC}
    trades = pq.ParquetFile(
        exported / "option_trades" / "exchange=deribit" / "2023-11.parquet"
    ).read()
    ids = trades["trade_id"].to_pylist()
    assert ids == sorted(ids)
    assert pq.ParquetFile(exported / "batches" / "all.parquet").metadata.row_group(0).column(
        0
    ).compression == "ZSTD"  # fmt: skip


def test_the_same_rows_give_the_same_bytes_whatever_the_threads(
    store: Path, exported: Path, tmp_path: Path
) -> None:
    freeze(store, tmp_path / "frozen")
    with open_snapshot(tmp_path / "frozen") as (opened, _):
        opened.connection.execute("SET threads = 1")
        from_snapshot = export_parquet(opened, tmp_path / "two")
    assert from_snapshot.files == read_manifest(exported).files


def test_a_changed_file_is_named_and_nothing_is_imported(exported: Path, tmp_path: Path) -> None:
    files = sorted(exported.rglob("*.parquet"))
    for number, path in enumerate(files):
        before = path.read_bytes()
        raw = bytearray(before)
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        with (
            DataStore(tmp_path / f"{number}.duckdb") as fresh,
            pytest.raises(SnapshotError, match=rf"{path.name} was changed since") as said,
        ):
            import_parquet(fresh, exported)
        assert str(path) in str(said.value)
        path.write_bytes(before)
    with DataStore(tmp_path / "0.duckdb", read_only=True) as fresh:
        assert fresh.is_empty()


def test_a_file_that_is_gone_is_named(exported: Path, tmp_path: Path) -> None:
    next(exported.rglob("2023-12.parquet")).unlink()
    with (
        DataStore(tmp_path / "fresh.duckdb") as fresh,
        pytest.raises(SnapshotError, match=r"2023-12\.parquet is missing from the parquet"),
    ):
        import_parquet(fresh, exported)


def test_rows_that_the_manifest_does_not_list_undo_the_import(
    exported: Path, tmp_path: Path
) -> None:
    """The files are those of the manifest, but the rows it lists are others."""
    manifest = read_manifest(exported)
    candles, *others = manifest.contents.observations
    forged = type(candles)(**{**vars(candles), "sha256": "0" * 64})
    contents = type(manifest.contents)(
        (forged, *others), manifest.contents.records, manifest.contents.origins
    )
    (exported / MANIFEST).unlink()
    type(manifest)(**{**vars(manifest), "contents": contents}).write(exported)
    with DataStore(tmp_path / "fresh.duckdb") as fresh:
        with pytest.raises(
            SnapshotError, match=r"the rows of candles binanceusdm .* are not those"
        ):
            import_parquet(fresh, exported)
        assert fresh.is_empty()
        assert fresh.rows("SELECT count(*) FROM candles") == [(0,)]


def test_an_export_needs_a_store_of_its_own(store: Path, exported: Path) -> None:
    with DataStore(store) as full, pytest.raises(StoreError, match="is not empty; an export is a"):
        import_parquet(full, exported)


def test_a_snapshot_is_not_imported_and_an_export_is_not_opened(
    store: Path, exported: Path, tmp_path: Path
) -> None:
    freeze(store, tmp_path / "frozen")
    with (
        DataStore(tmp_path / "fresh.duckdb") as fresh,
        pytest.raises(SnapshotError, match="is a snapshot, not an export"),
    ):
        import_parquet(fresh, tmp_path / "frozen")
    with (
        pytest.raises(SnapshotError, match="is an export in parquet, not a snapshot"),
        open_snapshot(exported),
    ):
        pass


def test_an_export_is_never_overwritten(store: Path, exported: Path) -> None:
    with (
        DataStore(store, read_only=True) as opened,
        pytest.raises(SnapshotError, match="export exists"),
    ):
        export_parquet(opened, exported)
