"""The manifest of a frozen store: what it holds, where that came from, and its files' digests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_ingest.contents import Contents, Group, Origin, canonical
from data_ingest.store import StoreError

MANIFEST = "manifest.json"
FORMAT = 1
_REMEDY = "take another copy of it"


class SnapshotError(StoreError):
    """A snapshot or an export that cannot be written, or is not what was written."""


@dataclass(frozen=True)
class FrozenFile:
    """A file beside the manifest: its path relative to it, size and sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class StoreManifest:
    """What was frozen.

    Parameters
    ----------
    name : str
        What the folder was called when it was made; moving it changes nothing.
    form : str
        ``"snapshot"`` for a DuckDB file, ``"parquet"`` for partitioned Parquet.
    created_at_ms : int
        Milliseconds UTC.
    schema_version : int
        Of the store.
    contents : Contents
        Every feed and table with rows, span and digest, and where they came from.
    files : tuple of FrozenFile
        The data files.
    """

    name: str
    form: str
    created_at_ms: int
    schema_version: int
    contents: Contents
    files: tuple[FrozenFile, ...]

    @property
    def digest(self) -> str:
        """Sha256 of the contents, whatever their form: see `Contents.digest`."""
        return self.contents.digest

    @property
    def bytes(self) -> int:
        """Size of the data files."""
        return sum(file.bytes for file in self.files)

    def columns(self) -> dict[str, dict[str, str]]:
        """Return the digested tables and columns."""
        return {group.table: group.columns for group in self.contents.groups}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the manifest's own digest among them."""
        said = {
            "format": FORMAT,
            "digest": self.digest,
            "rows": self.contents.rows,
            **asdict(self),
        }
        said = json.loads(json.dumps(said))
        return {**said, "manifest_sha256": hashlib.sha256(canonical(said)).hexdigest()}

    def write(self, folder: Path) -> Path:
        """Write ``manifest.json`` into a folder."""
        path = folder / MANIFEST
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def is_frozen(path: Path) -> bool:
    """Tell whether a folder holds a snapshot or an export."""
    return (path / MANIFEST).is_file()


def read_manifest(folder: Path) -> StoreManifest:
    """Read and check the manifest of a folder; its data files are not looked at.

    Raises
    ------
    SnapshotError
        If there is none, it was changed, or it is newer than this program.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise SnapshotError(f"{folder} is no snapshot: it has no {MANIFEST}.")
    try:
        raw = path.read_bytes()
        said = json.loads(raw)
        changed = _own_bytes(said) != raw
    except (ValueError, TypeError, AttributeError):
        raise SnapshotError(f"{path} was damaged; {_REMEDY}.") from None
    stated = said.pop("manifest_sha256", None)
    if stated != hashlib.sha256(canonical(said)).hexdigest() or changed:
        raise SnapshotError(f"{path} was changed since it was written; {_REMEDY}.")
    if said["format"] > FORMAT:
        raise SnapshotError(
            f"{path} has format {said['format']}, newer than {FORMAT}, the newest this program "
            "knows; update remargin."
        )
    held = said["contents"]
    return StoreManifest(
        name=said["name"],
        form=said["form"],
        created_at_ms=said["created_at_ms"],
        schema_version=said["schema_version"],
        contents=Contents(
            tuple(Group(**group) for group in held["observations"]),
            tuple(Group(**group) for group in held["records"]),
            tuple(Origin(**origin) for origin in held["origins"]),
        ),
        files=tuple(FrozenFile(**file) for file in said["files"]),
    )


def frozen_file(path: Path, folder: Path) -> FrozenFile:
    """Describe a data file as it is now."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FrozenFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest)


def check_files(folder: Path, manifest: StoreManifest) -> None:
    """Compare every data file, to the byte, with what was written.

    Raises
    ------
    SnapshotError
        Naming the first file that is missing or another.
    """
    for expected in manifest.files:
        path = folder / expected.path
        if not path.is_file():
            raise SnapshotError(f"{path} is missing from the {manifest.form}; {_REMEDY}.")
        if frozen_file(path, folder) != expected:
            raise SnapshotError(f"{path} was changed since it was written; {_REMEDY}.")


def _own_bytes(said: dict[str, Any]) -> bytes:
    """Write the values again: a changed space or escape is a changed byte too."""
    text = json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()
