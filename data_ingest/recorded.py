"""Import of recorded files, as SQL over the file: a million rows in seconds, none repaired.

A file is read as it is, judged by the feed's quality rules, and stored in one transaction with
its sha256, its coverage and, on request, its quarantined rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from backtest.errors import DataError, nearest
from data_ingest.coverage import LedgerKey, Window, runs
from data_ingest.quality import CHAIN_INSTRUMENT_RULES, bad_rows, keep_arrivals, put_aside
from data_ingest.schema import CANDLES, CHAIN, FUNDING, INSTRUMENTS, OPTION_TRADES
from data_ingest.store import Batch, DataStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from data_ingest.mapping import FileGroup, ImportMapping

_TABLES = {
    "candles": CANDLES,
    "funding": FUNDING,
    "chain": CHAIN,
    "option_trades": OPTION_TRADES,
}
_TEXT = frozenset({"native_id", "asset", "option_type", "trade_id", "side"})
_SCALE = {"one": 1.0, "percent": 0.01, "bps": 0.0001}
_TIME_TO_MS = {
    "ms": "try_cast({0} AS BIGINT)",
    "s": "(try_cast({0} AS DOUBLE) * 1000)::BIGINT",
    "us": "try_cast({0} AS BIGINT) // 1000",
    "iso": "epoch_ms(try_cast({0} AS TIMESTAMPTZ))",
}


@dataclass(frozen=True)
class ImportReport:
    """What one file brought."""

    source: str
    feed: str
    market: str
    rows_read: int
    rows_added: int
    rows_replaced: int
    rows_quarantined: int
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class _SourceFile:
    path: Path
    label: str
    symbol: str


def import_recorded(
    store: DataStore,
    mapping: ImportMapping,
    data_dir: Path,
    *,
    quarantine: bool = False,
    progress: Callable[[ImportReport], None] | None = None,
) -> list[ImportReport]:
    """Bring recorded files into the store; each file is one transaction.

    Parameters
    ----------
    store : DataStore
        An open store.
    mapping : ImportMapping
        Which files, and what their columns mean.
    data_dir : pathlib.Path
        The folder that the mapping's paths are relative to.
    quarantine : bool
        Put bad rows aside, with row number, reason and raw text, instead of refusing the file.
    progress : callable, optional
        Called after each file.

    Returns
    -------
    list of ImportReport
        One per file, in the mapping's order.

    Raises
    ------
    DataError
        For a missing file or column, or for bad rows unless ``quarantine``; earlier files of
        the mapping stay imported.
    """
    if not data_dir.is_dir():
        raise DataError(f"there is no data folder at {data_dir}.")
    reports: list[ImportReport] = []
    for group in mapping.files:
        for source in _source_files(group, data_dir):
            report = _import_file(store, mapping, group, source, quarantine)
            reports.append(report)
            if progress:
                progress(report)
    return reports


def _source_files(group: FileGroup, data_dir: Path) -> Iterator[_SourceFile]:
    for native, symbol in (group.markets or {"": ""}).items():
        pattern = group.path.replace("{native}", native)
        found = sorted(data_dir.glob(pattern))
        if not found:
            raise DataError(f"no file matches {pattern} in the data folder {data_dir}.")
        for path in found:
            yield _SourceFile(path, path.relative_to(data_dir).as_posix(), symbol)


def _import_file(
    store: DataStore, mapping: ImportMapping, group: FileGroup, source: _SourceFile, aside: bool
) -> ImportReport:
    table = _TABLES[group.feed]
    connection = store.connection
    _read_raw(connection, group, source)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE staged AS SELECT row_number, "
        f"{_mapped(group, mapping.exchange, source.symbol)} FROM raw_rows"
    )
    terms = CHAIN_INSTRUMENT_RULES if table is CHAIN else ()
    refused = bad_rows(connection, table, "staged", terms)
    if refused and not aside:
        more = f" ({len(refused)} such rows in all)" if len(refused) > 1 else ""
        raise DataError(
            f"{source.label}: row {refused[0].row_number}: {refused[0].reason}{more}; correct "
            f"the file, or import with --quarantine to put bad rows aside."
        )
    with store.transaction() as cursor:
        if refused:
            put_aside(cursor, table, source.label, refused, "raw_rows", "staged")
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE accepted AS SELECT DISTINCT ON "
            f"({', '.join(table.key)}) * EXCLUDE (row_number) FROM staged ORDER BY row_number"
        )
        windows = _complete_windows(cursor, mapping, group, source)
        # One batch per file; it is labelled by all the markets that the file holds.
        label = LedgerKey(
            mapping.exchange,
            ",".join(sorted({key.market for key in windows})) or source.symbol,
            _ledger_feed(group),
            group.timeframe or 0,
        )
        batch = Batch(label, source.label, _sha256(source.path))
        keep_arrivals(cursor, table, "staged", batch)
        if table is CHAIN:
            _write_instruments(store, cursor, mapping, group, batch)
        result = store.upsert(
            cursor,
            table,
            "accepted",
            batch,
            windows,
            on_conflict=mapping.on_conflict,
            quarantined=len(refused),
        )
    return ImportReport(
        source.label, label.feed, label.market, result.read, result.added, result.replaced,
        len(refused), tuple(window for each in windows.values() for window in each),
    )  # fmt: skip


def _read_raw(connection: duckdb.DuckDBPyConnection, group: FileGroup, source: _SourceFile) -> None:
    suffix = source.path.suffix.lower()
    if suffix == ".parquet":
        # file_row_number survives parallel reading; a CSV is numbered in the order it is read.
        reader = "SELECT file_row_number + 1 AS row_number, * EXCLUDE (file_row_number) " \
            "FROM read_parquet(?, file_row_number = true)"  # fmt: skip
    elif suffix == ".csv":
        reader = "SELECT row_number() OVER () AS row_number, * " \
            "FROM read_csv(?, header = true, all_varchar = true)"  # fmt: skip
    else:
        raise DataError(f"{source.label}: a recorded file is .parquet or .csv, not {suffix!r}.")
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE raw_rows AS {reader}", [str(source.path)])
    except duckdb.Error as error:
        first_line = str(error).splitlines()[0]
        raise DataError(f"{source.label}: cannot be read as {suffix[1:]}: {first_line}") from error
    present = [row[0] for row in connection.execute("DESCRIBE raw_rows").fetchall()]
    wanted = [group.time.column, *(column.column for column in group.columns.values())]
    for name in wanted:
        if name not in present:
            raise DataError(f"{source.label}: there is no column {name!r}.{nearest(name, present)}")


def _mapped(group: FileGroup, exchange: str, symbol: str) -> str:
    """Write the SQL that turns raw columns into the feed's columns."""
    columns = {name: _value(name, group) for name in group.columns}
    time_ms = _TIME_TO_MS[group.time.unit].format(_identifier(group.time.column))
    if group.time.round:
        # Half-up in integers: a double would be exact here too, but this needs no argument.
        step = group.time.round
        time_ms = f"(({time_ms} + {step // 2}) // {step} * {step})"
    columns["exchange"] = _text(exchange)
    if group.feed == "candles":
        shift = group.timeframe if group.time.means == "bar_close" else 0
        columns |= {
            "symbol": _text(symbol),
            "kind": _text(group.kind),
            "timeframe_ms": f"{group.timeframe}::BIGINT",
            "open_ms": f"{time_ms} - {shift}",
        }
        columns |= _volumes(columns)
    elif group.feed == "funding":
        columns |= {
            "symbol": _text(symbol),
            "ts_ms": time_ms,
            "interval_ms": f"{group.interval}::BIGINT",
        }
        columns.setdefault("index_price", "NULL::DOUBLE")
    elif group.feed == "chain":
        expiry = columns.pop("expiry")
        kind = f"lower({columns.pop('option_type')})"
        columns |= {
            "ts_ms": time_ms,
            "known_ts_ms": f"{time_ms} + {group.known_delay}",
            "expiry_ms": f"try_cast({expiry} AS BIGINT)",
            "is_call": f"CASE {kind} WHEN 'call' THEN true WHEN 'c' THEN true "
            f"WHEN 'put' THEN false WHEN 'p' THEN false END",
        }
        for name in ("bid_coin", "ask_coin", "open_interest", "volume_24h"):
            columns.setdefault(name, "NULL::DOUBLE")
    else:
        columns["ts_ms"] = time_ms
        columns["side"] = f"lower({columns['side']})"
        columns |= {"trade_seq": "NULL::BIGINT", "liquidation": "NULL::VARCHAR"}
    return ", ".join(f"{expression} AS {name}" for name, expression in columns.items())


