"""What a store holds, as digests that any machine finds again from the same rows.

A digest covers names, types and values in the order of the key, read in pieces, so that memory
is bounded by the piece. It depends on neither the pieces, nor the threads, nor the bytes of the
database file; a missing value differs from a zero, an empty text and a NaN.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_ingest.schema import FEED_TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import duckdb

    from data_ingest.schema import FeedTable

ROWS_AT_ONCE = 122_880
"""One row group of DuckDB."""

GROUPED_BY = ("exchange", "symbol", "asset", "kind", "timeframe_ms", "name", "calendar")
"""Key columns that tell one feed of one market, one signal or one calendar from another."""

FEED_TABLE_OF = {table.name: table for table in FEED_TABLES}
# It says how the file is laid out, not what is in it.
_LAYOUT = "schema_version"


@dataclass(frozen=True)
class Group:
    """The rows of one table that share exchange, market, kind and bar length.

    Parameters
    ----------
    table : str
        Name of the table.
    group : dict of str to str or int
        The values that the rows share, by column.
    columns : dict of str to str
        Digested columns and their DuckDB types.
    rows : int
        How many.
    sha256 : str
        Of the columns in the order of the key, without the number of the batch.
    start_ms, end_ms : int or None
        First and last instant; None where rows have none.
    """

    table: str
    group: dict[str, Any]
    columns: dict[str, str]
    rows: int
    sha256: str
    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True)
class Origin:
    """Batches that came from one place, summed: a pull writes a batch with every page.

    Parameters
    ----------
    exchange, market, feed, timeframe_ms
        As in the table ``batches``.
    source, source_sha256, client, is_synthetic
        Where from, and by which software.
    batches, rows_read, rows_added, rows_replaced, rows_quarantined : int
        Sums.
    first_ms, last_ms : int
        When the first and the last was retrieved, milliseconds UTC.
    """

    exchange: str
    market: str
    feed: str
    timeframe_ms: int
    source: str
    source_sha256: str | None
    client: str | None
    is_synthetic: bool
    batches: int
    rows_read: int
    rows_added: int
    rows_replaced: int
    rows_quarantined: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class Contents:
    """All rows of a store, told apart by what they are.

    Parameters
    ----------
    observations : tuple of Group
        Feeds by market: what a tape is built from.
    records : tuple of Group
        Each other table whole: coverage, batches, shortfalls, quarantine, what was derived.
    origins : tuple of Origin
        Where the observations came from.
    """

    observations: tuple[Group, ...]
    records: tuple[Group, ...]
    origins: tuple[Origin, ...]

    @property
    def digest(self) -> str:
        """Sha256 of everything that can reach a tape.

        Observations, the windows that are complete, and whether the market was simulated. How
        the rows came in, in which pages and when, is not part of it: a pull that was killed ten
        times ends with the digest of one that was not.
        """
        coverage = [one.sha256 for one in self.records if one.table == "coverage"]
        said = [
            [
                [one.table, one.group, one.columns, one.rows, one.sha256]
                for one in self.observations
            ],
            coverage,
            self.is_synthetic,
        ]
        return hashlib.sha256(canonical(said)).hexdigest()

    @property
    def groups(self) -> tuple[Group, ...]:
        """Observations, then the other tables."""
        return self.observations + self.records

    @property
    def rows(self) -> int:
        """Observations in all."""
        return sum(one.rows for one in self.observations)

    @property
    def span(self) -> tuple[int, int]:
        """First and last instant of any observation; zeros if there is none."""
        starts = [one.start_ms for one in self.observations if one.start_ms is not None]
        ends = [one.end_ms for one in self.observations if one.end_ms is not None]
        return min(starts, default=0), max(ends, default=0)

    @property
    def is_synthetic(self) -> bool:
        """Whether a simulator made it."""
        return any(origin.is_synthetic for origin in self.origins)


def canonical(value: Any) -> bytes:
    """Write plain values as JSON in one way only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def read_contents(
    connection: duckdb.DuckDBPyConnection,
    recorded: Mapping[str, Mapping[str, str]] | None = None,
    say: Callable[[str], None] = lambda what: None,
) -> Contents:
    """Read every row of a store and digest it.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        An open store.
    recorded : mapping of table to columns, optional
        Tables and columns to digest, as an earlier reading listed them; all if not given. A
        store that has gained a column since is still compared by those it had.
    say : callable
        Called with the name of each table.
    """
    columns = dict(recorded) if recorded is not None else table_columns(connection)
    observations: list[Group] = []
    records: list[Group] = []
    for name in sorted(columns):
        say(name)
        if name in FEED_TABLE_OF:
            observations += _groups(connection, FEED_TABLE_OF[name], columns[name])
        else:
            where = f"FROM {name} ORDER BY ALL"
            rows, digest = _digest(connection, columns[name], where, [])
            records.append(Group(name, {}, dict(columns[name]), rows, digest))
    return Contents(tuple(observations), tuple(records), _origins(connection))


