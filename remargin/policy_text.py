"""A policy in one line: its name, what differs from its defaults, and its update rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backtest.settings import quantity_text, unit_of
from strategies.choice import Choice

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from strategies.contract import MarginPolicy

_WORN = ("update", "addons")
"""What every policy wears; it is said behind the policy's own settings."""


def policy_line(policy: MarginPolicy, width: int = 88) -> str:
    """Say which policy it is: ``volatility (ewma 3d, multiplier 4 sigmas) · keeper 5%``.

    Parameters
    ----------
    policy
        Any policy, also of a user's own file.
    width
        Longest line; settings that do not fit give way to an ellipsis, the last ones first.
    """
    name = f"preset:{policy.preset}" if policy.preset else str(policy.identity()["policy"])
    worn = [f"with {addon.name}" for addon in policy.addons]
    if _differs(policy, "update"):
        worn.append(_choice_text(policy.update, leading_only=True))
    tail = "".join(f" · {text}" for text in worn)
    parts = _settings(policy)
    shown = len(parts)
    while True:
        told = [*parts[:shown], *(["…"] if shown < len(parts) else [])]
        line = f"{name} ({', '.join(told)}){tail}" if told else name + tail
        if len(line) <= width or not shown:
            return line
        shown -= 1


def _settings(policy: MarginPolicy) -> list[str]:
    """List parts that are chosen by name, then what differs; a policy's own before shared ones.

    The number that a policy leads with, such as a fixed rate, is said also where it is the
    default.
    """
    fields = [name for name in type(policy).model_fields if name not in _WORN]
    fields.sort(key=lambda name: name not in type(policy).__annotations__)
    first = next(
        (name for name in fields if isinstance(getattr(policy, name), int | float | Choice)), ""
    )
    choices = [
        _choice_text(value)
        for value in (getattr(policy, name) for name in fields)
        if isinstance(value, Choice)
    ]
    plain = [
        _setting_text(name, getattr(policy, name), type(policy).model_fields[name])
        for name in fields
        if not isinstance(getattr(policy, name), Choice)
        and (name == first or _differs(policy, name))
    ]
    return choices + plain


def _choice_text(choice: Choice, leading_only: bool = False) -> str:
    """Say a part's name and leading number, then what else differs and the parts within it."""
    told = [choice.name]
    fields = type(choice).model_fields
    leading = next((f for f in fields if isinstance(getattr(choice, f), int | float)), None)
    for field, info in fields.items():
        value = getattr(choice, field)
        if field == leading:
            told.append(quantity_text(value, unit_of(info)))
        elif isinstance(value, Choice):
            told.append(_choice_text(value, leading_only))
        elif not leading_only and _differs(choice, field):
            told.append(_setting_text(field, value, info))
    return " ".join(told)


def _setting_text(field: str, value: Any, info: FieldInfo) -> str:
    name = field.replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, int | float):
        return f"{name} {quantity_text(value, unit_of(info))}"
    if isinstance(value, dict):
        return f"{name} for {' '.join(map(str, value))}"
    if isinstance(value, list | tuple):
        return f"{len(value) or 'no'} {name.removesuffix('s') if len(value) == 1 else name}"
    return f"{name} {value}".replace("_", " ")


def _differs(model: BaseModel, field: str) -> bool:
    default = type(model).model_fields[field].get_default(call_default_factory=True)
    return bool(getattr(model, field) != default)