def _volumes(columns: dict[str, str]) -> dict[str, str]:
    """Fill the volume that a file lacks from the one it has, at the bar's close."""
    base, usd = columns.get("volume_base"), columns.get("volume_usd")
    if base is None and usd is None:
        return {"volume_base": "NULL::DOUBLE", "volume_usd": "NULL::DOUBLE"}
    return {
        "volume_base": base or f"{usd} / nullif({columns['close']}, 0)",
        "volume_usd": usd or f"{base} * {columns['close']}",
    }


def _value(name: str, group: FileGroup) -> str:
    source = group.columns[name]
    if name in _TEXT:
        return f"{_identifier(source.column)}::VARCHAR"
    if name == "expiry":
        return _identifier(source.column)
    number = f"try_cast({_identifier(source.column)} AS DOUBLE)"
    # NaN and NULL both mean "not there"; the store knows only NULL.
    number = f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"
    return number if source.unit == "one" else f"({number}) * {_SCALE[source.unit]}"


def _ledger_feed(group: FileGroup) -> str:
    return f"{group.kind}_candles" if group.feed == "candles" else group.feed


def _complete_windows(
    cursor: duckdb.DuckDBPyConnection,
    mapping: ImportMapping,
    group: FileGroup,
    source: _SourceFile,
) -> dict[LedgerKey, list[Window]]:
    """Return what the accepted rows make complete, per market."""
    feed = _ledger_feed(group)
    if group.feed in {"candles", "funding"}:
        step = group.timeframe if group.feed == "candles" else group.interval
        assert step is not None
        column = "open_ms" if group.feed == "candles" else "ts_ms"
        times = _times(cursor, f"SELECT {column} FROM accepted ORDER BY 1")
        key = LedgerKey(mapping.exchange, source.symbol, feed, group.timeframe or 0)
        return {key: runs(times, step, step)}
    asset = "asset" if group.feed == "chain" else "split_part(native_id, '-', 1)"
    windows: dict[LedgerKey, list[Window]] = {}
    for (market,) in cursor.execute(f"SELECT DISTINCT {asset} FROM accepted ORDER BY 1").fetchall():
        times = _times(
            cursor, f"SELECT DISTINCT ts_ms FROM accepted WHERE {asset} = ? ORDER BY 1", market
        )
        # A snapshot vouches for its own instant only; a recording of trades for its whole span.
        whole = [(int(times[0]), int(times[-1]) + 1)]
        windows[LedgerKey(mapping.exchange, market, feed)] = (
            runs(times, 0, 1) if group.feed == "chain" else whole
        )
    return windows


