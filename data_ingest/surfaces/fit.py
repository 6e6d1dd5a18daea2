"""Fit a raw SVI slice to quoted volatilities: deterministic, and within the model's own bounds.

The search runs over (lowest variance, root of the left slope, root of the right slope, shift,
logarithm of the roundness), in which every bound of the model is a plain interval. Starts come
from the quasi-explicit form of Zeliade Systems ("Quasi-explicit calibration of Gatheral's SVI
model", 2009): at a given shift and roundness the slice is linear in the other three, so a coarse
grid of those two finds the basins; Levenberg-Marquardt then refines the best few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from data_ingest.surfaces.svi import STEEPEST_WING, SVI

FEWEST_STRIKES = 5
"""A slice has five parameters."""
_STARTS = 2
_GRID_SHIFTS = 13
_GRID_ROUNDNESSES = np.geomspace(0.03, 1.0, 9)
_SHARPEST, _ROUNDEST = 0.005, 3.0
"""Roundness over the span of the strikes; the first is a kink, the second a parabola."""
_LOWEST = 1e-6
_FAINTEST = 0.001
"""Least weight of a strike over the heaviest's: a wing has no vega, but a quote."""


@dataclass(frozen=True)
class SliceFit:
    """A fitted slice and its distance from the quotes, in annual volatility (0.01 is a point).

    Parameters
    ----------
    svi : SVI
        The slice.
    rmse : float
        Root mean square error, weighted as the fit was.
    max_error : float
        Largest error at any strike.
    """

    svi: SVI
    rmse: float
    max_error: float


def vega_weights(log_moneyness: np.ndarray, volatility: np.ndarray, years: float) -> np.ndarray:
    """Return each strike's Black vega over the largest, at least a thousandth."""
    deviation = volatility * math.sqrt(years)
    upper = -log_moneyness / deviation + 0.5 * deviation
    vega = np.exp(-0.5 * upper * upper)
    return np.asarray(np.maximum(vega / max(float(vega.max()), 1e-300), _FAINTEST))


def fit_svi(
    log_moneyness: np.ndarray,
    volatility: np.ndarray,
    years: float,
    weights: np.ndarray | None = None,
) -> SliceFit:
    """Fit the slice of least weighted square error in volatility.

    The slice has no negative variance and no wing steeper than Lee's bound. Butterfly arbitrage
    between the wings is left in where the quotes show it; see `data_ingest.surfaces.arbitrage`.

    Parameters
    ----------
    log_moneyness, volatility : numpy.ndarray
        ``(P,)``: logarithm of strike over forward, each once, and annual implied volatility.
    years : float
        To expiry.
    weights : numpy.ndarray, optional
        ``(P,)`` positive, of the squared errors; `vega_weights` where not given.

    Raises
    ------
    ValueError
        If there are fewer than `FEWEST_STRIKES` strikes.
    """
    if len(log_moneyness) < FEWEST_STRIKES:
        raise ValueError(f"{len(log_moneyness)} strikes cannot fix the five parameters of SVI")
    if weights is None:
        weights = vega_weights(log_moneyness, volatility, years)
    total = volatility * volatility * years
    # In units of the deviation at the money every expiry looks alike to the search.
    level = float(total[np.argmin(np.abs(log_moneyness))])
    unit = math.sqrt(level)
    problem = _Problem(log_moneyness / unit, total / level, weights, STEEPEST_WING / unit)
    lowest, left, right, shift, roundness = problem.best()
    b, tilt = 0.5 * (left * left + right * right), 0.5 * (right * right - left * left)
    svi = SVI(
        a=level * (lowest - roundness * left * right),
        b=unit * b,
        rho=tilt / b if b > 0.0 else 0.0,
        m=unit * shift,
        sigma=unit * roundness,
    )
    error = svi.volatility(log_moneyness, years) - volatility
    return SliceFit(
        svi=svi,
        rmse=float(np.sqrt(weights @ (error * error) / weights.sum())),
        max_error=float(np.abs(error).max()),
    )


