"""The decision box: what a delegate reads before anything else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backtest.metrics import METRICS
from experiments.report import tables
from experiments.report.blocks import Decision
from experiments.report.effects import EVENT_SUMS, LABELS, Effect, headline_keys, worst_case
from experiments.report.episodes import CRISIS_MOVE
from experiments.report.wording import amount, interval, money, percent, signed, zero_of
from optimize.bootstrap import FEWEST_DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.report.inputs import ReportInput
    from experiments.report.verdict import Verdict


def _names(keys: Sequence[str]) -> str:
    labels = [LABELS[key][0].lower() for key in keys]
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def decision(report: ReportInput, verdict: Verdict, unseen: Mapping[str, Effect]) -> Decision:
    """Say what the grade is, what it follows from, and where the proposal did worst."""
    keys = headline_keys(report)
    headline = (
        f"Recommend the change, grade {verdict.grade}."
        if verdict.recommended
        else f"Do not recommend the change on this evidence, grade {verdict.grade}."
    )
    reasons = [_objective_sentence(unseen[o.metric]) for o in report.goal.objectives]
    worse = [key for key in keys if unseen[key].judgement == "worse"]
    if worse:
        reasons.append(f"The proposal is worse on {_names(worse)}.")
    elif report.holdout.comparison.days < FEWEST_DAYS:
        reasons.append(
            f"A hold-out window of fewer than {FEWEST_DAYS} days cannot tell an effect from luck."
        )
    else:
        reasons.append(
            f"Of the {len(keys)} headline metrics the proposal is detectably worse on none."
        )
    reasons += [
        f"{LABELS[limit.metric][0]} of "
        f"{amount(unseen[limit.metric].proposed, METRICS[limit.metric].unit)} on the hold-out "
        f"window breaks a limit of the search: {limit}."
        for limit in report.goal.limits
        if limit.metric in verdict.broken_constraints
    ]
    reasons.append(_crisis_sentence(verdict))
    if verdict.synthetic:
        reasons.append(f"{tables.drivers(report)} While either is made up, the grade cannot be A.")
    return Decision(
        grade=verdict.grade,
        headline=headline,
        reasons=tuple(reasons),
        table=tables.headline(report, unseen, keys),
        dissent=_dissent(report, worse, unseen),
    )


def _objective_sentence(effect: Effect) -> str:
    unit = METRICS[effect.key].unit
    label = LABELS[effect.key][0]
    if effect.judgement == "no interval":
        return f"{label}: {signed(effect.difference, unit)}, without an interval."
    if effect.unseen:
        event = "a breach" if EVENT_SUMS[effect.key] == "breaches" else "any"
        return (
            f"{label}: {effect.judgement}; under either policy there was {event} on "
            f"{zero_of(effect.days, 'days')}."
        )
    return (
        f"{label}: {effect.judgement} ({signed(effect.difference, unit)}, 95 % interval "
        f"{interval(effect.low, effect.high, unit)})."
    )


def _crisis_sentence(verdict: Verdict) -> str:
    if verdict.crises == 0:
        return (
            f"The hold-out window holds no crisis to judge by: no 24-hour move of "
            f"{percent(CRISIS_MOVE)} or more among its largest, and no bad debt in them."
        )
    if not verdict.crises_worse:
        return (
            f"It lost materially more in 0 of {verdict.crises} held-out crises; so few crises "
            "bound little."
        )
    return (
        f"It lost more in {len(verdict.crises_worse)} of {verdict.crises} held-out crises: "
        f"{', '.join(verdict.crises_worse)}."
    )


def _dissent(report: ReportInput, worse: Sequence[str], unseen: Mapping[str, Effect]) -> str:
    case = worst_case(report)
    if case is None:
        if worse:
            effect = unseen[worse[0]]
            unit = METRICS[effect.key].unit
            return (
                f"{LABELS[effect.key][0]} on the hold-out window: "
                f"{amount(effect.current, unit)} → {amount(effect.proposed, unit)}."
            )
        days = unseen["gross_bad_debt_usd"].days
        return (
            "The proposal left more bad debt or liquidated more on "
            f"{zero_of(days, 'hold-out days')}."
        )
    what = {"gross_bad_debt_usd": "left bad debt of", "liquidated_notional_usd": "liquidated"}
    window = "hold-out" if case.held_out else "search"
    known = math.isfinite(case.move)
    move = f"{case.asset} {tables.signed_move(case.move)} within 24 hours, " if known else ""
    return (
        f"On {case.day} ({move}{window} window) the proposal {what[case.key]} "
        f"{money(case.proposed_usd)}, the current policy {money(case.current_usd)}. "
        f"It did worse by this measure on {case.worse_days:,} of {case.days:,} days."
    )
