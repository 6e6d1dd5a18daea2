"""The document: what is said, in which order, with every number taken by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.metrics import METRICS
from backtest.units import MS_PER_DAY, duration_text, iso_utc
from experiments.report import figures, tables
from experiments.report.assumptions import assumptions, untested
from experiments.report.blocks import Chart, Code, Decision, Document, Points, Section
from experiments.report.canvas import buckets
from experiments.report.effects import (
    LABELS,
    Effect,
    effects,
    headline_keys,
    reach_verdict,
    worst_case,
)
from experiments.report.episodes import EPISODES, HOLDOUT_EPISODES, crisis_list
from experiments.report.verdict import MATERIAL_BPS, REVERSAL
from experiments.report.wording import amount, interval, money, percent, share, signed, zero_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.report.blocks import Block
    from experiments.report.episodes import Episode
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
    unseen, seen = effects(report.holdout), effects(report.search)
    verdict = reach_verdict(report, unseen)
    episodes = crisis_list(report.search.current, report.holdout.current)
    document = Document(
        title=report.name,
        question=report.question,
        subtitle=f"Run {report.short_id}. {tables.drivers(report)} "
        f"Judged on {tables.span(report.holdout.current.window)} UTC.",
        warnings=tuple(report.warnings()),
        decision=_decision(report, verdict, unseen),
        sections=(
            Section("change", "What the vote changes", (tables.parameters(report),)),
            _front(report, seen, unseen),
            _margin(report),
            _crises(report, episodes),
            _losses(report, unseen, episodes),
            Section(
                "metrics",
                "Every metric, in and out of sample",
                (tables.all_metrics(report, unseen, seen),),
            ),
            _population(report),
            Section("data", "Data", (tables.inventory(report),)),
            Section(
                "assumptions",
                "Assumptions",
                (
                    "Each line names the side that it makes look better.",
                    tables.assumption_list(assumptions(report)),
                ),
            ),
            _honesty(report, seen, unseen),
            _uncertainty(report, verdict, unseen),
            _reproduce(report),
            Section("glossary", "Glossary", (tables.glossary(),)),
        ),
        footer=f"Every number of this report comes from run {report.run_id} and stands in "
        "report.json under its key.",
    )
    return document, verdict


def _names(keys: Sequence[str]) -> str:
    labels = [LABELS[key][0].lower() for key in keys]
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def _decision(report: ReportInput, verdict: Verdict, unseen: Mapping[str, Effect]) -> Decision:
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
    else:
        reasons.append(
            f"Of the {len(keys)} headline metrics the proposal is detectably worse on none."
        )
    reasons += [f"It breaks a limit of the search: {text}." for text in verdict.broken_constraints]
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
        return f"{label}: {effect.judgement}; under either policy {zero_of(effect.days, 'days')}."
    return (
        f"{label}: {effect.judgement} ({signed(effect.difference, unit)}, 95 % interval "
        f"{interval(effect.low, effect.high, unit)})."
    )


def _crisis_sentence(verdict: Verdict) -> str:
    if verdict.crises == 0:
        return "The hold-out window holds no crisis to judge by."
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
    return (
        f"On {case.day} ({case.asset} {tables.signed_move(case.move)} within 24 hours, "
        f"{window} window) the proposal {what[case.key]} {money(case.proposed_usd)}, the current "
        f"policy {money(case.current_usd)}. It did worse by this measure on "
        f"{case.worse_days:,} of {case.days:,} days."
    )


def _axis(key: str) -> str:
    label, of = LABELS[key]
    unit = {"bps": "bp ", "USD": "USD ", "share": "share "}.get(METRICS[key].unit, "")
    return f"{label}, {unit}{of}"


def _front(
    report: ReportInput, seen: Mapping[str, Effect], unseen: Mapping[str, Effect]
) -> Section:
    keys = [objective.metric for objective in report.goal.objectives]
    keys += [limit.metric for limit in report.goal.limits if limit.metric not in keys]
    y = keys[0]
    x = keys[1] if len(keys) > 1 else "locked_collateral_usd"

    def at(metrics: Mapping[str, float]) -> figures.Point:
        return figures.Point(metrics[x], metrics[y])

    front = set(report.front)
    chart = figures.pareto(
        figures.FrontData(
            x_label=_axis(x),
            y_label=_axis(y),
            infeasible=[at(t.metrics) for t in report.trials if not t.feasible],
            feasible=[at(t.metrics) for t in report.trials if t.feasible and t.number not in front],
            front=[at(t.metrics) for t in report.trials if t.number in front],
            current=figures.Point(seen[x].current, seen[y].current),
            proposed=figures.Point(seen[x].proposed, seen[y].proposed),
            current_holdout=figures.Point(unseen[x].current, unseen[y].current),
            proposed_holdout=figures.Point(unseen[x].proposed, unseen[y].proposed),
        )
    )
    caption = (
        f"F1. Each mark is one replay of the search window; crosses break a limit. Filled circles: "
        f"both policies in sample; hollow: on the hold-out window. {tables.drivers(report)} "
        f"Run {report.short_id}."
    )
    return Section("front", "Efficiency against safety", (Chart("F1", chart, caption),))


def _margin(report: ReportInput) -> Section:
    pair = report.holdout
    result = pair.proposed
    period = duration_text(result.venue.margin_period)
    charts: list[Block] = []
    for a, asset in enumerate(result.assets):
        loss = result.margin.loss[:, a]
        current, proposed = (r.margin.maintenance[:, a] for r in (pair.current, result))
        observed = ~np.isnan(loss) & ~np.isnan(proposed)
        if not observed.any():
            continue
        breach = observed & (loss > proposed)
        before = int((observed & (loss > current)).sum())
        data = figures.MarginData(asset, result.ts, current, proposed, loss, breach)
        first = buckets(len(result.ts), figures.MARGIN_BUCKETS)
        rows = int(first[1]) if len(first) > 1 else len(result.ts)
        width = duration_text(rows * int(np.median(result.interval_ms)))
        breached = int(breach.sum())
        count = int(observed.sum())
        caption = (
            f"F2. {asset}, hold-out window. Grey: the largest price move over the margin period "
            f"({period}) in buckets of {width}, rises up and falls down; lines: the smallest "
            f"maintenance margin of the bucket. Breaches: {before:,} of {count:,} observations "
            f"under the current policy, {breached:,} under the proposal. "
            f"{'Simulated' if report.synthetic_market else 'Recorded'} market. "
            f"Run {report.short_id}."
        )
        charts.append(Chart("F2", figures.margin_path(f"f2-{a}", data), caption))
    lead = (
        "A move outside the envelope is a loss that the margin of a position did not cover. The "
        "wider the envelope, the more capital is locked."
    )
    return Section("margin", "Margin against what the market did", (lead, *charts))


def _crises(report: ReportInput, episodes: Sequence[Episode]) -> Section:
    held_out = sum(episode.held_out for episode in episodes)
    lead = (
        f"The {EPISODES} largest 24-hour moves of both windows together and at least the "
        f"{HOLDOUT_EPISODES} largest of the hold-out, whatever they did to either policy; "
        f"{held_out} of the {len(episodes)} episodes are held out."
    )
    return Section("crises", "What happened in the crises", (lead, tables.crises(report, episodes)))


def _losses(
    report: ReportInput, unseen: Mapping[str, Effect], episodes: Sequence[Episode]
) -> Section:
    pair = report.holdout
    blocks: list[Block] = [
        Chart(
            "F4",
            figures.losses(
                pair.current.ts,
                pair.current.series,
                pair.proposed.series,
                [episode for episode in episodes if episode.held_out],
            ),
            f"F4. Insurance fund, gross bad debt and liquidated notional on the hold-out window; "
            f"bands are the crises of the table above. {tables.drivers(report)} "
            f"Run {report.short_id}.",
        )
    ]
    sentences = []
    for role in ("current", "proposed"):
        bad, steps = unseen["gross_bad_debt_usd"], unseen["liquidations"]
        false = unseen["false_liquidation_share"]
        who = f"Under the {role} policy"
        bad_days, bad_usd = getattr(bad, f"{role}_days"), getattr(bad, role)
        if bad_days == 0:
            sentences.append(f"{who} there was bad debt on {zero_of(bad.days, 'days')}.")
        else:
            residual = getattr(unseen["residual_bad_debt_usd"], role)
            fund = getattr(unseen["insurance_drawdown_usd"], role)
            sentences.append(
                f"{who} there was bad debt on {bad_days:,} of {bad.days:,} days, {money(bad_usd)} "
                f"in all: the fund paid {money(fund)}, and {money(residual)} was left to others."
            )
        count = getattr(steps, role)
        if count == 0:
            sentences.append(f"{who} there were liquidations on {zero_of(steps.days, 'days')}.")
        else:
            closed = getattr(unseen["liquidated_notional_usd"], role)
            sentences.append(
                f"{who} {count:,.0f} liquidation steps closed {money(closed)}; after "
                f"{share(getattr(false, role))} of them the price was back within "
                f"{duration_text(pair.current.venue.recovery_window)}."
            )
    return Section("losses", "Losses and liquidations", (*blocks, Points(tuple(sentences))))


def _population(report: ReportInput) -> Section:
    if not report.synthetic_book:
        return Section("population", "The accounts", (f"Recorded accounts. {report.book_origin}",))
    ratios = [
        (row.name, row.achieved / row.target)
        for row in report.book_fit
        if row.target and np.isfinite(row.achieved)
    ]
    blocks: list[Block] = [
        "The accounts are synthetic. What they were asked to look like, and what they look like:"
    ]
    if ratios:
        caption = (
            "F7. Synthetic accounts: achieved value of each property divided by its target. "
            f"Run {report.short_id}."
        )
        blocks.append(Chart("F7", figures.population(ratios), caption))
    if report.book_fit:
        blocks.append(tables.population(report))
    else:
        blocks.append("The run recorded no comparison with calibration targets.")
    return Section("population", "The accounts", tuple(blocks))


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
        f"{infeasible:,} of {tried:,} break a limit, {len(report.front):,} are on the front.",
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
        "Grade A: better on an objective and worse on none out of sample, no held-out crisis "
        "worse, every limit kept, market and accounts recorded. B: the same with a simulated "
        "market or synthetic accounts, or worse in fewer than half of the held-out crises and by "
        f"at most {percent(REVERSAL)} in each. C: nothing detectable out of sample, or no crisis "
        "to judge by. D: worse on an objective, a limit broken, a crisis reversed or half of them "
        f"worse. A crisis counts as worse from {MATERIAL_BPS:g} bp of open notional in "
        "extra bad debt. Only A and B are worded as a recommendation."
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
            f"The intervals come from {bootstrap.resamples:,} paired resamples of "
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
    days = (report.holdout.current.window[1] - report.search.current.window[0]) / MS_PER_DAY
    return Section(
        "reproduce",
        "How to reproduce",
        (
            "The same inputs give the same bits. This replays the run and prints MATCH, or DIFFERS "
            "with the first number that does:",
            Code(f"remargin reproduce {report.short_id}"),
            f"The run spans {days:,.0f} days, from {iso_utc(report.search.current.window[0])} to "
            f"{iso_utc(report.holdout.current.window[1])} UTC.",
            tables.reproduction(report),
        ),
    )
