"""Tell a user's mistake from a fault of the program, and say it in one sentence."""

from __future__ import annotations

import sys
from typing import Any


def sentence(error: BaseException) -> str | None:
    """Return the one sentence that answers a user's mistake, or None for a fault.

    Faults keep their traceback: hiding one would cost the person who must mend it. Only
    modules that are loaded already are asked for their error classes, because an error can
    only have come from those.
    """
    if isinstance(error, _loaded("backtest.errors", "RemarginError")):
        return " ".join(str(error).split())
    if isinstance(error, _loaded("yaml", "YAMLError")):
        return " ".join(f"not readable as YAML: {error}".split())
    if isinstance(error, (_loaded("duckdb", "IOException"), _loaded("duckdb", "FatalException"))):
        return " ".join(f"the store cannot be read or written: {error}.".split())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or 'cannot be read').lower()}."
    return None


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error is Ctrl-C in DuckDB's own words."""
    return isinstance(error, RuntimeError) and str(error) == "Query interrupted"


def _loaded(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, ())
