"""What every metric key means: unit, direction, definition, and the venue rule it speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.venue import VenueRules

CASCADE = "cascade_multiplier"
"""Key of the one metric that takes a second replay; `backtest.cascade` computes it."""


@dataclass(frozen=True)
class Metric:
    """What a metric key means.

    Parameters
    ----------
    unit
        ``"x"`` for ratios of money to money, ``"share"``, ``"bps"``, ``"USD"``, ``"days"`` or
        ``"count"``.
    better
        Which direction is better for the venue and its users together.
    definition
        One sentence, numerator and denominator named.
    additive
        Whether `from_sums` computes it.
    rule
        Whether a venue has the rule that the metric speaks of; None where every venue has it.
    """

    unit: str
    better: Literal["higher", "lower", "neutral"]
    definition: str
    additive: bool = True
    rule: Callable[[VenueRules], bool] | None = None


def _deleverages(venue: VenueRules) -> bool:
    return venue.auto_deleveraging.mode != "none"


def _triggers(venue: VenueRules) -> bool:
    return venue.margin_check.mode == "trigger"


def _halts(venue: VenueRules) -> bool:
    oracle = venue.oracle
    stale = oracle.stale_after is not None and oracle.when_stale == "halt"
    return stale or oracle.confidence.limit is not None or venue.circuit_breaker is not None


def _keepers_pay(venue: VenueRules) -> bool:
    keepers = venue.liquidation.keepers
    return keepers.cost_usd > 0.0 or keepers.cost_per_move > 0.0


def _feeds_back(venue: VenueRules) -> bool:
    return venue.liquidation.impact.feedback is not None


METRICS: dict[str, Metric] = {
    "capital_efficiency": Metric(
        "x",
        "higher",
        "Time-weighted open notional divided by time-weighted locked collateral; 0 if nothing "
        "was open.",
    ),
    "open_notional_usd": Metric(
        "USD", "neutral", "Time-weighted mean of open notional, options at their underlying's."
    ),
    "locked_collateral_usd": Metric(
        "USD",
        "lower",
        "Time-weighted mean of the positive equity of accounts that hold positions.",
    ),
    "margin_to_notional": Metric(
        "share",
        "neutral",
        "Time-weighted initial margin required divided by time-weighted open notional.",
    ),
    "gross_bad_debt_usd": Metric(
        "USD",
        "lower",
        "Sum of the shortfalls of accounts whose last position was closed below zero equity; a "
        "flow, once per account and closing, before the insurance fund.",
    ),
    "insurance_drawdown_usd": Metric(
        "USD", "lower", "Part of gross bad debt that the insurance fund paid."
    ),
    "residual_bad_debt_usd": Metric(
        "USD",
        "lower",
        "Part of gross bad debt that the fund could not pay: it is left to winners, then to all.",
    ),
    "residual_bad_debt_bps": Metric(
        "bps",
        "lower",
        "Residual bad debt of the whole window in basis points of mean open notional.",
    ),
    "adl_usd": Metric(
        "USD",
        "lower",
        "Part of residual bad debt that auto-deleveraging took from winners.",
        rule=_deleverages,
    ),
    "adl_accounts": Metric(
        "count", "lower", "Winners deleveraged, counted once per deficit.", rule=_deleverages
    ),
    "max_adl_haircut": Metric(
        "share",
        "lower",
        "Largest part of a winner's unrealised gain in an asset that one deficit took.",
        additive=False,
        rule=_deleverages,
    ),
    "socialised_usd": Metric(
        "USD",
        "lower",
        "What other accounts were charged, or paid out less, for residual bad debt that winners "
        "did not cover.",
        rule=lambda venue: _deleverages(venue) or venue.socialised_loss.by != "equity",
    ),
    "deficit_usd": Metric(
        "USD",
        "lower",
        "Deficit that nobody had paid at the end of the window.",
        additive=False,
        rule=lambda venue: venue.socialised_loss.by == "withdrawal",
    ),
    "fund_replenishment_days": Metric(
        "days",
        "lower",
        "Longest time that the insurance fund stood below an earlier level of its own; infinite "
        "if it still does at the end, 0 if it never paid.",
        additive=False,
        rule=lambda venue: venue.insurance_fund.target_usd is not None,
    ),
    "liquidations": Metric("count", "lower", "Liquidation steps executed."),
    "liquidated_notional_usd": Metric("USD", "lower", "Notional closed by liquidation steps."),
    "false_liquidation_share": Metric(
        "share",
        "lower",
        "Share of liquidation steps after which the index of the portfolio's largest exposure "
        "was back, within the venue's recovery window, at its level of the row before the step.",
    ),
    "takeovers": Metric(
        "count",
        "lower",
        "Accounts that the backstop vault took over; they are no liquidation steps.",
        rule=lambda venue: venue.liquidation.backstop is not None,
    ),
    "declined_liquidations": Metric(
        "count",
        "lower",
        "Liquidations that no keeper carried out, because the pay was below the cost; counted at "
        "every attempt.",
        rule=lambda venue: venue.liquidation.keepers.participation,
    ),
    "keeper_cost_usd": Metric(
        "USD", "lower", "What liquidations cost those who carried them out.", rule=_keepers_pay
    ),
    "frozen_breaches": Metric(
        "count",
        "lower",
        "Checks that found an account below maintenance margin while the venue could not act on "
        "one of its prices.",
        rule=_halts,
    ),
    "missed_triggers": Metric(
        "count",
        "lower",
        "Checks at which an account was below maintenance margin and the linear trigger was "
        "silent.",
        rule=_triggers,
    ),
    "needless_triggers": Metric(
        "count",
        "lower",
        "Full checks that the linear trigger asked for and that found no breach.",
        rule=_triggers,
    ),
    "largest_shift": Metric(
        "share",
        "lower",
        "Largest distance to which liquidations moved an index from its recorded price.",
        additive=False,
        rule=_feeds_back,
    ),
    CASCADE: Metric(
        "x",
        "lower",
        "Loss with the feedback of liquidations on prices divided by the loss of the same replay "
        "without it; loss is gross bad debt and what liquidated accounts paid out of equity of "
        "their own in slippage, discounts and penalties.",
        additive=False,
        rule=_feeds_back,
    ),
    "rejected_notional_usd": Metric(
        "USD",
        "lower",
        "Notional of orders refused because the account could not fund the initial margin, or "
        "because the instrument had no price.",
    ),
    "margin_calls_usd": Metric("USD", "lower", "Sum of what margin calls asked for."),
    "peak_to_trough_margin": Metric(
        "x",
        "lower",
        "Highest over lowest initial margin rate of a perpetual probe in the window, the worst "
        "asset and side.",
        additive=False,
    ),
    "max_margin_rise_1d": Metric(
        "share",
        "lower",
        "Largest rise of a perpetual probe's initial margin rate over its lowest value of the "
        "24 hours before, the worst asset and side.",
        additive=False,
    ),
    "coverage": Metric(
        "share",
        "higher",
        "Share of observations (row, asset, side) whose loss over the venue's margin period was "
        "at most the maintenance margin asked at its start; 1 if there were none.",
    ),
    "breaches": Metric(
        "count",
        "lower",
        "Observations (row, asset, side) whose loss over the margin period exceeded the "
        "maintenance margin asked at its start.",
    ),
    "ledger_imbalance_usd": Metric(
        "USD",
        "lower",
        "Largest difference, at any step, between all money there is and all there was.",
        additive=False,
    ),
}
