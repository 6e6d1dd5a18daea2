"""How a file's rows arrived: what only the import can see, since rows are stored by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_ingest.quality.findings import Finding, write_findings
from data_ingest.quality.places import Series, counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

    from data_ingest.schema import FeedTable
    from data_ingest.store import Batch

ARRIVAL_RULES = ("out_of_order", "repeated_rows")
_EVENT_NAMES = frozenset({"trade_id", "liquidation_id", "fill_id", "flow_id"})


def keep_arrivals(
    cursor: duckdb.DuckDBPyConnection, table: FeedTable, staged: str, batch: Batch
) -> None:
    """Store what is odd about the order of a file's rows, in place of what was known of it.

    Parameters
    ----------
    cursor : duckdb.DuckDBPyConnection
        Inside the import's transaction.
    table : FeedTable
        Whose rows these are.
    staged : str
        Relation with the accepted rows and their ``row_number``, repeats included.
    batch : Batch
        The file.
    """
    series = Series(table.name, batch.key.exchange, batch.key.market)
    found = list(_odd(cursor, table, staged, series, batch.source))
    write_findings(cursor, batch.source, found, (batch.source_sha256 or "")[:16])


def _odd(
    cursor: duckdb.DuckDBPyConnection, table: FeedTable, staged: str, series: Series, source: str
) -> Iterator[Finding]:
    own = ", ".join(name for name in table.key if name not in _EVENT_NAMES | {table.time})
    rows, first, start, end = _row(
        cursor,
        f"SELECT count(*), min(row_number), min(at_ms), max(at_ms) FROM (SELECT row_number, "
        f"{table.time} AS at_ms, {table.time} < lag({table.time}) OVER (PARTITION BY {own} "
        f"ORDER BY row_number) AS back FROM {staged}) WHERE back",
    )
    if rows:
        yield series.finding(
            "out_of_order", start, end + 1, rows,
            f"{source}: {counted(rows, 'row')} earlier than the row before, the first is row "
            f"{first}.",
        )  # fmt: skip
    rows, first, start, end = _row(
        cursor,
        f"SELECT count(*), min(row_number), min({table.time}), max({table.time}) FROM {staged} "
        f"SEMI JOIN (SELECT {', '.join(table.key)} FROM {staged} GROUP BY ALL "
        f"HAVING count(*) > 1) USING ({', '.join(table.key)})",
    )
    if rows:
        (different,) = _row(
            cursor,
            f"SELECT count(*) FROM (SELECT 1 FROM {staged} GROUP BY {', '.join(table.key)} "
            "HAVING count(*) > 1)",
        )
        yield series.finding(
            "repeated_rows", start, end + 1, rows - different,
            f"{source}: {counted(rows - different, 'row')} repeat another, value for value; the "
            f"first that has a repeat is row {first}.",
        )  # fmt: skip


def _row(cursor: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    row = cursor.execute(sql).fetchone()
    assert row is not None
    return tuple(row)
