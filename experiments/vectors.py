"""Published numbers, run through the project's own models.

A file holds cases of real venues, ``vectors`` with a system, an engine and a relative tolerance,
or ``checks`` of risk analysis with an area and a tolerance of their own: inputs, and the numbers
that documents, papers or code give. `experiments.vector_adapters` hands the inputs to the laws
and kernels. A case for which there is no model is *not covered*, and so is a case of which only
some numbers could be answered.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from backtest.errors import ConfigError
from experiments.vector_adapters import MARGIN, RISK, NotCoveredError, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Case = Mapping[str, Any]
    Judge = Callable[["Leaf"], bool]

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_COVERED: Final = "not covered"
_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "vectors": {
        "id": str, "system": str, "engine": str, "inputs": dict, "expected": dict,
        "tolerance_rel": (int, float),
    },
    "checks": {"id": str, "area": str, "inputs": dict, "expected": dict, "tolerance": dict},
}  # fmt: skip
_KINDS: Final = {str: "text", dict: "a mapping"}


@dataclass(frozen=True)
class Verdict:
    """What one case showed.

    Parameters
    ----------
    id, system, engine
        The case's own names; a risk check has its area and kind.
    status
        ``"passed"``, ``"failed"`` or ``"not covered"``.
    relative_error
        Largest over the case's numbers; NaN where it is not covered.
    detail
        The number that is furthest off, or why there is no model.
    """

    id: str
    system: str
    engine: str
    status: Literal["passed", "failed", "not covered"]
    relative_error: float
    detail: str


@dataclass(frozen=True)
class Leaf:
    """One published number, truth value or word, and what was answered for it."""

    name: str
    answered: Any
    wanted: Any
    relative_error: float


def run_vectors(path: Path) -> list[Verdict]:
    """Run every case of a file, in its order.

    Parameters
    ----------
    path
        JSON with a list ``vectors``, a list ``checks``, or both.

    Raises
    ------
    ConfigError
        If the file is missing, is not JSON, or a case lacks a field.
    """
    document = _load(path)
    sets = document.get("param_sets", {})
    checks = {check["id"]: check for check in document.get("checks", [])}
    verdicts = [_run_vector(vector, sets, path) for vector in document.get("vectors", [])]
    return verdicts + [_run_check(check, checks) for check in checks.values()]


def summary(verdicts: list[Verdict]) -> str:
    """Return the closing line: ``4 passed, 0 failed, 26 not covered``."""
    count = {s: sum(v.status == s for v in verdicts) for s in (PASSED, FAILED, NOT_COVERED)}
    return f"{count[PASSED]} passed, {count[FAILED]} failed, {count[NOT_COVERED]} not covered"


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such vector file.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}.") from None
    if not isinstance(document, dict) or not document.keys() & _FIELDS.keys():
        raise ConfigError(f"{path}: has no list 'vectors' and no list 'checks' of cases.")
    for lists, fields in _FIELDS.items():
        cases = document.get(lists, [])
        if not isinstance(cases, list):
            raise ConfigError(f"{path}: {lists}: must be a list of cases.")
        for position, case in enumerate(cases):
            _check_fields(f"{path}: {lists}.{position}", case, fields)
    if not isinstance(document.get("param_sets", {}), dict):
        raise ConfigError(f"{path}: param_sets: must be a mapping of parameters by name.")
    return document


def _check_fields(place: str, case: Any, fields: Mapping[str, Any]) -> None:
    for name, kind in fields.items():
        if not isinstance(case, dict) or name not in case:
            raise ConfigError(f"{place}: {name!r} is missing.")
        if not isinstance(case[name], kind) or isinstance(case[name], bool):
            raise ConfigError(f"{place}: {name}: must be {_KINDS.get(kind, 'a number')}.")
    if not case["expected"]:
        raise ConfigError(f"{place}: expected: holds no number to compare with.")


def _run_vector(vector: Case, sets: Mapping[str, Any], path: Path) -> Verdict:
    named = {name: vector[name] for name in ("id", "system", "engine")}
    inputs = vector["inputs"]
    if "params_ref" in vector:
        if vector["params_ref"] not in sets:
            raise ConfigError(
                f"{path}: {vector['id']}: params_ref: {vector['params_ref']!r} is none of "
                f"param_sets: {', '.join(sets) or 'there are none'}."
            )
        inputs = {**inputs, "params": sets[vector["params_ref"]]}
    tolerance = float(vector["tolerance_rel"])
    try:
        found = answer(MARGIN, vector["system"], vector["engine"], inputs)
        return _judge(named, found, vector["expected"], lambda x: x.relative_error <= tolerance)
    except NotCoveredError as reason:
        return _not_covered(named, reason)


def _run_check(check: Case, checks: Mapping[str, Case]) -> Verdict:
    named = {"id": check["id"], "system": check["area"], "engine": str(check.get("kind", ""))}
    try:
        inputs = _with_reference(check["inputs"], checks)
        wanted = frozenset(check["expected"])
        if (check["area"], "") in RISK and not inputs:
            raise NotCoveredError("a recorded fact without inputs: there is nothing to compute")
        found = answer(RISK, check["area"], "", inputs, wanted)
        return _judge(named, found, check["expected"], _tolerated(check["tolerance"]))
    except NotCoveredError as reason:
        return _not_covered(named, reason)


def _with_reference(inputs: Case, checks: Mapping[str, Case]) -> Case:
    """Put the inputs of the check named by ``see`` under a check's own."""
    if "see" not in inputs:
        return inputs
    other = checks.get(str(inputs["see"]))
    if other is None or "see" in other["inputs"]:
        raise NotCoveredError(f"see: this file has no inputs of {inputs['see']!r}")
    return {**other["inputs"], **{k: v for k, v in inputs.items() if k != "see"}}


