"""Knobs: the numbers of a policy that can be set, searched and explained.

A knob knows its bounds, its unit and what it does, so that one declaration serves the config
reader, the search space, the documentation and the message about a slipped decimal point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, Field

from backtest.errors import nearest
from backtest.units import duration_text, parse_duration_ms, parse_fraction

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

TIME = "time"
"""Unit of a knob that holds milliseconds and is written as a duration."""


def parse_quantity(value: Any) -> float:
    """Read a plain number, a percentage, basis points or a duration (as milliseconds)."""
    try:
        return parse_fraction(value)
    except ValueError:
        pass
    try:
        return float(parse_duration_ms(value))
    except ValueError:
        raise ValueError(
            f"{value!r} is not a number, a percentage, basis points or a duration"
        ) from None


Knob = Annotated[float, BeforeValidator(parse_quantity)]
"""A number of a policy that can be set and searched."""


def knob(
    default: float | str,
    *,
    low: float | str,
    high: float | str,
    unit: str,
    doc: str = "",
    log: bool = False,
) -> Any:
    """Declare a searchable number of a policy.

    Parameters
    ----------
    default, low, high
        Value and inclusive bounds, as people write them: ``3.0``, ``"1%"``, ``"10min"``.
    unit
        What the number counts, for messages and documentation; ``"time"`` for durations.
    doc
        One line on what the number does.
    log
        Whether a search should treat ratios alike (``True``) or differences.
    """
    return Field(
        parse_quantity(default),
        ge=parse_quantity(low),
        le=parse_quantity(high),
        allow_inf_nan=False,
        description=doc,
        validate_default=True,
        json_schema_extra={"unit": unit, "log": log},
    )


def unit_of(info: FieldInfo) -> str:
    """Return the unit that a knob was declared with, or an empty text."""
    extra = info.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def bounds_of(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the inclusive bounds of a field, ``None`` where it has none."""
    low = next((float(m.ge) for m in info.metadata if hasattr(m, "ge")), None)
    high = next((float(m.le) for m in info.metadata if hasattr(m, "le")), None)
    return low, high


def is_share(unit: str) -> bool:
    """Tell whether a unit counts parts of something, which people write as percent."""
    return unit.startswith("of ") or unit == "relative"


def quantity_text(value: float, unit: str) -> str:
    """Write a number as people would: ``4.0 sigmas``, ``1%``, ``3d``."""
    if unit == TIME:
        return duration_text(round(value))
    if is_share(unit):
        return f"{value * 100:.6g}%"
    number = f"{value:.6g}" if value % 1 else f"{value:,.0f}"
    return f"{number} {unit}".strip()


def first_mistake(error: ValidationError, where: str, model: type[BaseModel], spec: Any) -> str:
    """Put the first complaint about a policy into one sentence.

    Parameters
    ----------
    error
        What pydantic raised.
    where
        Path of the policy in its config, for example ``candidate``.
    model
        The policy's class.
    spec
        What was read, to name the path as it was written.

    Returns
    -------
    str
        For example ``candidate.multiplier: 40 is above the highest allowed value, 12 sigmas.
        Did you mean 4.0?``
    """
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][-1]) if first["loc"] else ""
    path, owner, value = _walk(model, spec, first["loc"])
    place = ".".join([where, *path] if where else path)
    kind = first["type"]
    fields = owner.model_fields if owner else {}
    info = fields.get(name)
    if kind == "extra_forbidden":
        return f"{place}: there is no such knob.{nearest(name, fields)}"
    if kind == "missing":
        return f"{place}: is missing."
    if kind == "literal_error":
        return f"{place}: {value!r} is not a choice; write {first['ctx']['expected']}."
    if kind in ("less_than_equal", "greater_than_equal") and info is not None:
        edge = "above the highest" if kind == "less_than_equal" else "below the lowest"
        bound = float(first["ctx"]["le" if kind == "less_than_equal" else "ge"])
        allowed = quantity_text(bound, unit_of(info))
        guess = _guess(float(first["input"]), info, "%" in str(value))
        return f"{place}: {value} is {edge} allowed value, {allowed}.{guess}"
    reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    reason += "" if reason.endswith("?") else "."
    told = isinstance(value, dict | list | tuple) or str(value) in reason
    return f"{place}: {reason}" if told else f"{place}: {value!r}: {reason}"


def _walk(
    model: type[BaseModel], spec: Any, loc: tuple[int | str, ...]
) -> tuple[list[str], type[BaseModel] | None, Any]:
    """Follow an error's place through nested choices, whose names pydantic leaves out.

    Returns the path as it was written, the model that holds its last part, and what was
    written there.
    """
    path: list[str] = []
    owner: type[BaseModel] | None = model
    inside: Any = None
    for part in loc:
        options = _models_in(inside)
        if options and isinstance(part, str):
            owner = next((c for c in options if part in c.model_fields), options[0])
            if not isinstance(spec, dict):
                continue  # a short form such as 'price_range: 16%'
            if part not in spec and len(spec) == 1:
                name = next(iter(spec))
                owner = next((c for c in options if getattr(c, "name", "") == name), owner)
                path.append(str(name))
                spec = spec[name]
        path.append(str(part))
        if isinstance(spec, dict | list | tuple):
            try:
                spec = spec[part]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                spec = None
        if isinstance(part, str):
            info = owner.model_fields.get(part) if owner else None
            inside = info.annotation if info else None
    return path, owner, spec


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """List the models that a field's annotation admits, the heirs of abstract ones included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation, *annotation.__subclasses__()]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _guess(number: float, info: FieldInfo, had_percent: bool) -> str:
    """Guess a slipped decimal point or a forgotten percent sign; else name the bound."""
    low, high = bounds_of(info)
    if low is None or high is None:
        return ""
    unit = unit_of(info)
    if unit == TIME:
        return f" Did you mean {duration_text(round(low if number < low else high))}?"
    percent = is_share(unit)
    for scale in (100.0, 10.0) if percent and not had_percent else (10.0, 100.0):
        for guess in (number / scale, number * scale):
            if number and low <= guess <= high:
                text = quantity_text(guess, unit) if percent else f"{guess:.6g}"
                return f" Did you mean {text if percent or guess % 1 else f'{guess:.1f}'}?"
    return f" Did you mean {quantity_text(low if number < low else high, unit)}?"
