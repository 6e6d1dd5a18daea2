"""One expiry's smile as a raw SVI slice: total variance over log-moneyness in five numbers.

``w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))``, where ``w`` is implied variance times
years to expiry and ``k`` the logarithm of strike over forward (Gatheral 2004; Gatheral and
Jacquier, "Arbitrage-free SVI volatility surfaces", 2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

STEEPEST_WING = 2.0
"""Total variance cannot grow faster than this in log-moneyness (Lee's moment formula, 2004)."""


@dataclass(frozen=True)
class JumpWings:
    """The same slice in the quantities that traders speak of.

    Parameters
    ----------
    atm_variance : float
        Annual variance at the forward.
    atm_skew : float
        Slope of annual volatility there, times the square root of the years.
    put_wing, call_wing : float
        Slopes of total variance to the left and to the right, over its root at the forward.
    lowest_variance : float
        The least annual variance of the slice.
    """

    atm_variance: float
    atm_skew: float
    put_wing: float
    call_wing: float
    lowest_variance: float


@dataclass(frozen=True)
class SVI:
    """A raw SVI slice.

    Parameters
    ----------
    a, b, rho, m, sigma : float
        Level, slope, tilt, shift and roundness, in total variance and log-moneyness.
    """

    a: float
    b: float
    rho: float
    m: float
    sigma: float

    def total_variance(self, log_moneyness: np.ndarray | float) -> np.ndarray:
        """Return implied variance times years at each logarithm of strike over forward."""
        centred = np.asarray(log_moneyness, dtype=np.float64) - self.m
        root = np.sqrt(centred * centred + self.sigma * self.sigma)
        return np.asarray(self.a + self.b * (self.rho * centred + root))

    def volatility(self, log_moneyness: np.ndarray | float, years: float) -> np.ndarray:
        """Return annual implied volatility; NaN where total variance is negative."""
        total = self.total_variance(log_moneyness)
        return np.sqrt(np.where(total >= 0.0, total, np.nan) / years)

    @property
    def lowest_total_variance(self) -> float:
        """The slice's least total variance; below zero it prices nothing."""
        return self.a + self.b * self.sigma * math.sqrt(1.0 - self.rho * self.rho)

    @property
    def wing_slopes(self) -> tuple[float, float]:
        """Slopes of total variance far to the left and far to the right, both positive."""
        return self.b * (1.0 - self.rho), self.b * (1.0 + self.rho)

    def density_sign(self, log_moneyness: np.ndarray) -> np.ndarray:
        """Return Durrleman's function, negative where prices imply a negative density.

        ``g = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2``; NaN where the total
        variance is not positive.
        """
        k = np.asarray(log_moneyness, dtype=np.float64)
        centred = k - self.m
        root = np.sqrt(centred * centred + self.sigma * self.sigma)
        w = self.total_variance(k)
        w = np.where(w > 0.0, w, np.nan)
        slope = self.b * (self.rho + centred / root)
        bend = self.b * self.sigma * self.sigma / root**3
        straight = 1.0 - 0.5 * k * slope / w
        return np.asarray(
            straight * straight - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * bend
        )

    def jump_wings(self, years: float) -> JumpWings:
        """Express the slice in the quantities that traders speak of."""
        root = math.hypot(self.m, self.sigma)
        at_money = self.a + self.b * (root - self.rho * self.m)
        scale = math.sqrt(at_money)
        left, right = self.wing_slopes
        return JumpWings(
            atm_variance=at_money / years,
            atm_skew=0.5 * self.b * (self.rho - self.m / root) / scale,
            put_wing=left / scale,
            call_wing=right / scale,
            lowest_variance=self.lowest_total_variance / years,
        )
