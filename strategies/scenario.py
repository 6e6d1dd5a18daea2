"""Scenario margin: the worst loss of the whole portfolio over price moves and volatility shocks.

What SPAN (CME) did for futures and what Deribit, Derive, Paradex, OKX and Bybit ask of options
portfolios: hedges count, because the net portfolio is repriced in full. The law of the
volatility shock and the default numbers are Deribit's for bitcoin; the price range can follow
volatility instead of standing still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from backtest.units import Fraction
from strategies.choice import Choice, read_choice
from strategies.contract import TIME, Knob, MarginPolicy, Need, Netting, ScaleLaw, knob
from strategies.kernels.scenario_grid import scenario_grid, scenario_grid_constants
from strategies.rates import sqrt_years
from strategies.signals import EWMA, VolatilityEstimator
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape

WIDEST_RANGE = 0.99
"""A scenario leaves at least 1 % of the price."""


class FixedRange(Choice):
    """A price range that does not move, with an own one for an asset where given."""

    name: ClassVar[str] = "fixed"

    range: Knob = knob(
        "16%",
        low="1%",
        high="90%",
        unit="of price",
        doc="largest regular move",
        stress="leg up",
    )
    ranges: dict[str, Fraction] = Field({}, description="own range of an asset, by name")

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return the range at every row, ``(T, A)``."""
        row = per_asset(self.ranges, self.range, tape.assets, "price_range.fixed.ranges")
        return np.tile(row, (len(tape), 1))


class ScaledRange(Choice):
    """A price range that follows volatility, between a floor and a cap."""

    name: ClassVar[str] = "scaled"

    multiplier: Knob = knob(
        4.0, low=1.0, high=12.0, unit="sigmas", doc="moves to be covered", stress="leg up"
    )
    horizon: Knob = knob(
        "1d", low="1h", high="10d", unit=TIME, doc="time to close a portfolio", log=True
    )
    floor: Knob = knob(
        "10%", low="1%", high="50%", unit="of price", doc="least range", stress="leg up"
    )
    cap: Knob = knob(
        "60%", low="10%", high="90%", unit="of price", doc="largest range", stress="leg up"
    )
    estimator: VolatilityEstimator = EWMA()

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return the range at every row, ``(T, A)``."""
        wide = self.multiplier * sqrt_years(self.horizon) * self.estimator(tape)
        return np.clip(wide, self.floor, max(self.cap, self.floor))


_read_range = read_choice("price range", (FixedRange, ScaledRange))


def read_price_range(value: Any) -> Any:
    """Read ``16%`` as a fixed range, so that the plain case is written plainly."""
    plain = isinstance(value, int | float) or (isinstance(value, str) and value[:1].isdigit())
    return _read_range({"fixed": {"range": value}} if plain else value)


PriceRange = Annotated[FixedRange | ScaledRange, BeforeValidator(read_price_range)]
"""The field type of a policy's price range."""


class TailMove(BaseModel):
    """A move beyond the range that counts in part, both ways, with volatility up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranges: float = Field(gt=1.0, le=10.0, description="size of the move, in price ranges")
    weight: Fraction = Field(gt=0.0, le=1.0, description="share of the loss that counts")


class Scenario(MarginPolicy):
    """Worst loss over a grid of moves and shocks, plus a floor for short options."""

    name: ClassVar[str] = "scenario"
    generation: ClassVar[str] = "scenario grid"
    source: ClassVar[str] = "SPAN (CME, 1988); portfolio margin of Deribit, Derive, Paradex"
    requirement = scenario_grid
    needs: ClassVar[tuple[Need, ...]] = ("prices", "implied volatility")
    scale_law: ClassVar[ScaleLaw | None] = "homogeneous"
    nets: ClassVar[Netting] = "portfolio"
    caps_longs: ClassVar[bool] = True

    price_range: PriceRange = FixedRange()
    price_steps: int = Field(3, ge=1, le=10, description="moves to each side inside the range")
    tails: tuple[TailMove, ...] = Field(
        (TailMove(ranges=3.0, weight=0.33),), description="moves beyond the range"
    )
    vol_up: Knob = knob(
        "50%",
        low=0,
        high="200%",
        unit="of volatility",
        doc="shock at 30 days to expiry",
        stress="leg up",
    )
    vol_down: Knob = knob(
        "25%",
        low=0,
        high="100%",
        unit="of volatility",
        doc="shock at 30 days to expiry",
        stress="leg up",
    )
    least_vol: Knob = knob(
        "50%",
        low=0,
        high="200%",
        unit="annualised",
        doc="volatility shocked up is at least",
        stress="leg up",
    )
    power_to_30_days: Knob = knob(
        0.3, low=0, high=1, unit="exponent", doc="how shocks grow towards expiry"
    )
    power_beyond: Knob = knob(
        0.13, low=0, high=1, unit="exponent", doc="how shocks fade beyond 30 days"
    )
    least_days: Knob = knob(1.0, low=0.01, high=30, unit="days", doc="floor on time to expiry")
    short_floor: Knob = knob(
        "1%",
        low=0,
        high="25%",
        unit="of notional",
        doc="added for every short option",
        stress="up",
    )
    maintenance_ratio: Knob = knob(
        "80%",
        low="10%",
        high="100%",
        unit="of initial margin",
        doc="maintenance margin",
        stress="up",
    )
    in_coin: bool = Field(True, description="losses of coin-settled contracts are counted in coins")

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the price range of every asset, ``(T, A)``."""
        return self.price_range(tape)

    def parameters(self, ranges: np.ndarray) -> np.ndarray:
        """Post the ranges and the two volatility shocks, ``(T, A + 2)``."""
        shocks = np.tile([self.vol_up, self.vol_down], (len(ranges), 1))
        return np.hstack([np.minimum(ranges, WIDEST_RANGE), shocks])

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return the grid and its laws as `scenario_grid` reads them."""
        steps = [k / self.price_steps for k in range(-self.price_steps, self.price_steps + 1)]
        grid = [(step, direction, 1.0) for step in steps for direction in (-1, 0, 1)]
        for tail in self.tails:
            grid += [(side * tail.ranges, 1, tail.weight) for side in (-1.0, 1.0)]
        return scenario_grid_constants(
            self.maintenance_ratio,
            grid,
            self.short_floor,
            self.power_to_30_days,
            self.power_beyond,
            self.least_days,
            self.least_vol,
            self.in_coin,
        )
