"""Venue rules: everything between a margin breach and a socialised loss, as data.

Enforcement belongs to the venue, not to the policy: the same policy can be replayed under
another venue's rules, and the same rules under another policy. `backtest.rules` holds the
groups; this module puts them together and flattens them for the compiled loop.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from backtest.rules.base import Rules
from backtest.rules.checks import MarginCall, MarginCheck, Withdrawals
from backtest.rules.collateral import CoinCollateral
from backtest.rules.liquidation import LAWS, MODES, Liquidation
from backtest.rules.prices import CircuitBreaker, Funding, Oracle, Settlement
from backtest.rules.waterfall import (
    ADL_MODES,
    SOCIALISED_BY,
    AutoDeleveraging,
    Fees,
    InsuranceFund,
    SocialisedLoss,
)
from backtest.units import DurationMs

YARDSTICKS = ("margin_period", "recovery_window")
"""Rules that change no account: they say how coverage and false liquidations are measured."""
UNLIMITED = 1e300
"""Stands for "no limit" where the loop compares amounts."""


class VenueNumbers(NamedTuple):
    """The venue rules as the compiled loop reads them: floats, one unit each."""

    call_level: float
    call_deadline_ms: float
    trigger_on: float
    trigger_level: float
    trigger_refresh_ms: float
    gated_by_deficit: float
    mode: float
    target: float
    minimum_share: float
    step: float
    steps_before_full: float
    proportional_gain: float
    proportional_cap: float
    auction_fast_ms: float
    auction_slow_ms: float
    auction_start: float
    auction_cut: float
    auction_buffer: float
    auction_ramp_ms: float
    auction_every_ms: float
    interval_ms: float
    small_usd: float
    penalty: float
    penalty_on_maintenance: float
    incentive_share: float
    fund_share: float
    impact_law: float
    impact_at_depth: float
    impact_cap: float
    option_delta_floor: float
    feedback_on: float
    permanent_share: float
    half_life_ms: float
    feedback_delay_ms: float
    feedback_least_move: float
    keeper_capacity: float
    keeper_block_ms: float
    keeper_participation: float
    backstop_below: float
    vault_start_usd: float
    fund_start_usd: float
    fund_target_usd: float
    fee_share_to_fund: float
    adl_mode: float
    adl_severity: float
    socialised_by: float
    taker_fee: float
    maker_fee: float
    option_fee_cap: float
    haircuts_on: float
    settlement_average_ms: float


class VenueRules(Rules):
    """All rules of enforcement; every field has a default that a plain venue would use."""

    oracle: Oracle = Oracle()
    margin_check: MarginCheck = MarginCheck()
    margin_call: MarginCall = MarginCall()
    withdrawals: Withdrawals = Withdrawals()
    collateral: dict[str, CoinCollateral] = Field(
        default_factory=dict, description="how each coin counts as collateral; in full if not named"
    )
    liquidation: Liquidation = Liquidation()
    circuit_breaker: CircuitBreaker | None = None
    insurance_fund: InsuranceFund = InsuranceFund()
    auto_deleveraging: AutoDeleveraging = AutoDeleveraging()
    socialised_loss: SocialisedLoss = SocialisedLoss()
    fees: Fees = Fees()
    funding: Funding = Funding()
    settlement: Settlement = Settlement()
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
        liquidation, fund, fees = self.liquidation, self.insurance_fund, self.fees
        auction, impact, keepers = liquidation.auction, liquidation.impact, liquidation.keepers
        feedback, backstop = impact.feedback, liquidation.backstop
        values = {
            "call_level": self.margin_call.level,
            "call_deadline_ms": self.margin_call.deadline,
            "trigger_on": self.margin_check.mode == "trigger",
            "trigger_level": self.margin_check.trigger.level,
            "trigger_refresh_ms": self.margin_check.trigger.refresh,
            "gated_by_deficit": self.withdrawals.gated_by_deficit,
            "mode": MODES.index(liquidation.mode),
            "target": liquidation.target,
            "minimum_share": liquidation.minimum_share,
            "step": liquidation.step,
            "steps_before_full": _limit(liquidation.steps_before_full),
            "proportional_gain": liquidation.proportional.gain,
            "proportional_cap": liquidation.proportional.cap,
            "auction_fast_ms": auction.fast,
            "auction_slow_ms": auction.slow,
            "auction_start": auction.start,
            "auction_cut": auction.cut,
            "auction_buffer": auction.buffer,
            "auction_ramp_ms": auction.insolvent_ramp,
            "auction_every_ms": auction.every,
            "interval_ms": liquidation.interval,
            "small_usd": liquidation.small_usd,
            "penalty": liquidation.penalty,
            "penalty_on_maintenance": liquidation.penalty_base == "maintenance",
            "incentive_share": liquidation.incentive_share,
            "fund_share": (
                1.0 - liquidation.incentive_share
                if liquidation.fund_share is None
                else liquidation.fund_share
            ),
            "impact_law": LAWS.index(impact.law),
            "impact_at_depth": impact.at_depth,
            "impact_cap": impact.cap,
            "option_delta_floor": impact.option_delta_floor,
            "feedback_on": feedback is not None,
            "permanent_share": feedback.permanent_share if feedback else 0.0,
            "half_life_ms": feedback.half_life if feedback else 1.0,
            "feedback_delay_ms": feedback.delay if feedback else 0.0,
            "feedback_least_move": feedback.least_move if feedback else UNLIMITED,
            "keeper_capacity": _limit(keepers.capacity),
            "keeper_block_ms": keepers.block,
            "keeper_participation": keepers.participation,
            "backstop_below": backstop.below if backstop else -1.0,
            "vault_start_usd": backstop.start_usd if backstop else 0.0,
            "fund_start_usd": fund.start_usd,
            "fund_target_usd": _limit(fund.target_usd),
            "fee_share_to_fund": fund.fee_share,
            "adl_mode": ADL_MODES.index(self.auto_deleveraging.mode),
            "adl_severity": self.auto_deleveraging.severity,
            "socialised_by": SOCIALISED_BY.index(self.socialised_loss.by),
            "taker_fee": fees.taker,
            "maker_fee": fees.maker,
            "option_fee_cap": _limit(fees.option_cap),
            "haircuts_on": bool(self.collateral),
            "settlement_average_ms": self.settlement.average,
        }
        return VenueNumbers(**{name: float(value) for name, value in values.items()})


def _limit(value: float | None) -> float:
    return UNLIMITED if value is None else float(value)
