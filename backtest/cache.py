"""Where compiled kernels are kept, so that an edited one is never answered by an old one.

Numba's disk cache checks only the file of the function it caches: an edited callee in another
file silently gives the old answer. The cache folder is therefore named by a hash of every
source that can be compiled in, and of the versions and processor that compile it.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path

ROOMS = ("backtest", "strategies")


def kernel_sources(root: Path) -> list[Path]:
    """List every source that can be compiled in: what imports numba, and what that imports.

    Parameters
    ----------
    root
        Folder that holds the rooms.

    Returns
    -------
    list of pathlib.Path
        In a fixed order.
    """
    imports: dict[Path, set[str]] = {}
    pending: list[Path] = []
    for room in ROOMS:
        for source in sorted((root / room).rglob("*.py")):
            names: set[str] = set()
            for node in ast.walk(ast.parse(source.read_bytes())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module)
                    names |= {alias.name for alias in node.names} & {"requirement_kernel"}
                elif isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
            imports[source] = names
            if names & {"numba", "requirement_kernel"}:
                pending.append(source)
    by_name = {
        ".".join(source.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): source
        for source in imports
    }
    found: set[Path] = set()
    while pending:
        source = pending.pop()
        if source not in found:
            found.add(source)
            pending += [by_name[name] for name in imports[source] if name in by_name]
    return sorted(found)


@lru_cache(maxsize=1)
def kernel_hash() -> str:
    """Return 16 hex digits naming all kernel sources, their compiler and this processor."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for source in kernel_sources(root):
        digest.update(source.relative_to(root).as_posix().encode())
        digest.update(source.read_bytes())
    for name in ("numba", "llvmlite", "numpy"):
        digest.update(f"{name}={metadata.version(name)};".encode())
    digest.update(f"{platform.machine()};{platform.python_version()}".encode())
    digest.update(os.environ.get("NUMBA_CPU_NAME", "host").encode())
    return digest.hexdigest()[:16]


def use_hashed_cache() -> Path:
    """Point numba at the folder that belongs to the present sources.

    ``REMARGIN_CACHE`` moves the parent folder; the default is the user's cache folder.

    Returns
    -------
    pathlib.Path
        The folder, which numba creates when it first writes.
    """
    base = os.environ.get("REMARGIN_CACHE") or os.environ.get("XDG_CACHE_HOME")
    parent = Path(base) if base else Path.home() / ".cache"
    folder = parent / "remargin" / "kernels" / kernel_hash()
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    return folder
