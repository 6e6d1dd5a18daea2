"""The manifest: everything that decides a run's numbers, so that anybody can re-run them.

It names no path, host or user of the machine it was written on.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from dataclasses import MISSING, asdict, dataclass, fields
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.cache import kernel_hash
from backtest.errors import RunError

if TYPE_CHECKING:
    from backtest.tape import DataSource

ROOMS = ("backtest", "data_ingest", "strategies", "optimize", "experiments")
PACKAGES = (
    "arch", "ccxt", "duckdb", "llvmlite", "mlflow", "numba", "numpy", "optuna", "pandas",
    "pyarrow", "pydantic", "scipy",
)  # fmt: skip
FORMAT = 1
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Manifest:
    """What a run read and what ran it.

    Parameters
    ----------
    kind
        ``"replay"``, ``"study"`` or ``"compare"``.
    tape_digest, book_digest
        Sha256 of the market and of the accounts.
    config
        The config as it was written, as plain JSON values.
    config_hash
        Sha256 of the config with every default written out.
    seed, batch
        What random draws and search batches depend on.
    options
        Choices of the command that are not in the config.
    commit, dirty
        Git commit of the code, and whether it had other changes; None without git.
    source_hash, kernel_cache_hash
        Sha256 of all sources; name of the compiled kernels.
    packages, python, system, processor
        What the code ran on.
    snapshot_name, snapshot_digest
        The frozen store that the market was read from and the sha256 of its contents, wherever
        it lies; None where it was a store that goes on changing.
    format
        Version of this list.
    """

    kind: str
    tape_digest: str
    book_digest: str
    config: dict[str, Any]
    config_hash: str
    seed: int
    batch: int
    options: dict[str, Any]
    commit: str | None
    dirty: bool | None
    source_hash: str
    kernel_cache_hash: str
    packages: dict[str, str]
    python: str
    system: str
    processor: str
    snapshot_name: str | None = None
    snapshot_digest: str | None = None
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def to_json(self) -> str:
        """Write the manifest, the config in the order in which it was written.

        A config may list what order matters for, such as the kinds of trader of a book.
        """
        return json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest.

        Raises
        ------
        RunError
            If it is not one, or of a newer format.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise RunError(f"the manifest is not readable as JSON: {error}.") from None
        known = {f.name for f in fields(cls)}
        required = {f.name for f in fields(cls) if f.default is MISSING}
        if not isinstance(values, dict) or not required <= values.keys():
            raise RunError("the manifest lacks fields; it was not written by remargin.")
        if values.get("format", 0) > FORMAT:
            raise RunError(
                f"the manifest has format {values['format']}, newer than {FORMAT}, the newest "
                "this program knows; update remargin."
            )
        return cls(**{name: values[name] for name in known if name in values})

    @property
    def digest(self) -> str:
        """Sha256 of the manifest."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def make_manifest(
    kind: str,
    *,
    tape_digest: str,
    book_digest: str,
    config: dict[str, Any],
    config_hash: str,
    seed: int,
    batch: int,
    options: dict[str, Any] | None = None,
    snapshot: DataSource | None = None,
) -> Manifest:
    """Describe a run on this machine, with this code."""
    commit, dirty = code_version()
    return Manifest(
        kind=kind,
        tape_digest=tape_digest,
        book_digest=book_digest,
        config=config,
        config_hash=config_hash,
        seed=seed,
        batch=batch,
        options=options or {},
        commit=commit,
        dirty=dirty,
        source_hash=source_hash(),
        kernel_cache_hash=kernel_hash(),
        packages=package_versions(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        processor=processor_name(),
        snapshot_name=snapshot.market if snapshot else None,
        snapshot_digest=snapshot.sha256 if snapshot else None,
    )


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Return the sha256 of every Python source and template of the rooms."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for source in sorted((_ROOT / room).rglob("*")):
            if source.suffix in {".py", ".j2", ".css"}:
                digest.update(source.relative_to(_ROOT).as_posix().encode())
                digest.update(source.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def code_version() -> tuple[str | None, bool | None]:
    """Return the git commit of the code and whether it has changes; None where not in git."""
    if not (_ROOT / ".git").exists():
        return None, None
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(_ROOT), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that can change a number."""
    return {name: metadata.version(name) for name in PACKAGES}


def processor_name() -> str:
    """Return the processor's model name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
