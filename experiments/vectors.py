"""Published numbers, run through the project's own models.

A vector file holds cases of real venues: inputs, the numbers their documents or code give, and
a tolerance. An adapter lays a case out as a portfolio and asks a requirement kernel; it holds
a venue's parameters but no formula, or it would only test itself. A case for which there is no
model is *not covered*, and so is a case of which only some numbers could be answered.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from backtest.errors import ConfigError
from experiments.vector_models import NotCoveredError, adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_COVERED: Final = "not covered"
_REQUIRED = ("id", "system", "engine", "inputs", "expected", "tolerance_rel")


@dataclass(frozen=True)
class Verdict:
    """What one vector showed.

    Parameters
    ----------
    id, system, engine
        The vector's own names.
    status
        ``"passed"``, ``"failed"`` or ``"not covered"``.
    relative_error
        Largest over the vector's numbers; NaN where it is not covered.
    detail
        The number that is furthest off, or why there is no model.
    """

    id: str
    system: str
    engine: str
    status: Literal["passed", "failed", "not covered"]
    relative_error: float
    detail: str


def run_vectors(path: Path) -> list[Verdict]:
    """Run every vector of a file, in its order.

    Parameters
    ----------
    path
        JSON with a list ``vectors``.

    Raises
    ------
    ConfigError
        If the file is missing, is not JSON, or a vector lacks a field.
    """
    return [_run(vector) for vector in _load(path)]


def summary(verdicts: list[Verdict]) -> str:
    """Return the closing line: ``4 passed, 0 failed, 26 not covered``."""
    count = {s: sum(v.status == s for v in verdicts) for s in (PASSED, FAILED, NOT_COVERED)}
    return f"{count[PASSED]} passed, {count[FAILED]} failed, {count[NOT_COVERED]} not covered"


def _load(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such vector file.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}.") from None
    vectors = document.get("vectors") if isinstance(document, dict) else None
    if not isinstance(vectors, list):
        raise ConfigError(f"{path}: has no list 'vectors' of cases with {', '.join(_REQUIRED)}.")
    for position, vector in enumerate(vectors):
        lacking = [name for name in _REQUIRED if not isinstance(vector, dict) or name not in vector]
        if lacking:
            raise ConfigError(f"{path}: vectors.{position}: {lacking[0]!r} is missing.")
    return vectors


def _run(vector: Mapping[str, Any]) -> Verdict:
    named = {name: str(vector[name]) for name in ("id", "system", "engine")}
    expected: dict[str, Any] = vector["expected"]
    try:
        answered = adapter(named["system"], named["engine"])(vector["inputs"])
        lacking = [key for key in expected if key not in answered]
        if lacking:
            raise NotCoveredError(f"no model for {', '.join(lacking)}")
    except NotCoveredError as reason:
        return Verdict(**named, status=NOT_COVERED, relative_error=math.nan, detail=str(reason))
    errors = {key: _relative_error(answered[key], wanted) for key, wanted in expected.items()}
    worst = max(errors, key=lambda key: errors[key])
    return Verdict(
        **named,
        status=PASSED if errors[worst] <= float(vector["tolerance_rel"]) else FAILED,
        relative_error=errors[worst],
        detail=f"{worst}: {answered[worst]!r} for {expected[worst]!r}",
    )


def _relative_error(answered: float, wanted: float) -> float:
    difference = abs(float(answered) - float(wanted))
    if difference == 0.0:
        return 0.0
    return difference / abs(float(wanted)) if wanted else math.inf
