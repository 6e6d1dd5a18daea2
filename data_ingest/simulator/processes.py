"""The random processes that a simulated market is made of, each vectorised over its steps."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from backtest.seeds import stream
from backtest.units import MS_PER_HOUR
from data_ingest.simulator.parameters import STEP_MS

if TYPE_CHECKING:
    from data_ingest.simulator.parameters import AssetParameters, MarketParameters


class JumpDraws:
    """Jumps of price and variance; a common jump comes at one instant with one variance."""

    def __init__(self, parameters: MarketParameters) -> None:
        self._parameters = parameters
        model = parameters.volatility
        random = stream(parameters.seed, "jumps", "common")
        rate = model.jumps_per_day * parameters.step_days
        self._common = random.random(parameters.steps) < rate * model.common_jump_share
        self._variance = random.exponential(model.variance_jump_mean, parameters.steps)
        self._size = random.standard_normal(parameters.steps)

    def of(self, asset: AssetParameters) -> tuple[np.ndarray, np.ndarray]:
        """Return log price jumps and variance jumps of an asset, one value per step."""
        model, steps = self._parameters.volatility, self._parameters.steps
        random = stream(self._parameters.seed, "jumps", asset.name)
        rate = model.jumps_per_day * self._parameters.step_days
        single = random.random(steps) < rate * (1 - model.common_jump_share)
        alone = single & ~self._common
        variance = np.where(alone, random.exponential(model.variance_jump_mean, steps), 0.0)
        variance = np.where(self._common, self._variance, variance)
        size = np.where(alone, random.standard_normal(steps), self._size)
        price = model.jump_mean + model.jump_per_variance_jump * variance
        price = (price + model.jump_deviation * size) * math.sqrt(asset.variance_scale)
        return np.where(self._common | alone, price, 0.0), variance


def svcj_variance(
    parameters: MarketParameters, resting: np.ndarray, shocks: np.ndarray, jumps: np.ndarray
) -> np.ndarray:
    """Full-truncation Euler scheme of the reverting variance; ``[steps + 1]``."""
    model, dt = parameters.volatility, parameters.step_days
    pull, diffusion = model.reversion_per_day * dt, model.variance_diffusion * math.sqrt(dt)
    now = model.base_variance + (
        model.jumps_per_day * model.variance_jump_mean / model.reversion_per_day
    )
    path = [now]
    for level, shock, jump in zip(
        resting[:-1].tolist(), shocks.tolist(), jumps.tolist(), strict=True
    ):
        now = max(1e-4, now + pull * (level - now) + diffusion * math.sqrt(now) * shock) + jump
        path.append(now)
    return np.array(path)


def mean_reverting(
    parameters: MarketParameters, label: str, length: int, half_life_ms: float, deviation: float
) -> np.ndarray:
    """Draw a stationary Gaussian AR(1) path with the given half-life and deviation."""
    decay = 0.5 ** (STEP_MS / half_life_ms)
    shocks = stream(parameters.seed, label).standard_normal(length)
    shocks[1:] *= math.sqrt(1 - decay**2)
    path = accumulate((deviation * shocks).tolist(), lambda now, shock: decay * now + shock)
    return np.fromiter(path, np.float64, length)


def follow(path: np.ndarray, time_constant_ms: float) -> np.ndarray:
    """Exponential moving average that starts on the path."""
    keep = math.exp(-STEP_MS / time_constant_ms)
    averaged = accumulate(path.tolist(), lambda now, new: keep * now + (1 - keep) * new)
    return np.fromiter(averaged, np.float64, len(path))


def spread(impulses: np.ndarray, time_constant_hours: float) -> np.ndarray:
    """Let impulses arrive exponentially instead of at once, their sum unchanged."""
    decay = math.exp(-STEP_MS / (time_constant_hours * MS_PER_HOUR))
    kernel = decay ** np.arange(math.ceil(8 * time_constant_hours * MS_PER_HOUR / STEP_MS))
    spread = np.zeros(len(impulses))
    for at in np.flatnonzero(impulses).tolist():
        window = spread[at : at + len(kernel)]
        window += impulses[at] * kernel[: len(window)] / kernel.sum()
    return spread


def trailing_return(log_price: np.ndarray, steps: int) -> np.ndarray:
    """Return the log return over the last ``steps``, or since the start where it is younger."""
    lagged = np.concatenate((np.full(min(steps, len(log_price)), log_price[0]), log_price))
    return np.asarray(log_price - lagged[: len(log_price)])


def candles(
    log_points: np.ndarray, step_variance: np.ndarray, draws: np.ndarray, tick: float
) -> np.ndarray:
    """Candles between points, with the exact law of a Brownian bridge's maximum and minimum.

    The maximum of a bridge from a to b with variance v exceeds m with probability
    exp(-2 (m - a)(m - b) / v); inverting it for a uniform draw gives the formula. Maximum and
    minimum are drawn independently, so a step's range is slightly too wide.
    """
    first, last = log_points[:-1], log_points[1:]
    middle, gap = 0.5 * (first + last), (last - first) ** 2
    high = middle + 0.5 * np.sqrt(gap - 2 * step_variance * np.log1p(-draws[0]))
    low = middle - 0.5 * np.sqrt(gap - 2 * step_variance * np.log1p(-draws[1]))
    corners = np.exp(np.column_stack((first, high, low, last)))
    # Rounding again removes what a multiple of a decimal tick leaves in the last bits.
    return np.asarray(np.round(np.round(corners / tick) * tick, 6))
