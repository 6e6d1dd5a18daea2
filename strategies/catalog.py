"""What there is to choose from: every policy and preset with what it is, reads and rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest.errors import RemarginError
from strategies.plugins import offered, package_of
from strategies.registry import about, describe, load_policy, names

if TYPE_CHECKING:
    from strategies.contract import MarginPolicy

_WORN = ("update", "addons")
"""Every policy wears these; their numbers are not the policy's own."""


@dataclass(frozen=True)
class Entry:
    """One policy or preset.

    Parameters
    ----------
    name
        As configs write it.
    summary
        One line on what it does, or why it cannot be loaded.
    generation
        Which kind of margin model it is; empty if it cannot be loaded.
    needs
        What it reads of market, venue and account.
    parameters
        How many numbers it consists of, those of its tables included.
    source
        Where rule or numbers come from.
    """

    name: str
    summary: str
    generation: str
    needs: tuple[str, ...]
    parameters: int
    source: str


def catalog() -> list[Entry]:
    """List every policy and preset; one that cannot be loaded says why, and hides no other."""
    return [_entry(name) for name in names()]


def _entry(name: str) -> Entry:
    point = offered().get(name)
    try:
        policy = load_policy(name)
    except RemarginError as error:
        return Entry(name, str(error), "", (), 0, package_of(point) if point else "")
    layers = (policy, *policy.parts(), *policy.addons)
    told = about(name)
    source = str(told.get("source", "")) or policy.source
    if told.get("read"):
        source += f", read {told['read']}"
    if policy.origin is not None and point is not None:
        source = package_of(point)
    return Entry(
        name=name,
        summary=describe(name),
        generation=policy.generation,
        needs=tuple(dict.fromkeys(need for layer in layers for need in layer.needs)),
        parameters=count_numbers(policy),
        source=source,
    )


def count_numbers(policy: MarginPolicy) -> int:
    """Count the numbers that make a policy what it is, tables and chosen parts included."""
    dumped = policy.model_dump(mode="python", serialize_as_any=True, exclude=set(_WORN))
    return _count(dumped)


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_count(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return sum(_count(inner) for inner in value)
    return int(isinstance(value, int | float) and not isinstance(value, bool))
