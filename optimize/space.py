"""The search space: which numbers of a config are searched, and between what bounds.

A config marks a number as searched where the number itself would stand::

    multiplier: {search: [2.0, 8.0], step: 0.25}
    halflife:   {search: [1d, 14d], log: true}
    floor:      {search: true}                     # the knob's own bounds
    mode:       {choices: [full, to_target]}

so a config with values put in for its leaves is an ordinary config again.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from backtest.errors import ConfigError, nearest
from backtest.settings import TIME, bounds_of, models_in, quantity_text, unit_of
from backtest.units import (
    MS_PER_DAY,
    MS_PER_HOUR,
    parse_duration_ms,
    parse_fraction,
    parse_usd,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from pydantic.fields import FieldInfo

Value = float | int | str
"""What a search puts into a config for one leaf."""

_RANGE_KEYS = ("search", "log", "step", "start")
_CHOICE_KEYS = ("choices", "start")
_TIME_UNITS_MS = (MS_PER_DAY, MS_PER_HOUR, 60_000, 1_000)
_MONEY = re.compile(r".*\d\s*(k|M|bn|b)?\s*(USD)?\s*", re.ASCII)


@dataclass(frozen=True)
class Dimension:
    """One searched number.

    Parameters
    ----------
    path
        Where it stands in the config, for example ``candidate.multiplier``.
    low, high
        Inclusive bounds; durations in milliseconds.
    log
        Whether ratios are searched alike, rather than differences.
    step
        Grid of the search, counted from ``low``; zero for none.
    unit
        What the number counts; ``"time"`` for durations.
    choices
        The values themselves where there is no range.
    start
        The first value tried, and the one that a plain replay uses.
    """

    path: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0
    unit: str = ""
    choices: tuple[Value, ...] = ()
    start: Value = 0.0

    def distribution(self) -> BaseDistribution:
        """Return the dimension as Optuna samples it."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.unit == TIME:
            low, high = round(self.low), round(self.high)
            return IntDistribution(low, high, log=self.log, step=round(self.step) or 1)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step or None)

    def rounded(self, value: Value) -> Value:
        """Return the nearest value that people would vote on.

        Three significant digits; durations in whole days, hours, minutes or seconds, at least
        ten of them; on a grid, the grid. Never outside the bounds.
        """
        if self.choices:
            return value
        number = float(value)
        if self.unit == TIME:
            if not self.step:
                unit = next((u for u in _TIME_UNITS_MS if abs(number) >= 10 * u), 1)
                number = unit * round(number / unit)
            return round(min(max(number, self.low), self.high))
        # A grid of 0.005 gives 0.034999999999999996; twelve digits give what was meant.
        number = float(f"{number:.12g}" if self.step else f"{number:.3g}")
        return min(max(number, self.low), self.high)

    def written(self, value: Value) -> Value:
        """Return a value as a config may hold it: durations carry their unit."""
        return f"{value}ms" if self.unit == TIME and not self.choices else value

    def read(self, written: Any) -> Value:
        """Read a value out of a config, in the unit of the search.

        Raises
        ------
        ConfigError
            If it is not a number with a unit that a config may hold.
        """
        if self.choices:
            return written if isinstance(written, str | int | float) else str(written)
        number, _ = _number(written, self.path)
        return round(number) if self.unit == TIME else number

    def contains(self, value: Value) -> bool:
        """Tell whether a value lies in the space (the grid is not looked at)."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def text(self, value: Value) -> str:
        """Format a value for people, with its unit."""
        if self.choices:
            return str(value)
        return quantity_text(float(value), self.unit)


def find_dimensions(
    raw: Any, where: str, model: type[BaseModel] | None = None
) -> tuple[Dimension, ...]:
    """Collect the searched leaves of a raw config, by path.

    Two configs that differ only in the order of their keys make the same search.

    Parameters
    ----------
    raw
        Plain YAML: dicts, lists and scalars.
    where
        Path of ``raw`` in the config file, the first part of each dimension's path.
    model
        What ``raw`` configures; ``search: true`` takes bounds and unit from its fields.

    Raises
    ------
    ConfigError
        If a leaf is malformed, has no bounds, or bounds that are not below each other.
    """
    return tuple(
        _dimension(leaf, path, _field(model, path.split(".")[1:]))
        for path, leaf in sorted(_leaves(raw, where), key=itemgetter(0))
    )


def fill(raw: Any, values: Mapping[str, Value], dimensions: Sequence[Dimension], where: str) -> Any:
    """Return a raw config with a value in the place of each searched leaf.

    Parameters
    ----------
    raw, where
        As in `find_dimensions`.
    values
        By dimension path; a path that is absent takes its dimension's start value.
    dimensions
        The whole space; only paths under ``where`` are used.
    """
    by_path = {dimension.path: dimension for dimension in dimensions}

    def walk(node: Any, path: str) -> Any:
        if path in by_path:
            dimension = by_path[path]
            return dimension.written(values.get(path, dimension.start))
        if isinstance(node, dict):
            return {key: walk(child, f"{path}.{key}") for key, child in node.items()}
        if isinstance(node, list | tuple):
            return [walk(child, f"{path}.{i}") for i, child in enumerate(node)]
        return node

    return walk(raw, where)


def corners(dimensions: Sequence[Dimension]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return the lowest and the highest point of a space.

    Where both make a valid policy, a bad bound is found before any replay.
    """
    return (
        {d.path: d.choices[0] if d.choices else d.low for d in dimensions},
        {d.path: d.choices[-1] if d.choices else d.high for d in dimensions},
    )


