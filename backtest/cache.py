"""Where compiled kernels are kept, so that an edited one is never answered by an old one.

Numba's disk cache checks only the file of the function it caches: an edited callee in another
file silently gives the old answer. The cache folder is therefore named by a hash of every
source that can be compiled in, and of the versions and processor that compile it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path

ROOMS = ("backtest", "strategies")


@lru_cache(maxsize=1)
def kernel_hash() -> str:
    """Return 16 hex digits naming all kernel sources, their compiler and this processor."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for room in ROOMS:
        for source in sorted((root / room).rglob("*.py")):
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
