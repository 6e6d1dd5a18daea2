"""A whole store as partitioned Parquet, for other tools and other machines, and back again.

One file per table, market and month, in the order of the key: the same rows give the same bytes.
The manifest beside them lists every file's sha256 and every feed's digest, and an import ends
only if it has found all of them again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from data_ingest.contents import FEED_TABLE_OF, read_contents, time_column
from data_ingest.manifest import (
    FrozenFile,
    SnapshotError,
    StoreManifest,
    check_files,
    frozen_file,
    read_manifest,
)
from data_ingest.schema import SCHEMA_VERSION
from data_ingest.snapshot import new_folder, require_contents
from data_ingest.store import StoreError
from data_ingest.surfaces.stored import SURFACES_SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import duckdb

    from data_ingest.store import DataStore

FORM = "parquet"
_DERIVED = {"surfaces": SURFACES_SQL}
"""Tables that a command makes when it first needs them."""


def export_parquet(
    store: DataStore, folder: Path, progress: Callable[[int, int], None] = lambda done, rows: None
) -> StoreManifest:
    """Write everything a store holds as partitioned Parquet into a new folder.

    Parameters
    ----------
    store : DataStore
        An open store, read-only is enough.
    folder : pathlib.Path
        Where to; given its name when it is whole.
    progress : callable
        Called with the observations written, and all of them.

    Raises
    ------
    SnapshotError
        If the folder exists, or the store holds nothing.
    """
    if store.is_empty():
        raise SnapshotError(f"the store {store.path} is empty; import or pull data first.")
    with new_folder(folder) as unfinished, store.connection.cursor() as cursor:
        contents = read_contents(cursor)
        done = 0
        files = []
        for group in contents.groups:
            for path, condition, values, rows in _parts(cursor, group.table, group.group):
                target = unfinished / path
                target.parent.mkdir(parents=True, exist_ok=True)
                order = ", ".join(FEED_TABLE_OF[group.table].key) if group.group else "ALL"
                named = f"EXCLUDE ({', '.join(group.group)})" if group.group else ""
                cursor.execute(
                    f"COPY (SELECT * {named} FROM {group.table} WHERE {condition} "
                    f"ORDER BY {order}) TO '{_quoted(target)}' (FORMAT parquet, COMPRESSION zstd)",
                    values,
                )
                files.append(frozen_file(target, unfinished))
                done += rows if group.group else 0
                progress(done, contents.rows)
        manifest = StoreManifest(
            name=folder.name,
            form=FORM,
            created_at_ms=time.time_ns() // 1_000_000,
            schema_version=SCHEMA_VERSION,
            contents=contents,
            files=tuple(files),
        )
        manifest.write(unfinished)
    return manifest


def import_parquet(
    store: DataStore, folder: Path, progress: Callable[[int, int], None] = lambda done, rows: None
) -> StoreManifest:
    """Fill an empty store with an export; all of it or nothing.

    Batches, coverage, shortfalls and quarantine come along, so the store knows where its rows
    are from and a pull goes on where the exported one stopped.

    Parameters
    ----------
    store : DataStore
        An open store that holds nothing yet.
    folder : pathlib.Path
        From `export_parquet`.
    progress : callable
        Called with the files read, and all of them.

    Raises
    ------
    SnapshotError
        If a file was changed, if the store holds anything, or if what was read is not what the
        manifest lists.
    """
    manifest = read_manifest(folder)
    if manifest.form != FORM:
        raise SnapshotError(
            f"{folder} is a snapshot, not an export; name it in market.snapshot, or give it to "
            "--store."
        )
    if manifest.schema_version > SCHEMA_VERSION:
        raise SnapshotError(
            f"{folder} has schema version {manifest.schema_version}, newer than {SCHEMA_VERSION}, "
            "the newest this program knows; update remargin."
        )
    if not store.is_empty():
        raise StoreError(
            f"the store {store.path} is not empty; an export is a whole store and needs one of "
            "its own: give --store FILE."
        )
    check_files(folder, manifest)
    with store.transaction() as cursor:
        for table in manifest.columns().keys() & _DERIVED.keys():
            cursor.execute(_DERIVED[table])
        for done, file in enumerate(manifest.files, 1):
            _insert(cursor, folder, file)
            progress(done, len(manifest.files))
        # The next batch is numbered after those that came along.
        cursor.execute(
            "SELECT count(nextval('batch_ids')) FROM "
            "range((SELECT coalesce(max(batch_id), 0) FROM batches))"
        ).fetchall()
        require_contents(manifest, read_contents(cursor, manifest.columns()), folder)
    return manifest


def _parts(
    cursor: duckdb.DuckDBPyConnection, table: str, group: dict[str, Any]
) -> Iterator[tuple[str, str, list[Any], int]]:
    """Yield path, condition, its values and row count of each file of a feed or a table."""
    values = list(group.values())
    condition = " AND ".join(f"{name} = ?" for name in group) or "true"
    folders = [f"{name}={quote(str(value), safe='')}" for name, value in group.items()]
    time = time_column(FEED_TABLE_OF[table]) if group else None
    if time is None:
        counted = f"SELECT count(*) FROM {table} WHERE {condition}"
        if rows := cursor.execute(counted, values).fetchall()[0][0]:
            yield "/".join([table, *folders, "all.parquet"]), condition, values, rows
        return
    month = f"strftime(make_timestamp({time} * 1000), '%Y-%m')"
    for name, first_ms, last_ms, rows in cursor.execute(
        f"SELECT {month} AS month, min({time}), max({time}), count(*) FROM {table} "
        f"WHERE {condition} GROUP BY month ORDER BY month",
        values,
    ).fetchall():
        within = f"{condition} AND {time} BETWEEN ? AND ?"
        path = "/".join([table, *folders, f"{name}.parquet"])
        yield path, within, [*values, first_ms, last_ms], rows


def _insert(cursor: duckdb.DuckDBPyConnection, folder: Path, file: FrozenFile) -> None:
    """Read one file into its table; columns that the path holds are not in the file."""
    table = file.path.partition("/")[0]
    cursor.execute(
        f"INSERT INTO {table} BY NAME FROM read_parquet(?, hive_partitioning = true, "
        "hive_types_autocast = false)",
        [str(folder / file.path)],
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
