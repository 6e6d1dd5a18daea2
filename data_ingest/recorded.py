"""Import of recorded files, as SQL over the file: a million rows in seconds, none repaired.

A file is read as it is, judged by the feed's quality rules, and stored in one transaction with
its sha256, its coverage and, on request, its quarantined rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError
from data_ingest.coverage import LedgerKey, Window, runs
from data_ingest.native_symbols import unified_symbol
from data_ingest.quality import (
    CHAIN_INSTRUMENT_RULES,
    NO_FORECAST_RULES,
    BadRow,
    RowRule,
    absent,
    bad_rows,
    keep_arrivals,
    never,
    put_aside,
)
from data_ingest.recorded_columns import STAMP, Market, identifier_sql, staging_sql, text
from data_ingest.recorded_feeds import NATIVE
from data_ingest.schema import CHAIN, INSTRUMENTS, SIGNALS
from data_ingest.source_files import read_source, source_files
from data_ingest.store import Batch, DataStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import duckdb

    from data_ingest.mapping import FileGroup, ImportMapping
    from data_ingest.schema import FeedTable
    from data_ingest.source_files import SourceFile

_NAMED_BY = {"chain": "asset", "signals": "name", "events": "calendar"}
"""The column that is a row's market in the ledger, where it is not the feed's own."""
_STEPPED = frozenset(
    {"candles", "funding", "chain", "volatility_index", "open_interest", "long_short_ratio"}
)
"""Feeds in which a missing instant is a hole, and not a quiet moment."""

_EPOCHS = {
    "s": (1e8, 1e11, "seconds"),
    "ms": (1e11, 1e14, "milliseconds"),
    "us": (1e14, 1e17, "microseconds"),
}

_MARKET_RULE = never(
    f"symbol {NATIVE}",
    lambda symbol, _: absent(symbol),
    f"the market '{{{NATIVE}}}' has no symbol among the mapping's markets",
)


@dataclass(frozen=True)
class ImportReport:
    """What one file brought.

    Parameters
    ----------
    source, feed, market : str
        The file under the data folder, the feed, and the markets that it holds.
    rows_read : int
        Rows of the file that are meant and good, repeats counted once.
    rows_added, rows_replaced : int
        Of these, new keys, and keys whose values changed.
    rows_quarantined : int
        Rows that broke a rule and were put aside.
    rows_repeated : int
        Further rows that equal one of these.
    rows_left_out : int
        Rows that the mapping's ``only`` does not mean, or of which another is the last.
    windows : tuple of Window
        What the file makes complete.
    """

    source: str
    feed: str
    market: str
    rows_read: int
    rows_added: int
    rows_replaced: int
    rows_quarantined: int
    rows_repeated: int
    rows_left_out: int
    windows: tuple[Window, ...]


def import_recorded(
    store: DataStore,
    mapping: ImportMapping,
    data_dir: Path,
    *,
    quarantine: bool = False,
    progress: Callable[[int, int], None] | None = None,
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
        ``progress(done, total)``, called before the first file and after each.

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
    files = [
        (group, source)
        for group in mapping.files
        for source in source_files(mapping, group, data_dir)
    ]
    if not files:
        raise DataError(
            f"no file in {data_dir} has a name of this layout: "
            f"{', '.join(dict.fromkeys(group.path for group in mapping.files))}."
        )
    tell = progress or (lambda done, total: None)
    tell(0, len(files))
    for group, source in files:
        reports.append(_import_file(store, mapping, group, source, quarantine))
        tell(len(reports), len(files))
    return reports


def _import_file(
    store: DataStore, mapping: ImportMapping, group: FileGroup, source: SourceFile, aside: bool
) -> ImportReport:
    table = group.content.table
    left_out, refused = _stage(store.connection, group, source)
    if refused and not aside:
        more = f" ({len(refused)} such rows in all)" if len(refused) > 1 else ""
        raise DataError(
            f"{source.label}: row {refused[0].row_number}: {refused[0].reason}{more}; correct "
            f"the file, or import with --quarantine to put bad rows aside."
        )
    if not refused:
        # Only a refused row is needed as it was; the others need not lie in memory twice.
        store.connection.execute("DROP TABLE raw_rows")
    with store.transaction() as cursor:
        if refused:
            put_aside(cursor, table, source.label, refused, "raw_rows", "staged")
        good = _count(cursor, "staged")
        _accept(cursor, table, good)
        windows = _complete_windows(cursor, group, source)
        # One batch per file; it is labelled by all the markets that the file holds.
        label = LedgerKey(
            source.exchange,
            ",".join(sorted({key.market for key in windows})) or source.symbol,
            _ledger_feed(group),
            source.timeframe_ms,
        )
        batch = Batch(label, source.label, source.sha256)
        keep_arrivals(cursor, table, "staged", batch)
        if table is CHAIN:
            _write_instruments(store, cursor, group, batch)
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
        source=source.label,
        feed=label.feed,
        market=label.market,
        rows_read=result.read,
        rows_added=result.added,
        rows_replaced=result.replaced,
        rows_quarantined=len(refused),
        rows_repeated=good - result.read,
        rows_left_out=left_out,
        windows=tuple(window for each in windows.values() for window in each),
    )


def _stage(
    connection: duckdb.DuckDBPyConnection, group: FileGroup, source: SourceFile
) -> tuple[int, list[BadRow]]:
    """Bring a file's rows into the table ``staged``; count those left out, and judge the others."""
    left_out = read_source(connection, group, source, "raw_rows")
    rules = list(CHAIN_INSTRUMENT_RULES) if group.content.table is CHAIN else []
    if NATIVE in group.columns:
        rules.append(_MARKET_RULE)
    if group.content.table is SIGNALS and not group.forecast:
        rules += NO_FORECAST_RULES
    epoch = "ms"
    if group.time.unit == "epoch":
        epoch, rule = _epoch(connection, group, source)
        rules.insert(0, rule)
    natives = _natives(connection, group, source)
    market = Market(source.exchange, source.symbol, natives, source.timeframe_ms)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE staged AS " + staging_sql(group, market, "raw_rows", epoch)
    )
    if group.sample or group.last_of:
        left_out += _count(connection, "raw_rows") - _count(connection, "staged")
    return left_out, bad_rows(connection, group.content.table, "staged", rules)


def _epoch(
    connection: duckdb.DuckDBPyConnection, group: FileGroup, source: SourceFile
) -> tuple[str, RowRule]:
    """Tell the unit of a file's times by its first row, and write the rule that all have it."""
    column = identifier_sql(group.time.column)
    first = connection.execute(
        f"SELECT try_cast({column} AS DOUBLE) FROM raw_rows ORDER BY row_number LIMIT 1"
    ).fetchone()
    for unit, (low, high, words) in _EPOCHS.items():
        if first and first[0] is not None and low <= first[0] < high:
            return unit, never(
                STAMP,
                lambda stamp, low=low, high=high: (stamp < low) | (stamp >= high),
                f"the time {{{STAMP}}} is not in {words}, as that of the first row is",
            )
    raise DataError(
        f"{source.label}: row 1: {group.time.column} is {first[0] if first else 'missing'}; it "
        "must be seconds, milliseconds or microseconds since 1970."
    )


def _natives(
    connection: duckdb.DuckDBPyConnection, group: FileGroup, source: SourceFile
) -> dict[str, str]:
    """Return the symbols of the markets that the rows of a file name."""
    if isinstance(group.markets, dict):
        return group.markets
    if NATIVE not in group.columns:
        return {}
    column = identifier_sql(group.columns[NATIVE].column or "")
    named = connection.execute(
        f"SELECT DISTINCT {column}::VARCHAR FROM raw_rows WHERE {column} IS NOT NULL ORDER BY 1"
    ).fetchall()
    try:
        return {name: unified_symbol(source.exchange, name) for (name,) in named}
    except DataError as error:
        raise DataError(f"{source.label}: {error}") from None


def _paid_windows(cursor: duckdb.DuckDBPyConnection, market: str) -> list[Window]:
    """Return windows over which no payment is missing by what the rows themselves state."""
    rows = cursor.execute(
        "SELECT ts_ms, interval_ms FROM accepted WHERE symbol = ? ORDER BY 1", [market]
    ).fetchall()
    times, intervals = np.array(rows, dtype=np.int64).T
    # Where the interval changes, it is the longer one that bounds the step between the two.
    breaks = np.flatnonzero(np.diff(times) > np.maximum(intervals[1:], intervals[:-1]))
    firsts, lasts = np.concatenate(([0], breaks + 1)), np.concatenate((breaks, [len(times) - 1]))
    return [
        (int(times[a]), int(times[b] + intervals[b])) for a, b in zip(firsts, lasts, strict=True)
    ]


