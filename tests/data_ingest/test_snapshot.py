from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_ingest import contents as contents_module
from data_ingest import schema
from data_ingest import snapshot as snapshot_module
from data_ingest import store as store_module
from data_ingest.contents import Contents, read_contents
from data_ingest.coverage import LedgerKey
from data_ingest.manifest import MANIFEST, SnapshotError, read_manifest
from data_ingest.parquet import export_parquet, import_parquet
from data_ingest.schema import CANDLES, FEED_TABLES, FUNDING, INSTRUMENTS, FeedTable
from data_ingest.snapshot import freeze, open_snapshot, open_store_or_snapshot, verify_snapshot
from data_ingest.store import DataStore, StoreError
from tests.data_ingest.samples import BTC, HOUR_MS, REPOSITORY, START_MS, write

ETH = "ETH/USDT:USDT"
FUNDING_KEY = LedgerKey("binanceusdm", BTC, "funding")


def candle(symbol: str, bar: int, close: float) -> tuple[object, ...]:
    return ("binanceusdm", symbol, "trade", HOUR_MS, START_MS + bar * HOUR_MS,
            close, close + 1, close - 1, close, 2.0, None)  # fmt: skip


def payment(at: int, rate: float | None, index: float | None = None) -> tuple[object, ...]:
    return ("binanceusdm", BTC, START_MS + at, rate, 28_800_000, index)


def filled(path: Path, *, backwards: bool = False, last_close: float = 117.0) -> Path:
    """A store with three feeds, written in one order or the other."""
    bars = [candle(symbol, bar, 100.0 + bar) for symbol in (ETH, BTC) for bar in range(17)]
    bars += [candle(BTC, 17, last_close)]
    batches = [
        (CANDLES, bars, LedgerKey("binanceusdm", BTC, "trade_candles", HOUR_MS),
         (START_MS, START_MS + 18 * HOUR_MS)),
        (FUNDING, [payment(0, 0.0001), payment(1, None), payment(2, 0.0, 5.0)], FUNDING_KEY,
         (START_MS, START_MS + 3)),
    ]  # fmt: skip
    with DataStore(path) as store:
        for table, rows, key, window in reversed(batches) if backwards else batches:
            ordered = rows[::-1] if backwards else rows
            write(store, table, ordered, key, [window])  # type: ignore[arg-type]
    return path


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    freeze(filled(tmp_path / "market.duckdb"), tmp_path / "2024-q1")
    return tmp_path / "2024-q1"


