"""A small made-up landscape: margin buys safety with capital."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.goal import make_goal
from optimize.space import find_dimensions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optimize.space import Value

RAW = {
    "policy": "made-up",
    "multiplier": {"search": [2.0, 8.0], "step": 0.25},
    "floor": {"search": ["1%", "5%"]},
    "estimator": {"ewma": {"halflife": {"search": ["1d", "14d"], "log": True}}},
}
DIMENSIONS = find_dimensions(RAW, "candidate")
GOAL = make_goal(
    ["capital_efficiency", "residual_bad_debt_bps"], None, {"coverage": ">= 99%"}, "constraints"
)


def metrics(values: Mapping[str, Value] | None) -> dict[str, float]:
    """Return the metrics of a point; None is an incumbent outside the space."""
    if values is None:
        return {"capital_efficiency": 5.0, "residual_bad_debt_bps": 1.0, "coverage": 0.995}
    multiplier = float(values["candidate.multiplier"])
    floor = float(values["candidate.floor"])
    days = float(values["candidate.estimator.ewma.halflife"]) / 86_400_000
    return {
        "capital_efficiency": 30 / (multiplier + 100 * floor),
        "residual_bad_debt_bps": max(0.0, 5 - multiplier) + abs(days - 4) / 10,
        "coverage": min(1.0, 0.98 + multiplier / 300),
    }