class _Problem:
    """One slice in units of its at-the-money deviation, ``x``, and variance, ``y``."""

    def __init__(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, steepest: float) -> None:
        self.x, self.y = x, y
        self.weights = weights / weights.sum()
        self.root_weights = np.sqrt(self.weights)
        self.quoted = np.sqrt(y)
        self.steepest = steepest
        span = float(np.ptp(x))
        self.span = span
        lows = (_LOWEST, 0.0, 0.0, float(x.min()) - span, math.log(_SHARPEST * span))
        steep = math.sqrt(steepest)
        highs = (float(y.max()), steep, steep, float(x.max()) + span, math.log(_ROUNDEST * span))
        self.low, self.width = np.array(lows), np.array(highs) - np.array(lows)

    def best(self) -> tuple[float, float, float, float, float]:
        """Return lowest variance, roots of both slopes, shift and roundness."""
        from scipy.optimize import least_squares

        found = [
            least_squares(
                self._residuals, start, self._jacobian, method="lm",
                ftol=1e-9, xtol=1e-12, gtol=1e-15, max_nfev=400,
            )
            for start in self._starts()
        ]  # fmt: skip
        free = min(found, key=lambda result: float(result.cost)).x
        lowest, left, right, shift, log_roundness = self._bounded(free).tolist()
        return lowest, left, right, shift, math.exp(log_roundness)

    def _bounded(self, free: np.ndarray) -> np.ndarray:
        # A sine reaches both bounds, so a slice that lies on one is found in finite steps.
        return np.asarray(self.low + 0.5 * self.width * (1.0 + np.sin(free)))

    def _free(self, bounded: np.ndarray) -> np.ndarray:
        share = np.clip((bounded - self.low) / self.width, 1e-3, 1.0 - 1e-3)
        return np.asarray(np.arcsin(2.0 * share - 1.0))

    def _residuals(self, free: np.ndarray) -> np.ndarray:
        lowest, left, right, shift, log_roundness = self._bounded(free)
        roundness = math.exp(log_roundness)
        centred = self.x - shift
        root = np.sqrt(centred * centred + roundness * roundness)
        self._root, self._centred = root, centred
        self._fitted = (
            lowest - roundness * left * right
            + 0.5 * (right * right - left * left) * centred
            + 0.5 * (right * right + left * left) * root
        )  # fmt: skip
        self._deviation = np.sqrt(np.maximum(self._fitted, _LOWEST))
        return np.asarray(self.root_weights * (self._deviation - self.quoted))

    def _jacobian(self, free: np.ndarray) -> np.ndarray:
        self._residuals(free)
        _, left, right, _, log_roundness = self._bounded(free)
        roundness = math.exp(log_roundness)
        root, centred = self._root, self._centred
        b, tilt = 0.5 * (right * right + left * left), 0.5 * (right * right - left * left)
        total = np.column_stack(
            [
                np.ones_like(root),
                left * (root - centred) - roundness * right,
                right * (root + centred) - roundness * left,
                -tilt - b * centred / root,
                roundness * (b * roundness / root - left * right),
            ]
        )
        inner = self.root_weights / (2.0 * self._deviation)
        return np.asarray(inner[:, None] * total * (0.5 * self.width * np.cos(free)))

    def _starts(self) -> list[np.ndarray]:
        """Solve the linear part on a grid of shift and roundness; the best few, best first."""
        shift, roundness = (
            grid.ravel()[:, None]
            for grid in np.meshgrid(
                np.linspace(self.x.min(), self.x.max(), _GRID_SHIFTS),
                self.span * _GRID_ROUNDNESSES,
                indexing="ij",
            )
        )
        centred = self.x - shift
        root = np.sqrt(centred * centred + roundness * roundness)
        design = np.stack([np.ones_like(root), centred, root], axis=2)
        # Errors of volatility, to first order, are errors of variance over twice its root.
        weights = self.weights / (4.0 * self.y)
        normal = np.einsum("gpi,gpj,p->gij", design, design, weights) + 1e-10 * np.eye(3)
        moment = np.einsum("gpi,p->gi", design, weights * self.y)
        _, tilt, b = np.linalg.solve(normal, moment[:, :, None])[:, :, 0].T[:, :, None]
        left = np.clip(b - tilt, 1e-3, self.steepest)
        right = np.clip(b + tilt, 1e-3, self.steepest)
        shape = 0.5 * (right - left) * centred + 0.5 * (right + left) * root
        level = ((self.y - shape) @ weights / weights.sum())[:, None]
        lowest = np.maximum(level + roundness * np.sqrt(left * right), _LOWEST)
        error = (self.y - shape - lowest + roundness * np.sqrt(left * right)) ** 2 @ weights
        order = np.argsort(error, kind="stable")[:_STARTS]
        stacked = np.hstack([lowest, np.sqrt(left), np.sqrt(right), shift, np.log(roundness)])
        return [self._free(stacked[g]) for g in order]
