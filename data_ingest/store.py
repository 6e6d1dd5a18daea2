"""The store: one DuckDB file with every observation, its provenance and its coverage.

Rows have natural keys and arrive by upsert, in the same transaction as the batch that brought
them and the coverage they complete. Whatever fails, what was committed before stays.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import duckdb
import numpy as np

from backtest.errors import DataError
from data_ingest.coverage import LedgerKey, Window, covered, mark_complete, subtract
from data_ingest.schema import (
    FEED_TABLES,
    LEDGER_TABLES,
    MIGRATIONS,
    SCHEMA_VERSION,
    FeedTable,
)
from data_ingest.turns import LockedError, WriterTurn, locked, read_in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    import pyarrow


Conflict = Literal["refuse", "keep", "replace"]

IN_MEMORY = ":memory:"
"""In a path's stead, a store that is nowhere on disk."""

SAME_VALUE_RELATIVE = 1e-9
"""Two floats this close are one measurement written twice (a percent divided by 100, say)."""

OPENING_PATIENCE_S = 2.0
"""How long a writer that begins waits for readers; one that had let them in waits longer."""

REST_STEP_S = 0.2
"""How often a writer that rests looks for readers."""

_CANNOT_WRITE = (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)


class StoreError(DataError):
    """A store that cannot be opened, read or written."""


class StoreInUseError(StoreError):
    """A store that another process holds; it may be free later."""


@dataclass(frozen=True)
class Batch:
    """Where a batch of rows came from.

    Parameters
    ----------
    key : LedgerKey
        Exchange, market, feed and timeframe of the rows.
    source : str
        File name or web address.
    source_sha256 : str or None
        Digest of the file; None for an exchange's answer.
    client : str or None
        Software that fetched it, with its version.
    is_synthetic : bool
        True for simulated markets.
    """

    key: LedgerKey
    source: str
    source_sha256: str | None = None
    client: str | None = None
    is_synthetic: bool = False


@dataclass(frozen=True)
class WriteResult:
    """Row counts of one upsert; rows that were stored already are in neither count."""

    read: int
    added: int
    replaced: int


