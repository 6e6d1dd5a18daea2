"""Policies that other installed packages offer, found by their entry points.

A package writes into its own project file::

    [project.entry-points."remargin.policies"]
    my-policy = "my_package.margin:MyPolicy"

and ``my-policy`` is a policy's name like any other from then on. Nothing of it is imported
before it is asked for, and a name of this project's own cannot be taken.
"""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import PolicyError, RemarginError
from strategies.contract import MarginPolicy

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "remargin.policies"


def offered() -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by the policy's name."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def package_of(point: EntryPoint) -> str:
    """Say which package offers a policy, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def load_offered(point: EntryPoint, place: str) -> type[MarginPolicy]:
    """Import the class that an entry point names.

    Parameters
    ----------
    point
        From `offered`.
    place
        Where a config names it, the beginning of a message.

    Raises
    ------
    PolicyError
        If it cannot be imported, or is no policy.
    """
    try:
        cls = point.load()
    except RemarginError:
        raise
    except Exception as error:
        raise PolicyError(
            f"{place}: {point.name} of {package_of(point)} cannot be imported: "
            f"{type(error).__name__}: {error}."
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, MarginPolicy)):
        raise PolicyError(f"{place}: {point.name} of {package_of(point)} is no margin policy.")
    file = inspect.getsourcefile(cls)
    source = Path(file).read_bytes() if file else point.value.encode()
    cls.origin = (point.name, hashlib.sha256(source).hexdigest())
    return cls
