"""One piece of work on data, in a process of its own; prints its cost as a line of JSON.

A process of its own has its own peak memory, and finds nothing warm that another left behind.
Processor seconds are of all its threads, since DuckDB uses several.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd

from benchmarks.data_feeds import CANDLE_MS
from benchmarks.exchange import PARAMETERS, hurried_client
from benchmarks.measure import peak_mb
from data_ingest.build import build_tape
from data_ingest.coverage import LedgerKey
from data_ingest.downloader import download
from data_ingest.feed_table import FEEDS
from data_ingest.mapping import ImportMapping
from data_ingest.quality.verify import verify
from data_ingest.recorded import import_recorded
from data_ingest.schema import CANDLES, OPTION_TRADES
from data_ingest.snapshot import freeze, open_snapshot, verify_snapshot
from data_ingest.spec import MarketSpec
from data_ingest.store import Batch, DataStore
from data_ingest.symbols import perpetual_symbol

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.schema import FeedTable

START_MS = 1_672_531_200_000  # 2023-01-01 00:00 UTC
MINUTE_MS = 60_000
MINUTES_A_YEAR = 365 * 24 * 60
ASSETS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "AVAX", "LINK", "DOT", "LTC")
EXCHANGE = "binanceusdm"

_CANDLES = (
    f"SELECT {START_MS} + i * {MINUTE_MS} AS ts, p AS open, p + 2 AS high, p - 2 AS low, "
    "p + sin(i) AS close, 1 + i % 97 AS volume FROM "
    "(SELECT i, 1000 + 100 * sin(i / 9000) AS p FROM range({rows}) AS t(i))"
)
_TRADES = (
    f"SELECT (10000000 + i)::VARCHAR AS trade_id, {START_MS} + i * 211 AS ts, "
    "'BTC-29DEC23-' || (20000 + 500 * (i % 200)) || '-' || CASE WHEN i % 400 < 200 THEN 'C' "
    "ELSE 'P' END AS instrument, 0.05 + (i % 31) * 0.0005 AS price, 0.6 + (i % 17) * 0.01 "
    "AS iv, 30000 + sin(i / 9000) * 1000 AS index, 0.1 + i % 7 AS amount, "
    "CASE WHEN i % 2 = 0 THEN 'buy' ELSE 'sell' END AS side FROM range({rows}) AS t(i)"
)


def candle_file(path: str, rows: str) -> dict[str, Any]:
    """Write made-up minute candles as Parquet; the price wanders, no bar is impossible."""
    duckdb.sql(f"COPY ({_CANDLES.format(rows=rows)}) TO '{path}'")
    return {}


def trade_file(path: str, rows: str) -> dict[str, Any]:
    """Write made-up option trades as Parquet, some five a second over 400 options."""
    duckdb.sql(f"COPY ({_TRADES.format(rows=rows)}) TO '{path}'")
    return {}


def import_candles(store: str, folder: str, pattern: str, *natives: str) -> dict[str, Any]:
    """Import candle files, one of each market, as ``remargin data import`` does."""
    return _imported(store, folder, {
        "feed": "candles", "path": pattern, "timeframe": "1min",
        "markets": {native: f"{native}/USDT:USDT" for native in natives},
        "time": {"column": "ts", "means": "bar_open"},
        "columns": {name: name for name in ("open", "high", "low", "close")}
        | {"volume_base": "volume"},
    })  # fmt: skip


def import_trades(store: str, folder: str, pattern: str) -> dict[str, Any]:
    """Import a file of option trades."""
    return _imported(store, folder, {
        "feed": "option_trades", "path": pattern, "time": {"column": "ts", "means": "instant"},
        "columns": {"trade_id": "trade_id", "native_id": "instrument", "price_coin": "price",
                    "iv": "iv", "index_price": "index", "amount": "amount", "side": "side"},
    })  # fmt: skip


def _imported(store: str, folder: str, group: dict[str, Any]) -> dict[str, Any]:

    mapping = ImportMapping.model_validate(
        {"name": "benchmark", "exchange": EXCHANGE, "files": [group]}
    )
    with DataStore(store) as opened:
        reports = import_recorded(opened, mapping, Path(folder))
    return {"rows": sum(report.rows_added for report in reports)}


def bare_candles(store: str, file: str, keys: str) -> dict[str, Any]:
    """Copy a file into a table of DuckDB and do nothing else."""
    select = (
        f"'{EXCHANGE}', 'BTC/USDT:USDT', 'trade', {MINUTE_MS}, ts, open, high, low, close, "
        "volume, volume * close, 1"
    )
    return _copied(store, CANDLES.create_sql, CANDLES.name, select, file, keys)


def bare_trades(store: str, file: str, keys: str) -> dict[str, Any]:
    """Copy a file of option trades into a table of DuckDB and do nothing else."""
    select = (
        f"'{EXCHANGE}', trade_id, instrument, ts, price, iv, index, amount, side, NULL, NULL, 1"
    )
    return _copied(store, OPTION_TRADES.create_sql, OPTION_TRADES.name, select, file, keys)


def _copied(
    store: str, create_sql: str, table: str, select: str, file: str, keys: str
) -> dict[str, Any]:
    if keys != "keys":
        create_sql = create_sql[: create_sql.index(", PRIMARY KEY")] + ")"
    connection = duckdb.connect(store)
    connection.execute(create_sql)
    row = connection.execute(f"INSERT INTO {table} SELECT {select} FROM '{file}'").fetchone()
    connection.close()
    assert row is not None
    return {"rows": row[0]}


def year_tape(store: str) -> dict[str, Any]:
    """Build the tape of a year of minutes of ten assets."""
    market = MarketSpec.model_validate({
        "exchange": EXCHANGE, "assets": ASSETS, "clock": "1min",
        "start": START_MS, "end": START_MS + MINUTES_A_YEAR * MINUTE_MS,
        "depth": {"usd": dict.fromkeys(ASSETS, 1e6)},
    })  # fmt: skip
    with DataStore(store, read_only=True) as opened:
        tape = build_tape(opened, market)
    return {"rows": tape.mark.size, "digest": _digest(tape.mark, tape.high, tape.low)}


def year_pandas(store: str) -> dict[str, Any]:
    """Join the same columns with pandas: query, reindex on the clock, fill forward."""
    opens = np.arange(MINUTES_A_YEAR, dtype=np.int64) * MINUTE_MS + START_MS
    connection = duckdb.connect(store, read_only=True)
    columns: dict[str, list[np.ndarray]] = {"close": [], "high": [], "low": [], "volume_usd": []}
    for asset in ASSETS:
        frame: pd.DataFrame = connection.execute(
            "SELECT open_ms, close, high, low, volume_usd FROM candles WHERE symbol = ? "
            "AND kind = 'trade' AND timeframe_ms = 60000 ORDER BY open_ms",
            [f"{asset}/USDT:USDT"],
        ).df()
        frame = frame.set_index("open_ms").reindex(opens)
        frame = frame.ffill()
        for name, found in columns.items():
            found.append(frame[name].to_numpy())
    close, high, low, volume = (np.column_stack(found) for found in columns.values())
    return {"rows": volume.size, "digest": _digest(close, high, low)}


def year_scan(store: str) -> dict[str, Any]:
    """Read the same columns out of DuckDB as they lie, and do nothing with them."""
    connection = duckdb.connect(store, read_only=True)
    rows = 0
    for asset in ASSETS:
        rows += connection.sql(
            "SELECT open_ms, close, high, low, volume_usd FROM candles WHERE symbol = "
            f"'{asset}/USDT:USDT' ORDER BY open_ms"
        ).to_arrow_table().num_rows  # fmt: skip
    return {"rows": rows}


def pull(store: str, url: str, exchange: str, bars: str) -> dict[str, Any]:
    """Pull the last so many candles of the simulator."""
    client = hurried_client(exchange, url)
    window = (PARAMETERS.end - int(bars) * CANDLE_MS, PARAMETERS.end)
    with DataStore(store) as opened:
        report = download(opened, client, FEEDS[exchange, "trade_candles"],
                          perpetual_symbol(exchange, "BTC"), window, CANDLE_MS)  # fmt: skip
    return {"rows": report.stored}


def fill(store: str, candles: str, trades: str) -> dict[str, Any]:
    """Store made-up candles of ten assets, and option trades, without files in between."""
    bars = int(candles) // len(ASSETS)
    with DataStore(store) as opened:
        for asset in ASSETS:
            symbol = f"{asset}/USDT:USDT"
            _add(opened, CANDLES, LedgerKey(EXCHANGE, symbol, "trade_candles", MINUTE_MS), bars,
                 f"SELECT '{EXCHANGE}', '{symbol}', 'trade', {MINUTE_MS}, ts, open, high, low, "
                 f"close, volume, volume * close FROM ({_CANDLES.format(rows=bars)})")  # fmt: skip
        _add(opened, OPTION_TRADES, LedgerKey(EXCHANGE, "BTC", "option_trades"), int(trades),
             f"SELECT '{EXCHANGE}', trade_id, instrument, ts, price, iv, index, amount, side, "
             f"NULL, NULL FROM ({_TRADES.format(rows=trades)})")  # fmt: skip
    return {"rows": bars * len(ASSETS) + int(trades)}


def _add(store: DataStore, table: FeedTable, key: LedgerKey, rows: int, query: str) -> None:
    names = ", ".join(table.columns)
    with store.transaction() as cursor:
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW made AS SELECT * FROM ({query}) AS t({names})")
        windows = {key: [(START_MS, START_MS + rows * MINUTE_MS)]} if key.timeframe_ms else {}
        store.upsert(cursor, table, "made", Batch(key, "made up"), windows)


def freeze_store(store: str, folder: str) -> dict[str, Any]:
    """Freeze a store, as ``remargin data snapshot`` does: copied, digested, with a manifest."""
    return {"digest": freeze(store, folder).digest}


def check_snapshot(folder: str) -> dict[str, Any]:
    """Digest every byte and every row of a snapshot again."""
    return {"digest": verify_snapshot(folder).digest}


def open_frozen(folder: str) -> dict[str, Any]:
    """Open a snapshot as a replay does, which compares the digests of its files."""
    with open_snapshot(folder) as (_, manifest):
        return {"digest": manifest.digest}


def bare_copy(store: str, copy: str) -> dict[str, Any]:
    """Copy a store's rows with DuckDB's own statement, keys and all, and look at nothing."""
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{store}' AS held (READ_ONLY); ATTACH '{copy}' AS copied")
    connection.execute("COPY FROM DATABASE held TO copied")
    connection.close()
    return {}


def verify_store(store: str) -> dict[str, Any]:
    """Look for everything odd in a store, as ``remargin data verify`` does."""
    with DataStore(store, read_only=True) as opened:
        found = verify(opened)
    return {"rows": found.rows, "findings": len(found.findings)}


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    job.__name__: job
    for job in (
        candle_file,
        trade_file,
        import_candles,
        import_trades,
        bare_candles,
        bare_trades,
        year_tape,
        year_pandas,
        year_scan,
        pull,
        fill,
        freeze_store,
        check_snapshot,
        open_frozen,
        bare_copy,
        verify_store,
    )
}


def main() -> None:
    """Run the job that the command line names and print what it cost."""
    name, *arguments = sys.argv[1:]
    begin = time.process_time()
    found = JOBS[name](*arguments)
    found["seconds"] = time.process_time() - begin
    found["peak_mb"] = peak_mb()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
