"""The evidence: the front, the margin path, the crises, the losses and the accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.metrics import METRICS
from backtest.units import duration_text
from experiments.report import appendix, figures, tables
from experiments.report.blocks import Chart, Points, Section
from experiments.report.canvas import buckets
from experiments.report.effects import LABELS
from experiments.report.episodes import EPISODES, HOLDOUT_EPISODES
from experiments.report.wording import money, share, zero_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.report.blocks import Block
    from experiments.report.effects import Effect
    from experiments.report.episodes import Episode
    from experiments.report.inputs import ReportInput


RESIDUAL = ("residual_bad_debt_bps", "residual_bad_debt_usd")


def _axis(key: str) -> str:
    label, of = LABELS[key]
    unit = {"bps": "bp ", "USD": "USD ", "share": "share "}.get(METRICS[key].unit, "")
    return f"{label}, {unit}{of}"


def front(report: ReportInput, seen: Mapping[str, Effect], unseen: Mapping[str, Effect]) -> Section:
    """Lay out F1: every trial, the front, and both policies in and out of sample."""
    keys = [objective.metric for objective in report.goal.objectives]
    keys += [limit.metric for limit in report.goal.limits if limit.metric not in keys]
    y = keys[0]
    x = keys[1] if len(keys) > 1 else "locked_collateral_usd"
    shown = [t.metrics[x] for t in report.trials]
    shown += [value for side in (seen[x], unseen[x]) for value in (side.current, side.proposed)]
    remark = ""
    if not any(shown) and x in RESIDUAL:
        remark = (
            f" {LABELS[x][0]} was zero in all {len(shown):,} replays, so the axis shows gross bad "
            "debt, before the fund."
        )
        x = "gross_bad_debt_usd"

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
            connected=not remark,
        )
    )
    caption = (
        "F1. Each mark is one replay of the search window; crosses break a limit. Filled circles: "
        f"both policies in sample; hollow: on the hold-out window.{remark} "
        f"{tables.drivers(report)} Run {report.short_id}."
    )
    return Section("front", "Efficiency against safety", (Chart("F1", chart, caption),))


def margin(report: ReportInput) -> Section:
    """Lay out F2: each asset's margin against its realised moves."""
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


def crises(report: ReportInput, episodes: Sequence[Episode]) -> Section:
    """Lay out T4: both policies in the largest moves of the data."""
    if not episodes:
        none = ("Neither window is long enough to hold a 24-hour move.",)
        return Section("crises", "What happened in the crises", none)
    held_out = sum(episode.held_out for episode in episodes)
    lead = (
        f"The {EPISODES} largest 24-hour moves of both windows together and at least the "
        f"{HOLDOUT_EPISODES} largest of the hold-out, whatever they did to either policy; "
        f"{held_out} of the {len(episodes)} episodes are held out."
    )
    return Section("crises", "What happened in the crises", (lead, tables.crises(report, episodes)))


def losses(
    report: ReportInput, unseen: Mapping[str, Effect], episodes: Sequence[Episode]
) -> Section:
    """Lay out F4: fund, bad debt and liquidations over time, and what they come to."""
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


def population(report: ReportInput) -> Section:
    """Lay out F7: where the accounts come from, and how close they are to their targets."""
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
        blocks.append(appendix.population(report))
    else:
        blocks.append("The run recorded no comparison with calibration targets.")
    return Section("population", "The accounts", tuple(blocks))
