"""Snapshots: a store frozen into a folder that a replay can name and nobody can change unseen.

A snapshot is a fresh, compact copy in the order of the keys, without the indexes that only a
writer needs, beside a manifest with the sha256 of everything.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from data_ingest.contents import FEED_TABLE_OF, ordered_groups, read_contents
from data_ingest.manifest import (
    SnapshotError,
    StoreManifest,
    check_files,
    frozen_file,
    is_frozen,
    read_manifest,
)
from data_ingest.schema import SCHEMA_VERSION
from data_ingest.store import DataStore
from data_ingest.turns import LockedError, locked, read_in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from data_ingest.contents import Contents

DATABASE = "store.duckdb"
FORM = "snapshot"


def freeze(
    store: Path | str, folder: Path | str, say: Callable[[str], None] = lambda what: None
) -> StoreManifest:
    """Copy a store into a new folder, with its manifest; the store is only read.

    Parameters
    ----------
    store : pathlib.Path or str
        The DuckDB file.
    folder : pathlib.Path or str
        Where to; made whole under another name first, so that a kill leaves nothing half there.
    say : callable
        Called with the name of each table.

    Returns
    -------
    StoreManifest
        As written.

    Raises
    ------
    SnapshotError
        If the folder exists.
    StoreError
        If the store cannot be read, or holds nothing.
    """
    folder = Path(folder)
    with new_folder(folder) as unfinished:
        database = unfinished / DATABASE
        with DataStore(store, read_only=True) as opened:
            if opened.is_empty():
                raise SnapshotError(f"the store {opened.path} is empty; import or pull data first.")
        _copy(Path(store), database, say)
        with duckdb.connect(str(database), read_only=True) as copy:
            contents = read_contents(copy, say=say)
        manifest = StoreManifest(
            name=folder.name,
            form=FORM,
            created_at_ms=time.time_ns() // 1_000_000,
            schema_version=SCHEMA_VERSION,
            contents=contents,
            files=(frozen_file(database, unfinished),),
        )
        for written in (manifest.write(unfinished), database):
            written.chmod(0o444)
    return manifest


@contextmanager
def open_snapshot(folder: Path | str) -> Iterator[tuple[DataStore, StoreManifest]]:
    """Check every byte of a snapshot and open it for reading.

    One that was frozen by an older version of the schema is brought up to date as a temporary
    copy; the snapshot itself is never written.

    Yields
    ------
    (DataStore, StoreManifest)
        The open store, and what it holds.

    Raises
    ------
    SnapshotError
        If a byte of the database or of the manifest was changed.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    check_files(folder, manifest)
    if manifest.schema_version == SCHEMA_VERSION:
        with DataStore(folder / DATABASE, read_only=True) as store:
            yield store, manifest
        return
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(shutil.copyfile(folder / DATABASE, Path(temporary) / DATABASE))
        with DataStore(copy, read_only=True) as store:
            yield store, manifest


@contextmanager
def open_store_or_snapshot(path: Path) -> Iterator[DataStore]:
    """Open a store, or a snapshot's once it is checked, for reading."""
    if is_frozen(path):
        with open_snapshot(path) as (store, _):
            yield store
    else:
        with DataStore(path, read_only=True) as store:
            yield store


def verify_snapshot(
    folder: Path | str, say: Callable[[str], None] = lambda what: None
) -> StoreManifest:
    """Check every byte of a snapshot, then digest every row again.

    Raises
    ------
    SnapshotError
        If a byte or a digest differs.
    """
    with open_snapshot(folder) as (opened, manifest):
        found = read_contents(opened.connection, manifest.columns(), say)
    require_contents(manifest, found, Path(folder))
    return manifest


def require_contents(manifest: StoreManifest, found: Contents, folder: Path) -> None:
    """Refuse rows that are not those of the manifest, naming the first feed that differs."""
    stated, held = manifest.contents.groups, found.groups
    for group in stated:
        if group not in held:
            which = " ".join([group.table, *map(str, group.group.values())])
            raise SnapshotError(
                f"{folder}: the rows of {which} are not those that its manifest lists."
            )
    if len(stated) != len(held):
        raise SnapshotError(f"{folder} holds rows that its manifest does not list.")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Fill a hidden folder and give it its name when everything in it is whole."""
    if folder.exists():
        raise SnapshotError(f"{folder} exists; a snapshot is never overwritten: give another name.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _manifest(folder: Path) -> StoreManifest:
    manifest = read_manifest(folder)
    if manifest.form != FORM:
        raise SnapshotError(
            f"{folder} is an export in {manifest.form}, not a snapshot; "
            f"import it with 'remargin data import {folder}'."
        )
    return manifest


def _copy(store: Path, database: Path, say: Callable[[str], None]) -> None:
    """Write every table in the order of its key into a new database file."""
    source = str(store).replace("'", "''")
    with duckdb.connect(str(database)) as target:
        read_in_turn(store, lambda: _attach(target, source))
        tables = target.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'source' "
            "AND NOT temporary ORDER BY table_name"
        ).fetchall()
        for (name,) in tables:
            say(name)
            if name not in FEED_TABLE_OF:
                target.execute(f"CREATE TABLE {name} AS FROM source.{name} ORDER BY ALL")
                continue
            target.execute(f"CREATE TABLE {name} AS FROM source.{name} LIMIT 0")
            # Market by market: twice as fast as all at once, and one market's memory.
            for condition, values, order in ordered_groups(target, f"source.{name}"):
                target.execute(
                    f"INSERT INTO {name} FROM source.{name} WHERE {condition} ORDER BY {order}",
                    values,
                )


def _attach(target: duckdb.DuckDBPyConnection, source: str) -> None:
    try:
        target.execute(f"ATTACH '{source}' AS source (READ_ONLY)")
    except duckdb.IOException as error:
        if locked(error):
            raise LockedError from error
        raise
