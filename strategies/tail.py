"""Tail margin: the loss that is exceeded once in a hundred, or the mean of those beyond it.

Value at risk and expected shortfall of the return over a horizon, read off history or off a
fitted law. The historical form asks different rates of longs and of shorts, because crypto
falls faster than it rises. Sources: EMIR RTS 153/2013 article 24 (99 %); McNeil, Frey and
Embrechts, "Quantitative Risk Management" (2015), chapter 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from strategies.choice import Choice, read_choice
from strategies.contract import TIME, Knob, Need, knob
from strategies.rates import RatePolicy, sqrt_years
from strategies.signals import (
    EWMA,
    VolatilityEstimator,
    horizon_returns,
    rolling_tail,
    tail_multiple,
)

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Historical(Choice):
    """Read the tail off the returns in a rolling window; at first, off a normal law."""

    name: ClassVar[str] = "historical"

    window: Knob = knob(
        "180d", low="7d", high="1500d", unit=TIME, doc="how far back returns count", log=True
    )
    prior: Knob = knob(
        0.8, low=0.05, high=5.0, unit="annualised", doc="volatility while history is short"
    )

    def losses(
        self, tape: MarketTape, confidence: float, shortfall: bool, horizon_ms: float
    ) -> np.ndarray:
        """Return the loss of a long and of a short per unit of notional, ``(T, 2 A)``."""
        warm_up = self.prior * sqrt_years(horizon_ms) * tail_multiple(confidence, shortfall, None)
        returns = horizon_returns(tape.ts, tape.index, horizon_ms)
        sides = np.ascontiguousarray(np.hstack([-returns, returns]).T)
        tails = [
            rolling_tail(tape.ts, side, self.window, confidence, shortfall, warm_up)
            for side in sides
        ]
        return np.stack(tails, axis=1)


class Normal(Choice):
    """Scale an estimate of volatility by the tail of the normal law."""

    name: ClassVar[str] = "normal"

    estimator: VolatilityEstimator = EWMA()

    def losses(
        self, tape: MarketTape, confidence: float, shortfall: bool, horizon_ms: float
    ) -> np.ndarray:
        """Return the loss of a long and of a short per unit of notional, ``(T, 2 A)``."""
        multiple = tail_multiple(confidence, shortfall, None) * sqrt_years(horizon_ms)
        return np.tile(multiple * self.estimator(tape), 2)


class Student(Choice):
    """Scale an estimate of volatility by the tail of Student's t of the same variance."""

    name: ClassVar[str] = "student"

    degrees_of_freedom: Knob = knob(
        4.0, low=2.1, high=50.0, unit="degrees of freedom", doc="fewer mean heavier tails"
    )
    estimator: VolatilityEstimator = EWMA()

    def losses(
        self, tape: MarketTape, confidence: float, shortfall: bool, horizon_ms: float
    ) -> np.ndarray:
        """Return the loss of a long and of a short per unit of notional, ``(T, 2 A)``."""
        multiple = tail_multiple(confidence, shortfall, self.degrees_of_freedom)
        return np.tile(multiple * sqrt_years(horizon_ms) * self.estimator(tape), 2)


TAIL_METHODS: tuple[type[Any], ...] = (Historical, Normal, Student)
TailMethod = Annotated[
    Historical | Normal | Student, BeforeValidator(read_choice("tail method", TAIL_METHODS))
]


class Tail(RatePolicy):
    """A rate per side that covers the loss at a stated confidence, never under a floor."""

    name: ClassVar[str] = "tail"
    generation: ClassVar[str] = "expected shortfall"
    source: ClassVar[str] = "McNeil, Frey, Embrechts (2015); EMIR RTS 153/2013, article 24"
    needs: ClassVar[tuple[Need, ...]] = ("prices", "price history")

    measure: Literal["value_at_risk", "expected_shortfall"] = "expected_shortfall"
    confidence: Knob = knob(
        "99%", low="90%", high="99.99%", unit="of horizons", doc="share to be covered"
    )
    horizon: Knob = knob(
        "1h", low="10min", high="5d", unit=TIME, doc="time to close a position", log=True
    )
    floor: Knob = knob("1%", low=0, high="25%", unit="of notional", doc="least rate", stress="up")
    method: TailMethod = Historical()

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Estimate the tail of losses of longs, then of shorts, ``(T, 2 A)``."""
        shortfall = self.measure == "expected_shortfall"
        losses: np.ndarray = self.method.losses(tape, self.confidence, shortfall, self.horizon)
        return losses

    def parameters(self, losses: np.ndarray) -> np.ndarray:
        """Post them as rates of notional, ``(T, 2 A)``."""
        return np.asarray(np.clip(losses, self.floor, 1.0))
