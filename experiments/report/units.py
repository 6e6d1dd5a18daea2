"""The unit of each setting, read off the models that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from backtest.errors import RemarginError
from backtest.units import parse_duration_ms, parse_fraction, parse_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

_PARSERS = {parse_duration_ms: "time", parse_fraction: "share", parse_usd: "USD"}


def model_units(model: BaseModel, prefix: str = "") -> dict[str, str]:
    """Return the unit of every setting of a config, by dotted path as it is written back.

    A nested config that is chosen by name, such as an update rule, adds its name to the path.
    """
    units: dict[str, str] = {}
    for name, info in type(model).model_fields.items():
        value, path = getattr(model, name), f"{prefix}{name}"
        if unit := _unit(info):
            units[path] = unit
        elif isinstance(value, dict) and (unit := _unit_of_entries(info)):
            units |= {f"{path}.{key}": unit for key in value}
        else:
            units |= _inside(value, f"{path}.")
    return units


def _inside(value: Any, prefix: str) -> dict[str, str]:
    """Return the units of the configs in a value, tables and lists of them included."""
    if isinstance(value, BaseModel):
        chosen = getattr(value, "name", None)
        return model_units(value, f"{prefix}{chosen}." if isinstance(chosen, str) else prefix)
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, (list, tuple)):
        entries = enumerate(value, start=1)
    units: dict[str, str] = {}
    for key, entry in entries:
        units |= _inside(entry, f"{prefix}{key}.")
    return units


def policy_units(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return the units of a policy's settings; none for a policy that is not at hand."""
    from strategies.registry import load_policy

    spec = {key: value for key, value in identity.items() if key != "version"}
    try:
        return model_units(load_policy(spec))
    except RemarginError:
        return {}


def _unit_of_entries(info: FieldInfo) -> str:
    """Return the unit of a table's numbers, such as of ``dict[str, Fraction]``."""
    marks = (m for part in get_args(info.annotation) for m in getattr(part, "__metadata__", ()))
    parsers = (getattr(mark, "func", None) for mark in marks)
    return next((_PARSERS[parser] for parser in parsers if parser in _PARSERS), "")


def _unit(info: FieldInfo) -> str:
    for mark in info.metadata:
        if (unit := _PARSERS.get(getattr(mark, "func", None))) is not None:  # type: ignore[arg-type]
            return unit
    extra = info.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""
