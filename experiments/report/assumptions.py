"""What every number rests on, and whom each assumption favours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.units import duration_text
from experiments.report.wording import amount, money, percent, public_text

if TYPE_CHECKING:
    from experiments.report.inputs import ReportInput


@dataclass(frozen=True)
class Assumption:
    """One sentence, and the side that it makes look better."""

    text: str
    favours: str


def assumptions(report: ReportInput) -> list[Assumption]:
    """List the assumptions of a report, the venue's numbers filled in."""
    current, proposed = report.holdout.current, report.holdout.proposed
    venue = proposed.venue
    impact = venue.liquidation.impact
    listed = []
    if report.synthetic_market:
        listed.append(
            Assumption(
                "The market is simulated: prices, volatilities and depth follow a model, and no "
                "number here is evidence about a real market.",
                "neither",
            )
        )
    if report.synthetic_book:
        listed.append(
            Assumption(
                "The accounts are synthetic: sizes, leverage and order flow are drawn to meet "
                "stated targets, not observed.",
                "unknown",
            )
        )
    listed += [
        Assumption(
            "Traders send the same orders under both policies; nobody comes, leaves or trades "
            "less because margin changed. What an account cannot fund is rejected and counted "
            f"({money(current.metrics['rejected_notional_usd'])} under the current policy, "
            f"{money(proposed.metrics['rejected_notional_usd'])} under the proposal).",
            "the policy that asks for more",
        ),
        Assumption(
            "Liquidations pay for their own price impact but do not move the recorded price; "
            "cascades are not replayed.",
            "the policy that liquidates more",
        ),
        Assumption(
            f"Impact follows the square-root law: {percent(impact.at_depth)} at a volume equal to "
            f"the depth within 1 % of mid, at most {percent(impact.cap)}.",
            "the policy that liquidates more, if depth is overstated",
        ),
        Assumption(
            "Liquidators always answer: an order to liquidate executes in the row in which it is "
            "due.",
            "the policy that liquidates more",
        ),
        Assumption(
            f"{_oracle(venue.oracle.latency)} and margin is checked once per row of the tape, at "
            f"most {duration_text(int(current.interval_ms.max()))} apart.",
            "the policy that asks for less",
        ),
        Assumption(
            f"The insurance fund starts each window at "
            f"{money(venue.insurance_fund.start_usd)} and nobody refills it but penalties.",
            "neither",
        ),
        Assumption(
            "Coverage is judged on a small perpetual position, long and short, of each asset over "
            f"{duration_text(venue.margin_period)}, or until the first row of the tape after that; "
            "add-ons for size or concentration do not show in it.",
            "the policy without such add-ons",
        ),
        Assumption(
            "All accounts start each window without positions.",
            "neither",
        ),
    ]
    listed += [Assumption(public_text(note), "see the data") for note in report.notes]
    return listed


def _oracle(latency_ms: int) -> str:
    if latency_ms == 0:
        return "The venue's oracle adds no delay to those that the tape carries,"
    return (
        f"The venue's oracle adds {duration_text(latency_ms)} to the delays that the tape carries,"
    )


def untested(report: ReportInput) -> list[str]:
    """Name what a full review has and this report has not."""
    held_out = amount(len(report.holdout.current.ts), "count")
    return [
        "Stress beyond history: gaps, thin depth, keeper outages and oracle failures that the "
        f"{held_out} rows of the hold-out window do not contain.",
        "Sensitivity: how the result changes with the accounts, with the impact coefficient, and "
        "with small changes of the proposed parameters.",
        "Selection: the probability of backtest overfitting and a reality check over all trials.",
    ]
