"""Recorded files as they lie on the disk: found by a pattern, unpacked, and read as they are."""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import shutil
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from backtest.errors import DataError, nearest
from backtest.units import parse_duration_ms
from data_ingest.native_symbols import unified_symbol
from data_ingest.recorded_columns import identifier_sql, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_ingest.mapping import FileGroup, ImportMapping

_PLACES = {
    "**/": r"(?:.*/)?",
    "*": r"[^/]*",
    "{native}": r"(?P<native>[A-Za-z0-9-]+(?:_(?:PERP|\d{6}))?)",
    "{timeframe}": r"(?P<timeframe>\d+[A-Za-z]+)",
    "{exchange}": r"(?P<exchange>[^/_]+)",
}
_LONGEST_BANNER = 20
# What zipfile raises of a password is a bare RuntimeError.
_DAMAGED = (
    zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class SourceFile:
    """One file, and what its name says.

    Parameters
    ----------
    path : pathlib.Path
        Where it is.
    label : str
        Its path under the data folder.
    exchange : str
        Whose rows it holds.
    symbol : str
        The market of its rows; empty where the rows say so themselves.
    timeframe_ms : int
        Length of its bars; 0 for feeds without.
    """

    path: Path
    label: str
    exchange: str
    symbol: str
    timeframe_ms: int

    @cached_property
    def sha256(self) -> str:
        """Digest of the file as it lies there."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def source_files(mapping: ImportMapping, group: FileGroup, data_dir: Path) -> list[SourceFile]:
    """Find a group's files, market by market and then by name.

    Raises
    ------
    DataError
        If there is none, unless the mapping describes a layout of which a user has a part; or
        if a name says nothing that is known.
    """
    if isinstance(group.markets, dict) and "{native}" in group.path:
        named = [(group.path.replace("{native}", key), key) for key in group.markets]
    else:
        named = [(group.path, "")]
    found: list[SourceFile] = []
    for pattern, native in named:
        glob = re.sub(r"\{\w+\}", "*", pattern)
        matches = [
            (path, match)
            for path in sorted(data_dir.glob(glob))
            if (match := re.fullmatch(_regex(pattern), path.relative_to(data_dir).as_posix()))
        ]
        if not matches and not mapping.some:
            raise DataError(f"no file matches {pattern} in the data folder {data_dir}.")
        found += [
            _source(mapping, group, path, data_dir, {"native": native} | match.groupdict())
            for path, match in matches
        ]
    return found


def _regex(pattern: str) -> str:
    """Write a path pattern as a regular expression; a place named twice must be equal twice."""
    written, seen = "", set()
    for part in re.split(r"(\*\*/|\*|\{\w+\})", pattern):
        if part.startswith("{") and part in seen:
            written += f"(?P={part[1:-1]})"
        else:
            written += _PLACES.get(part, re.escape(part))
        seen.add(part)
    return written


def _source(
    mapping: ImportMapping, group: FileGroup, path: Path, data_dir: Path, said: dict[str, str]
) -> SourceFile:
    label = path.relative_to(data_dir).as_posix()
    named = said.get("exchange")
    if named and named not in mapping.exchanges:
        raise DataError(
            f"{label}: the exchange {named!r} is not among the mapping's exchanges."
            f"{nearest(named, mapping.exchanges)}"
        )
    exchange = mapping.exchanges[named] if named else group.exchange or mapping.exchange
    if not exchange:
        raise DataError(f"{label}: does not say whose it is; write --exchange NAME.")
    try:
        timeframe_ms = parse_duration_ms(said["timeframe"]) if "timeframe" in said else None
    except ValueError as error:
        raise DataError(f"{label}: bars of {said['timeframe']!r} have no fixed length.") from error
    symbol, native = "", said["native"]
    if group.markets == "native":
        symbol = unified_symbol(exchange, native) if native else ""
    elif native or len(group.markets) == 1:
        symbol = group.markets[native] if native else next(iter(group.markets.values()))
    return SourceFile(path, label, exchange, symbol, timeframe_ms or group.timeframe or 0)


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
        If the file cannot be read, differs from its check sum, or lacks a column that the
        mapping names.
    """
    _verify_check_sum(source)
    # A time without zone is UTC, and not what the machine's clock is set to.
    connection.execute("SET TimeZone = 'UTC'")
    with _unpacked(source) as path:
        if path.suffix.lower() == ".parquet":
            # file_row_number survives parallel reading; a CSV is numbered as it is read.
            reader = "SELECT file_row_number + 1 AS row_number, * EXCLUDE (file_row_number) " \
                "FROM read_parquet(?, file_row_number = true)"  # fmt: skip
        else:
            reader = _csv_reader(path, group, source)
        try:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {relation} AS {reader}", [str(path)])
        except duckdb.Error as error:
            told = " ".join(str(error).split("Possible")[0].split())
            told = told.replace(str(path), source.label)
            raise DataError(
                f"{source.label}: cannot be read as {path.suffix[1:]}: {told}"
            ) from error
    present = [row[0] for row in connection.execute(f"DESCRIBE {relation}").fetchall()]
    _require_columns(present, group, source)
    return _leave_out(connection, group, relation)


def _verify_check_sum(source: SourceFile) -> None:
    """Compare a file with the ``.CHECKSUM`` beside it, if there is one."""
    beside = source.path.with_name(source.path.name + ".CHECKSUM")
    if not beside.is_file():
        return
    stated = (beside.read_text().split() or [""])[0].lower()
    if stated != source.sha256:
        raise DataError(
            f"{source.label}: its sha256 begins with {source.sha256[:12]}, but {beside.name} says "
            f"{stated[:12]}; download both again."
        )


@contextmanager
def _unpacked(source: SourceFile) -> Iterator[Path]:
    """Give the path of a plain file; what is packed is unpacked, verified and removed again."""
    suffix = source.path.suffix.lower()
    if suffix in {".parquet", ".csv"}:
        yield source.path
        return
    if suffix not in {".gz", ".zip"}:
        raise DataError(
            f"{source.label}: a recorded file is .parquet, .csv, .csv.gz or .zip, not {suffix!r}."
        )
    with tempfile.TemporaryDirectory(prefix="remargin-") as folder:
        plain = Path(folder) / "rows.csv"
        try:
            if suffix == ".gz":
                # DuckDB reads .gz, but does not compare the check sum at its end.
                with gzip.open(source.path) as packed, plain.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
            else:
                with zipfile.ZipFile(source.path) as archive:
                    (name,) = _members(archive, source)
                    with archive.open(name) as packed, plain.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked, 1 << 20)
        except _DAMAGED as error:
            raise DataError(
                f"{source.label}: cannot be unpacked ({error}); it is truncated, damaged or locked."
            ) from error
        except OSError as error:
            raise DataError(
                f"{source.label}: cannot be unpacked to {folder} ({error.strerror}); make room "
                "there, or set TMPDIR to another folder."
            ) from error
        yield plain


