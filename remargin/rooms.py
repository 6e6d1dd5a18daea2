"""Claim the rooms' generic names before anybody else's folder can.

``backtest``, ``strategies`` and the others are ordinary words, and an analyst may well run
`remargin` from a folder that has a ``strategies/`` of its own. Python would look there first.
A finder that knows exactly these names, and only beside this package, answers instead.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

ROOMS = ("backtest", "data_ingest", "strategies", "optimize", "experiments")
ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the rooms and their configs, in a checkout and in an installation."""


class RoomFinder(MetaPathFinder):
    """Find the rooms beside this package, whatever the search path says."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return where a room is, and None for every other module."""
        if fullname not in ROOMS:
            return None
        return PathFinder.find_spec(fullname, [str(ROOT)], target)


def claim_rooms() -> None:
    """Make the rooms' names mean the rooms, from now on, in this process.

    Raises
    ------
    ImportError
        If another module of such a name has been imported already; taking its place would
        break the program that imported it.
    """
    for name in ROOMS:
        module = sys.modules.get(name)
        if module is None:
            continue
        places = [Path(place).resolve() for place in getattr(module, "__path__", ())]
        if ROOT / name not in places:
            origin = getattr(module, "__file__", None) or ", ".join(map(str, places)) or "memory"
            raise ImportError(
                f"remargin needs the module name {name!r}, which {origin} has already taken in "
                f"this process; import remargin first, or rename that module."
            )
    if not any(isinstance(finder, RoomFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, RoomFinder())