def table_columns(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Return the tables of a store with the columns that are digested, and their types."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND NOT internal AND schema_name = 'main' "
        "AND table_name IN (SELECT table_name FROM duckdb_tables() WHERE NOT temporary "
        "AND database_name = current_database()) ORDER BY table_name, column_index"
    ).fetchall():
        found.setdefault(table, {})[column] = kind
    found.pop(_LAYOUT, None)
    # A column that a migration has added stands behind the batch; the schema's order is one.
    return {
        name: {column: kinds[column] for column in FEED_TABLE_OF[name].columns}
        if name in FEED_TABLE_OF
        else kinds
        for name, kinds in found.items()
    }


def time_column(table: FeedTable) -> str | None:
    """Return the column of a row's instant; instruments have none."""
    return table.time if table.time in table.columns else None


def ordered_groups(
    connection: duckdb.DuckDBPyConnection, table: str
) -> Iterator[tuple[str, list[Any], str]]:
    """Yield condition, its values and order of each feed of each market in a feed's table.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        An open store.
    table : str
        Name of the table, with that of its database if that is not the current one.
    """
    key = FEED_TABLE_OF[table.rpartition(".")[2]].key
    names = [name for name in key if name in GROUPED_BY]
    condition = " AND ".join(f"{name} = ?" for name in names)
    order = ", ".join(name for name in key if name not in GROUPED_BY)
    for values in connection.execute(
        f"SELECT DISTINCT {', '.join(names)} FROM {table} ORDER BY ALL"
    ).fetchall():
        yield condition, list(values), order


def _groups(
    connection: duckdb.DuckDBPyConnection, table: FeedTable, columns: Mapping[str, str]
) -> list[Group]:
    names = [name for name in table.key if name in GROUPED_BY]
    time = time_column(table)
    groups = []
    for condition, values, order in ordered_groups(connection, table.name):
        where = f"FROM {table.name} WHERE {condition}"
        rows, digest = _digest(connection, columns, f"{where} ORDER BY {order}", values)
        span: tuple[int | None, int | None] = (None, None)
        if time is not None:
            ends = f"SELECT min({time}), max({time}) {where}"
            span = connection.execute(ends, values).fetchall()[0]
        shared = dict(zip(names, values, strict=True))
        groups.append(Group(table.name, shared, dict(columns), rows, digest, *span))
    return groups


def _origins(connection: duckdb.DuckDBPyConnection) -> tuple[Origin, ...]:
    found = connection.execute(
        "SELECT exchange, market, feed, timeframe_ms, source, source_sha256, client, "
        "is_synthetic, count(*), sum(rows_read)::BIGINT, sum(rows_added)::BIGINT, "
        "sum(rows_replaced)::BIGINT, sum(rows_quarantined)::BIGINT, min(retrieved_at_ms), "
        "max(retrieved_at_ms) FROM batches GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return tuple(Origin(*row) for row in found)


def _digest(
    connection: duckdb.DuckDBPyConnection,
    columns: Mapping[str, str],
    source: str,
    values: Sequence[Any],
) -> tuple[int, str]:
    """Count and digest ordered rows, piece by piece."""
    listed = ", ".join(f'"{name}"' for name in columns)
    hashes = [_ColumnHash() for _ in columns]
    rows = 0
    ordered = connection.sql(f"SELECT {listed} {source}", params=list(values))
    for piece in ordered.to_arrow_reader(ROWS_AT_ONCE):
        for column, digest in zip(piece.columns, hashes, strict=True):
            digest.add(column, rows)
        rows += piece.num_rows
    whole = hashlib.sha256()
    for (name, kind), digest in zip(columns.items(), hashes, strict=True):
        whole.update(f"{name}|{kind}|{rows}|{digest.hexdigest()}\n".encode())
    return rows, whole.hexdigest()


class _ColumnHash:
    """A column's values, text lengths and missing places, each as one little-endian stream."""

    def __init__(self) -> None:
        self._values, self._lengths, self._missing = (hashlib.sha256() for _ in range(3))

    def add(self, column: Any, first_row: int) -> None:
        """Take the next rows of the column, an Arrow array."""
        if column.null_count:
            missing = np.flatnonzero(np.asarray(column.is_null())) + first_row
            self._missing.update(missing.astype("<i8").tobytes())
            column = column.fill_null(_blank(str(column.type)))
        if str(column.type) == "string":
            # The texts of a piece lie in one buffer, each from one offset to the next.
            _, offsets, text = column.buffers()
            ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
            self._lengths.update(np.diff(ends).astype("<i8").tobytes())
            if text is not None:
                self._values.update(memoryview(text)[ends[0] : ends[-1]])
            return
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind == "f" and np.isnan(values).any():
            # A NaN's sign and payload say nothing, and differ between processors.
            values = np.where(np.isnan(values), np.nan, values)
        self._values.update(values.astype(values.dtype.newbyteorder("<"), copy=False).data)

    def hexdigest(self) -> str:
        """Join the three streams' digests."""
        return "".join(each.hexdigest() for each in (self._values, self._lengths, self._missing))


def _blank(kind: str) -> Any:
    return {"string": "", "bool": False, "double": 0.0}.get(kind, 0)