def _accept(cursor: duckdb.DuckDBPyConnection, table: FeedTable, good: int) -> None:
    """Make ``accepted`` of the ``good`` rows of ``staged``: of rows with one key, the first."""
    key = ", ".join(table.key)
    # Counting digests costs a tenth of sorting rows; two keys of one digest only cost the sort.
    digests = cursor.execute(f"SELECT count(DISTINCT hash({key})) FROM staged").fetchone()
    cursor.execute("DROP TABLE IF EXISTS accepted_rows")
    rows = "staged"
    if digests != (good,):
        rows = "accepted_rows"
        cursor.execute(
            f"CREATE TEMP TABLE accepted_rows AS SELECT DISTINCT ON ({key}) * FROM staged "
            "ORDER BY row_number"
        )
    cursor.execute(f"CREATE OR REPLACE TEMP VIEW accepted AS SELECT * FROM {rows}")


def _count(cursor: duckdb.DuckDBPyConnection, relation: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {relation}").fetchone()
    assert row is not None
    return int(row[0])


def _ledger_feed(group: FileGroup) -> str:
    return f"{group.kind}_candles" if group.feed == "candles" else group.feed


def _complete_windows(
    cursor: duckdb.DuckDBPyConnection, group: FileGroup, source: SourceFile
) -> dict[LedgerKey, list[Window]]:
    """Return what the accepted rows make complete, per market."""
    table = group.content.table
    # What may be known ahead is complete in the order in which it was announced.
    time = "known_ts_ms" if "known_ts_ms" in table.key else table.time
    spans = cursor.execute(
        f"SELECT {_market(group)} AS market, min({time}), max({time}) "
        "FROM accepted GROUP BY market ORDER BY market"
    ).fetchall()
    windows: dict[LedgerKey, list[Window]] = {}
    for market, first, last in spans:
        key = LedgerKey(source.exchange, market, _ledger_feed(group), source.timeframe_ms)
        times = _times(cursor, group, market) if group.feed in _STEPPED else np.empty(0)
        if group.feed == "chain":
            # A snapshot vouches for its own instant only.
            windows[key] = runs(times, 0, 1)
        elif group.feed == "funding":
            windows[key] = _paid_windows(cursor, market)
        elif group.feed in _STEPPED:
            windows[key] = runs(times, source.timeframe_ms, source.timeframe_ms)
        else:
            # A recording of events vouches for its whole span: a quiet hour is no hole.
            windows[key] = [(int(first), int(last) + 1)]
    return windows


def _market(group: FileGroup) -> str:
    """Write the expression that names the market of a row in the ledger."""
    if group.feed == "option_trades":
        return "split_part(native_id, '-', 1)"
    if group.feed in _NAMED_BY:
        return _NAMED_BY[group.feed]
    return f"coalesce({group.content.market}, 'all')" if group.content.market else "'all'"


def _times(cursor: duckdb.DuckDBPyConnection, group: FileGroup, market: str) -> np.ndarray:
    column = group.content.table.time
    times = cursor.execute(
        f"SELECT DISTINCT {column} FROM accepted WHERE {_market(group)} = ? ORDER BY 1", [market]
    ).fetchnumpy()[column]
    return np.asarray(times, dtype=np.int64)


def _write_instruments(
    store: DataStore,
    cursor: duckdb.DuckDBPyConnection,
    group: FileGroup,
    batch: Batch,
) -> None:
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE option_instruments AS SELECT exchange, native_id, "
        "native_id AS symbol, any_value(asset) AS asset, 'option' AS kind, "
        f"{text(group.settlement)} AS settlement, {group.contract_size}::DOUBLE AS contract_size, "
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
    key = LedgerKey(batch.key.exchange, batch.key.market, INSTRUMENTS.name)
    # What an exchange said of an instrument outranks what a chain implies.
    store.upsert(
        cursor,
        INSTRUMENTS,
        "option_instruments",
        Batch(key, batch.source, batch.source_sha256),
        on_conflict="keep",
    )
