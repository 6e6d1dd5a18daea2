"""How a published case finds the law that answers it.

An adapter states the inputs that it understands as a model; a case with other fields, missing
ones or values of another kind is not answered by it. It then hands the numbers to the laws of
`backtest.kernels.laws`, the kernels and formulas of `strategies`: it holds a venue's layout
and constants but no formula, or it would only test itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Answers = dict[str, Any]
    Adapter = Callable[..., Answers]

Number = FiniteFloat
"""A number of a case; NaN and infinity are no inputs."""
Tiers = list[tuple[Number, Number]]
"""``(lower bound, rate)`` of each bracket, ascending."""


class NotCoveredError(Exception):
    """The project has no model for a case; the text says what is missing."""


class Inputs(BaseModel):
    """Fields of one shape of inputs; others are refused, and no text stands for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Found = TypeVar("Found", bound="Adapter")
Registry = dict[tuple[str, str], list[tuple[type[Inputs], "Adapter"]]]
MARGIN: Registry = {}
"""Adapters of margin vectors by (system, engine)."""
RISK: Registry = {}
"""Adapters of risk checks by (area, ""); they also take the names that are asked for."""


def answers(
    registry: Registry, shape: type[Inputs], name: str, *engines: str
) -> Callable[[Found], Found]:
    """Register the decorated function for inputs of one shape."""

    def register(function: Found) -> Found:
        for engine in engines or ("",):
            registry.setdefault((name, engine), []).append((shape, function))
        return function

    return register


def answer(registry: Registry, name: str, engine: str, inputs: Any, *context: Any) -> Answers:
    """Answer one case.

    Parameters
    ----------
    registry
        `MARGIN` or `RISK`.
    name, engine
        Under which its adapters stand.
    inputs
        As the file has them.
    *context
        What the registry's adapters take beside them.

    Returns
    -------
    dict
        Numbers, truth values, lists or mappings of them by their published names.

    Raises
    ------
    NotCoveredError
        If nothing answers this rule, or nothing answers inputs of this shape (the text names
        the first field in which they differ from the nearest), or a law has no answer to them.
    """
    adapters = registry.get((name, engine))
    if adapters is None:
        raise NotCoveredError(f"no model of {engine + ' at ' if engine else ''}{name}")
    # Read as JSON, where a strict model still takes a list for a pair and 1 for 1.0.
    text = json.dumps(inputs)
    reasons: list[tuple[int, str]] = []
    for shape, function in adapters:
        try:
            given = shape.model_validate_json(text)
        except ValidationError as error:
            reasons.append((error.error_count(), _first_reason(error.errors())))
            continue
        try:
            return function(given, *context)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise NotCoveredError(f"the law has no answer to these inputs: {error}") from None
    raise NotCoveredError(f"no model for inputs of this shape: {min(reasons)[1]}")


def _first_reason(errors: Iterable[Any]) -> str:
    first = next(iter(errors))
    place = ".".join(str(part) for part in first["loc"]) or "inputs"
    return f"{place}: {str(first['msg']).lower()}"
