"""The numbers of a policy, wherever they stand in it, and the same policy with one changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from backtest.settings import bounds_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from strategies.contract import MarginPolicy

Path = tuple[str, ...]
POINTS = 3
"""Values that are tried of a knob between each of its bounds and where it stands."""


def numbers_of(model: BaseModel, path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Yield path and field of every number, those of parts, add-ons and tables too."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, float):
            yield (*path, name), info
        elif isinstance(value, BaseModel):
            yield from numbers_of(value, (*path, name))
        elif isinstance(value, dict | tuple):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in items:
                if isinstance(part, BaseModel):
                    yield from numbers_of(part, (*path, name, str(key)))


def stress_of(info: FieldInfo) -> str:
    """Return what a knob promises of more of it; empty where it promises nothing."""
    extra = info.json_schema_extra
    return str(extra.get("stress", "")) if isinstance(extra, dict) else ""


def value_at(model: Any, path: Path) -> float:
    """Return the number at a path."""
    for step in path:
        model = _part(model, step)
    return float(model)


def with_value(policy: MarginPolicy, path: Path, value: float) -> MarginPolicy:
    """Return a policy with one number changed, read again so that its own rules are asked.

    Raises
    ------
    pydantic.ValidationError
        If the policy refuses the number.
    """
    changed = _changed(policy, path, value)
    return type(policy).model_validate(changed.model_dump(serialize_as_any=True))


def ladder(info: FieldInfo, value: float) -> list[float]:
    """List values from the lowest that a knob allows to the highest, its own among them."""
    low, high = bounds_of(info)
    if low is None or high is None:
        return [value]
    extra = info.json_schema_extra
    ratios = isinstance(extra, dict) and bool(extra.get("log")) and low > 0.0
    steps = [k / POINTS for k in range(POINTS + 1)]

    def between(start: float, end: float) -> list[float]:
        if ratios:
            return [start * (end / start) ** step for step in steps]
        return [start + (end - start) * step for step in steps]

    return sorted({min(max(x, low), high) for x in between(low, value) + between(value, high)})


def _part(model: Any, step: str) -> Any:
    if isinstance(model, tuple):
        return model[int(step)]
    return model[step] if isinstance(model, dict) else getattr(model, step)


def _changed(model: Any, path: Path, value: float) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    inner = _changed(_part(model, step), rest, value)
    if isinstance(model, tuple):
        return (*model[: int(step)], inner, *model[int(step) + 1 :])
    if isinstance(model, dict):
        return {**model, step: inner}
    return model.model_copy(update={step: inner})
