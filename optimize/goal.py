"""What a search is after: objectives, and limits that a proposal has to keep."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest.errors import ConfigError, nearest
from backtest.metrics import METRICS
from backtest.units import parse_fraction, parse_usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Objective:
    """A metric that is driven as high, or as low, as it goes."""

    metric: str
    maximise: bool

    def better(self, a: float, b: float) -> bool:
        """Tell whether ``a`` is strictly better than ``b``."""
        return a > b if self.maximise else a < b


@dataclass(frozen=True)
class Limit:
    """A bound on a metric: ``coverage >= 0.99``."""

    metric: str
    at_least: bool
    bound: float

    def violation(self, value: float) -> float:
        """Return how far a value lies outside the bound; zero or less is kept."""
        return self.bound - value if self.at_least else value - self.bound

    def __str__(self) -> str:
        """Format as it is written in a config."""
        return f"{self.metric} {'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass(frozen=True)
class Goal:
    """The objectives, first one leading, and the limits."""

    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...] = ()

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """Return the objectives of one replay, in order."""
        return tuple(metrics[objective.metric] for objective in self.objectives)

    @property
    def judged(self) -> frozenset[str]:
        """Keys of all metrics that an objective or a limit reads."""
        wanted = [objective.metric for objective in self.objectives]
        return frozenset([*wanted, *(limit.metric for limit in self.limits)])

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return how far each limit is exceeded, by metric; zero or less is kept."""
        return {limit.metric: limit.violation(metrics[limit.metric]) for limit in self.limits}

    def is_defined(self, metrics: Mapping[str, float]) -> bool:
        """Tell whether a replay has a number for everything that is judged."""
        judged = (*self.values(metrics), *self.violations(metrics).values())
        return all(map(math.isfinite, judged))

    def dominates(self, a: Sequence[float], b: Sequence[float]) -> bool:
        """Tell whether ``a`` is nowhere worse than ``b`` and somewhere better."""
        pairs = list(zip(self.objectives, a, b, strict=True))
        return not any(o.better(y, x) for o, x, y in pairs) and any(
            o.better(x, y) for o, x, y in pairs
        )

    def front(self, points: Sequence[Sequence[float]]) -> list[int]:
        """Return the positions of the points that no other point dominates."""
        return [
            i for i, mine in enumerate(points) if not any(self.dominates(p, mine) for p in points)
        ]


def make_goal(
    objectives: Sequence[str], minimise: str | None, limits: Mapping[str, Any], where: str
) -> Goal:
    """Read objectives and limits as they are written in a config.

    Parameters
    ----------
    objectives
        Metric keys; each is driven in the direction in which it is better.
    minimise
        A single metric to minimise instead; then ``objectives`` must be empty.
    limits
        Texts such as ``">= 99%"`` by metric key.
    where
        Path of the limits in the config, for messages.

    Raises
    ------
    ConfigError
        If a metric is unknown, has no better direction, or a limit cannot be read.
    """
    if minimise is not None:
        _known(minimise, "minimise")
        chosen: tuple[Objective, ...] = (Objective(minimise, maximise=False),)
    else:
        chosen = tuple(_objective(key) for key in objectives)
    for key in sorted({o.metric for o in chosen}):
        if sum(o.metric == key for o in chosen) > 1:
            raise ConfigError(f"objectives: {key} stands there twice.")
    if not chosen:
        raise ConfigError("objectives: name at least one metric, or write minimise: METRIC.")
    return Goal(chosen, tuple(_limit(key, limits[key], where) for key in sorted(limits)))


def _known(key: str, where: str) -> None:
    if key not in METRICS:
        raise ConfigError(f"{where}: there is no metric {key!r}.{nearest(key, METRICS)}")


def _objective(key: str) -> Objective:
    _known(key, "objectives")
    better = METRICS[key].better
    if better == "neutral":
        raise ConfigError(
            f"objectives: {key} is neither good nor bad when it is high; "
            "limit it instead, or write minimise: METRIC."
        )
    return Objective(key, maximise=better == "higher")


def _limit(key: str, text: Any, where: str) -> Limit:
    _known(key, where)
    match = re.fullmatch(r"\s*(>=|<=)\s*(.+?)\s*", str(text))
    if not match:
        raise ConfigError(f"{where}.{key}: {text!r} is not a limit; write '>= 99%' or '<= 1'.")
    number = match[2]
    try:
        if key.endswith("_bps"):
            bound = float(re.sub(r"\s*bps?$", "", number))
        elif key.endswith("_usd"):
            bound = parse_usd(number)
        else:
            bound = parse_fraction(number)
    except ValueError:
        unit = METRICS[key].unit
        raise ConfigError(f"{where}.{key}: {number!r} is not a number of {unit}.") from None
    return Limit(key, match[1] == ">=", bound)