def _tolerated(tolerance: Case) -> Judge:
    if tolerance.get("exact"):
        return lambda leaf: bool(leaf.answered == leaf.wanted)
    limits = {name: tolerance[name] for name in ("abs", "rel") if name in tolerance}
    if not limits or not all(isinstance(limit, (int, float)) for limit in limits.values()):
        raise NotCoveredError("tolerance: gives neither 'abs' nor 'rel' nor 'exact'")

    def judge(leaf: Leaf) -> bool:
        if leaf.relative_error in (0.0, math.inf):
            return leaf.relative_error == 0.0
        if "rel" in limits and leaf.relative_error <= limits["rel"]:
            return True
        return "abs" in limits and abs(leaf.answered - leaf.wanted) <= limits["abs"]

    return judge


def _judge(named: dict[str, str], found: Case, expected: Case, accepts: Judge) -> Verdict:
    lacking = [key for key in expected if key not in found]
    if lacking:
        raise NotCoveredError(f"no model for {', '.join(lacking)}")
    scale = max((abs(w) for w in _numbers(expected)), default=0.0) or 1.0
    leaves = [leaf for key in expected for leaf in _leaves(key, found[key], expected[key], scale)]
    refused = [leaf for leaf in leaves if not accepts(leaf)]
    worst = max(refused or leaves, key=lambda leaf: leaf.relative_error)
    return Verdict(
        **named,
        status=FAILED if refused else PASSED,
        relative_error=max(leaf.relative_error for leaf in leaves),
        detail=f"{worst.name}: {worst.answered!r} for {worst.wanted!r}",
    )


def _leaves(name: str, answered: Any, wanted: Any, scale: float) -> Iterator[Leaf]:
    """Walk two answers side by side; where their forms differ, the error is infinite."""
    if isinstance(wanted, dict) and isinstance(answered, dict) and wanted.keys() == answered.keys():
        for key in wanted:
            yield from _leaves(f"{name}.{key}", answered[key], wanted[key], scale)
    elif isinstance(wanted, list) and isinstance(answered, list) and len(wanted) == len(answered):
        for place, (a, w) in enumerate(zip(answered, wanted, strict=True)):
            yield from _leaves(f"{name}.{place}", a, w, scale)
        if not wanted:
            yield Leaf(name, answered, wanted, 0.0)
    else:
        yield Leaf(name, answered, wanted, _relative_error(answered, wanted, scale))


def _relative_error(answered: Any, wanted: Any, scale: float) -> float:
    """Return the error relative to the published number, or to the case's largest if it is 0."""
    if not (_is_number(answered) and _is_number(wanted)):
        alike = type(answered) is type(wanted) and answered == wanted
        return 0.0 if alike else math.inf
    difference = abs(answered - wanted)
    if not math.isfinite(difference):
        return math.inf
    return float(difference / (abs(wanted) or scale))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(value: Any) -> Iterator[float]:
    if _is_number(value):
        yield float(value)
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)


def _not_covered(named: dict[str, str], reason: NotCoveredError) -> Verdict:
    return Verdict(**named, status=NOT_COVERED, relative_error=math.nan, detail=str(reason))
