"""Where results live: one folder, ``out`` or what ``REMARGIN_HOME`` names."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import DataError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Workspace:
    """The folder of a user's store, runs and unfinished studies."""

    home: Path

    @classmethod
    def default(cls) -> Workspace:
        """Return the workspace of this process: ``REMARGIN_HOME``, else ``out`` here."""
        return cls(Path(os.environ.get("REMARGIN_HOME") or "out"))

    @property
    def store(self) -> Path:
        """The DuckDB file of a config that names none."""
        return self.home / "store.duckdb"

    @property
    def snapshots(self) -> Path:
        """The folder of frozen stores that are called by name."""
        return self.home / "snapshots"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database; ``MLFLOW_TRACKING_URI`` moves it elsewhere."""
        given = os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{(self.home / 'mlflow.db').resolve()}"

    @property
    def artifacts(self) -> Path:
        """Where MLflow keeps the files of runs."""
        return self.home / "artifacts"

    def journal(self, name: str, identity: str) -> Path:
        """Return the journal of an unfinished study."""
        return self.home / "studies" / f"{slug(name)}-{identity[:12]}.journal"


def store_path(given: str | Path | None = None, config_store: str | None = None) -> Path:
    """Return the store to use: the one given, else the config's, else the workspace's.

    The folder of a snapshot counts as a store that can only be read.

    Raises
    ------
    DataError
        If there is no such file.
    """
    from data_ingest.manifest import is_frozen

    path = Path(given or config_store or Workspace.default().store)
    if not path.is_file() and not is_frozen(path):
        raise DataError(
            f"there is no store at {path}; run 'remargin data pull' or 'remargin data import'."
        )
    return path


@contextmanager
def held_alone(file: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Keep every other process off a file that it, too, would hold.

    Two searches that append to one journal would each read the other's trials as its own, and
    two processes that both make the runs' database leave one that neither can open. SQLite's
    file lock works on every platform and ends with its process, even a killed one.

    Parameters
    ----------
    file
        What is protected; the lock stands beside it.
    patience_s
        How long to wait for another process.

    Raises
    ------
    RunError
        If another process still holds it then.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_suffix(".lock")
    held = sqlite3.connect(lock, timeout=patience_s, isolation_level=None)
    try:
        try:
            held.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise RunError(f"{file}: another process is working on it; wait for it.") from None
        yield
        if not patience_s:  # whoever waits has this very file open
            with suppress(OSError):  # an open file cannot be removed everywhere
                lock.unlink()
    finally:
        held.close()


def slug(name: str) -> str:
    """Return a name that is safe as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "study"