def _times(cursor: duckdb.DuckDBPyConnection, sql: str, *parameters: str) -> np.ndarray:
    rows = cursor.execute(sql, list(parameters)).fetchall()
    return np.array([row[0] for row in rows], dtype=np.int64)


def _write_instruments(
    store: DataStore,
    cursor: duckdb.DuckDBPyConnection,
    mapping: ImportMapping,
    group: FileGroup,
    batch: Batch,
) -> None:
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE option_instruments AS SELECT exchange, native_id, "
        "native_id AS symbol, any_value(asset) AS asset, 'option' AS kind, "
        f"{_text(group.settlement)} AS settlement, {group.contract_size}::DOUBLE AS contract_size, "
        "min(strike) AS strike, bool_and(is_call) AS is_call, min(expiry_ms) AS expiry_ms, "
        "NULL::BIGINT AS listed_ms, NULL::DOUBLE AS tick_size, NULL::DOUBLE AS multiplier, "
        "NULL::VARCHAR AS settle_asset FROM accepted GROUP BY exchange, native_id"
    )
    contradictory = cursor.execute(
        "SELECT native_id FROM accepted GROUP BY native_id HAVING min(strike) <> max(strike) "
        "OR min(expiry_ms) <> max(expiry_ms) OR bool_or(is_call) <> bool_and(is_call) LIMIT 1"
    ).fetchone()
    if contradictory:
        raise DataError(
            f"{batch.source}: rows of {contradictory[0]} disagree on its strike, expiry or type."
        )
    key = LedgerKey(mapping.exchange, batch.key.market, INSTRUMENTS.name)
    # What an exchange said of an instrument outranks what a chain implies.
    store.upsert(
        cursor,
        INSTRUMENTS,
        "option_instruments",
        Batch(key, batch.source, batch.source_sha256),
        on_conflict="keep",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
