from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_ingest import schema
from data_ingest import store as store_module
from data_ingest.coverage import LedgerKey, covered, mark_complete, runs, subtract
from data_ingest.schema import FUNDING, INSTRUMENTS, LEDGER_TABLES
from data_ingest.store import DataStore, StoreError
from tests.data_ingest.samples import BTC, START_MS, write

KEY = LedgerKey("binanceusdm", BTC, "funding")


def payment(at: int, rate: float) -> tuple[str, str, int, float, int, None]:
    return ("binanceusdm", BTC, START_MS + at, rate, 28_800_000, None)


def stored_rates(store: DataStore) -> list[float]:
    return [row[0] for row in store.rows("SELECT rate FROM funding ORDER BY ts_ms")]


def test_reading_a_store_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*none\.duckdb; import or pull"):
        DataStore(tmp_path / "none.duckdb", read_only=True)
    assert not (tmp_path / "none.duckdb").exists()


def test_a_store_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        DataStore(tmp_path / "absent" / "market.duckdb")


def test_reading_an_empty_file_says_that_the_store_is_empty(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / "empty.duckdb")).close()
    with pytest.raises(StoreError, match="is empty"):
        DataStore(tmp_path / "empty.duckdb", read_only=True)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.duckdb").write_text("these are notes" * 1000)
    with pytest.raises(StoreError, match=r"notes\.duckdb"):
        DataStore(tmp_path / "notes.duckdb")


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as other:
        other.execute("CREATE TABLE customers (name VARCHAR)")
    with pytest.raises(StoreError, match="not a remargin store"):
        DataStore(path)
    with duckdb.connect(str(path)) as other:
        names = [row[0] for row in other.execute("SHOW TABLES").fetchall()]
    assert names == ["customers"]


