"""The boundary: staged rows are judged before they are stored, and bad ones kept out.

Nothing is repaired: a bad row stops the import, or goes to the quarantine table with its number,
its reason and its raw text. Rows are judged in chunks, so that memory does not grow with a file.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_ingest.quality.row_rules import ROW_RULES, RowRule, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pandas as pd

    from data_ingest.schema import FeedTable

CHUNK_ROWS = 500_000
_VECTOR_ROWS = 2_048
"""What DuckDB hands out at a time."""


@dataclass(frozen=True)
class BadRow:
    """One refused row: its 1-based number in the source, and why."""

    row_number: int
    reason: str


def bad_rows(
    cursor: duckdb.DuckDBPyConnection,
    table: FeedTable,
    relation: str,
    extra_rules: Sequence[RowRule] = (),
) -> list[BadRow]:
    """Judge a staged relation; each bad row appears once, with its first reason.

    Parameters
    ----------
    cursor : duckdb.DuckDBPyConnection
        The connection that holds the relation.
    table : FeedTable
        Whose rules apply.
    relation : str
        Name of a table with the feed's columns and ``row_number``.
    extra_rules : sequence of RowRule
        Rules over further columns of the relation; their reasons come first.
    """
    found = broken_rows(cursor, (*extra_rules, *ROW_RULES[table.name]), relation)
    known = {row.row_number for row in found}
    return sorted(
        [*found, *_contradictions(cursor, table, relation, known)], key=lambda row: row.row_number
    )


def broken_rows(
    cursor: duckdb.DuckDBPyConnection, rules: tuple[RowRule, ...], relation: str
) -> list[BadRow]:
    """Judge each row of a relation by itself.

    Parameters
    ----------
    cursor : duckdb.DuckDBPyConnection
        The connection that holds the relation.
    rules : tuple of RowRule
        What a row must fulfil.
    relation : str
        Name of a table or view with ``row_number``.
    """
    columns = sorted({column for rule in rules for column in rule.columns})
    reasons: dict[int, str] = {}
    cursor.execute(f"SELECT row_number, {', '.join(columns)} FROM {relation}")
    for frame in _chunks(cursor):
        reasons |= _broken(frame, rules)
    return _told(cursor, relation, columns, reasons)


def put_aside(
    cursor: duckdb.DuckDBPyConnection,
    table: FeedTable,
    source: str,
    refused: Sequence[BadRow],
    raw: str,
    staged: str,
) -> None:
    """Move refused rows from a staged relation to the quarantine table, with their raw text.

    A row that is asked for again and comes under another number is in quarantine already.
    """
    cursor.execute("CREATE OR REPLACE TEMP TABLE refused (row_number BIGINT, reason VARCHAR)")
    cursor.execute(
        "INSERT INTO refused SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[])",
        [[row.row_number for row in refused], [row.reason for row in refused]],
    )
    cursor.execute(
        f"""
        INSERT INTO quarantine
        SELECT feed, source, row_number, reason, raw_json, ?
        FROM (SELECT ? AS feed, ? AS source, row_number, reason, raw_json FROM refused JOIN (
            SELECT row_number,
                   to_json(struct_pack(*COLUMNS(* EXCLUDE row_number)))::VARCHAR AS raw_json
            FROM {raw} WHERE row_number IN (SELECT row_number FROM refused)
        ) USING (row_number))
        ANTI JOIN (SELECT feed, source, reason, raw_json FROM quarantine)
        USING (feed, source, reason, raw_json)
        """,
        [time.time_ns() // 1_000_000, table.name, source],
    )
    cursor.execute(f"DELETE FROM {staged} WHERE row_number IN (SELECT row_number FROM refused)")


def _chunks(cursor: duckdb.DuckDBPyConnection) -> Iterator[pd.DataFrame]:
    while len(frame := cursor.fetch_df_chunk(-(-CHUNK_ROWS // _VECTOR_ROWS))):
        yield frame


def _broken(frame: pd.DataFrame, rules: tuple[RowRule, ...]) -> dict[int, str]:
    """Return the unfilled reason of each bad row of a chunk, by row number."""
    from pandera.errors import SchemaErrors

    try:
        schema_of(rules).validate(frame, lazy=True, inplace=True)
    except SchemaErrors as errors:
        failed = {int(each.check.name): each for each in errors.schema_errors}
    else:
        return {}
    reasons: dict[int, str] = {}
    for place in sorted(failed):
        good = failed[place].check_output
        if good is None:  # pandera takes what a check raises for a failed check
            raise RuntimeError(f"row rule {rules[place].reason!r} cannot be applied") from failed[
                place
            ]
        bad = frame[~good]
        for number, reason in zip(bad["row_number"], rules[place].reasons(bad), strict=True):
            reasons.setdefault(int(number), reason)
    return reasons


def _told(
    cursor: duckdb.DuckDBPyConnection,
    relation: str,
    columns: Sequence[str],
    reasons: dict[int, str],
) -> list[BadRow]:
    """Fill the values of bad rows into their reasons."""
    if not reasons:
        return []
    rows = cursor.execute(
        f"SELECT row_number, {', '.join(columns)} FROM {relation} "
        "WHERE row_number IN (SELECT unnest(?::BIGINT[]))",
        [list(reasons)],
    ).fetchall()
    return [
        BadRow(
            number,
            reasons[number].format(
                **{
                    name: "" if value is None else value
                    for name, value in zip(columns, values, strict=True)
                }
            ),
        )
        for number, *values in rows
    ]


def _contradictions(
    cursor: duckdb.DuckDBPyConnection, table: FeedTable, relation: str, known: set[int]
) -> list[BadRow]:
    """Find rows that share a natural key and differ in value; identical repeats are harmless.

    A key may be repeated in another chunk, so this is a question for the database.
    """
    key = ", ".join(table.key)
    values = ", ".join(table.values)
    if not cursor.execute(
        f"SELECT 1 FROM {relation} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
    ).fetchone():
        return []
    repeated = cursor.execute(
        f"SELECT unnest(numbers), first_row FROM (SELECT list(row_number) AS numbers, "
        f"min(row_number) AS first_row, count(DISTINCT ({values})) AS versions "
        f"FROM {relation} GROUP BY {key} HAVING count(*) > 1) WHERE versions > 1"
    ).fetchall()
    return [
        BadRow(int(number), f"repeats the key of row {first} with other values")
        if number != first
        else BadRow(int(number), "another row repeats this key with other values")
        for number, first in repeated
        if number not in known
    ]
