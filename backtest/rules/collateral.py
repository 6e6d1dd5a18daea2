"""What a coin counts for as collateral: its weight, from one down to nothing.

Equity for margin counts a positive balance of a coin at ``weight x index``; a debt counts in
full. The weight is

``max(0, 1 - haircut - treasury - depth - wrong_way - de_peg) x min(1, scale_start / deposits)``

so that a haircut grows with the size of the balance, with the position beside it, and with how
much of the coin the whole venue holds (Drift's and Mango's deposit scaling).
"""

from __future__ import annotations

from pydantic import Field

from backtest.rules.base import Rules
from backtest.units import Fraction, Usd


class Peg(Rules):
    """A coin that is meant to stand at one price."""

    usd: float = Field(1.0, gt=0.0, description="price it is pegged to, USD")
    threshold: Fraction = Field(0.01, ge=0.0, le=1.0, description="distance that is forgiven")
    factor: float = Field(
        4.0, ge=0.0, le=100.0, description="haircut per unit of distance beyond the threshold"
    )


class Treasury(Rules):
    """Tokenised treasury collateral: what rates and credit may take from it."""

    duration_years: float = Field(0.25, ge=0.0, le=50.0, description="sensitivity to rates")
    rate_shock: Fraction = Field(0.01, ge=0.0, le=1.0, description="rise of rates to withstand")
    spread_duration_years: float = Field(
        0.25, ge=0.0, le=50.0, description="sensitivity to the issuer's credit spread"
    )
    credit_spread: Fraction = Field(0.0, ge=0.0, le=1.0, description="spread to lose")

    def loss(self) -> float:
        """Return the share of its value that shock and spread take."""
        by_rates = self.duration_years * self.rate_shock
        return by_rates + self.spread_duration_years * self.credit_spread


class CoinCollateral(Rules):
    """How one coin counts."""

    haircut: Fraction = Field(0.0, ge=0.0, le=1.0, description="taken from every balance")
    depth_impact: Fraction = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="taken when the balance equals the depth within 1 % of mid; square-root law",
    )
    scale_start_usd: Usd | None = Field(
        None, gt=0.0, description="above this much on the whole venue the weight shrinks, USD"
    )
    wrong_way: Fraction = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="taken when positions as large as the balance lose where the coin loses",
    )
    correlation: float = Field(
        0.7, ge=-1.0, le=1.0, description="correlation of the coin with other assets' positions"
    )
    peg: Peg | None = None
    treasury: Treasury | None = None
