"""What a store holds: the table that `remargin data status` and the report's data section print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.tape import array_digest
from backtest.units import duration_text
from data_ingest.coverage import LedgerKey
from data_ingest.schema import (
    CANDLES,
    DEPTH,
    EVENTS,
    FEED_TABLES,
    FUNDING,
    INSTRUMENTS,
    SIGNALS,
)

if TYPE_CHECKING:
    from data_ingest.schema import FeedTable
    from data_ingest.store import DataStore


_MARKET_BY_MARKET = (CANDLES, FUNDING, DEPTH)
_OUTSIDE = (SIGNALS, EVENTS)
_WHOLE = tuple(table for table in FEED_TABLES if table not in (*_MARKET_BY_MARKET, *_OUTSIDE))
"""Tables that are listed whole, by exchange, not market by market."""


@dataclass(frozen=True)
class InventoryRow:
    """One feed of one market.

    Parameters
    ----------
    feed, exchange, market : str
        What; candles say kind and timeframe.
    start_ms, end_ms : int
        First and last observation.
    rows : int
        Observations.
    gaps : int
        Holes between the complete windows of the ledger, of candles and funding; what any feed
        lacks, and why, stands in the table ``shortfalls``.
    sha256 : str
        Of key and value columns in the order of the key.
    origins : tuple of str
        Files or addresses.
    is_synthetic : bool
        True where a simulator made it.
    """

    feed: str
    exchange: str
    market: str
    start_ms: int
    end_ms: int
    rows: int
    gaps: int
    sha256: str
    origins: tuple[str, ...]
    is_synthetic: bool


def inventory(store: DataStore) -> list[InventoryRow]:
    """List what the store holds, one row per feed and market."""
    rows: list[InventoryRow] = []
    for exchange, symbol, kind, timeframe in store.rows(
        "SELECT DISTINCT exchange, symbol, kind, timeframe_ms FROM candles ORDER BY ALL"
    ):
        key = LedgerKey(exchange, symbol, f"{kind}_candles", timeframe)
        where = {"exchange": exchange, "symbol": symbol, "kind": kind, "timeframe_ms": timeframe}
        feed = f"{kind} candles {duration_text(timeframe)}"
        rows.append(_describe(store, CANDLES, feed, key, where, "open_ms"))
    for table in (FUNDING, DEPTH):
        for exchange, symbol in store.rows(
            f"SELECT DISTINCT exchange, symbol FROM {table.name} ORDER BY ALL"
        ):
            key = LedgerKey(exchange, symbol, table.name)
            where = {"exchange": exchange, "symbol": symbol}
            rows.append(_describe(store, table, table.name, key, where, "ts_ms"))
    for table in _WHOLE:
        time = "listed_ms" if table is INSTRUMENTS else table.time
        for (exchange,) in store.rows(f"SELECT DISTINCT exchange FROM {table.name} ORDER BY 1"):
            key = LedgerKey(exchange, "all", table.name)
            feed = table.name.replace("_", " ")
            rows.append(_describe(store, table, feed, key, {"exchange": exchange}, time))
    for table, column in ((SIGNALS, "name"), (EVENTS, "calendar")):
        for (name,) in store.rows(f"SELECT DISTINCT {column} FROM {table.name} ORDER BY 1"):
            key = LedgerKey("outside", name, table.name)
            rows.append(_describe(store, table, table.name, key, {column: name}, "known_ts_ms"))
    return rows


def _describe(
    store: DataStore,
    table: FeedTable,
    feed: str,
    key: LedgerKey,
    where: dict[str, str | int],
    time: str,
) -> InventoryRow:
    condition = " AND ".join(f"{name} = ?" for name in where)
    values = list(where.values())
    columns = store.columns(
        f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {condition} "
        f"ORDER BY {', '.join(table.key)}",
        values,
    )
    origins = store.rows(
        "SELECT source, bool_or(is_synthetic) FROM batches WHERE batch_id IN "
        f"(SELECT batch_id FROM {table.name} WHERE {condition}) GROUP BY source ORDER BY source",
        values,
    )
    span = store.rows(
        f"SELECT coalesce(min({time}), 0), coalesce(max({time}), 0) FROM {table.name} "
        f"WHERE {condition}",
        values,
    )[0]
    return InventoryRow(
        feed=feed,
        exchange=key.exchange,
        market=key.market,
        start_ms=int(span[0]),
        end_ms=int(span[1]),
        rows=len(next(iter(columns.values()))),
        gaps=max(0, len(store.covered(key)) - 1) if table in (CANDLES, FUNDING) else 0,
        sha256=array_digest([(name, _bytes(array)) for name, array in columns.items()]),
        origins=tuple(row[0] for row in origins),
        is_synthetic=any(row[1] for row in origins),
    )


def _bytes(column: np.ndarray) -> np.ndarray:
    """Turn a text column into bytes that hash the same everywhere."""
    if column.dtype.kind != "O":
        return column
    return np.frombuffer("\n".join(map(str, column)).encode(), dtype=np.uint8)
