"""Small recorded files and stores for the data tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_ingest.coverage import LedgerKey, Window
from data_ingest.feed import Row
from data_ingest.mapping import ImportMapping
from data_ingest.recorded import import_recorded
from data_ingest.schema import FeedTable
from data_ingest.spec import MarketSpec
from data_ingest.store import Batch, Conflict, DataStore, WriteResult

REPOSITORY = Path(__file__).resolve().parents[2]
HOUR_MS = 3_600_000
START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC
BTC = "BTC/USDT:USDT"


def real_data() -> Path:
    """The folder of recorded data, or a skip."""
    folder = Path(os.environ.get("REMARGIN_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no recorded data: set REMARGIN_DATA")
    return folder


def candle_frame(bars: int = 48, start_ms: int = START_MS, step_ms: int = HOUR_MS) -> pd.DataFrame:
    close = [100.0 + (7 * i) % 13 for i in range(bars)]
    return pd.DataFrame(
        {
            "ts_utc_ms": [start_ms + i * step_ms for i in range(bars)],
            "open": close,
            "high": [price + 2 for price in close],
            "low": [price - 3 for price in close],
            "close": close,
            "volume": [float(1 + i % 5) for i in range(bars)],
        }
    )


def candle_mapping(**changes: Any) -> ImportMapping:
    group = {
        "feed": "candles",
        "path": "candles.parquet",
        "markets": {"BTCUSDT": BTC},
        "timeframe": "1h",
        "time": {"column": "ts_utc_ms", "means": "bar_open"},
        "columns": {
            "open": "open",
            "high": "high",
            "low": "low",
            "close": "close",
            "volume_base": "volume",
        },
    } | changes
    return mapping_of(group)


def funding_mapping(**changes: Any) -> ImportMapping:
    group = {
        "feed": "funding",
        "path": "funding.parquet",
        "markets": {"BTCUSDT": BTC},
        "interval": "8h",
        "time": {"column": "ts_utc_ms", "means": "instant", "round": "1min"},
        "columns": {"rate": "funding_rate"},
    } | changes
    return mapping_of(group)


CHAIN_COLUMNS = {
    "native_id": "instrument",
    "asset": "currency",
    "strike": "strike",
    "option_type": "option_type",
    "expiry": "expiry_utc_ms",
    "mark_coin": "mark",
    "mark_iv": "mark_iv",
    "forward_price": "underlying_price",
    "index_price": "index_price",
    "open_interest": "open_interest",
}


def chain_mapping(**changes: Any) -> ImportMapping:
    group = {
        "feed": "chain",
        "path": "chain.parquet",
        "time": {"column": "ts_utc_ms", "means": "instant"},
        "known_delay": "2min",
        "columns": CHAIN_COLUMNS,
    } | changes
    return mapping_of(group, exchange="deribit")


def mapping_of(
    group: dict[str, Any], exchange: str = "binanceusdm", on_conflict: str = "refuse"
) -> ImportMapping:
    return ImportMapping.model_validate(
        {"name": "sample", "exchange": exchange, "on_conflict": on_conflict, "files": [group]}
    )


def chain_row(
    ts_ms: int,
    strike: float = 30_000.0,
    kind: str = "call",
    expiry_ms: int = START_MS + 40 * 24 * HOUR_MS,
    **changes: Any,
) -> dict[str, Any]:
    name = f"BTC-X{expiry_ms // HOUR_MS}-{strike:.0f}-{kind[0].upper()}"
    return {
        "ts_utc_ms": ts_ms,
        "currency": "BTC",
        "instrument": name,
        "option_type": kind,
        "strike": strike,
        "expiry_utc_ms": expiry_ms,
        "mark": 0.05,
        "mark_iv": 0.6,
        "underlying_price": 30_300.0,
        "index_price": 30_000.0,
        "open_interest": 50.0,
    } | changes


def write(
    store: DataStore,
    table: FeedTable,
    rows: list[Row],
    key: LedgerKey,
    complete: list[Window] | None = None,
    on_conflict: Conflict = "refuse",
    synthetic: bool = False,
) -> WriteResult:
    """Store rows as an import or a pull would, without either."""
    with store.transaction() as cursor:
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE sample AS SELECT * FROM {table.name} LIMIT 0")
        cursor.execute("ALTER TABLE sample DROP COLUMN batch_id")
        for row in rows:
            marks = ", ".join("?" for _ in row)
            cursor.execute(f"INSERT INTO sample VALUES ({marks})", list(row))
        batch = Batch(key, "sample.parquet", is_synthetic=synthetic)
        return store.upsert(cursor, table, "sample", batch, {key: complete or []}, on_conflict)


def market(hours: int = 48, **changes: Any) -> MarketSpec:
    return MarketSpec.model_validate(
        {
            "exchange": "binanceusdm",
            "assets": ["BTC"],
            "start": START_MS,
            "end": START_MS + hours * HOUR_MS,
            "depth": {"usd": {"BTC": "5M"}},
        }
        | changes
    )


def recorded_store(
    folder: Path,
    candles: pd.DataFrame | None = None,
    funding: dict[int, float] | None = None,
    chain: list[dict[str, Any]] | None = None,
    timeframe: str = "1h",
) -> DataStore:
    """A store filled by the real import, as a user's is."""
    folder.mkdir(parents=True, exist_ok=True)
    store = DataStore(folder / "market.duckdb")
    frame = candle_frame() if candles is None else candles
    frame.to_parquet(folder / "candles.parquet")
    import_recorded(store, candle_mapping(timeframe=timeframe), folder)
    if funding:
        pd.DataFrame(
            {"ts_utc_ms": list(funding), "funding_rate": list(funding.values())}
        ).to_parquet(folder / "funding.parquet")
        import_recorded(store, funding_mapping(), folder)
    if chain:
        pd.DataFrame(chain).to_parquet(folder / "chain.parquet")
        import_recorded(store, chain_mapping(), folder)
    return store


def option_market(hours: int = 48, **changes: Any) -> MarketSpec:
    return market(hours, options={"max_snapshot_gap": "14h"} | changes)


def sample_chain() -> list[dict[str, Any]]:
    rows = []
    for step in range(5):
        at = START_MS + step * 12 * HOUR_MS
        rows.append(chain_row(at, mark_iv=0.5 + step / 100))
        if step >= 2:
            rows.append(chain_row(at, strike=35_000.0, mark_iv=0.7 + step / 100))
        if step != 3:
            rows.append(chain_row(at, strike=25_000.0, kind="put", mark_iv=0.8 + step / 100))
    return rows