class DataStore:
    """One open store; use it as a context manager.

    Parameters
    ----------
    path : pathlib.Path or str
        The DuckDB file. Its folder must exist; the file is created unless ``read_only``.
        `IN_MEMORY` is a store of this process alone, gone when it is closed.
    read_only : bool
        Open without the right to write; several processes may then read at once. A store of an
        older version is first opened for writing, once, and brought up to date.

    Raises
    ------
    StoreError
        If the file is missing, locked, not a store, empty while ``read_only``, or newer than
        this program.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._turn: WriterTurn | None = None
        self._connection = self._open(read_only)
        try:
            old = self._prepare(read_only)
        except BaseException:
            self.close()
            raise
        if old:
            self._connection.close()
            DataStore(self.path).close()
            self._connection = self._open(read_only)

    def _open(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Connect when it is our turn."""
        if str(self.path) == IN_MEMORY:
            return _connect(self.path)
        try:
            if read_only:
                return read_in_turn(self.path, lambda: _connect(self.path, read_only=True))
            _refuse_missing_folder(self.path)
            self._turn = WriterTurn(self.path)
            return self._turn.get_back(lambda: _connect(self.path), OPENING_PATIENCE_S)
        except LockedError:
            self._close_turn()
            raise StoreInUseError(
                f"the store {self.path} is in use by another process; wait for it or close it."
            ) from None
        except BaseException:
            self._close_turn()
            raise

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Release the file, and its lock, for other processes."""
        self._connection.close()
        self._close_turn()

    def _close_turn(self) -> None:
        if self._turn is not None:
            self._turn.close()
            self._turn = None

    def let_readers_in(self) -> None:
        """Step aside for other processes that wait to read, if there are any, and come back.

        Called by itself after each transaction; whoever holds a store open without writing
        calls it now and then. Temporary tables do not outlive it.
        """
        if self._turn is not None and self._turn.somebody_waits():
            self._connection.close()
            self._connection = self._turn.get_back(lambda: _connect(self.path))

    def rest(self, seconds: float) -> None:
        """Sleep, as between two questions to an exchange, and let readers in meanwhile."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(left_s, REST_STEP_S))
            self.let_readers_in()

    def _prepare(self, read_only: bool) -> bool:
        """Bring an older store up to date; a reader, who cannot, tells that it has to be done."""
        tables = {
            row[0]
            for row in self._connection.execute(
                "SELECT table_name FROM information_schema.tables"
            ).fetchall()
        }
        if tables and "schema_version" not in tables:
            raise StoreError(f"{self.path} is a DuckDB file but not a remargin store.")
        if not tables and read_only:
            raise StoreError(f"the store {self.path} is empty; import or pull data first.")
        version = self._version() if tables else SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the store {self.path} has schema version {version}, newer than "
                f"{SCHEMA_VERSION}, the newest this program knows; update remargin."
            )
        if read_only:
            return version < SCHEMA_VERSION
        with self.transaction() as cursor:
            for statement in filter(str.strip, LEDGER_TABLES.split(";")):
                cursor.execute(statement)
            for table in FEED_TABLES:
                cursor.execute(table.create_sql)
            for old in range(version, SCHEMA_VERSION):
                for statement in MIGRATIONS[old]:
                    cursor.execute(statement)
            if not tables or version < SCHEMA_VERSION:
                cursor.execute(
                    "INSERT INTO schema_version VALUES (?, ?)", [SCHEMA_VERSION, _now_ms()]
                )
        return False

    def _version(self) -> int:
        ((newest,),) = self.rows("SELECT max(version) FROM schema_version")
        return SCHEMA_VERSION if newest is None else int(newest)

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Run statements that are stored together or not at all.

        Between two of them readers may come in, so a temporary table lasts until the end of the
        transaction that it was made for.

        Raises
        ------
        StoreError
            If the disk takes no more; what was committed before stays.
        """
        cursor = self._connection
        try:
            cursor.execute("BEGIN TRANSACTION")
            yield cursor
            cursor.execute("COMMIT")
        except BaseException as error:
            # After a failed write the database may refuse even this, and has rolled back itself.
            with suppress(duckdb.Error):
                cursor.execute("ROLLBACK")
            if isinstance(error, _CANNOT_WRITE):
                said = " ".join(str(error).split())[:200]
                raise StoreError(
                    f"the store {self.path} cannot be written ({said}); what was stored before "
                    "is safe: free some space and run the same command again."
                ) from error
            raise
        self.let_readers_in()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The open connection, for staging tables of this process."""
        return self._connection

    def columns(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, np.ndarray]:
        """Run a query and return its columns as arrays.

        NULL arrives as NaN among floats, -1 among integers, None among texts, false among
        booleans; a masked array would reach a kernel or a digest with undefined bytes under it.
        """
        # Through Arrow, which takes half the time of DuckDB's own way to arrays.
        found = self._connection.sql(sql, params=list(parameters)).to_arrow_table()
        return {name: _as_array(found.column(name)) for name in found.column_names}

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        return self._connection.execute(sql, list(parameters)).fetchall()

    def missing(self, key: LedgerKey, window: Window) -> list[Window]:
        """Return the parts of a window that are not yet complete."""
        return subtract(window, covered(self._connection, key))

    def covered(self, key: LedgerKey) -> list[Window]:
        """Return the complete windows of a key."""
        return covered(self._connection, key)

    def is_empty(self) -> bool:
        """Tell whether nothing was ever imported or pulled."""
        return not self.rows("SELECT 1 FROM batches LIMIT 1")

    def upsert(
        self,
        cursor: duckdb.DuckDBPyConnection,
        table: FeedTable,
        relation: str,
        batch: Batch,
        complete: Mapping[LedgerKey, Sequence[Window]] | None = None,
        on_conflict: Conflict = "refuse",
        quarantined: int = 0,
    ) -> WriteResult:
        """Upsert rows and vouch for windows, inside an open transaction.

        Parameters
        ----------
        cursor : duckdb.DuckDBPyConnection
            From `transaction`.
        table : FeedTable
            Where the rows go.
        relation : str
            A temporary table with all columns of ``table``, keys unique.
        batch : Batch
            Their provenance.
        complete : mapping of LedgerKey to windows
            What is complete once these rows are stored.
        on_conflict : {"refuse", "keep", "replace"}
            What to do where a key is stored already with another value.
        quarantined : int
            How many rows of the source were put aside.

        Raises
        ------
        StoreError
            If a value contradicts a stored one under ``"refuse"``, or simulated data meets real.
        """
        self._refuse_mixing(cursor, batch)
        join = " AND ".join(f"new.{column} = old.{column}" for column in table.key)
        differs = " OR ".join(_differs(name, kind) for name, kind in table.values.items())
        joined = f"FROM {relation} new JOIN {table.name} old ON {join}"
        read, known = _counts(
            cursor, f"SELECT (SELECT count(*) FROM {relation}), (SELECT count(*) {joined})"
        )
        changed = _count(cursor, f"SELECT count(*) {joined} WHERE {differs}") if known else 0
        if changed and on_conflict == "refuse":
            self._raise_conflict(cursor, table, f"{joined} WHERE {differs}", changed, batch)
        replaced = changed if on_conflict == "replace" else 0
        batch_id = _count(
            cursor,
            "INSERT INTO batches (exchange, market, feed, timeframe_ms, source, source_sha256, "
            "retrieved_at_ms, client, is_synthetic, rows_read, rows_added, rows_replaced, "
            "rows_quarantined) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING batch_id",
            [*batch.key.values, batch.source, batch.source_sha256, _now_ms(), batch.client,
             batch.is_synthetic, read, read - known, replaced, quarantined],
        )  # fmt: skip
        names = ", ".join(table.columns)
        if replaced:
            assignments = ", ".join(f"{name} = new.{name}" for name in table.values)
            cursor.execute(
                f"UPDATE {table.name} AS old SET {assignments}, batch_id = {batch_id} "
                f"FROM {relation} new WHERE {join} AND ({differs})"
            )
        if known < read:
            # A join leaves out known rows in half the time of ON CONFLICT DO NOTHING, which
            # looks every row up alone, and costs a third more even where nothing is known.
            fresh = f"ANTI JOIN {table.name} old ON {join}" if known else ""
            cursor.execute(
                f"INSERT INTO {table.name} ({names}, batch_id) "
                f"SELECT {names}, {batch_id} FROM {relation} new {fresh}"
            )
        for key, windows in (complete or {}).items():
            mark_complete(cursor, key, windows)
        return WriteResult(read=read, added=read - known, replaced=replaced)

    def _refuse_mixing(self, cursor: duckdb.DuckDBPyConnection, batch: Batch) -> None:
        other = cursor.execute(
            "SELECT source FROM batches WHERE is_synthetic <> ? LIMIT 1", [batch.is_synthetic]
        ).fetchone()
        if other:
            held, offered = ("real", "simulated") if batch.is_synthetic else ("simulated", "real")
            raise StoreError(
                f"the store {self.path} holds {held} data (from {other[0]}); {offered} data "
                f"needs a store of its own."
            )

    def _raise_conflict(
        self,
        cursor: duckdb.DuckDBPyConnection,
        table: FeedTable,
        joined: str,
        changed: int,
        batch: Batch,
    ) -> None:
        key, values = list(table.key), list(table.values)
        chosen = [f"new.{name}" for name in key + values] + [f"old.{name}" for name in values]
        first = cursor.execute(
            f"SELECT {', '.join(chosen)} {joined} ORDER BY ALL LIMIT 1"
        ).fetchone()
        assert first is not None
        new, old = first[len(key) : len(key) + len(values)], first[len(key) + len(values) :]
        column = next(i for i, pair in enumerate(zip(new, old, strict=True)) if pair[0] != pair[1])
        where = ", ".join(f"{name} {value}" for name, value in zip(key, first, strict=False))
        raise StoreError(
            f"{batch.source}: {values[column]} {new[column]!r} contradicts {old[column]!r}, "
            f"already stored for {where} ({changed} such rows); set on_conflict to keep or replace."
        )


