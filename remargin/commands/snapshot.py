"""``remargin data snapshot`` and ``export``: the store frozen, or as Parquet, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remargin.commands.options import Json, Store
from remargin.terminal import (
    number,
    progress,
    short,
    status,
    write_facts,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from data_ingest.manifest import StoreManifest


def snapshot(
    name: Annotated[
        str,
        typer.Argument(
            help="Name in the workspace's folder `snapshots`, or a path.", metavar="NAME|PATH"
        ),
    ],
    check: Annotated[
        bool,
        typer.Option("--check", help="Digest every row of an existing snapshot again."),
    ] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Freeze the store into a read-only copy with a manifest, which a config can name.

    A snapshot is never overwritten. Every replay from one checks its bytes first.
    """
    from data_ingest.snapshot import freeze, verify_snapshot
    from experiments.market_data import snapshot_folder
    from experiments.workspace import store_path

    folder = snapshot_folder(name)
    with status("snapshot", hidden=json) as say:
        manifest = verify_snapshot(folder, say) if check else freeze(store_path(store), folder, say)
    write_manifest(manifest, folder, json)


def export(
    folder: Annotated[
        Path, typer.Argument(help="Folder to make.", metavar="DIR", show_default=False)
    ],
    store: Store = None,
    json: Json = False,
) -> None:
    """Write the store, or a snapshot, as Parquet files by market and month, with a manifest.

    `remargin data import DIR` makes a store of it again.
    """
    from data_ingest.parquet import export_parquet
    from data_ingest.snapshot import open_store_or_snapshot
    from experiments.workspace import store_path

    with (
        open_store_or_snapshot(store_path(store)) as opened,
        progress("export", hidden=json) as advance,
    ):
        manifest = export_parquet(opened, folder, advance)
    write_manifest(manifest, folder, json)


def import_export(folder: Path, store: Path | None, as_json: bool) -> None:
    """Fill an empty store with an export, and show what it holds."""
    from data_ingest.parquet import import_parquet
    from data_ingest.store import DataStore
    from experiments.importing import writable_store

    with (
        DataStore(writable_store(store)) as opened,
        progress("import", hidden=as_json) as advance,
    ):
        manifest = import_parquet(opened, folder, advance)
    write_manifest(manifest, folder, as_json)


def write_manifest(manifest: StoreManifest, folder: Path, as_json: bool) -> None:
    """Write what a snapshot or an export holds."""
    from backtest.units import iso_utc

    if as_json:
        write_json({"folder": folder.as_posix(), **manifest.to_dict()})
        return
    write_table(
        ("feed", "market", "from", "to", "rows", "sha256"),
        (
            (
                group.table.replace("_", " "),
                " ".join(_market(group.group)),
                "" if group.start_ms is None else iso_utc(group.start_ms)[:10],
                "" if group.end_ms is None else iso_utc(group.end_ms)[:10],
                number(group.rows),
                short(group.sha256),
            )
            for group in manifest.contents.observations
        ),
        right="llllrr",
    )
    first_ms, last_ms = manifest.contents.span
    write_facts(
        [
            (manifest.form, folder.as_posix()),
            ("holds", f"{manifest.contents.rows:,} rows, {iso_utc(first_ms)} to "
                      f"{iso_utc(last_ms)} UTC, {manifest.bytes / 1e6:,.1f} MB"),
            ("digest", manifest.digest),
        ]
    )  # fmt: skip


def _market(group: dict[str, Any]) -> list[str]:
    from backtest.units import duration_text

    return [
        duration_text(value) if name == "timeframe_ms" else str(value)
        for name, value in group.items()
    ]
