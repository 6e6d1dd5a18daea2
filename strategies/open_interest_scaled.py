"""An initial rate that grows with a market's open interest (dYdX v4).

Every market belongs to a liquidity tier. Between two levels of open interest its initial rate
rises from the tier's base to the whole notional, so that a market grows only as fast as its
tier allows; maintenance margin stays a share of the base, lest a growing market liquidate
those who are in it already. Source: dydxprotocol/v4-chain,
`protocol/x/perpetuals/types/liquidity_tier.go`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.units import Fraction, Usd
from strategies.kernels.sized_rate import GrowingRate, sized_rate, sized_rate_constants
from strategies.perpetuals import PerpetualPolicy
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape

LEAST_WIDTH_USD = 1e-9
"""Stands for a range of no width, above which the rate is the whole notional at once."""


class LiquidityTier(BaseModel):
    """Rates of the markets of one tier, and the open interest that its initial rate reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    initial: Fraction = Field(gt=0.0, le=1.0, description="rate of a market of no open interest")
    maintenance: Fraction = Field(gt=0.0, le=1.0, description="share of that, whatever is open")
    lower: Usd = Field(0.0, ge=0.0, description="open interest from which initial margin rises")
    upper: Usd = Field(0.0, ge=0.0, description="where it is the whole notional; 0 for never")

    @model_validator(mode="after")
    def _ordered(self) -> LiquidityTier:
        if 0.0 < self.upper < self.lower:
            raise ValueError(
                f"the open interest above which margin is the whole notional, "
                f"{self.upper:,.0f} USD, lies below {self.lower:,.0f} USD, from which it rises"
            )
        return self

    def rates(self) -> tuple[GrowingRate, GrowingRate]:
        """Return initial and maintenance rate as the kernel reads them."""
        slope = 0.0
        if self.upper > 0.0:
            slope = (1.0 - self.initial) / max(self.upper - self.lower, LEAST_WIDTH_USD)
        return (
            GrowingRate(base=self.initial, per_open_usd=slope, open_from_usd=self.lower, most=1.0),
            GrowingRate(base=self.initial * self.maintenance),
        )


class OpenInterestScaled(PerpetualPolicy):
    """An initial rate that rises with open interest, by liquidity tiers."""

    name: ClassVar[str] = "open_interest_scaled"
    requirement = sized_rate

    tier: LiquidityTier = Field(
        LiquidityTier(initial=0.05, maintenance=0.6, lower=40e6, upper=100e6),
        description="of every asset without a tier of its own",
    )
    tiers: dict[str, LiquidityTier] = Field({}, description="tier of an asset, by name")

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return every asset's rates as `sized_rate` reads them."""
        tiers = per_asset(self.tiers, self.tier, tape.assets, "tiers")
        return sized_rate_constants([tier.rates() for tier in tiers])
