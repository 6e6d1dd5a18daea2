"""Risk factors: the mean loss of a position in the tail of a price's law (Vega protocol).

A long asks for ``slippage + RF_long`` of its notional, a short for ``slippage + RF_short``.
With the lognormal law of volatility ``sigma`` and drift ``mu`` over a horizon ``tau``, and
``v = sigma sqrt(tau)``, the expected shortfall at the tail probability ``l`` is::

    RF_long  = 1 - exp(mu tau) Phi(Phi^-1(l) - v) / l
    RF_short =     exp(mu tau) Phi(v - Phi^-1(1 - l)) / l - 1

That is maintenance margin; initial margin is 1.5 times as much. Sources: vegaprotocol/specs
0018 (quantitative risk models) and 0019 (margin calculator).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from backtest.units import MS_PER_YEAR
from strategies.choice import Choice, read_choice
from strategies.contract import TIME, Knob, knob
from strategies.rates import RatePolicy
from strategies.signals import EWMA, Rolling
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape

VolatilityLevel = Annotated[
    float,
    Field(ge=0.0, le=50.0, description="annualised", json_schema_extra={"unit": "annualised"}),
]


class Stated(Choice):
    """Volatility as governance states it, with an own one for an asset where given."""

    name: ClassVar[str] = "stated"

    volatility: Knob = knob(1.5, low=0, high=50, unit="annualised", doc="of the logarithm's law")
    volatilities: dict[str, VolatilityLevel] = Field({}, description="of an asset, by name")

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return it at every row, ``(T, A)``."""
        where = "model.lognormal.estimator.stated.volatilities"
        row = per_asset(self.volatilities, self.volatility, tape.assets, where)
        return np.tile(np.asarray(row, dtype=np.float64), (len(tape), 1))


_ESTIMATORS: tuple[type[Any], ...] = (Stated, EWMA, Rolling)


class Lognormal(Choice):
    """Expected shortfall of a lognormal price."""

    name: ClassVar[str] = "lognormal"

    tail: Knob = knob(1e-6, low=1e-9, high=0.5, unit="probability", doc="of the tail", log=True)
    horizon: Knob = knob(
        "1h", low="1s", high="3650d", unit=TIME, doc="time to close a position", log=True
    )
    drift: Knob = knob(0.0, low=-10, high=10, unit="annualised", doc="of the price")
    estimator: Annotated[
        Stated | EWMA | Rolling, BeforeValidator(read_choice("volatility estimator", _ESTIMATORS))
    ] = Stated()

    def factors(self, tape: MarketTape) -> np.ndarray:
        """Return the factor of longs of every asset, then of shorts, ``(T, 2 A)``."""
        years = self.horizon / MS_PER_YEAR
        return np.hstack(lognormal_factors(self.tail, years, self.drift, self.estimator(tape)))


class Simple(Choice):
    """Factors as governance states them, the same for every asset."""

    name: ClassVar[str] = "simple"

    long: Knob = knob("5%", low=0, high=100, unit="of notional", doc="factor of a long")
    short: Knob = knob("5%", low=0, high=100, unit="of notional", doc="factor of a short")

    def factors(self, tape: MarketTape) -> np.ndarray:
        """Return the factor of longs of every asset, then of shorts, ``(T, 2 A)``."""
        row = np.repeat([self.long, self.short], len(tape.assets))
        return np.tile(row, (len(tape), 1))


_MODELS: tuple[type[Any], ...] = (Lognormal, Simple)


def lognormal_factors(
    tail: float, years: float, drift: float, volatility: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the risk factors of a long and of a short position, per unit of mark price.

    Parameters
    ----------
    tail
        Probability of the tail, such as 1e-6.
    years
        Horizon.
    drift, volatility
        Annual, of the price and of its logarithm; volatility of any shape.
    """
    from scipy.special import ndtr, ndtri

    deviation = np.asarray(volatility, dtype=np.float64) * np.sqrt(years)
    growth = np.exp(drift * years) / tail
    worst = ndtri(tail)
    # Phi^-1(1 - l) is -Phi^-1(l), without the digits that 1 - l loses.
    return 1.0 - growth * ndtr(worst - deviation), growth * ndtr(deviation + worst) - 1.0


class RiskFactors(RatePolicy):
    """A rate per side: slippage and the mean loss in the tail of a price's law."""

    name: ClassVar[str] = "risk_factors"

    model: Annotated[Lognormal | Simple, BeforeValidator(read_choice("risk model", _MODELS))] = (
        Lognormal()
    )
    slippage: Knob = knob(
        0, low=0, high="100%", unit="of notional", doc="cost of closing against the book"
    )
    maintenance_ratio: Knob = knob(
        1 / 1.5, low="10%", high="100%", unit="of initial margin", doc="maintenance margin"
    )

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the risk factors, ``(T, 2 A)``."""
        factors: np.ndarray = self.model.factors(tape)
        return factors

    def parameters(self, factors: np.ndarray) -> np.ndarray:
        """Post initial margin, ``(T, 2 A)``; a drift may not make a side free of charge."""
        return np.asarray((self.slippage + np.maximum(factors, 0.0)) / self.maintenance_ratio)