def changed_at(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(raw)


def test_a_snapshot_holds_what_the_store_held_and_says_where_from(
    snapshot: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(snapshot)
    assert [
        (one.table, one.group.get("symbol"), one.rows, one.start_ms, one.end_ms)
        for one in manifest.contents.observations
    ] == [
        ("candles", BTC, 18, START_MS, START_MS + 17 * HOUR_MS),
        ("candles", ETH, 17, START_MS, START_MS + 16 * HOUR_MS),
        ("funding", BTC, 3, START_MS, START_MS + 2),
    ]
    assert [(o.feed, o.source, o.rows_added) for o in manifest.contents.origins] == [
        ("funding", "sample.parquet", 3),
        ("trade_candles", "sample.parquet", 35),
    ]
    assert {one.table: one.rows for one in manifest.contents.records}["coverage"] == 2
    everything = "SELECT * FROM {} ORDER BY ALL"
    with (
        DataStore(tmp_path / "market.duckdb", read_only=True) as store,
        open_snapshot(snapshot) as (frozen, _),
    ):
        for table in ("candles", "funding", "batches", "coverage"):
            assert frozen.rows(everything.format(table)) == store.rows(everything.format(table))
        assert frozen.covered(FUNDING_KEY) == [(START_MS, START_MS + 3)]


def test_a_snapshot_can_be_written_by_nobody(snapshot: Path) -> None:
    assert [path.stat().st_mode & 0o777 for path in snapshot.iterdir()] == [0o444, 0o444]
    with open_snapshot(snapshot) as (frozen, _), pytest.raises(duckdb.InvalidInputException):
        frozen.rows("DELETE FROM funding")


def test_rows_have_one_digest_whatever_order_and_batches_they_came_in(tmp_path: Path) -> None:
    one = freeze(filled(tmp_path / "a.duckdb"), tmp_path / "a")
    time.sleep(0.002)  # another instant of retrieval
    two = freeze(filled(tmp_path / "b.duckdb", backwards=True), tmp_path / "b")
    assert one.digest == two.digest
    assert one.contents.observations == two.contents.observations
    assert one.contents.records != two.contents.records  # the batches, which it does not cover


def test_one_changed_value_changes_the_digest(tmp_path: Path) -> None:
    one = freeze(filled(tmp_path / "a.duckdb"), tmp_path / "a")
    two = freeze(
        filled(tmp_path / "b.duckdb", last_close=math.nextafter(117.0, 200)), tmp_path / "b"
    )
    assert one.digest != two.digest
    pairs = zip(one.contents.observations, two.contents.observations, strict=True)
    assert [a.group["symbol"] for a, b in pairs if a != b] == [BTC]


def test_a_window_that_is_vouched_for_is_part_of_the_digest(tmp_path: Path) -> None:
    digests = []
    for name, end in (("a", 3), ("b", 4)):
        with DataStore(tmp_path / f"{name}.duckdb") as store:
            write(store, FUNDING, [payment(0, 0.1)], FUNDING_KEY, [(START_MS, START_MS + end)])  # type: ignore[list-item]
        digests.append(freeze(tmp_path / f"{name}.duckdb", tmp_path / name).digest)
    assert digests[0] != digests[1]


@pytest.mark.parametrize("values", [(None, 0.0), (None, math.nan), (0.0, math.nan), (0.0, -0.0)])
def test_missing_zero_and_not_a_number_are_three_things(
    values: tuple[float | None, float | None],
) -> None:
    digests = []
    for value in values:
        with duckdb.connect() as memory:
            memory.execute("CREATE TABLE batches AS SELECT ?::DOUBLE AS v", [value])
            digests.append(contents_module._digest(memory, {"v": "DOUBLE"}, "FROM batches", []))
    assert digests[0] != digests[1]


def digest_of(memory: duckdb.DuckDBPyConnection) -> tuple[int, str]:
    columns = {"place": "BIGINT", "text": "VARCHAR", "flag": "BOOLEAN", "number": "DOUBLE"}
    return contents_module._digest(memory, columns, "FROM held ORDER BY place", [])


held_rows = st.lists(
    st.tuples(
        st.none() | st.text(max_size=3),
        st.none() | st.booleans(),
        st.none() | st.floats(allow_nan=True),
    ),
    max_size=12,
)


@given(rows=held_rows, other=held_rows)
@example(rows=[("ab", None, None), ("", None, None)], other=[("a", None, None), ("b", None, None)])
@example(rows=[("", True, 0.0)], other=[(None, None, None)])
@settings(max_examples=60, deadline=None)
def test_two_tables_share_a_digest_if_and_only_if_they_hold_the_same(
    rows: list[tuple[str | None, bool | None, float | None]],
    other: list[tuple[str | None, bool | None, float | None]],
) -> None:
    def digested(held: list[tuple[str | None, bool | None, float | None]]) -> tuple[int, str]:
        with duckdb.connect() as memory:
            memory.execute(
                "CREATE TABLE held (place BIGINT, text VARCHAR, flag BOOLEAN, number DOUBLE)"
            )
            for place, row in enumerate(held):
                memory.execute("INSERT INTO held VALUES (?, ?, ?, ?)", [place, *row])
            return digest_of(memory)

    def plain(held: list[tuple[str | None, bool | None, float | None]]) -> list[object]:
        numbers = [None if row[2] is None else np.float64(row[2]).tobytes() for row in held]
        nan = np.float64(math.nan).tobytes()
        return [
            (text, flag, nan if number is not None and math.isnan(number) else code)
            for (text, flag, number), code in zip(held, numbers, strict=True)
        ]

    assert digested(rows) == digested(list(rows))
    assert (digested(rows) == digested(other)) == (plain(rows) == plain(other))


def test_the_digest_depends_on_neither_threads_nor_pieces(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_snapshot(snapshot) as (frozen, manifest):
        found: list[Contents] = []
        for threads, rows in ((1, 5), (2, 2048), (1, 122_880)):
            monkeypatch.setattr(contents_module, "ROWS_AT_ONCE", rows)
            frozen.connection.execute(f"SET threads = {threads}")
            found.append(read_contents(frozen.connection))
    assert found == [manifest.contents] * 3


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ["store.duckdb", MANIFEST])
def test_a_changed_byte_is_found_at_load(snapshot: Path, name: str, share: float) -> None:
    path = snapshot / name
    changed_at(path, min(int(share * path.stat().st_size), path.stat().st_size - 1))
    with (
        pytest.raises(SnapshotError, match=rf"{name} was (changed since it was written|damaged)"),
        open_snapshot(snapshot),
    ):
        pass


def test_a_space_added_to_the_manifest_is_a_changed_byte(snapshot: Path) -> None:
    path = snapshot / MANIFEST
    path.chmod(0o644)
    path.write_text(path.read_text() + " ")
    with pytest.raises(SnapshotError, match=r"manifest\.json was changed"):
        read_manifest(snapshot)


def test_a_missing_database_is_named(snapshot: Path) -> None:
    (snapshot / "store.duckdb").unlink()
    with pytest.raises(SnapshotError, match=r"store\.duckdb is missing"), open_snapshot(snapshot):
        pass


def test_a_folder_without_a_manifest_is_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"is no snapshot: it has no manifest\.json"):
        read_manifest(tmp_path)


def test_a_check_finds_rows_that_are_not_those_of_the_manifest(
    snapshot: Path, tmp_path: Path
) -> None:
    """A forger who mends the file's digest still has to mend those of its rows."""
    verify_snapshot(snapshot)
    database = snapshot / "store.duckdb"
    database.chmod(0o644)
    with duckdb.connect(str(database)) as forged:
        forged.execute("UPDATE candles SET close = close + 1 WHERE symbol = ? AND open_ms = ?",
                       [ETH, START_MS])  # fmt: skip
    manifest = read_manifest(snapshot)
    (snapshot / MANIFEST).unlink()
    mended = snapshot_module.frozen_file(database, snapshot)
    type(manifest)(**{**vars(manifest), "files": (mended,)}).write(snapshot)
    with open_snapshot(snapshot):
        pass
    with pytest.raises(SnapshotError, match=rf"rows of candles binanceusdm {ETH} trade 3600000"):
        verify_snapshot(snapshot)


def test_a_snapshot_is_never_overwritten_and_moving_it_changes_nothing(
    snapshot: Path, tmp_path: Path
) -> None:
    before = read_manifest(snapshot)
    with pytest.raises(SnapshotError, match="2024-q1 exists; a snapshot is never overwritten"):
        freeze(tmp_path / "market.duckdb", snapshot)
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(snapshot, moved)
    assert verify_snapshot(moved) == before


def test_an_empty_store_is_not_frozen_and_leaves_no_folder(tmp_path: Path) -> None:
    DataStore(tmp_path / "empty.duckdb").close()
    with pytest.raises(StoreError, match="is empty; import or pull data first"):
        freeze(tmp_path / "empty.duckdb", tmp_path / "frozen" / "one")
    assert list((tmp_path / "frozen").iterdir()) == []


def test_a_freeze_that_is_killed_leaves_no_snapshot(tmp_path: Path) -> None:
    filled(tmp_path / "market.duckdb")
    script = (
        "import os, sys; from data_ingest.snapshot import freeze\n"
        "def stop(name):\n"
        "    if name == 'funding': os._exit(9)\n"
        "freeze(sys.argv[1], sys.argv[2], stop)"
    )
    target = tmp_path / "frozen" / "one"
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "market.duckdb"), str(target)],
        cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert killed.returncode == 9
    assert not target.exists()
    assert freeze(tmp_path / "market.duckdb", target) == read_manifest(target)


