"""A least share of a position's size that must be left as collateral, after fees (GMX v2).

A position is closed once ``collateral + profit - fees < factor * size``, its size being the
notional at which it was opened. The factor is a fixed one; to open a position it is open interest
of the position's side times a multiplier where that is larger, so that a crowded market takes
less leverage without closing who is in it already. Source: gmx-io/gmx-synthetics,
`contracts/position/PositionUtils.sol`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.units import Fraction
from strategies.kernels.sized_rate import GrowingRate, sized_rate, sized_rate_constants
from strategies.knobs import Knob, knob
from strategies.perpetuals import PerpetualPolicy
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class CollateralFactor(BaseModel):
    """Least collateral of one market's positions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: Fraction = Field(ge=0.0, le=1.0, description="of size, kept in any market")
    initial: Fraction | None = Field(
        None, ge=0.0, le=1.0, description="of size, asked to open; as least if absent"
    )
    per_open_usd: float = Field(0.0, ge=0.0, description="asked to open, per USD of open interest")

    @model_validator(mode="after")
    def _initial_is_the_larger(self) -> CollateralFactor:
        if self.initial is not None and self.initial < self.least:
            raise ValueError(
                f"initial {self.initial:g} of size is less than least {self.least:g}, which is "
                "kept in any market"
            )
        return self


class LeastCollateral(PerpetualPolicy):
    """A share of the notional at entry, or of open interest where larger, and closing fees."""

    name: ClassVar[str] = "least_collateral"
    requirement = sized_rate

    factor: CollateralFactor = Field(
        CollateralFactor(least=0.01), description="of every asset without an own one"
    )
    factors: dict[str, CollateralFactor] = Field({}, description="of an asset, by name")
    position_fee: Knob = knob(
        "0.06%", low=0, high="5%", unit="of notional", doc="fee for closing a position"
    )
    liquidation_fee: Knob = knob(
        "0.2%", low=0, high="5%", unit="of notional", doc="added where a keeper closes it"
    )

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return every asset's rates as `sized_rate` reads them."""
        factors = per_asset(self.factors, self.factor, tape.assets, "factors")
        return sized_rate_constants(
            [self._rates(factor) for factor in factors], at_entry=True, own_side=True
        )

    def _rates(self, factor: CollateralFactor) -> tuple[GrowingRate, GrowingRate]:
        fee = self.position_fee + self.liquidation_fee
        to_open = factor.least if factor.initial is None else factor.initial
        return (
            GrowingRate(per_open_usd=factor.per_open_usd, least=to_open, fee=fee),
            GrowingRate(base=factor.least, fee=fee),
        )
