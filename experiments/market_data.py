"""Where a config's market data is read: from the snapshot that it names, or else from a store."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import ConfigError
from backtest.tape import DataSource
from experiments.workspace import Workspace, store_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backtest.tape import MarketTape
    from data_ingest.store import DataStore
    from experiments.config import RunConfig

SNAPSHOT_FEED = "snapshot"
"""How the data inventory of a tape calls the snapshot that it was built from."""


@contextmanager
def opened_market(
    config: RunConfig, given: Path | None = None
) -> Iterator[tuple[DataStore, tuple[DataSource, ...]]]:
    """Open what a config's market is read from; a snapshot's bytes are checked first.

    Parameters
    ----------
    config
        Whose ``market.snapshot`` is read where it names one.
    given
        A store or a snapshot instead of the config's own; a config that names a snapshot takes
        only a snapshot.

    Yields
    ------
    (DataStore, tuple of DataSource)
        Open for reading; the snapshot as the tape's inventory lists it, if it is one.

    Raises
    ------
    ConfigError
        As `market_path`.
    SnapshotError
        If a byte of the snapshot was changed.
    """
    from data_ingest.snapshot import open_snapshot
    from data_ingest.store import DataStore

    path = market_path(config, given)
    if not path.is_dir():
        with DataStore(path, read_only=True) as store:
            yield store, ()
        return
    with open_snapshot(path) as (opened, manifest):
        first_ms, last_ms = manifest.contents.span
        source = DataSource(
            SNAPSHOT_FEED, manifest.name, first_ms, last_ms, manifest.contents.rows,
            manifest.digest, "frozen store",
        )  # fmt: skip
        yield opened, (source,)


def market_path(config: RunConfig, given: Path | None = None) -> Path:
    """Return where a config's market is read from: a store's file, or a snapshot's folder.

    Raises
    ------
    ConfigError
        If the snapshot is not found, or a store is given where the config names a snapshot.
    """
    from data_ingest.manifest import is_frozen

    named = config.market.snapshot
    if named is None:
        return store_path(given, config.store)
    if given is None:
        return _found(named, config)
    if is_frozen(given):
        return given
    raise ConfigError(
        f"{config.file}: market.snapshot: is {named}, so it is not read from the store {given}; "
        "give a snapshot, or take market.snapshot out."
    )


def snapshot_of(tape: MarketTape) -> DataSource | None:
    """Return the snapshot that a tape was built from, None if it was a store."""
    return next((one for one in tape.sources if one.feed == SNAPSHOT_FEED), None)


def snapshot_folder(name: str) -> Path:
    """Return where a snapshot is: a bare name stands for a folder of the workspace."""
    path = Path(name)
    return path if path.parent != Path() or path.is_dir() else Workspace.default().snapshots / name


def _found(named: str, config: RunConfig) -> Path:
    """Look beside the config, in the working folder, and in the workspace."""
    from data_ingest.manifest import is_frozen

    home = Workspace.default()
    places = (config.file.parent / named, Path(named), home.home / named, home.snapshots / named)
    for place in places:
        if is_frozen(place):
            return place
    looked = ", ".join(dict.fromkeys(place.parent.as_posix() for place in places))
    raise ConfigError(
        f"{config.file}: market.snapshot: there is no snapshot {named} (looked in {looked}); "
        f"'remargin data snapshot {Path(named).name}' makes one."
    )
