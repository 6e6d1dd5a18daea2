"""What policies that post a rate of notional have in common: brackets, maintenance, options."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from backtest.units import Usd, years
from strategies.contract import Knob, MarginPolicy, Netting, ScaleLaw, knob
from strategies.kernels.linear_rate import linear_rate, linear_rate_constants

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Bracket(BaseModel):
    """A part of a position that is charged at a multiple of the rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    above: Usd = Field(gt=0.0, description="net notional where the bracket begins, USD")
    multiple: float = Field(gt=0.0, le=100.0, description="of the rate, on what lies above")


class RatePolicy(MarginPolicy):
    """A policy whose parameters are rates of notional, read by `linear_rate`.

    A subclass posts ``(T, A)`` rates, or ``(T, 2 A)``: longs of every asset, then shorts.
    """

    requirement = linear_rate
    scale_law: ClassVar[ScaleLaw | None] = "superlinear"
    nets: ClassVar[Netting] = "perpetuals"
    caps_longs: ClassVar[bool] = True

    maintenance_ratio: Knob = knob(
        "50%",
        low="10%",
        high="100%",
        unit="of initial margin",
        doc="maintenance margin",
        stress="up",
    )
    brackets: tuple[Bracket, ...] = Field(
        (), description="marginal multiples of the rate for large positions, ascending"
    )
    option_floor: Knob = knob(
        "10%",
        low=0,
        high="100%",
        unit="of notional",
        doc="least rate of a short option",
        stress="up",
    )
    otm_share: Knob = knob(
        2.0 / 3.0,
        low=0,
        high=1,
        unit="of the rate",
        doc="kept far out of the money",
        stress="up",
    )

    @field_validator("brackets")
    @classmethod
    def _ascending(cls, brackets: Any) -> Any:
        above = [bracket.above for bracket in brackets]
        for lower, upper in itertools.pairwise(above):
            if upper <= lower:
                raise ValueError(
                    f"the bracket above {upper:,.0f} USD stands after {lower:,.0f} USD"
                )
        return brackets

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return brackets and ratios as `linear_rate` reads them."""
        bounds = [*(bracket.above for bracket in self.brackets), math.inf]
        multiples = [1.0, *(bracket.multiple for bracket in self.brackets)]
        return linear_rate_constants(
            self.maintenance_ratio,
            list(zip(bounds, multiples, strict=True)),
            self.option_floor,
            self.otm_share,
        )


def sqrt_years(duration_ms: float) -> float:
    """Return the square root of a duration in years, by which volatility scales."""
    return math.sqrt(years(duration_ms))