def _members(archive: zipfile.ZipFile, source: SourceFile) -> list[str]:
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if len(names) != 1 or not names[0].lower().endswith(".csv"):
        raise DataError(
            f"{source.label}: an archive has one .csv, and this one has {', '.join(names) or '-'}."
        )
    return names


def _csv_reader(path: Path, group: FileGroup, source: SourceFile) -> str:
    """Write the query that reads a CSV; nothing of its layout is left to guessing."""
    names, skip = _header(path, group, source)
    # Before the rows are read: of a file in another layout this is the mistake to name.
    _require_columns(names, group, source)
    columns = ", ".join(f"{text(name)}: 'VARCHAR'" for name in names)
    return (
        "SELECT row_number() OVER () AS row_number, * FROM read_csv(?, auto_detect = false, "
        f"header = false, skip = {skip}, delim = ',', quote = '\"', escape = '\"', "
        f"columns = {{{columns}}})"
    )


def _header(path: Path, group: FileGroup, source: SourceFile) -> tuple[list[str], int]:
    """Return the names of the columns, and how many lines precede the first row."""
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        lines = [line for line, _ in zip(csv.reader(file), range(_LONGEST_BANNER), strict=False)]
    if not lines:
        raise DataError(f"{source.label}: is empty.")
    first = next((line for line in lines if line), [])
    if group.header and _is_number(first[0]):
        if len(first) != len(group.header):
            raise DataError(
                f"{source.label}: has no header and {len(first)} columns; this layout has "
                f"{len(group.header)}: {', '.join(group.header)}."
            )
        return list(group.header), lines.index(first)
    header = first
    if group.banner:
        time = group.time.column.lower()
        header = next((line for line in lines if time in map(str.lower, line)), first)
    return [name.strip() for name in header], lines.index(header) + 1


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _require_columns(present: list[str], group: FileGroup, source: SourceFile) -> None:
    base = source.symbol.split("/")[0]
    wanted = [group.time.column, *(column.column for column in group.columns.values())]
    wanted += [part.column for part in (group.known, group.only, group.last_of) if part]
    for name in filter(None, wanted):
        name = name.replace("{base}", base)
        # As SQL does, and as vendors do, who write Unix one year and unix the next.
        if name.lower() not in map(str.lower, present):
            raise DataError(f"{source.label}: there is no column {name!r}.{nearest(name, present)}")


def _leave_out(connection: duckdb.DuckDBPyConnection, group: FileGroup, relation: str) -> int:
    if group.only is None:
        return 0
    column = f"{identifier_sql(group.only.column)}::VARCHAR"
    other = f"{column} IS NULL"
    if group.only.one_of:
        meant = ", ".join(text(value.lower()) for value in group.only.one_of)
        other = f"coalesce(lower({column}), '') NOT IN ({meant})"
    left_out = connection.execute(f"DELETE FROM {relation} WHERE {other}").fetchone()
    return int(left_out[0]) if left_out else 0
