"""One sentence for a config value that a model refuses: where, what, and the nearest right one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from backtest.errors import nearest
from backtest.units import parse_duration_ms
from strategies.knobs import TIME, quantity_text, unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

_BOUNDS = {
    "less_than_equal": ("le", "above the highest allowed value"),
    "less_than": ("lt", "too high; it must stay below"),
    "greater_than_equal": ("ge", "below the lowest allowed value"),
    "greater_than": ("gt", "too low; it must be above"),
}


def first_error(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    """Put the first complaint of a validation into one sentence.

    Parameters
    ----------
    error
        What pydantic raised.
    where
        Path of the validated value in its config, empty for the config itself.
    model
        The model that refused it; units and valid keys are read off its fields.
    """
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    path = ".".join(part for part in (where, *location) if part)
    kind, value = first["type"], first["input"]
    if kind == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        known = _keys(owner) if owner else []
        return f"{path}: there is no such key.{nearest(location[-1], known)}"
    if kind == "missing":
        return f"{path}: is missing."
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = first["ctx"][key]
        info = _field_at(model, location)
        return f"{path}: {value} is {words}, {_with_unit(bound, info)}.{_shifted(value, info)}"
    if kind == "literal_error":
        choices = [part.strip("'") for part in _literals(_field_at(model, location))]
        return f"{path}: {value!r} is not a choice.{nearest(str(value), choices)}"
    reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    if str(value) in reason or not isinstance(value, str | int | float):
        return f"{path}: {reason}." if path else f"{reason}."
    return f"{path}: {value!r} is refused: {reason[0].lower()}{reason[1:]}."


def is_time(info: FieldInfo | None) -> bool:
    """Tell whether a field holds a duration in milliseconds."""
    return info is not None and any(
        getattr(m, "func", None) is parse_duration_ms for m in info.metadata
    )


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _field_at(model: type[BaseModel], location: Sequence[str]) -> FieldInfo | None:
    owner = _model_at(model, location[:-1])
    if owner is None:
        return None
    for name, info in owner.model_fields.items():
        if location[-1] in (name, info.alias):
            return info
    return None


def _model_at(model: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for key in location:
        info = _field_at(current, [key]) if current else None
        current = _inner_model(info.annotation) if info else None
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_inner_model(part) for part in get_args(annotation))
    return next((model for model in found if model), None)


def _literals(info: FieldInfo | None) -> list[str]:
    return [str(choice) for choice in get_args(info.annotation)] if info else []


def _with_unit(bound: float, info: FieldInfo | None) -> str:
    unit = TIME if is_time(info) else unit_of(info) if info else ""
    return quantity_text(float(bound), unit)


def _shifted(value: Any, info: FieldInfo | None) -> str:
    """Guess a slipped decimal point or a forgotten percent sign."""
    if info is None or is_time(info) or isinstance(value, bool):
        return ""
    if not isinstance(value, int | float):
        return ""
    low = max((m.ge for m in info.metadata if hasattr(m, "ge")), default=float("-inf"))
    low = max([low, *(m.gt for m in info.metadata if hasattr(m, "gt"))])
    high = min((m.le for m in info.metadata if hasattr(m, "le")), default=float("inf"))
    for scale in (10.0, 100.0, 0.1, 0.01):
        guess = value / scale
        if value and low <= guess <= high:
            return f" Did you mean {guess:.6g}?" if guess % 1 else f" Did you mean {guess:.1f}?"
    return ""
