"""What a tape, a book, a replay, a study and a comparison look like in a terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.metrics import METRICS, metrics_that_tell
from backtest.result import format_metric
from backtest.units import MS_PER_HOUR, duration_text, iso_utc
from optimize.bootstrap import FEWEST_DAYS
from remargin.terminal import number, short, write_facts, write_line, write_remarks, write_table

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.result import ReplayResult
    from backtest.tape import MarketTape
    from experiments.run import Inputs, PolicyComparison, TrackedStudy
    from optimize.study import StudyResult

LABEL_WIDTH = 24
VALUE_WIDTH = 16
SHORT_ID = 8
MOST_ON_FRONT = 12
_HEADLINES = (
    "capital_efficiency",
    "margin_to_notional",
    "gross_bad_debt_usd",
    "residual_bad_debt_bps",
    "adl_usd",
    "socialised_usd",
    "deficit_usd",
    "fund_replenishment_days",
    "liquidations",
    "takeovers",
    "declined_liquidations",
    "keeper_cost_usd",
    "frozen_breaches",
    "missed_triggers",
    "cascade_multiplier",
    "coverage",
    "rejected_notional_usd",
    "margin_calls_usd",
    "max_margin_rise_1d",
)


def tape_line(tape: MarketTape) -> str:
    """Say what a tape holds: ``BTC ETH · 1h · 2020-10-23 → 2024-06-16 · … · 5e1c…9a``."""
    options = int((tape.instruments.kind != 0).sum())
    parts = [
        " ".join(tape.assets) + (" simulated" if tape.synthetic else ""),
        _clock(tape.ts),
        f"{iso_utc(int(tape.ts[0]))[:10]} → {iso_utc(int(tape.ts[-1]))[:10]}",
        f"{number(len(tape))} ticks",
        *([f"{number(options)} options"] if options else []),
        short(tape.digest),
    ]
    return " · ".join(parts)


def tape_record(tape: MarketTape) -> dict[str, Any]:
    """Return the facts of a tape for JSON."""
    return {
        "digest": tape.digest,
        "assets": tape.assets,
        "start": iso_utc(int(tape.ts[0])),
        "end": iso_utc(int(tape.ts[-1])),
        "rows": len(tape),
        "instruments": len(tape.instruments),
        "option_snapshots": len(tape.vol_ts),
        "synthetic": tape.synthetic,
        "notes": tape.notes,
        "sources": tape.sources,
    }


def book_line(book: AccountBook) -> str:
    """Say what a book holds: ``5,000 synthetic accounts · 61,204 orders · 7d0f…22``."""
    kind = "synthetic" if book.synthetic else book.mode
    accounts, orders = number(len(book)), number(len(book.order_ts))
    return f"{accounts} {kind} accounts · {orders} orders · {short(book.digest)}"


def show_inputs(inputs: Inputs, *, hidden: bool = False) -> None:
    """Write what is replayed: the tape and the book, one line each."""
    if not hidden:
        write_facts([("tape", tape_line(inputs.tape)), ("book", book_line(inputs.book))])


def show_replay(result: ReplayResult) -> None:
    """Write the headline metrics, the worst hour and the ledger."""
    write_line()
    for key in _headlines(result):
        _line(_label(key), amount(key, result.metrics[key]), _aside(key, result))
    for ts, asset, move in result.worst_hours(1):
        hourly = np.all(np.diff(result.ts) == MS_PER_HOUR)
        name = "worst hour" if hourly else "worst tick"
        _line(name, f"{100 * move:+.1f} %", f"{asset} {iso_utc(ts)}")
    _line("ledger", f"balanced to {result.metrics['ledger_imbalance_usd']:.2f} USD")
    if result.notes:
        write_line()
    write_remarks(result.notes)


def show_study(tracked: TrackedStudy) -> None:
    """Write what was searched, what is proposed and what it does on the hold-out window."""
    study = tracked.study
    trials = study.trials[1:]
    infeasible = sum(not trial.feasible for trial in trials)
    chosen = study.trials[study.proposal]
    write_line()
    write_facts(
        [
            ("searched", f"{len(trials)} trials, {infeasible} outside the limits, "
             f"{len(study.front)} on the front"),
            ("proposal", f"trial {study.proposal}: {study.reason}"),
        ]
    )  # fmt: skip
    for dimension in study.dimensions:
        if dimension.path in chosen.values:
            write_line(
                f"            {dimension.path} = {dimension.text(chosen.values[dimension.path])}"
            )
    write_line()
    _show_front(study)
    rows: list[tuple[str, ...]] = [("", "current", "proposed", "current", "proposed")]
    pairs = (study.incumbent, study.proposed)
    for key in _headlines(*(getattr(pair, w) for pair in pairs for w in ("search", "holdout"))):
        cells = [
            amount(key, getattr(pair, window).metrics[key])
            for window in ("search", "holdout")
            for pair in pairs
        ]
        rows.append((_label(key), *cells))
    write_table(("", "search", "", "hold-out", ""), rows, right="lrrrr")


def _show_front(study: StudyResult) -> None:
    """Write the settings that no other one beats in every objective, on the search window."""
    if not study.front:
        return
    names = [objective.metric for objective in study.goal.objectives]
    paths = [dimension.path.partition(".")[2] for dimension in study.dimensions]
    rows: list[tuple[str, ...]] = []
    for at in study.front[:MOST_ON_FRONT]:
        trial = study.trials[at]
        told = [amount(name, trial.metrics[name]) for name in names]
        told += [
            dimension.text(trial.values[dimension.path]) if dimension.path in trial.values else "-"
            for dimension in study.dimensions
        ]
        rows.append(("current" if at == 0 else f"trial {at}", *told))
    head = ("front", *map(_label, names), *paths)
    write_table(head, rows, right="l" + "r" * (len(head) - 1))
    if len(study.front) > MOST_ON_FRONT:
        write_line(f"  and {len(study.front) - MOST_ON_FRONT} more, in trials.parquet")
    write_line()


def study_record(tracked: TrackedStudy) -> dict[str, Any]:
    """Return a study for JSON: proposal, metrics by role and window, and the manifest."""
    from experiments.run import study_numbers

    study = tracked.study
    return {
        "run_id": tracked.run_id,
        "trials": len(study.trials) - 1,
        "front": study.front,
        "proposal": {
            "trial": study.proposal,
            "reason": study.reason,
            "params": dict(study.trials[study.proposal].values),
        },
        "metrics": study_numbers(study),
        "manifest": tracked.manifest,
    }


def show_comparison(comparison: PolicyComparison) -> None:
    """Write current, proposed and the difference with its interval, one metric a line."""
    rows = []
    few = comparison.comparison.days < FEWEST_DAYS
    told = metrics_that_tell([comparison.current, comparison.proposed])
    for key in [key for key in comparison.comparison.intervals if key in told]:
        paired = comparison.comparison.intervals[key]
        difference = paired.difference
        ends = amount(key, difference.low), amount(key, difference.high)
        rows.append(
            (
                _label(key),
                amount(key, paired.current.value),
                amount(key, paired.proposed.value),
                amount(key, difference.value),
                "none" if few else _interval(*ends),
                "" if paired.detectable else "*",
            )
        )
    interval = f"{comparison.comparison.level:.0%} interval"
    write_table(("", "current", "proposed", "difference", interval, ""), rows, right="lrrrr")
    write_line()
    why = (
        f"fewer than {FEWEST_DAYS} days are too few to tell an effect from luck"
        if few
        else "zero lies within the interval"
    )
    write_remarks([f"no detectable difference: {why}"], "*")


def run_line(run_id: str, *commands: str) -> str:
    """Say what can be done next with a run."""
    name = run_id[:SHORT_ID]
    return f"  run {name}" + "".join(f" · remargin {command} {name}" for command in commands)


def tables_line(run_id: str) -> str:
    """Say where a run keeps its tables."""
    return f"  tables    {tables_folder(run_id)}{os.sep}*.parquet, explained in docs/outputs.md"


def tables_folder(run_id: str) -> Path:
    """Find the folder of a run's files; from a tracking server, a copy."""
    from experiments.track import Tracker

    folder = Tracker().artifacts(run_id)
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def amount(key: str, value: float) -> str:
    """Write a metric with its unit, large sums of money short: ``1.31 M USD``."""
    if METRICS[key].unit == "USD" and abs(value) >= 1e6:
        scale, letter = (1e9, "bn") if abs(value) >= 1e9 else (1e6, "M")
        return f"{value / scale:,.2f} {letter} USD"
    return format_metric(key, value)


