"""The document: what is said, in which order, with every number taken by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.metrics import METRICS
from backtest.units import MS_PER_DAY, iso_utc
from experiments.report import appendix, evidence, tables
from experiments.report.assumptions import assumptions, untested
from experiments.report.blocks import Code, Document, Points, Section
from experiments.report.decision import decision
from experiments.report.effects import LABELS, Effect, effects, reach_verdict
from experiments.report.episodes import CRISIS_MOVE, crisis_list
from experiments.report.verdict import MATERIAL_BPS, REVERSAL
from experiments.report.wording import percent, signed
from optimize.bootstrap import FEWEST_DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experiments.report.inputs import ReportInput
    from experiments.report.verdict import Verdict


def build_document(report: ReportInput) -> tuple[Document, Verdict]:
    """Lay out a report.

    Returns
    -------
    document : Document
        What the templates print.
    verdict : Verdict
        The grade and its reasons.
    """
    unseen, seen = (effects(pair, report.goal) for pair in (report.holdout, report.search))
    verdict = reach_verdict(report, unseen)
    episodes = crisis_list(report.search.current, report.holdout.current)
    document = Document(
        title=report.name,
        question=report.question,
        subtitle=f"Run {report.short_id}. {tables.drivers(report)} "
        f"Judged on {tables.span(report.holdout.current.window)} UTC.",
        warnings=tuple(report.warnings()),
        decision=decision(report, verdict, unseen),
        sections=(
            Section("change", "What the vote changes", (tables.parameters(report),)),
            evidence.front(report, seen, unseen),
            evidence.margin(report),
            evidence.crises(report, episodes),
            evidence.losses(report, unseen, episodes),
            Section(
                "metrics",
                "Every metric, in and out of sample",
                (tables.all_metrics(report, unseen, seen),),
            ),
            evidence.population(report),
            Section("data", "Data", (appendix.inventory(report),)),
            Section(
                "assumptions",
                "Assumptions",
                (
                    "Each line names the side that it makes look better.",
                    appendix.assumption_list(assumptions(report)),
                ),
            ),
            _honesty(report, seen, unseen),
            _uncertainty(report, verdict, unseen),
            _reproduce(report),
            Section("glossary", "Glossary", (appendix.glossary(report),)),
        ),
        footer=f"Every number of this report comes from run {report.run_id} and stands in "
        "report.json under its key.",
    )
    return document, verdict


def _honesty(
    report: ReportInput, seen: Mapping[str, Effect], unseen: Mapping[str, Effect]
) -> Section:
    if not report.trials:
        return Section(
            "honesty",
            "How the proposal was found",
            ("Two given policies were compared; no search was made.",),
        )
    tried = len(report.trials)
    infeasible = sum(not trial.feasible for trial in report.trials)
    sentences = [
        f"{tried:,} trials were evaluated on the search window, the current policy among them; "
        f"{infeasible:,} of {tried:,} break a limit. Trials on the front: {len(report.front):,}.",
        f"Rule of choice: {report.selection_rule}",
    ]
    if report.goal.limits:
        sentences.append(f"Limits of the search: {', '.join(map(str, report.goal.limits))}.")
    for objective in report.goal.objectives:
        inside, outside = seen[objective.metric], unseen[objective.metric]
        unit = METRICS[objective.metric].unit
        sentences.append(
            f"{LABELS[objective.metric][0]}: effect of {signed(inside.difference, unit)} where it "
            f"was searched ({inside.judgement}), {signed(outside.difference, unit)} where it was "
            f"not ({outside.judgement})."
        )
    return Section(
        "honesty",
        "How the proposal was found",
        (Points(tuple(sentences)), tables.front_ledger(report)),
    )


def _uncertainty(report: ReportInput, verdict: Verdict, unseen: Mapping[str, Effect]) -> Section:
    bootstrap = report.holdout.comparison
    rule = (
        "Grade A: better on an objective out of sample, worse on none, nor in gross bad debt, nor "
        f"in liquidated notional by more than {percent(REVERSAL)}, no held-out crisis worse, "
        "every limit kept, market and accounts recorded. B: the same "
        "with a simulated market or synthetic accounts, or worse in fewer than half of the "
        f"held-out crises and by at most {percent(REVERSAL)} in each. C: nothing detectable out "
        "of sample, or no crisis to judge by. D: worse on any of these, a "
        "limit broken, a crisis reversed, or half of them worse. A crisis is a 24-hour move of "
        f"{percent(CRISIS_MOVE)} or more, or one with bad debt, and counts as worse from "
        f"{MATERIAL_BPS:g} bp of open notional in extra bad debt. Only A and B are worded as a "
        "recommendation."
    )
    wrong = []
    for objective in report.goal.objectives:
        effect = unseen[objective.metric]
        if not np.isfinite(effect.low):
            continue
        unit = METRICS[effect.key].unit
        end = effect.low if METRICS[effect.key].better == "higher" else effect.high
        wrong.append(
            f"{LABELS[effect.key][0]}: the interval still allows an effect of {signed(end, unit)}."
        )
    wrong.append(
        f"The hold-out window holds {verdict.crises} crises of the table, and crises are few: "
        "what has not happened in it is not in the intervals."
    )
    return Section(
        "uncertainty",
        "How sure this is",
        (
            f"There are no intervals: fewer than {FEWEST_DAYS} days are too few to resample."
            if bootstrap.days < FEWEST_DAYS
            else f"The intervals come from {bootstrap.resamples:,} paired resamples of "
            f"{bootstrap.days:,} hold-out days in blocks of {bootstrap.block_days:.1f} days on "
            f"average, at a level of {percent(bootstrap.level)}. They cover the luck of which days "
            "were seen. They do not cover the model, the accounts, or a regime that the window "
            "does not hold; bounds for events that did not happen treat days as independent.",
            rule,
            "What would make us wrong:",
            Points(tuple(wrong)),
            "What was not tested:",
            Points(tuple(untested(report))),
        ),
    )


def _reproduce(report: ReportInput) -> Section:
    start, end = report.span
    return Section(
        "reproduce",
        "How to reproduce",
        (
            "The same inputs give the same bits. This replays the run and prints MATCH, or DIFFERS "
            "with the first number that does:",
            Code(f"remargin reproduce {report.short_id}"),
            f"The run spans {(end - start) / MS_PER_DAY:,.0f} days, from {iso_utc(start)} to "
            f"{iso_utc(end)} UTC.",
            appendix.reproduction(report),
        ),
    )
