"""The tables of the evidence, by stable key; every number comes from a result or a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.metrics import METRICS, metrics_that_tell
from backtest.units import MS_PER_DAY, duration_text, iso_utc
from experiments.report.blocks import Cell, Table, Tone
from experiments.report.effects import LABELS, Effect
from experiments.report.episodes import AFTERMATH_MS, LEAD_MS, SPAN_MS, outcome
from experiments.report.wording import (
    amount,
    interval,
    relative,
    setting_text,
    share,
    signed,
)
from optimize.coverage import zero_event_upper_bound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.report.episodes import Episode, Outcome
    from experiments.report.inputs import ReportInput

ABSENT = "not used"
"""A setting that one of two policies does not have."""
LEDGER_ROWS = 12
"""Trials that the ledger prints; report.json holds all of them."""
_TONES: dict[str, Tone] = {"better": "good", "worse": "bad"}


def lay_out(
    key: str, caption: str, columns: str, rows: Sequence[tuple[Cell, ...]], paired: bool = False
) -> Table:
    """Lay out a table; a column that starts with ``>`` aligns right."""
    names = [name.strip() for name in columns.split("|")]
    return Table(
        key=key,
        caption=caption,
        columns=tuple(name.removeprefix(">") for name in names),
        numeric=tuple(name.startswith(">") for name in names),
        rows=tuple(rows),
        paired=paired,
    )


def parameters(report: ReportInput) -> Table:
    """T1: every setting that the vote changes, then how many stay."""
    current, proposed = report.settings("current"), report.settings("proposed")
    rows = []
    same = 0
    for path in dict.fromkeys(["policy", "preset", *proposed, *current]):
        before, after = (
            setting_text(side[path], report.unit(path)) if path in side else ABSENT
            for side in (current, proposed)
        )
        if before == after:
            same += 1
            continue
        if {before, after} == {ABSENT, setting_text(None)}:
            continue
        rows.append((Cell(path), Cell(before), Cell(after)))
    if not rows:
        rows.append((Cell("no setting changes"), Cell("as it is"), Cell("as it is")))
    return lay_out(
        "T1",
        f"What the vote changes; {same} settings of policy and venue stay as they are.",
        "setting|current|proposed",
        rows,
    )


def _value(effect: Effect, value: float, days: int | None) -> Cell:
    text = amount(value, METRICS[effect.key].unit)
    if days is None:
        return Cell(text)
    what = "with a breach" if effect.key == "coverage" else "with any"
    if days:
        return Cell(text, f"{days:,} of {effect.days:,} days {what}")
    # A zero is a count of days without the event, never a proof that it cannot happen.
    bound = f"95 % upper bound {share(zero_event_upper_bound(effect.days))}"
    none = f"0 of {effect.days:,} days"
    return Cell(text, f"{none} {what}; {bound}") if effect.key == "coverage" else Cell(none, bound)


def _effect(effect: Effect) -> tuple[Cell, Cell]:
    unit = METRICS[effect.key].unit
    text = signed(effect.difference, unit)
    # Points of a share have no percentage of their own, and rounding noise deserves none.
    plain = unit == "share" or text[0].isdigit()
    change = Cell(text, "" if plain else relative(effect.difference, effect.current))
    if effect.judgement == "no interval":
        additive = METRICS[effect.key].additive
        why = f"{effect.days:,} days are too few" if additive else "one number per path"
        return change, Cell("no interval", why, "quiet")
    if effect.unseen:
        return change, Cell("nothing to resample", effect.judgement, "quiet")
    return change, Cell(
        interval(effect.low, effect.high, unit),
        effect.judgement,
        _TONES.get(effect.judgement, "quiet"),
    )


def headline(report: ReportInput, holdout: Mapping[str, Effect], keys: Sequence[str]) -> Table:
    """Lay out the decision box's table: current, proposed, effect, 95 % interval."""
    rows = []
    for key in keys:
        effect = holdout[key]
        label, of = LABELS[key]
        rows.append(
            (
                Cell(label, of),
                _value(effect, effect.current, effect.current_days),
                _value(effect, effect.proposed, effect.proposed_days),
                *_effect(effect),
            )
        )
    return lay_out(
        "T2a",
        f"Hold-out window, {span(report.holdout.current.window)}, which the search never saw. "
        f"{drivers(report)}",
        "metric|>current|>proposed|>effect|>95 % interval of the effect",
        rows,
    )


