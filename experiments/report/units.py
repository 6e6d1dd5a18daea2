"""The unit of each setting, read off the models that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from backtest.errors import RemarginError
from backtest.units import parse_duration_ms, parse_fraction, parse_usd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

_PARSERS = {parse_duration_ms: "time", parse_fraction: "share", parse_usd: "USD"}


def model_units(model: BaseModel, prefix: str = "") -> dict[str, str]:
    """Return the unit of every setting of a config, by dotted path as it is written back.

    A nested config that is chosen by name, such as an update rule, adds its name to the path.
    """
    units: dict[str, str] = {}
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            chosen = getattr(value, "name", None)
            inner = f"{name}.{chosen}." if isinstance(chosen, str) else f"{name}."
            units |= model_units(value, prefix + inner)
        elif unit := _unit(info):
            units[f"{prefix}{name}"] = unit
    return units


def policy_units(identity: Mapping[str, Any]) -> dict[str, str]:
    """Return the units of a policy's settings; none for a policy that is not at hand."""
    from strategies.registry import load_policy

    spec = {key: value for key, value in identity.items() if key != "version"}
    try:
        return model_units(load_policy(spec))
    except RemarginError:
        return {}


def _unit(info: FieldInfo) -> str:
    for mark in info.metadata:
        if (unit := _PARSERS.get(getattr(mark, "func", None))) is not None:  # type: ignore[arg-type]
            return unit
    extra = info.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""