def test_a_snapshot_of_an_older_schema_is_read_through_a_copy(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = schema.SCHEMA_VERSION + 1
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", newer)
    monkeypatch.setattr(snapshot_module, "SCHEMA_VERSION", newer)
    monkeypatch.setitem(
        schema.MIGRATIONS, newer - 1, ("ALTER TABLE funding ADD COLUMN cap DOUBLE",)
    )
    before = (snapshot / "store.duckdb").read_bytes()
    with open_snapshot(snapshot) as (frozen, _):
        assert frozen.rows("SELECT rate, cap FROM funding ORDER BY ts_ms LIMIT 1") == [
            (0.0001, None)
        ]
    verify_snapshot(snapshot)
    assert (snapshot / "store.duckdb").read_bytes() == before


def test_a_migrated_store_has_the_digest_of_one_made_new(tmp_path: Path) -> None:
    """A column that a migration added stands behind the batch, which changes no digest."""
    perpetual = ("deribit", "P", "BTC/USD:BTC", "BTC", "perp", "inverse", 10.0, *[None] * 7)
    key = LedgerKey("deribit", "BTC", "instruments")
    for name in ("new", "old"):
        with DataStore(tmp_path / f"{name}.duckdb") as store:
            write(store, INSTRUMENTS, [perpetual], key)
    with duckdb.connect(str(tmp_path / "old.duckdb")) as old:
        old.execute("CREATE TABLE rebuilt AS SELECT * EXCLUDE (tick_size), tick_size "
                    "FROM instruments")  # fmt: skip
        old.execute("DROP TABLE instruments")
        old.execute("ALTER TABLE rebuilt RENAME TO instruments")
    new, old_one = (freeze(tmp_path / f"{n}.duckdb", tmp_path / n) for n in ("new", "old"))
    assert new.digest == old_one.digest


def made_up(table: FeedTable, number: int) -> tuple[object, ...]:
    value = {"BIGINT": number, "DOUBLE": number / 7, "BOOLEAN": number > 1}
    return tuple(value.get(kind, f"{name}-{number}") for name, kind in table.columns.items())


def test_every_feed_is_frozen_exported_and_digested(tmp_path: Path) -> None:
    """Also one whose key names no exchange, or whose rows have no instant."""
    with DataStore(tmp_path / "market.duckdb") as store:
        for table in FEED_TABLES:
            write(store, table, [made_up(table, 1), made_up(table, 2)], FUNDING_KEY)  # type: ignore[list-item]
        export_parquet(store, tmp_path / "export")
    manifest = freeze(tmp_path / "market.duckdb", tmp_path / "frozen")
    assert verify_snapshot(tmp_path / "frozen") == manifest
    rows = {table.name: 0 for table in FEED_TABLES}
    for group in manifest.contents.observations:
        rows[group.table] += group.rows
    assert set(rows.values()) == {2}
    with DataStore(tmp_path / "again.duckdb") as again:
        assert import_parquet(again, tmp_path / "export").contents == manifest.contents


def test_a_store_and_a_snapshot_are_opened_alike(snapshot: Path, tmp_path: Path) -> None:
    for path in (snapshot, tmp_path / "market.duckdb"):
        with open_store_or_snapshot(path) as opened:
            assert opened.rows("SELECT count(*) FROM candles") == [(35,)]


def test_the_manifest_is_json_that_names_its_digest(snapshot: Path) -> None:
    said = json.loads((snapshot / MANIFEST).read_text())
    assert said["digest"] == read_manifest(snapshot).digest
    assert said["files"][0]["bytes"] == (snapshot / "store.duckdb").stat().st_size