def all_metrics(
    report: ReportInput, holdout: Mapping[str, Effect], search: Mapping[str, Effect]
) -> Table:
    """T2: every metric, hold-out and search window side by side."""
    rows = []
    for key in metrics_that_tell(report.results):
        unseen, seen = holdout[key], search[key]
        label, of = LABELS[key]
        rows.append(
            (
                Cell(label, of),
                _value(unseen, unseen.current, unseen.current_days),
                _value(unseen, unseen.proposed, unseen.proposed_days),
                *_effect(unseen),
                Cell(
                    f"{amount(seen.current, METRICS[key].unit)} → "
                    f"{amount(seen.proposed, METRICS[key].unit)}",
                    seen.judgement,
                    _TONES.get(seen.judgement, "quiet"),
                ),
            )
        )
    return lay_out(
        "T2",
        f"Every metric on the hold-out window ({span(report.holdout.current.window)}); the last "
        f"column is the window that was searched ({span(report.search.current.window)}). "
        f"{drivers(report)}",
        "metric|>current|>proposed|>effect|>95 % interval|>search window",
        rows,
    )


def crises(report: ReportInput, episodes: Sequence[Episode]) -> Table:
    """T4: what both policies did in the largest moves of the data, two rows each."""
    rows = []
    for episode in episodes:
        pair = report.holdout if episode.held_out else report.search
        window = "hold-out" if episode.held_out else "search"
        before, after = outcome(pair.current, episode), outcome(pair.proposed, episode)
        rows += [
            (Cell(episode.label), Cell(signed_move(episode.move)), *_outcome("current", before)),
            (
                Cell(f"{iso_utc(episode.end_ms)} UTC, {window}", tone="quiet"),
                Cell(pair.current.assets[episode.asset], tone="quiet"),
                *_outcome("proposed", after, before),
            ),
        ]
    return lay_out(
        "T4",
        "The largest 24-hour index moves, found in the data. Margin is the initial rate of the "
        "side that was hurt, at the start of the move and at its peak; USD are summed over the "
        f"{duration_text(LEAD_MS + SPAN_MS + AFTERMATH_MS)} around it, at prices of the day. "
        f"{drivers(report)}",
        "24 hours to|>move|policy|>margin before|>margin peak|>liquidated|>bad debt"
        "|>paid by the fund|>residual",
        rows,
        paired=True,
    )


_FLOWS = (
    "liquidated_notional_usd",
    "gross_bad_debt_usd",
    "insurance_drawdown_usd",
    "residual_bad_debt_usd",
)


def _outcome(role: str, mine: Outcome, other: Outcome | None = None) -> tuple[Cell, ...]:
    """Lay out one policy's crisis; toned where it differs from the other's."""
    cells = [
        Cell(role),
        Cell(amount(mine.margin_before, "share")),
        Cell(amount(mine.margin_peak, "share")),
    ]
    for key in _FLOWS:
        value = getattr(mine, key)
        than = value if other is None else getattr(other, key)
        tone: Tone = "bad" if value > than else "good" if value < than else ""
        cells.append(Cell(amount(value, "USD") if value else "none", tone=tone))
    return tuple(cells)


def front_ledger(report: ReportInput) -> Table:
    """T6: both policies and the front, each objective in and out of sample."""
    objectives = [objective.metric for objective in report.goal.objectives]
    by_number = {trial.number: trial for trial in report.trials}
    judged = [number for number in sorted(report.front_holdout) if number in by_number]
    if report.proposed_trial is not None:
        # The incumbent and the proposal first; the rest in the order of the search.
        judged.sort(key=lambda number: (number not in (0, report.proposed_trial), number))
    rows = []
    for number in judged[:LEDGER_ROWS]:
        role = {0: "current", report.proposed_trial: "proposed"}.get(number, "front")
        cells = [Cell(f"{number}", role)]
        for key in objectives:
            seen, unseen = by_number[number].metrics[key], report.front_holdout[number][key]
            unit = METRICS[key].unit
            cells += [Cell(amount(seen, unit)), Cell(amount(unseen, unit))]
        rows.append(tuple(cells))
    columns = "|".join(f">{LABELS[key][0]}, search|>hold-out" for key in objectives)
    return lay_out(
        "T6",
        f"{len(rows)} of the {len(judged)} trials that were judged out of sample: the current "
        "policy, the proposal and the front of the search. All trials are in report.json. "
        f"{drivers(report)}",
        f"trial|{columns}",
        rows,
    )


def span(window: tuple[int, int]) -> str:
    """Write a half-open window by its first and its last day; a short one by its hours."""
    start, end = window
    if end - start < 3 * MS_PER_DAY:
        return f"{iso_utc(start)[:16]} to {iso_utc(end)[:16]}"
    return f"{iso_utc(start)[:10]} to {iso_utc(end - 1)[:10]}"


def drivers(report: ReportInput) -> str:
    """Say what was simulated in whatever stands above or below it."""
    if report.synthetic_market and report.synthetic_book:
        return "Simulated market, synthetic accounts."
    if report.synthetic_market:
        return "Simulated market, recorded accounts."
    if report.synthetic_book:
        return "Recorded market, synthetic accounts."
    return "Recorded market, recorded accounts."


def signed_move(move: float) -> str:
    """Write a price move: ``+14.20 %``."""
    return signed(move, "share").removesuffix("\u00a0pp") + "\u202f%"
