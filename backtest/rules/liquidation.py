"""After a breach: how much is closed, by whom, at what cost, and who is paid."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from backtest.rules.base import Rules, Windows
from backtest.units import DurationMs, Fraction, Usd

FULL, STEP, TO_TARGET, STEP_DOWN, PROPORTIONAL, AUCTION = range(6)
MODES = ("full", "step", "to_target", "step_down", "proportional", "auction")
SQUARE_ROOT, LINEAR = range(2)
LAWS = ("square_root", "linear")


class Feedback(Rules):
    """Liquidations move the price that everybody is margined at."""

    permanent_share: Fraction = Field(
        0.3, ge=0.0, le=1.0, description="part of the move that stays"
    )
    half_life: DurationMs = Field(
        1_800_000, gt=0, description="time in which half of the rest is gone, ms"
    )
    delay: DurationMs = Field(
        60_000, gt=0, description="time until everybody is checked at the moved price, ms"
    )
    least_move: Fraction = Field(
        0.0001, gt=0.0, le=1.0, description="a smaller move calls for no new check"
    )


class Impact(Rules):
    """What it costs to execute against a finite book."""

    law: Literal["square_root", "linear"] = Field(
        "square_root", description="square-root law, or Kyle's linear one"
    )
    at_depth: Fraction = Field(
        0.01,
        ge=0.0,
        le=1.0,
        description="price move when the volume equals the depth resting within 1 % of mid",
    )
    cap: Fraction = Field(0.5, ge=0.0, le=1.0, description="largest price move of one instant")
    option_delta_floor: Fraction = Field(
        0.1, ge=0.0, le=1.0, description="least delta at which an option's exposure is executed"
    )
    feedback: Feedback | None = None


class Auction(Rules):
    """A falling price for a share of the account, as at Derive."""

    fast: DurationMs = Field(600_000, gt=0, description="time from start to cut, ms")
    slow: DurationMs = Field(7_200_000, gt=0, description="time from cut to nothing, ms")
    start: Fraction = Field(1.0, gt=0.0, le=1.0, description="first price, share of value")
    cut: Fraction = Field(0.8, gt=0.0, le=1.0, description="price when the slow part begins")
    buffer: Fraction = Field(
        0.1, ge=0.0, le=1.0, description="margin beyond maintenance that a bid may restore"
    )
    insolvent_ramp: DurationMs = Field(
        600_000, gt=0, description="time in which the pay for an insolvent account rises, ms"
    )
    every: DurationMs = Field(60_000, gt=0, description="time between two looks at the price, ms")


class Proportional(Rules):
    """Size by the degree of insolvency."""

    gain: float = Field(
        1.0, gt=0.0, le=100.0, description="share closed per share of margin missing"
    )
    cap: Fraction = Field(0.25, gt=0.0, le=1.0, description="largest share of one step")


class Keepers(Rules):
    """Who carries out liquidations, and when they will not."""

    capacity: int | None = Field(None, ge=1, description="liquidations per block; no limit if none")
    block: DurationMs = Field(60_000, gt=0, description="length of a block, ms")
    cost_usd: Usd = Field(0.0, ge=0.0, description="cost of one liquidation in a calm market, USD")
    cost_per_move: float = Field(
        0.0, ge=0.0, description="rise of that cost per unit of the largest move of the bar"
    )
    participation: bool = Field(False, description="no keeper works at a loss")
    outages: Windows = Field((), description="windows UTC in which nobody works")


class Backstop(Rules):
    """A vault that takes over accounts the market did not close in time."""

    below: Fraction = Field(
        0.6667, ge=0.0, le=1.0, description="share of maintenance margin below which it takes over"
    )
    start_usd: Usd = Field(0.0, ge=0.0, description="the vault's balance at the start, USD")


class Liquidation(Rules):
    """How much is closed after a breach, and what the account pays for it."""

    mode: Literal["full", "step", "to_target", "step_down", "proportional", "auction"] = "to_target"
    target: float = Field(
        1.3, ge=1.0, le=10.0, description="multiple of maintenance margin to be restored"
    )
    minimum_share: Fraction = Field(
        0.1, gt=0.0, le=1.0, description="least share of a portfolio that one step closes"
    )
    step: Fraction = Field(
        0.2, gt=0.0, le=1.0, description="mode step: share of the first portfolio per step"
    )
    steps_before_full: int | None = Field(
        None, ge=1, description="after this many steps everything is closed"
    )
    brackets: tuple[Usd, ...] = Field(
        (), description="mode step_down: notional at which each bracket begins, USD, ascending"
    )
    proportional: Proportional = Proportional()
    auction: Auction = Auction()
    interval: DurationMs = Field(
        0, ge=0, description="time between two steps of one account, ms; 0 waits for the next check"
    )
    small_usd: Usd = Field(0.0, ge=0.0, description="smaller portfolios are closed at once, USD")
    penalty: Fraction = Field(0.015, ge=0.0, le=0.5, description="share of the penalty's base")
    penalty_base: Literal["notional", "maintenance"] = Field(
        "notional", description="the closed notional, or the maintenance margin it released"
    )
    incentive_share: Fraction = Field(
        0.4, ge=0.0, le=1.0, description="share of the penalty that the liquidator keeps"
    )
    fund_share: Fraction | None = Field(
        None, ge=0.0, le=1.0, description="share that the fund gets; all the rest if not given"
    )
    impact: Impact = Impact()
    keepers: Keepers = Keepers()
    backstop: Backstop | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Liquidation:
        if any(b <= a for a, b in zip(self.brackets, self.brackets[1:], strict=False)):
            raise ValueError("brackets must ascend")
        if self.mode == "step_down" and not self.brackets:
            raise ValueError("mode step_down needs brackets")
        if self.fund_share is not None and self.incentive_share + self.fund_share > 1.0 + 1e-12:
            raise ValueError("incentive_share and fund_share together exceed 100 %")
        return self