def _headlines(*results: ReplayResult) -> list[str]:
    told = metrics_that_tell(results)
    return [key for key in _HEADLINES if key in told]


def _interval(low: str, high: str) -> str:
    """Write the unit of both ends once where they share it."""
    (low_number, *low_unit), (_, *unit) = low.split(" "), high.split(" ")
    return f"{low_number if low_unit == unit else low} to {high}"


def _line(label: str, text: str, aside: str = "") -> None:
    write_line(f"  {label:<{LABEL_WIDTH}}{text:<{VALUE_WIDTH}}{aside}".rstrip())


def _label(key: str) -> str:
    for unit in ("_usd", "_bps", "_days"):
        key = key.removesuffix(unit)
    return key.replace("_", " ")


def _aside(key: str, result: ReplayResult) -> str:
    def told(name: str) -> str:
        return amount(name, result.metrics[name])

    recovery = duration_text(result.venue.recovery_window)
    asides = {
        "capital_efficiency": f"of {told('locked_collateral_usd')} locked collateral",
        "gross_bad_debt_usd": f"of which the fund paid {told('insurance_drawdown_usd')}",
        "residual_bad_debt_bps": f"of {told('open_notional_usd')} mean open interest",
        "adl_usd": f"{told('adl_accounts')} winners, at most {told('max_adl_haircut')} of a gain",
        "missed_triggers": f"and {told('needless_triggers')} needless ones",
        "cascade_multiplier": f"prices moved by at most {told('largest_shift')}",
        "liquidations": f"{told('false_liquidation_share')} false: price back within {recovery}",
        "coverage": f"{told('breaches')} breaches",
    }
    return asides.get(key, "")


def _clock(ts: np.ndarray) -> str:
    steps = np.unique(np.diff(ts))
    return duration_text(int(steps[0])) if len(steps) == 1 else "uneven clock"
