"""One page into the store: judged, quarantined where bad, and vouched for, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_ingest.coverage import LedgerKey, Window, merge, subtract
from data_ingest.quality import bad_rows, put_aside
from data_ingest.store import Batch, DataStore, WriteResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow

    from data_ingest.clients import ExchangeClient
    from data_ingest.feed import Row
    from data_ingest.schema import FeedTable


def write_page(
    store: DataStore,
    client: ExchangeClient,
    table: FeedTable,
    label: LedgerKey,
    rows: Sequence[Row],
    complete: Mapping[LedgerKey, Sequence[Window]],
    *,
    grid: bool = False,
) -> tuple[WriteResult, list[Row]]:
    """Store pulled rows with their provenance; rows that break a rule are quarantined.

    Parameters
    ----------
    store, client
        Where to, where from.
    table : FeedTable
        Whose rows these are.
    label : LedgerKey
        Named by the batch.
    rows : sequence of tuple
        In the order of the table's columns.
    complete : mapping of LedgerKey to windows
        What is complete once the rows are stored.
    grid : bool
        A refused row leaves a hole in what is complete, since its instant must have a row.

    Returns
    -------
    (WriteResult, list of tuple)
        What was stored, and the rows that were put aside.
    """
    batch = Batch(label, client.source, None, client.software, client.is_synthetic)
    with store.transaction() as cursor:
        cursor.register("page", _as_arrow(table, rows))
        kept = "page"
        found = bad_rows(cursor, table, kept)
        refused = [rows[row.row_number - 1] for row in found]
        if found:
            kept = "staged"
            cursor.execute("CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM page")
            put_aside(cursor, table, client.source, found, "page", kept)
            if grid:
                complete = _without(complete, table, refused)
        if len({row[: len(table.key)] for row in rows}) < len(rows):
            cursor.execute(
                "CREATE OR REPLACE TEMP TABLE accepted AS SELECT DISTINCT ON "
                f"({', '.join(table.key)}) * EXCLUDE (row_number) FROM {kept} ORDER BY row_number"
            )
            kept = "accepted"
        result = store.upsert(
            cursor, table, kept, batch, complete, "replace", quarantined=len(found)
        )
    return result, refused


def _as_arrow(table: FeedTable, rows: Sequence[Row]) -> pyarrow.Table:
    """Lay rows out as columns that DuckDB reads in place, numbered from 1."""
    # Here, because it takes a tenth of a second to import.
    import pyarrow as pa

    kinds = {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
    }
    columns = list(zip(*rows, strict=True)) or [()] * len(table.columns)
    arrays = {
        name: pa.array(column, kinds[kind])
        for (name, kind), column in zip(table.columns.items(), columns, strict=True)
    }
    return pa.table({"row_number": pa.array(range(1, len(rows) + 1), pa.int64()), **arrays})


def _without(
    complete: Mapping[LedgerKey, Sequence[Window]], table: FeedTable, refused: Sequence[Row]
) -> dict[LedgerKey, list[Window]]:
    """Take the instants of refused rows out of what counts as complete."""
    at = list(table.columns).index(table.time)
    holes = merge((int(row[at]), int(row[at]) + 1) for row in refused if row[at] is not None)
    return {
        key: [part for window in windows for part in subtract(window, holes)]
        for key, windows in complete.items()
    }
