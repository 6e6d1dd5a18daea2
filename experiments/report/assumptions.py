"""What every number rests on, and whom each assumption favours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.units import duration_text
from experiments.report.venue_rules import Assumption, venue_assumptions
from experiments.report.wording import amount, money, public_text

if TYPE_CHECKING:
    from experiments.report.inputs import ReportInput


def assumptions(report: ReportInput) -> list[Assumption]:
    """List the assumptions of a report, the venue's numbers filled in."""
    current, proposed = report.holdout.current, report.holdout.proposed
    venue = proposed.venue
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
        *venue_assumptions(venue, int(current.interval_ms.max())),
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