def test_a_store_that_another_process_holds_is_reported_as_in_use(tmp_path: Path) -> None:
    path = tmp_path / "market.duckdb"
    DataStore(path).close()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import duckdb; c = duckdb.connect({str(path)!r}); print('held', flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for read_only in (False, True):
            with pytest.raises(StoreError, match="in use by another process"):
                DataStore(path, read_only=read_only)
    finally:
        holder.communicate("\n", timeout=30)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "market.duckdb"
    with DataStore(path) as store, store.transaction() as cursor:
        cursor.execute("INSERT INTO schema_version VALUES (99, 0)")
    with pytest.raises(StoreError, match="schema version 99, newer than"):
        DataStore(path)


def test_an_older_schema_is_migrated_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "market.duckdb"
    with DataStore(path) as store:
        write(store, FUNDING, [payment(0, 0.0001)], KEY)
    newer = schema.SCHEMA_VERSION + 1
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", newer)
    monkeypatch.setitem(
        schema.MIGRATIONS, newer - 1, ("ALTER TABLE funding ADD COLUMN cap DOUBLE",)
    )
    with DataStore(path, read_only=True) as store:  # a reader need not know of versions
        assert store.rows("SELECT rate, cap FROM funding") == [(0.0001, None)]
        assert store.rows("SELECT max(version) FROM schema_version") == [(newer,)]


VERSION_1 = """
CREATE SEQUENCE batch_ids;
CREATE TABLE schema_version (version INTEGER NOT NULL, applied_at_ms BIGINT NOT NULL);
INSERT INTO schema_version VALUES (1, 0);
CREATE TABLE instruments (exchange VARCHAR, native_id VARCHAR, symbol VARCHAR, asset VARCHAR,
    kind VARCHAR, settlement VARCHAR, contract_size DOUBLE, strike DOUBLE, is_call BOOLEAN,
    expiry_ms BIGINT, listed_ms BIGINT, batch_id BIGINT NOT NULL,
    PRIMARY KEY (exchange, native_id));
INSERT INTO instruments VALUES ('deribit', 'BTC-PERPETUAL', 'BTC/USD:BTC', 'BTC', 'perp',
    'inverse', 10, NULL, NULL, NULL, 5, 1);
CREATE TABLE option_trades (exchange VARCHAR, trade_id VARCHAR, native_id VARCHAR, ts_ms BIGINT,
    price_coin DOUBLE, iv DOUBLE, index_price DOUBLE, amount DOUBLE, side VARCHAR,
    batch_id BIGINT NOT NULL, PRIMARY KEY (exchange, trade_id));
INSERT INTO option_trades VALUES ('deribit', '7', 'BTC-1JAN24-1-C', 9, 0.1, 0.5, 1, 1, 'buy', 1);
"""


def test_a_store_of_the_first_version_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "market.duckdb"
    with duckdb.connect(str(path)) as old:
        for statement in filter(str.strip, VERSION_1.split(";")):
            old.execute(statement)
    with DataStore(path) as store:
        assert store.rows("SELECT symbol, contract_size, tick_size FROM instruments") == [
            ("BTC/USD:BTC", 10.0, None)
        ]
        assert store.rows("SELECT trade_id, iv, trade_seq, liquidation FROM option_trades") == [
            ("7", 0.5, None, None)
        ]
        key = LedgerKey("deribit", "BTC", "instruments")
        new = ("deribit", "B", "B", "BTC", "perp", "inverse", 1.0, None, None, None, None, 0.5, 1.0,
               "BTC")  # fmt: skip
        assert write(store, INSTRUMENTS, [new], key).added == 1
        assert store.rows("SELECT count(*) FROM shortfalls") == [(0,)]
    with DataStore(path, read_only=True) as store:
        assert store.rows("SELECT max(version) FROM schema_version") == [(schema.SCHEMA_VERSION,)]


def test_the_same_rows_twice_are_stored_once(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        rows = [payment(0, 0.0001), payment(1, 0.0002)]
        assert write(store, FUNDING, rows, KEY).added == 2
        again = write(store, FUNDING, rows, KEY)
        assert (again.read, again.added, again.replaced) == (2, 0, 0)
        assert stored_rates(store) == [0.0001, 0.0002]


def test_a_contradiction_is_refused_and_nothing_of_its_batch_is_stored(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        write(store, FUNDING, [payment(0, 0.0001)], KEY, [(START_MS, START_MS + 1)])
        with pytest.raises(StoreError, match=r"rate 0\.0009 contradicts 0\.0001"):
            write(
                store, FUNDING, [payment(0, 0.0009), payment(1, 0.1)], KEY,
                [(START_MS, START_MS + 2)],
            )  # fmt: skip
        assert stored_rates(store) == [0.0001]
        assert store.covered(KEY) == [(START_MS, START_MS + 1)]
        assert len(store.rows("SELECT * FROM batches")) == 1


def test_a_contradiction_can_be_kept_out_or_let_in(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        write(store, FUNDING, [payment(0, 0.0001)], KEY)
        assert write(store, FUNDING, [payment(0, 0.0002)], KEY, on_conflict="keep").replaced == 0
        assert stored_rates(store) == [0.0001]
        assert write(store, FUNDING, [payment(0, 0.0002)], KEY, on_conflict="replace").replaced == 1
        assert stored_rates(store) == [0.0002]


def test_one_measurement_written_twice_with_rounding_is_no_contradiction(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        write(store, FUNDING, [payment(0, 0.00011)], KEY)
        assert write(store, FUNDING, [payment(0, 0.011 / 100 * (1 + 1e-15))], KEY).added == 0


def test_simulated_and_real_data_never_share_a_store(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        write(store, FUNDING, [payment(0, 0.0001)], KEY)
        with pytest.raises(StoreError, match="holds real data"):
            write(store, FUNDING, [payment(1, 0.5)], KEY, synthetic=True)
        assert stored_rates(store) == [0.0001]


def delete_then_stop(store: DataStore) -> None:
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM funding")
        raise KeyboardInterrupt


def test_a_failure_inside_a_transaction_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "market.duckdb"
    with DataStore(path) as store:
        write(store, FUNDING, [payment(0, 0.0001)], KEY)
        with pytest.raises(KeyboardInterrupt):
            delete_then_stop(store)
    with DataStore(path, read_only=True) as store:
        assert stored_rates(store) == [0.0001]


def test_missing_values_have_defined_bytes(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        perpetual = ("deribit", "BTC-PERPETUAL", "BTC/USD:BTC", "BTC", "perp", "inverse", 10.0)
        option = ("deribit", "O", "O", "BTC", "option", "inverse", 1.0, 5.0, True, 9, 8)
        key = LedgerKey("deribit", "BTC", "instruments")
        write(store, INSTRUMENTS, [(*perpetual, *[None] * 7), (*option, None, None, None)], key)
        columns = store.columns(
            "SELECT strike, is_call, expiry_ms FROM instruments ORDER BY native_id"
        )
    assert np.isnan(columns["strike"][0])
    assert columns["expiry_ms"].tolist() == [-1, 9]
    assert columns["is_call"].tolist() == [False, True]


small_windows = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 8)).map(lambda w: (w[0], w[0] + w[1])), max_size=8
)


@given(batches=st.lists(small_windows, max_size=4), asked=st.tuples(st.integers(0, 30)))
@settings(max_examples=60, deadline=None)
def test_the_ledger_is_the_union_of_what_was_marked(
    batches: list[list[tuple[int, int]]], asked: tuple[int]
) -> None:
    with duckdb.connect(":memory:") as cursor:
        for statement in filter(str.strip, LEDGER_TABLES.split(";")):
            cursor.execute(statement)
        other = LedgerKey("deribit", "ETH", "funding")
        mark_complete(cursor, other, [(0, 100)])
        for windows in batches:
            mark_complete(cursor, KEY, windows)
        instants = {t for windows in batches for a, b in windows for t in range(a, b)}
        ledger = covered(cursor, KEY)
        stored = cursor.execute(
            "SELECT start_ms, end_ms FROM coverage WHERE market = ? ORDER BY 1", [BTC]
        ).fetchall()
    assert {t for a, b in ledger for t in range(a, b)} == instants
    assert stored == ledger
    assert all(ended < began for (_, ended), (began, _) in pairwise(ledger))
    window = (asked[0], asked[0] + 12)
    missing = {t for a, b in subtract(window, ledger) for t in range(a, b)}
    assert missing == set(range(*window)) - instants


def test_runs_break_where_a_step_is_too_long() -> None:
    times = np.array([0, 10, 20, 50, 60], dtype=np.int64)
    assert runs(times, longest_step_ms=10, tail_ms=10) == [(0, 30), (50, 70)]
    assert runs(times[:0], 10, 10) == []


def test_a_missing_text_arrives_as_none_and_a_missing_number_as_nan(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        told = store.columns(
            "SELECT * FROM (VALUES ('a', 1.0, 2, true), (NULL, NULL, NULL, NULL)) t(t, f, i, b)"
        )
    assert told["t"].tolist() == ["a", None]
    assert np.isnan(told["f"][1])
    assert told["i"].tolist() == [2, -1]
    assert told["b"].tolist() == [True, False]
