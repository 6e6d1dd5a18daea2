"""What can go wrong by a user's hand, and what must never go wrong at all.

A `RemarginError` is a user's mistake: one sentence that names file, field, value, unit and
the nearest valid choice. The command line prints it and exits with code 2. Everything else
that is raised is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class RemarginError(Exception):
    """A mistake in what the user gave; its text is the whole message."""


class ConfigError(RemarginError):
    """A config file, field or value that cannot be used."""


class DataError(RemarginError):
    """Market data that is missing, contradictory or impossible."""


class GapError(DataError):
    """A window of market data with a hole longer than the configured bound."""


class BookError(RemarginError):
    """An account book that is malformed or does not fit its tape."""


class PolicyError(RemarginError):
    """A margin policy that cannot be loaded or breaks the contract."""


class LookAheadError(PolicyError):
    """A policy whose signals at one instant depend on a later one."""


class RunError(RemarginError):
    """A tracked run that cannot be found or re-run."""


class LedgerError(Exception):
    """Money appeared or vanished inside a replay; always a fault of the program."""


def nearest(value: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest choice, or the list of all of them.

    Parameters
    ----------
    value
        What the user wrote.
    choices
        What would have been valid.

    Returns
    -------
    str
        A clause to append to an error sentence, with a leading space.
    """
    known = list(choices)
    close = get_close_matches(value, known, n=1, cutoff=0.5)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Valid: {', '.join(known)}." if known else ""
