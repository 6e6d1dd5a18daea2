"""Crises: scripted in kind, random in detail, the same for every asset up to its beta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.seeds import stream
from backtest.units import MS_PER_DAY, iso_utc
from data_ingest.simulator.parameters import STEP_MS
from data_ingest.simulator.processes import spread

if TYPE_CHECKING:
    from data_ingest.simulator.parameters import MarketParameters

CALM_AFTER = 0.6
"""Share of a crisis after which selling is over and the rebound begins."""


@dataclass(frozen=True)
class Crisis:
    """One scripted crisis: when it hit, for how long, and how hard.

    ``drop`` is the total log fall before the rebound, ``wave_steps`` the steps at which its
    selling waves begin and ``wave_weights`` their shares of it.
    """

    start_ms: int
    end_ms: int
    drop: float
    rebound: float
    variance_jump: float
    depth_factor: float
    wave_steps: tuple[int, ...]
    wave_weights: tuple[float, ...]

    def __str__(self) -> str:
        """Say in one line when the crisis was and how hard it hit."""
        return (
            f"{iso_utc(self.start_ms)} to {iso_utc(self.end_ms)}: "
            f"fall {1 - math.exp(-self.drop):.0%} in {len(self.wave_steps)} waves, "
            f"depth down to {self.depth_factor:.0%}"
        )


@dataclass(frozen=True)
class CrisisPath:
    """What the crises do to one asset: per step, except ``stress`` and ``thinning`` per point."""

    log_return: np.ndarray
    variance_jump: np.ndarray
    stress: np.ndarray
    thinning: np.ndarray


def draw_crises(parameters: MarketParameters) -> tuple[Crisis, ...]:
    """Draw one crisis in the middle of each equal part of the span."""
    rule = parameters.crises
    random = stream(parameters.seed, "crises")
    part_ms = (parameters.end - parameters.start) / max(1, rule.count)
    crises = []
    for number in range(rule.count):
        offset = (number + random.uniform(0.35, 0.6)) * part_ms
        first = int(offset // STEP_MS)
        # A short span keeps its crises apart: none is longer than a fifth of its part.
        length_ms = min(random.uniform(*rule.duration_days) * MS_PER_DAY, 0.2 * part_ms)
        steps = int(length_ms // STEP_MS)
        waves = int(random.integers(rule.waves[0], rule.waves[1] + 1))
        later = np.sort(random.integers(1, max(2, int(CALM_AFTER * steps)), waves - 1))
        crises.append(
            Crisis(
                start_ms=parameters.start + first * STEP_MS,
                end_ms=parameters.start + (first + steps) * STEP_MS,
                drop=random.uniform(*rule.drop),
                rebound=random.uniform(*rule.rebound),
                variance_jump=random.uniform(*rule.variance_jump),
                depth_factor=random.uniform(*rule.depth_factor),
                wave_steps=(first, *(first + later).tolist()),
                wave_weights=tuple(random.dirichlet(np.full(waves, 2.0)).tolist()),
            )
        )
    return tuple(crises)


def crisis_path(
    parameters: MarketParameters, crises: tuple[Crisis, ...], beta: float
) -> CrisisPath:
    """Lay the crises over the span for an asset that takes ``beta`` of each log fall."""
    steps = parameters.steps
    falls, rebounds, variance = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    stress, thinning, points = np.zeros(steps + 1), np.ones(steps + 1), np.arange(steps + 1)
    for crisis in crises:
        first = (crisis.start_ms - parameters.start) // STEP_MS
        last = (crisis.end_ms - parameters.start) // STEP_MS
        for step, weight in zip(crisis.wave_steps, crisis.wave_weights, strict=True):
            falls[step] -= crisis.drop * beta * weight
            variance[step] += crisis.variance_jump * weight
        calm = first + int(CALM_AFTER * (last - first))
        rebounds[calm:last] += crisis.rebound * crisis.drop * beta / (last - calm)
        relief = np.exp(-(points[first:] - calm).clip(0) / (0.5 * (last - first)))
        stress[first:] = np.maximum(stress[first:], relief)
        left = 1.0 - relief * (1.0 - crisis.depth_factor)
        thinning[first:] = np.minimum(thinning[first:], left)
    log_return = spread(falls, parameters.crises.wave_hours) + rebounds
    return CrisisPath(log_return, variance, stress, thinning)
