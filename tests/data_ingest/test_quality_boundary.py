"""Rows at the door: what pandera is asked, what quarantine keeps, how many rows at a time."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_ingest.coverage import LedgerKey
from data_ingest.quality import bad_rows, boundary, put_aside
from data_ingest.quality.row_rules import ROW_RULES, schema_of
from data_ingest.recorded import import_recorded
from data_ingest.schema import CANDLES, FEED_TABLES, FUNDING, INSTRUMENTS, FeedTable
from data_ingest.store import DataStore, StoreError
from tests.data_ingest.samples import BTC, HOUR_MS, START_MS, candle_frame, candle_mapping

CANDLE = ("x", BTC, "trade", HOUR_MS, START_MS, 100.0, 102.0, 97.0, 101.0, 3.0, 303.0)


@pytest.fixture
def cursor() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def stage(
    cursor: duckdb.DuckDBPyConnection, table: FeedTable, rows: list[tuple[object, ...]]
) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in table.columns.items())
    cursor.execute(f"CREATE OR REPLACE TABLE staged (row_number BIGINT, {columns})")
    marks = ", ".join("?" for _ in range(len(table.columns) + 1))
    for number, row in enumerate(rows, 1):
        cursor.execute(f"INSERT INTO staged VALUES ({marks})", [number, *row])


def candle(hour: int = 0, **changes: float | None) -> tuple[object, ...]:
    row = dict(zip(CANDLES.columns, CANDLE, strict=True)) | {"open_ms": START_MS + hour * HOUR_MS}
    return tuple((row | changes).values())


def test_every_feed_has_a_schema_that_pandera_can_apply_to_rows_of_nulls(
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    for table in FEED_TABLES:
        assert len(schema_of(ROW_RULES[table.name]).checks) == len(ROW_RULES[table.name])
        stage(cursor, table, [(None,) * len(table.columns)] * 2)
        found = bad_rows(cursor, table, "staged")
        assert all("{" not in each.reason for each in found)
        if table is not INSTRUMENTS:
            assert {each.row_number for each in found} >= {1, 2} or table.name == "settlements"


def test_a_row_is_refused_once_for_its_first_reason(cursor: duckdb.DuckDBPyConnection) -> None:
    stage(cursor, CANDLES, [candle(), candle(1, low=-1.0, high=-2.0, volume_base=-3.0)])
    (found,) = bad_rows(cursor, CANDLES, "staged")
    assert (found.row_number, found.reason) == (2, "high is -2.0 USD; it must be above 0")


def test_an_absent_volume_hides_no_other_fault(cursor: duckdb.DuckDBPyConnection) -> None:
    stage(cursor, CANDLES, [candle(), candle(1, high=96.0, volume_base=None, volume_usd=None)])
    (found,) = bad_rows(cursor, CANDLES, "staged")
    assert found.reason == "high is 96.0 USD, below low, 97.0 USD"


def test_rows_are_judged_alike_in_chunks_of_any_size(
    cursor: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor.execute(
        "CREATE TABLE staged AS SELECT range + 1 AS row_number, 'x' AS exchange, 'b' AS symbol, "
        "range AS ts_ms, CASE WHEN range % 4000 = 7 THEN 0.9 ELSE 0.0001 END AS rate, "
        "NULL::BIGINT AS interval_ms, NULL::DOUBLE AS index_price FROM range(10000)"
    )
    whole = bad_rows(cursor, FUNDING, "staged")
    monkeypatch.setattr(boundary, "CHUNK_ROWS", 2_048)
    assert bad_rows(cursor, FUNDING, "staged") == whole
    assert [each.row_number for each in whole] == [8, 4008, 8008]


def test_a_rule_that_cannot_be_applied_is_no_verdict(
    cursor: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise TypeError("a mistake of the rule")

    rule = type(ROW_RULES["funding"][0])(("rate",), broken, "never said")
    monkeypatch.setitem(ROW_RULES, "funding", (rule,))
    stage(cursor, FUNDING, [("x", "b", 1, 0.1, 1, None)])
    with pytest.raises(RuntimeError, match="cannot be applied"):
        bad_rows(cursor, FUNDING, "staged")


def test_a_bad_row_that_comes_again_under_another_number_is_put_aside_once(
    tmp_path: Path,
) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        for rows in ([candle(1, low=-1.0)], [candle(), candle(1, low=-1.0), candle(2, low=-1.0)]):
            stage(store.connection, CANDLES, rows)
            refused = bad_rows(store.connection, CANDLES, "staged")
            store.connection.execute("CREATE OR REPLACE TABLE raw AS SELECT * FROM staged")
            put_aside(store.connection, CANDLES, "exchange", refused, "raw", "staged")
        assert store.rows("SELECT row_number FROM quarantine ORDER BY 1") == [(1,), (3,)]
        store.connection.execute("DROP TABLE raw")
        store.connection.execute("DROP TABLE staged")


PRICE = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=32))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PRICE, PRICE, PRICE, PRICE), min_size=1, max_size=12))
def test_exactly_the_candles_that_enclose_positive_prices_are_accepted(
    rows: list[tuple[float | None, ...]],
) -> None:
    cursor = duckdb.connect()
    names = ("open", "high", "low", "close")
    stage(
        cursor,
        CANDLES,
        [candle(hour, **dict(zip(names, row, strict=True))) for hour, row in enumerate(rows)],
    )
    refused = {each.row_number for each in bad_rows(cursor, CANDLES, "staged")}
    for number, prices in enumerate(rows, 1):
        open_, high, low, close = (np.nan if price is None else price for price in prices)
        good = all(np.isfinite(x) and x > 0 for x in (open_, high, low, close))
        good = good and high >= max(open_, close) and low <= min(open_, close)
        assert (number in refused) != good


def test_an_import_tells_of_rows_out_of_order_and_of_repeats_and_again_only_once(
    tmp_path: Path,
) -> None:
    frame = pd.concat([candle_frame(4).iloc[[0, 2, 1, 3]], candle_frame(4).iloc[[0]]])
    frame.to_parquet(tmp_path / "candles.parquet")
    with DataStore(tmp_path / "market.duckdb") as store:
        for _ in range(2):
            import_recorded(store, candle_mapping(), tmp_path)
        found = store.rows("SELECT rule, row_count, market, source FROM findings ORDER BY rule")
        assert found == [
            ("out_of_order", 2, BTC, "candles.parquet"),
            ("repeated_rows", 1, BTC, "candles.parquet"),
        ]
        frame.sort_values("ts_utc_ms").drop_duplicates().to_parquet(tmp_path / "candles.parquet")
        import_recorded(store, candle_mapping(), tmp_path)
        assert store.rows("SELECT count(*) FROM findings") == [(0,)]


def test_findings_of_an_import_stay_out_if_the_import_is_refused(tmp_path: Path) -> None:
    candle_frame(3).to_parquet(tmp_path / "candles.parquet")
    with DataStore(tmp_path / "market.duckdb") as store:
        import_recorded(store, candle_mapping(), tmp_path)
        frame = candle_frame(3).iloc[::-1]
        frame["close"] = frame["close"] + 0.5
        frame.to_parquet(tmp_path / "candles.parquet")
        with pytest.raises(StoreError, match="contradicts"):
            import_recorded(store, candle_mapping(), tmp_path)
        assert store.rows("SELECT count(*) FROM findings") == [(0,)]
        assert store.covered(LedgerKey("binanceusdm", BTC, "trade_candles", HOUR_MS))
