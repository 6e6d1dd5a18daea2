"""Current against proposed: each metric's effect, its judgement, and the case that went worst."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.metrics import METRICS, daily_sums
from backtest.units import MS_PER_DAY, iso_utc
from experiments.report.episodes import CRISIS_MOVE, crisis_list, daily_moves, outcome
from experiments.report.verdict import REVERSAL, CrisisLoss, Judgement, Verdict, grade, judge
from optimize.bootstrap import ROUNDING, without_rounding

if TYPE_CHECKING:
    from experiments.report.inputs import Pair, ReportInput
    from optimize.goal import Goal

LABELS = {
    "capital_efficiency": ("Capital efficiency", "open notional ÷ locked collateral"),
    "open_notional_usd": ("Open notional", "time-weighted mean"),
    "locked_collateral_usd": ("Locked collateral", "time-weighted mean"),
    "margin_to_notional": ("Margin to notional", "of open notional"),
    "gross_bad_debt_usd": ("Gross bad debt", "over the window"),
    "insurance_drawdown_usd": ("Insurance drawdown", "over the window"),
    "residual_bad_debt_usd": ("Residual bad debt", "over the window"),
    "residual_bad_debt_bps": ("Residual bad debt rate", "of mean open notional"),
    "adl_usd": ("Deleveraged gains", "taken from winners over the window"),
    "adl_accounts": ("Deleveraged winners", "over the window"),
    "max_adl_haircut": ("Largest deleveraging", "of a winner's gain"),
    "socialised_usd": ("Socialised loss", "charged to others over the window"),
    "deficit_usd": ("Unpaid deficit", "at the end of the window"),
    "fund_replenishment_days": ("Fund below its level", "longest time"),
    "liquidations": ("Liquidations", "steps over the window"),
    "liquidated_notional_usd": ("Liquidated notional", "over the window"),
    "false_liquidation_share": ("False liquidations", "of liquidation steps"),
    "takeovers": ("Backstop takeovers", "accounts over the window"),
    "declined_liquidations": ("Declined liquidations", "attempts over the window"),
    "keeper_cost_usd": ("Keepers' cost", "over the window"),
    "frozen_breaches": ("Frozen breaches", "checks over the window"),
    "missed_triggers": ("Missed triggers", "checks over the window"),
    "needless_triggers": ("Needless triggers", "checks over the window"),
    "largest_shift": ("Largest price shift", "of the recorded price"),
    "cascade_multiplier": ("Cascade multiplier", "loss with feedback ÷ without"),
    "rejected_notional_usd": ("Rejected orders", "notional over the window"),
    "margin_calls_usd": ("Margin calls", "asked for over the window"),
    "peak_to_trough_margin": ("Peak-to-trough margin", "highest ÷ lowest rate"),
    "max_margin_rise_1d": ("Largest one-day margin rise", "of the lowest rate in 24 h"),
    "coverage": ("Coverage", "of rows, assets and sides"),
    "breaches": ("Breaches", "of rows, assets and sides"),
    "ledger_imbalance_usd": ("Ledger imbalance", "largest at any step"),
}
"""What a reader sees for each metric key, and the denominator that belongs to it."""

ALWAYS_HEADLINE = ("gross_bad_debt_usd", "liquidated_notional_usd", "coverage")
"""Shown in the decision box beside the objectives and limits of the search."""

GUARDS = ("gross_bad_debt_usd",)
"""A large fund hides losses from residual bad debt; they speak against a proposal all the same."""

EVENT_SUMS = {
    "gross_bad_debt_usd": "gross_bad_debt_usd",
    "insurance_drawdown_usd": "insurance_drawdown_usd",
    "residual_bad_debt_usd": "residual_bad_debt_usd",
    "residual_bad_debt_bps": "residual_bad_debt_usd",
    "liquidations": "liquidations",
    "liquidated_notional_usd": "liquidated_notional_usd",
    "false_liquidation_share": "false_liquidations",
    **{
        key: key
        for key in (
            "adl_usd",
            "adl_accounts",
            "socialised_usd",
            "takeovers",
            "declined_liquidations",
            "keeper_cost_usd",
            "frozen_breaches",
            "missed_triggers",
            "needless_triggers",
        )
    },
    "rejected_notional_usd": "rejected_notional_usd",
    "margin_calls_usd": "margin_calls_usd",
    "coverage": "breaches",
    "breaches": "breaches",
}
"""Metrics of events, and the daily sum that tells on how many days the event happened."""


@dataclass(frozen=True)
class Effect:
    """One metric of a pair.

    Parameters
    ----------
    key
        Metric key.
    current, proposed
        Values in the metric's unit.
    low, high
        95 % interval of ``proposed - current``; NaN where the metric has none.
    judgement
        By `experiments.report.verdict.judge`.
    current_days, proposed_days
        Days with at least one event, or None where the metric counts no events.
    days
        Days in the window.
    """

    key: str
    current: float
    proposed: float
    low: float
    high: float
    judgement: Judgement
    current_days: int | None
    proposed_days: int | None
    days: int

    @property
    def difference(self) -> float:
        """Proposed minus current; nothing where only rounding tells them apart."""
        if math.isclose(self.proposed, self.current, rel_tol=ROUNDING):
            return 0.0
        return self.proposed - self.current

    @property
    def unseen(self) -> bool:
        """Whether the event happened on no day under either policy: no interval means much."""
        return self.current_days == 0 and self.proposed_days == 0


def effects(pair: Pair, goal: Goal | None = None) -> dict[str, Effect]:
    """Return the effect on every metric, in the order of `METRICS`.

    An objective of the goal is better in the direction in which it was driven, also where the
    metric by itself is neither good nor bad.
    """
    better = {key: metric.better for key, metric in METRICS.items()}
    for objective in goal.objectives if goal else ():
        better[objective.metric] = "higher" if objective.maximise else "lower"
    current_days = daily_sums(pair.current)
    proposed_days = daily_sums(pair.proposed)
    found = {}
    for key in METRICS:
        paired = pair.comparison.intervals.get(key)
        low, high = (
            (paired.difference.low, paired.difference.high) if paired else (math.nan, math.nan)
        )
        event = EVENT_SUMS.get(key)
        found[key] = Effect(
            key=key,
            current=pair.current.metrics[key],
            proposed=pair.proposed.metrics[key],
            low=low,
            high=high,
            judgement=judge(low, high, better[key]),
            current_days=int((current_days[event] > 0).sum()) if event else None,
            proposed_days=int((proposed_days[event] > 0).sum()) if event else None,
            days=len(current_days["hours"]),
        )
    return found


def headline_keys(report: ReportInput) -> list[str]:
    """Return the metrics of the decision box: objectives, limits, then the usual ones."""
    keys = [objective.metric for objective in report.goal.objectives]
    keys += [limit.metric for limit in report.goal.limits]
    return list(dict.fromkeys([*keys, *ALWAYS_HEADLINE]))


def reach_verdict(report: ReportInput, holdout: dict[str, Effect]) -> Verdict:
    """Grade the proposal on the hold-out window."""
    crises = []
    for episode in crisis_list(report.search.current, report.holdout.current):
        if episode.held_out:
            current = outcome(report.holdout.current, episode)
            proposed = outcome(report.holdout.proposed, episode)
            losses = (current.gross_bad_debt_usd, proposed.gross_bad_debt_usd)
            if abs(episode.move) >= CRISIS_MOVE or any(losses):
                crises.append(CrisisLoss(episode.label, *losses, current.open_notional_usd))
    metrics = report.holdout.proposed.metrics
    return grade(
        {o.metric: holdout[o.metric].judgement for o in report.goal.objectives},
        crises,
        # A limit without a number (NaN) is not a limit that was kept.
        [lim.metric for lim in report.goal.limits if not lim.violation(metrics[lim.metric]) <= 0],
        synthetic=report.synthetic_market or report.synthetic_book,
        guards=guarded(holdout),
    )


def guarded(holdout: dict[str, Effect]) -> dict[str, Judgement]:
    """Return the judgement of what may not get worse although nobody searched for it.

    Gross bad debt counts always. Liquidated notional, which is what traders lose by, counts
    where it grows by over a fifth: a policy that frees capital will always move it a little.
    """
    found = {key: holdout[key].judgement for key in GUARDS}
    liquidated = holdout["liquidated_notional_usd"]
    if liquidated.proposed > (1.0 + REVERSAL) * liquidated.current:
        found[liquidated.key] = liquidated.judgement
    return found


@dataclass(frozen=True)
class WorstDay:
    """The UTC day on which the proposal did worst against the current policy.

    Parameters
    ----------
    key
        What it had more of: ``gross_bad_debt_usd`` or ``liquidated_notional_usd``.
    day
        ISO date.
    current_usd, proposed_usd
        Sums of the day.
    asset, move
        The index that moved most over any 24 hours that end on the day, and its move; NaN on a
        window's first day, before which it holds no price.
    worse_days, days
        On how many days of the window the proposal had more of it, of how many.
    held_out
        Whether the day lies in the hold-out window.
    """

    key: str
    day: str
    current_usd: float
    proposed_usd: float
    asset: str
    move: float
    worse_days: int
    days: int
    held_out: bool


def worst_day(pair: Pair, key: str, *, held_out: bool) -> WorstDay | None:
    """Find the day with the largest excess of the proposal, or None if there is none."""
    before = daily_sums(pair.current)
    current, proposed = before[key], without_rounding(before, daily_sums(pair.proposed))[key]
    extra = proposed - current
    at = int(extra.argmax())
    if not extra[at] > 0:
        return None
    ts = pair.current.ts
    day = np.unique(ts // MS_PER_DAY)[at]
    moves, _ = daily_moves(ts, pair.current.index)
    of_day = moves[ts // MS_PER_DAY == day]
    row, asset = np.unravel_index(np.abs(np.nan_to_num(of_day)).argmax(), of_day.shape)
    return WorstDay(
        key=key,
        day=iso_utc(int(day) * MS_PER_DAY)[:10],
        current_usd=float(current[at]),
        proposed_usd=float(proposed[at]),
        asset=pair.current.assets[int(asset)],
        move=float(of_day[row, asset]),
        worse_days=int((extra > 0).sum()),
        days=len(extra),
        held_out=held_out,
    )


def worst_case(report: ReportInput) -> WorstDay | None:
    """Find the one case to tell the voters: most extra bad debt, else most liquidations.

    The hold-out window is asked before the search window, and bad debt before liquidations.
    """
    for key in ("gross_bad_debt_usd", "liquidated_notional_usd"):
        for pair, held_out in ((report.holdout, True), (report.search, False)):
            found = worst_day(pair, key, held_out=held_out)
            if found:
                return found
    return None
