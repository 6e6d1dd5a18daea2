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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOMS = ("backtest", "strategies")
_DECORATORS = {"compiled", "formula", "requirement_kernel"}


def kernel_sources(root: Path, rooms: tuple[str, ...] = ROOMS) -> list[Path]:
    """List every source that can be compiled in: what imports numba, and what that imports.

    Parameters
    ----------
    root
        Folder that holds the rooms.
    rooms
        Which of them; the ground floor compiles nothing of the others.

    Returns
    -------
    list of pathlib.Path
        In a fixed order.
    """
    imports: dict[Path, set[str]] = {}
    pending: list[Path] = []
    for room in rooms:
        for source in sorted((root / room).rglob("*.py")):
            names: set[str] = set()
            for node in ast.walk(ast.parse(source.read_bytes())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module)
                    names |= {alias.name for alias in node.names} & _DECORATORS
                elif isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
            imports[source] = names
            if names & {"numba", *_DECORATORS}:
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


@lru_cache
def kernel_hash(rooms: tuple[str, ...] = ROOMS) -> str:
    """Return 16 hex digits naming all kernel sources, their compiler and this processor."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for source in kernel_sources(root, rooms):
        digest.update(source.relative_to(root).as_posix().encode())
        digest.update(source.read_bytes())
    for name in ("numba", "llvmlite", "numpy"):
        digest.update(f"{name}={metadata.version(name)};".encode())
    digest.update(f"{platform.machine()};{platform.python_version()}".encode())
    digest.update(os.environ.get("NUMBA_CPU_NAME", "host").encode())
    return digest.hexdigest()[:16]


def cache_folder(rooms: tuple[str, ...] = ROOMS) -> Path:
    """Return the folder for kernels that compile nothing but what these rooms hold.

    ``REMARGIN_CACHE`` moves the parent folder; the default is the user's cache folder.
    """
    base = os.environ.get("REMARGIN_CACHE") or os.environ.get("XDG_CACHE_HOME")
    parent = Path(base) if base else Path.home() / ".cache"
    return parent / "remargin" / "kernels" / kernel_hash(rooms)


def use_hashed_cache() -> None:
    """Point numba at the folder of the present sources; it is created when first written to."""
    os.environ["NUMBA_CACHE_DIR"] = str(cache_folder())
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


def compiled(*signature: Any, entry: bool = False, **options: Any) -> Callable[[Any], Any]:
    """Compile a kernel of the ground floor that only kernels call, kept on disk.

    The event loop calls policies through function pointers and compiles none of them in, so
    its folder is named by the ground floor alone: a new policy does not recompile the loop.
    Arithmetic is strict IEEE (``error_model="numpy"`` lets divisions be vectorised; contraction
    stays off), so that a kernel and its plain-Python form give the same bits.

    Only an ``entry`` may be called from Python; calling another one from there ends the process.
    Without numba's run-time no array is counted as it is handed on. Unpacking and counting the
    loop's hundred arrays took two thirds of its compilation. A kernel therefore allocates
    nothing, and assigns no slice to a slice, because that may need a copy.

    A signature is given to what is called with constants: numba would compile it anew for each.
    """
    return _compile(signature, {"no_cpython_wrapper": not entry, **options})


def formula(function: Any) -> Any:
    """Compile a law of a few numbers, for kernels and for Python alike."""
    return _compile((), {})(function)


def _compile(signature: tuple[Any, ...], options: dict[str, Any]) -> Callable[[Any], Any]:
    import numba

    def decorate(function: Any) -> Any:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_folder(("backtest",)))
        try:
            return numba.njit(
                *signature,
                cache=True,
                error_model="numpy",
                no_cfunc_wrapper=True,
                _nrt=False,
                **options,
            )(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate
