"""What a tape, a book, a replay, a study and a comparison look like in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.result import format_metric
from backtest.units import duration_text, iso_utc
from remargin.terminal import number, short, write_facts, write_line, write_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backtest.book import AccountBook
    from backtest.result import ReplayResult
    from backtest.tape import MarketTape
    from experiments.run import Inputs, PolicyComparison, TrackedStudy

LABEL_WIDTH = 30
SHORT_ID = 8
_HEADLINES = (
    "capital_efficiency",
    "margin_to_notional",
    "gross_bad_debt_usd",
    "residual_bad_debt_bps",
    "liquidations",
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


def policy_line(identity: Mapping[str, Any]) -> str:
    """Say which policy it is: its name and its settings with their units."""
    from experiments.report.units import policy_units
    from experiments.report.wording import flatten, setting_text

    units = policy_units(identity)
    settings = [
        f"{key} {setting_text(value, units.get(key, ''))}"
        for key, value in flatten(identity).items()
        if key not in {"policy", "version"} and value not in (None, "none")
    ]
    return f"{identity['policy']} ({', '.join(settings)})" if settings else str(identity["policy"])


def show_inputs(inputs: Inputs, *, hidden: bool = False) -> None:
    """Write what is replayed: the tape and the book, one line each."""
    if not hidden:
        write_facts([("tape", tape_line(inputs.tape)), ("book", book_line(inputs.book))])


def show_replay(result: ReplayResult) -> None:
    """Write the headline metrics, the worst hour and the ledger."""
    write_line()
    for key in _HEADLINES:
        _metric(key, result.metrics[key], _aside(key, result.metrics))
    ((ts, asset, move),) = result.worst_hours(1) or [(0, "", 0.0)]
    _line("worst hour", f"{iso_utc(ts)}  {move:+.1%}  {asset}")
    _line("ledger", f"balanced to {result.metrics['ledger_imbalance_usd']:.2f} USD")
    for note in result.notes:
        write_line(f"  note: {note}")


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
    rows = []
    for key in _HEADLINES:
        pairs = (study.incumbent, study.proposed)
        cells = [
            format_metric(key, getattr(pair, window).metrics[key])
            for window in ("search", "holdout")
            for pair in pairs
        ]
        rows.append((_label(key), *cells))
    header = ("", "search: current", "proposed", "hold-out: current", "proposed")
    write_table(header, rows, right="lrrrr")


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
    for key, paired in comparison.comparison.intervals.items():
        difference = paired.difference
        rows.append(
            (
                _label(key),
                format_metric(key, paired.current.value),
                format_metric(key, paired.proposed.value),
                format_metric(key, difference.value),
                f"{format_metric(key, difference.low)} to {format_metric(key, difference.high)}",
                "" if paired.detectable else "no detectable difference",
            )
        )
    interval = f"{comparison.comparison.level:.0%} interval"
    write_table(("", "current", "proposed", "difference", interval, ""), rows, right="lrrrr")


def run_line(run_id: str, *commands: str) -> str:
    """Say what can be done next with a run."""
    name = run_id[:SHORT_ID]
    return f"  run {name}" + "".join(f" · remargin {command} {name}" for command in commands)


def _metric(key: str, value: float, aside: str) -> None:
    _line(_label(key), f"{format_metric(key, value):<16}{aside}".rstrip())


def _line(label: str, text: str) -> None:
    write_line(f"  {label:<{LABEL_WIDTH}}{text}")


def _label(key: str) -> str:
    for unit in ("_usd", "_bps"):
        key = key.removesuffix(unit)
    return key.replace("_", " ")


def _aside(key: str, metrics: Mapping[str, float]) -> str:
    asides = {
        "capital_efficiency": "open notional per locked collateral, "
        + format_metric("locked_collateral_usd", metrics["locked_collateral_usd"]),
        "gross_bad_debt_usd": "fund paid "
        + format_metric("insurance_drawdown_usd", metrics["insurance_drawdown_usd"]),
        "residual_bad_debt_bps": "of mean open interest, "
        + format_metric("open_notional_usd", metrics["open_notional_usd"]),
        "liquidations": format_metric("false_liquidation_share", metrics["false_liquidation_share"])
        + " false: price back within the recovery window",
        "coverage": f"{format_metric('breaches', metrics['breaches'])} breaches",
    }
    return asides.get(key, "")


def _clock(ts: np.ndarray) -> str:
    steps = np.unique(np.diff(ts))
    return duration_text(int(steps[0])) if len(steps) == 1 else "uneven clock"
