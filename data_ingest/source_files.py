"""Recorded files as they lie on the disk: found by a pattern, and read as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from backtest.errors import DataError, nearest
from data_ingest.recorded_columns import identifier_sql, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from data_ingest.mapping import FileGroup


@dataclass(frozen=True)
class SourceFile:
    """One file.

    Parameters
    ----------
    path : pathlib.Path
        Where it is.
    label : str
        Its path under the data folder.
    symbol : str
        Whose rows it holds; empty where the rows say so themselves.
    """

    path: Path
    label: str
    symbol: str


def source_files(group: FileGroup, data_dir: Path) -> Iterator[SourceFile]:
    """Find a group's files, market by market and then by name.

    Raises
    ------
    DataError
        If a market has none.
    """
    markets = group.markets if "{native}" in group.path or len(group.markets) == 1 else {"": ""}
    for native, symbol in (markets or {"": ""}).items():
        pattern = group.path.replace("{native}", native)
        found = sorted(data_dir.glob(pattern))
        if not found:
            raise DataError(f"no file matches {pattern} in the data folder {data_dir}.")
        for path in found:
            yield SourceFile(path, path.relative_to(data_dir).as_posix(), symbol)


def read_source(
    connection: duckdb.DuckDBPyConnection, group: FileGroup, source: SourceFile, relation: str
) -> int:
    """Read the rows of a file that are meant into a temporary table, numbered from 1.

    Returns
    -------
    int
        How many rows were left out because the mapping's ``only`` does not mean them.

    Raises
    ------
    DataError
        If the file cannot be read, or lacks a column that the mapping names.
    """
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
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {relation} AS {reader}", [str(source.path)]
        )
    except duckdb.Error as error:
        first_line = str(error).splitlines()[0]
        raise DataError(f"{source.label}: cannot be read as {suffix[1:]}: {first_line}") from error
    _require_columns(connection, group, source, relation)
    return _leave_out(connection, group, relation)


def _require_columns(
    connection: duckdb.DuckDBPyConnection, group: FileGroup, source: SourceFile, relation: str
) -> None:
    present = [row[0] for row in connection.execute(f"DESCRIBE {relation}").fetchall()]
    wanted = [group.time.column, *(column.column for column in group.columns.values())]
    if group.only:
        wanted.append(group.only.column)
    for name in wanted:
        if name and name not in present:
            raise DataError(f"{source.label}: there is no column {name!r}.{nearest(name, present)}")


def _leave_out(connection: duckdb.DuckDBPyConnection, group: FileGroup, relation: str) -> int:
    if group.only is None:
        return 0
    meant = ", ".join(text(value.lower()) for value in group.only.one_of)
    column = identifier_sql(group.only.column)
    left_out = connection.execute(
        f"DELETE FROM {relation} WHERE coalesce(lower({column}::VARCHAR), '') NOT IN ({meant})"
    ).fetchone()
    return int(left_out[0]) if left_out else 0