def _refuse_missing_folder(path: Path) -> None:
    if not path.parent.exists():
        raise StoreError(f"the folder {path.parent} for the store {path.name} does not exist.")


def _connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    if read_only and not path.exists():
        raise StoreError(f"there is no store at {path}; import or pull data first.")
    if path.is_dir():
        raise StoreError(f"{path} is a folder, and a store is a file; a snapshot is only read.")
    try:
        return duckdb.connect(str(path), read_only=read_only)
    except duckdb.ConnectionException as error:
        raise StoreError(f"the store {path} is already open in this process.") from error
    except duckdb.IOException as error:
        if locked(error):
            raise LockedError from error
        raise StoreError(f"{path} is not a readable DuckDB file.") from error
    except duckdb.Error as error:
        raise StoreError(f"{path} cannot be opened as a store: {error}") from error


def _as_array(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Copy a column into an array of its own; NULL becomes what the type has in its place."""
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        column = column.fill_null(-1)
    elif pa.types.is_boolean(column.type):
        column = column.fill_null(False)
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values: np.ndarray = column.to_numpy()
    return values if values.flags.writeable else values.copy()


def _differs(name: str, kind: str) -> str:
    if kind != "DOUBLE":
        return f"new.{name} IS DISTINCT FROM old.{name}"
    # NaN equals NaN in DuckDB, and NULL is handled by the first test.
    near = f"abs(new.{name} - old.{name}) <= {SAME_VALUE_RELATIVE} * abs(old.{name})"
    return f"(new.{name} IS DISTINCT FROM old.{name} AND NOT coalesce({near}, false))"


def _count(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()) -> int:
    return _counts(cursor, sql, parameters)[0]


def _counts(
    cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()
) -> tuple[int, ...]:
    row = cursor.execute(sql, list(parameters)).fetchone()
    assert row is not None
    return tuple(map(int, row))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
