"""Venue rules: everything between a margin breach and a socialised loss, as data.

Enforcement belongs to the venue, not to the policy: the same policy can be replayed under
another venue's rules, and the same rules under another policy.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from backtest.units import DurationMs, Fraction, Usd

YARDSTICKS = ("margin_period", "recovery_window")
"""Rules that change no account: they say how coverage and false liquidations are measured."""
FULL = 0
TO_TARGET = 1


class VenueNumbers(NamedTuple):
    """The venue rules as the compiled loop reads them: floats, one unit each."""

    call_level: float
    call_deadline_ms: float
    liquidation_mode: float
    liquidation_target: float
    liquidation_minimum_share: float
    penalty: float
    incentive_share: float
    impact_at_depth: float
    impact_cap: float
    option_delta_floor: float
    taker_fee: float
    fund_start_usd: float


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Oracle(_Rules):
    """How late the venue sees the market."""

    latency: DurationMs = Field(0, ge=0, description="delay between a price and its use, ms")


class MarginCall(_Rules):
    """When an account is asked for more, and how long it has."""

    level: float = Field(
        1.25, ge=1.0, le=10.0, description="call below this multiple of maintenance margin"
    )
    deadline: DurationMs = Field(
        14_400_000, ge=0, description="time until an unpaid call is enforced, ms"
    )


class Impact(_Rules):
    """What it costs to execute against a finite book: the square-root law."""

    at_depth: Fraction = Field(
        0.01,
        ge=0.0,
        le=1.0,
        description="price move when the volume equals the depth resting within 1 % of mid",
    )
    cap: Fraction = Field(0.5, ge=0.0, le=1.0, description="largest price move of one tick")
    option_delta_floor: Fraction = Field(
        0.1, ge=0.0, le=1.0, description="least delta at which an option's exposure is executed"
    )


class Liquidation(_Rules):
    """How much is closed after a breach, and what the account pays for it."""

    mode: Literal["full", "to_target"] = "to_target"
    target: float = Field(
        1.3, ge=1.0, le=10.0, description="multiple of maintenance margin to be restored"
    )
    minimum_share: Fraction = Field(
        0.1, gt=0.0, le=1.0, description="least share of a portfolio that one step closes"
    )
    penalty: Fraction = Field(0.015, ge=0.0, le=0.5, description="share of the closed notional")
    incentive_share: Fraction = Field(
        0.4, ge=0.0, le=1.0, description="share of the penalty that the liquidator keeps"
    )
    impact: Impact = Impact()


class InsuranceFund(_Rules):
    """What stands between a deficit and the other accounts."""

    start_usd: Usd = Field(1_000_000.0, ge=0.0, description="balance at the start, USD")


class Fees(_Rules):
    """What every trade pays."""

    taker: Fraction = Field(0.0005, ge=0.0, le=0.1, description="share of the traded notional")


class VenueRules(_Rules):
    """All rules of enforcement; every field has a default that a plain venue would use."""

    oracle: Oracle = Oracle()
    margin_call: MarginCall = MarginCall()
    liquidation: Liquidation = Liquidation()
    insurance_fund: InsuranceFund = InsuranceFund()
    fees: Fees = Fees()
    margin_period: DurationMs = Field(
        3_600_000, gt=0, description="margin period of risk over which coverage is judged, ms"
    )
    recovery_window: DurationMs = Field(
        86_400_000,
        gt=0,
        description="a liquidation is false if the price is back within this time, ms",
    )

    def numbers(self) -> VenueNumbers:
        """Flatten the rules for the compiled loop."""
        return VenueNumbers(
            call_level=float(self.margin_call.level),
            call_deadline_ms=float(self.margin_call.deadline),
            liquidation_mode=float(TO_TARGET if self.liquidation.mode == "to_target" else FULL),
            liquidation_target=float(self.liquidation.target),
            liquidation_minimum_share=float(self.liquidation.minimum_share),
            penalty=float(self.liquidation.penalty),
            incentive_share=float(self.liquidation.incentive_share),
            impact_at_depth=float(self.liquidation.impact.at_depth),
            impact_cap=float(self.liquidation.impact.cap),
            option_delta_floor=float(self.liquidation.impact.option_delta_floor),
            taker_fee=float(self.fees.taker),
            fund_start_usd=float(self.insurance_fund.start_usd),
        )
