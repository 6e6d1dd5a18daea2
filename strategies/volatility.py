"""Volatility-scaled margin: multiplier x sigma x sqrt(horizon), never under a floor.

The margin of a position is a multiple of how far its price usually moves until it can be
closed: the parametric form behind filtered historical simulation at clearing houses, with the
estimator that risk managers have used since RiskMetrics (J.P. Morgan, 1996).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from strategies.contract import TIME, Knob, Need, knob
from strategies.rates import RatePolicy, sqrt_years
from strategies.signals import EWMA, VolatilityEstimator

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Volatility(RatePolicy):
    """A rate that follows an estimate of volatility, between a floor and the whole notional."""

    name: ClassVar[str] = "volatility"
    generation: ClassVar[str] = "volatility"
    source: ClassVar[str] = "RiskMetrics (J.P. Morgan, 1996)"
    needs: ClassVar[tuple[Need, ...]] = ("prices", "price history")

    multiplier: Knob = knob(
        3.0, low=1.0, high=12.0, unit="sigmas", doc="moves to be covered", stress="up"
    )
    horizon: Knob = knob(
        "1h",
        low="10min",
        high="5d",
        unit=TIME,
        doc="time to close a position",
        log=True,
        stress="up",
    )
    floor: Knob = knob("1%", low=0, high="25%", unit="of notional", doc="least rate", stress="up")
    estimator: VolatilityEstimator = EWMA()

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Estimate annualised volatility, ``(T, A)``."""
        return self.estimator(tape)

    def parameters(self, sigma: np.ndarray) -> np.ndarray:
        """Scale it to a rate of notional, ``(T, A)``."""
        rate = self.multiplier * sigma * sqrt_years(self.horizon)
        return np.clip(rate, self.floor, 1.0)
