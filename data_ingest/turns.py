"""Turns at a store: a writer that works for hours lets readers in between two transactions.

DuckDB's writer locks out every other process. Two empty files beside the store, which SQLite
locks, say who wants what; its locks work on every platform and end with their process, even a
killed one, so nothing here can grow stale.

- ``FILE.writer`` is held by the one writer, also while it has let readers in.
- ``FILE.gate`` is held for the moments in which somebody is getting in: by a reader until it
  has the store open, and by a writer that has waited long to get back, so that a stream of
  readers cannot keep it out.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Opened = TypeVar("Opened")

POLL_S = 0.01
TELL_AFTER_S = 1.0
"""A wait that a person would notice is told, once, as a warning of this module's logger."""

FOREIGN_PATIENCE_S = 1.0
"""How long to wait for a process that takes no turns, which may be about to end."""

GATE_PATIENCE_S = 10.0
"""A reader that holds the gate longer has been suspended, and is not waited for."""

COURTESY_S = 5.0
"""How long a writer lets further readers in before it takes the gate to get back itself."""

_log = logging.getLogger(__name__)


class LockedError(Exception):
    """Another process has the store open in a way that excludes ours."""


class FileLock:
    """A lock between processes that ends with its holder.

    Parameters
    ----------
    path : pathlib.Path
        The empty file that carries it; it stays when the lock is free.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def take(self) -> bool:
        """Take the lock if it is free.

        Raises
        ------
        sqlite3.Error
            If the folder takes no new file.
        """
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    def release(self) -> None:
        """Free the lock."""
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Free the lock and its file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Patience:
    """How long somebody has waited, told once on the way."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence
        self._began = time.monotonic()
        self._told = False

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self._began

    def wait(self) -> None:
        if not self._told and self.waited_s > TELL_AFTER_S:
            self._told = True
            _log.warning(self._sentence)
        time.sleep(POLL_S)


def read_in_turn(path: Path, open_it: Callable[[], Opened]) -> Opened:
    """Open a store for reading; a writer that holds it is asked to step aside.

    Parameters
    ----------
    path : pathlib.Path
        The store.
    open_it : callable
        Opens it, or raises `LockedError`.

    Raises
    ------
    LockedError
        If it is held by a process that takes no turns.
    """
    gate_path, writer_path = _files(path)
    if not gate_path.exists():  # no writer that takes turns has been here
        try:
            return open_it()
        except LockedError:
            if not gate_path.exists():
                raise
    gate, writer = FileLock(gate_path), FileLock(writer_path)
    patience = _Patience(f"waiting for a turn to read {path}, which is being written")
    try:
        while not gate.take() and patience.waited_s < GATE_PATIENCE_S:
            patience.wait()
        alone_s = 0.0
        while True:
            try:
                return open_it()
            except LockedError:
                alone_s = 0.0 if _is_held(writer) else alone_s + POLL_S
                if alone_s > FOREIGN_PATIENCE_S:
                    raise
            patience.wait()
    except sqlite3.Error:  # a folder in which nothing may be written, so that nobody is asked
        return open_it()
    finally:
        gate.close()
        writer.close()


class WriterTurn:
    """The right to be a store's one writer, held until closed.

    Parameters
    ----------
    path : pathlib.Path
        The store.

    Raises
    ------
    LockedError
        If another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        gate, writer = _files(path)
        self._gate, self._writer = FileLock(gate), FileLock(writer)
        patience = _Patience("")
        try:
            # Whoever looks whether there is a writer holds this lock for a moment too.
            while not (free := self._writer.take()) and patience.waited_s < TELL_AFTER_S / 4:
                patience.wait()
            self.somebody_waits()  # makes the gate's file, which tells readers that turns are taken
        except sqlite3.Error:
            free = True  # the folder takes no file; DuckDB will say so of the store itself
        if not free:
            self.close()
            raise LockedError

    def close(self) -> None:
        """Give up the right."""
        self._gate.close()
        self._writer.close()

    def somebody_waits(self) -> bool:
        """Tell whether a reader wants in; asked after each transaction, it costs some 0.1 ms."""
        with suppress(sqlite3.Error):
            if self._gate.take():
                self._gate.release()
                return False
            return True
        return False

    def get_back(self, open_it: Callable[[], Opened], patience_s: float = float("inf")) -> Opened:
        """Open the store for writing, once readers that were waiting are in and have left.

        Parameters
        ----------
        open_it : callable
            Opens it, or raises `LockedError`.
        patience_s : float
            How long to wait.

        Raises
        ------
        LockedError
            If it is still being read then.
        """
        patience = _Patience(f"waiting to write {self._path}, which is being read")
        while self.somebody_waits() and patience.waited_s < GATE_PATIENCE_S:
            patience.wait()
        with self._gate_after_courtesy() as insist:
            while True:
                insist(patience.waited_s)
                try:
                    return open_it()
                except LockedError:
                    if patience.waited_s > patience_s:
                        raise
                patience.wait()

    @contextmanager
    def _gate_after_courtesy(self) -> Iterator[Callable[[float], None]]:
        holds = False

        def insist(waited_s: float) -> None:
            nonlocal holds
            if not holds and waited_s > COURTESY_S:
                holds = self._gate.take()

        try:
            yield insist
        finally:
            if holds:
                self._gate.release()


def locked(error: duckdb.Error) -> bool:
    """Tell whether DuckDB refused a file because another process holds it."""
    return isinstance(error, duckdb.IOException) and "lock" in str(error).lower()


def _files(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".gate"), path.with_name(path.name + ".writer")


def _is_held(lock: FileLock) -> bool:
    if lock.take():
        lock.release()
        return False
    return True
