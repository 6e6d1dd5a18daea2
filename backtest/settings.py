"""What a config's field says of itself: its unit, its bounds, the models that it admits.

Mistakes, documentation, search space and report all read a setting's unit here, so that one
declaration serves them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from backtest.units import duration_text, parse_duration_ms, parse_fraction, parse_usd

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

TIME = "time"
"""Unit of a setting that holds milliseconds and is written as a duration."""
SHARE = "share"
"""Unit of a plain fraction of one, which people write as percent."""
_PARSED = {parse_duration_ms: TIME, parse_fraction: SHARE, parse_usd: "USD"}


def unit_of(info: FieldInfo) -> str:
    """Return the unit that a field declares or that its type implies, else an empty text."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and "unit" in extra:
        return str(extra["unit"])
    marks = list(info.metadata)
    for part in get_args(info.annotation):  # such as the first half of ``DurationMs | None``
        marks += getattr(part, "__metadata__", ())
    parsers = (getattr(mark, "func", None) for mark in marks)
    return next((_PARSED[parser] for parser in parsers if parser in _PARSED), "")


def bounds_of(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the inclusive bounds of a field, ``None`` where it has none."""
    low = next((float(m.ge) for m in info.metadata if hasattr(m, "ge")), None)
    high = next((float(m.le) for m in info.metadata if hasattr(m, "le")), None)
    return low, high


def is_share(unit: str) -> bool:
    """Tell whether a unit counts parts of something, which people write as percent."""
    return unit.startswith("of ") or unit in (SHARE, "relative")


def quantity_text(value: float, unit: str) -> str:
    """Write a number as people would: ``4.0 sigmas``, ``1%``, ``3d``."""
    if unit == TIME:
        return duration_text(round(value))
    if is_share(unit):
        return f"{value * 100:.6g}%"
    if unit == "USD" and abs(value) >= 1e6:
        scale, letter = (1e9, "bn") if abs(value) >= 1e9 else (1e6, "M")
        return f"{value / scale:.6g}{letter} USD"
    number = f"{value:.6g}" if value % 1 else f"{value:,.0f}"
    return f"{number} {unit}".strip()


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """List the models that a field's annotation admits, the heirs of abstract ones included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation, *annotation.__subclasses__()]
    return [model for part in get_args(annotation) for model in models_in(part)]