def searchable_knobs(model: type[BaseModel]) -> tuple[str, ...]:
    """Name the fields of a config that state both bounds, and so can be searched."""
    return tuple(name for name, info in model.model_fields.items() if None not in _bounds(info)[:2])


def _is_leaf(node: Any) -> bool:
    return isinstance(node, dict) and ("search" in node or "choices" in node)


def _leaves(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if _is_leaf(node):
        yield path, node
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for i, child in enumerate(node):
            yield from _leaves(child, f"{path}.{i}")


def _dimension(leaf: dict[str, Any], path: str, info: FieldInfo | None) -> Dimension:
    keys = _CHOICE_KEYS if "choices" in leaf else _RANGE_KEYS
    for key in leaf:
        if key not in keys:
            raise ConfigError(f"{path}: a searched number has no {key!r}.{nearest(key, keys)}")
    if "choices" in leaf:
        return _choice(leaf, path)
    low, high, log, unit = _bounds(info) if info else (None, None, False, "")
    if leaf["search"] is not True:
        low, high, written_unit = _written_bounds(leaf["search"], path)
        unit = written_unit or unit
    if low is None or high is None:
        raise ConfigError(
            f"{path}: 'search: true' needs a number with bounds of its own; "
            "write search: [lowest, highest]."
        )
    if not low < high:
        raise ConfigError(f"{path}: the lowest value searched, {low:g}, must be below {high:g}.")
    log = bool(leaf.get("log", log and "step" not in leaf))
    step = _number(leaf["step"], path)[0] if "step" in leaf else 0.0
    if log and low <= 0:
        raise ConfigError(f"{path}: a search on a log scale must start above 0, not at {low:g}.")
    if log and step:
        raise ConfigError(f"{path}: give either log or step; a log scale has no even steps.")
    if step < 0 or step > high - low:
        raise ConfigError(f"{path}: step {step:g} does not fit between {low:g} and {high:g}.")
    if step:
        high = low + step * math.floor((high - low) / step + 1e-9)
    if "start" in leaf:
        start = _number(leaf["start"], path)[0]
    elif leaf["search"] is True and info is not None and isinstance(info.default, int | float):
        start = float(info.default)
    else:
        start = _middle(low, high, log)
        start = low + step * round((start - low) / step) if step else start
    if not low <= start <= high:
        raise ConfigError(f"{path}: start {start:g} lies outside {low:g} to {high:g}.")
    dimension = Dimension(path, low, high, log, step, unit)
    return replace(dimension, start=dimension.rounded(start))


def _choice(leaf: dict[str, Any], path: str) -> Dimension:
    choices = leaf["choices"]
    if not isinstance(choices, list | tuple) or len(choices) < 2:
        raise ConfigError(f"{path}: choices must list at least two values.")
    for choice in choices:
        if not isinstance(choice, str | int | float):
            raise ConfigError(f"{path}: choice {choice!r} is neither a number nor a word.")
    start: Value = leaf["start"] if "start" in leaf else choices[0]
    if start not in choices:
        raise ConfigError(f"{path}: start {start!r} is not one of the choices.")
    return Dimension(path, choices=tuple(choices), start=start)


def _written_bounds(search: Any, path: str) -> tuple[float, float, str]:
    if not isinstance(search, list | tuple) or len(search) != 2:
        raise ConfigError(
            f"{path}: search is {search!r}; write search: [lowest, highest] or search: true."
        )
    (low, low_unit), (high, high_unit) = (_number(bound, path) for bound in search)
    if low_unit != high_unit and 0 not in (low, high):
        raise ConfigError(f"{path}: search mixes a duration and a plain number, {search!r}.")
    return low, high, low_unit or high_unit


def _number(value: Any, path: str) -> tuple[float, str]:
    """Read a number as people write it; return it with ``"time"`` if it is a duration."""
    try:
        return parse_fraction(value), ""
    except ValueError:
        pass
    try:
        # 5M is money and 5m is five minutes.
        if _MONEY.fullmatch(str(value)):
            return parse_usd(value), ""
        return float(parse_duration_ms(value)), TIME
    except ValueError:
        raise ConfigError(
            f"{path}: {value!r} is not a number, a percentage, an amount or a duration."
        ) from None


def _middle(low: float, high: float, log: bool) -> float:
    return math.sqrt(low * high) if log else (low + high) / 2


def _field(model: type[BaseModel] | None, keys: list[str]) -> FieldInfo | None:
    """Find a field by its written path; None where the path leaves the models.

    A part that is one of several choices is written as ``{name: {...}}``, so its name is a
    step of the path that no field has.
    """
    info: FieldInfo | None = None
    inside = [model] if model else []
    for key in keys:
        named = [part for part in inside if getattr(part, "name", None) == key]
        if named:
            inside = named
            continue
        info = next((m.model_fields[key] for m in inside if key in m.model_fields), None)
        if info is None:
            return None
        inside = models_in(info.annotation)
    return info


def _bounds(info: FieldInfo) -> tuple[float | None, float | None, bool, str]:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return *bounds_of(info), bool(extra.get("log", False)), unit_of(info)
