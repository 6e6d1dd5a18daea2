"""The report of a study that was tracked: everything is read back, nothing is replayed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from backtest.errors import RunError
from backtest.generate import FitRow
from backtest.tape import DataSource
from experiments.report.inputs import Pair, ReportInput
from experiments.report.units import policy_units
from optimize.bootstrap import compare_paired

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.track import RunRecord


def stored_report(record: RunRecord, folder: Path) -> ReportInput:
    """Put together the report of a tracked study.

    Parameters
    ----------
    record
        The run.
    folder
        Its artifacts: what `experiments.run.run_study` kept.

    Raises
    ------
    RunError
        If the run is not a study, or a file of it is missing or damaged.
    """
    if record.kind != "study":
        raise RunError(
            f"run {record.run_id[:8]} is a {record.kind}, and a report needs a study; make one "
            "with 'remargin optimize CONFIG'."
        )
    from experiments.archive import load_study

    study = load_study(folder)
    inputs = _read(folder / "inputs.json")
    search, holdout = (
        Pair(current, proposed, compare_paired(current, proposed, study.seed))
        for current, proposed in (
            (study.incumbent.search, study.proposed.search),
            (study.incumbent.holdout, study.proposed.holdout),
        )
    )
    units: dict[str, str] = {}
    for result in (holdout.current, holdout.proposed):
        units |= policy_units(result.policy)
    return ReportInput(
        run_id=record.run_id,
        name=record.name,
        question=record.question or record.name,
        search=search,
        holdout=holdout,
        goal=study.goal,
        trials=study.trials,
        front=study.front,
        front_holdout=study.holdout,
        proposed_trial=study.proposal,
        selection_rule=study.reason,
        sources=[DataSource(**source) for source in inputs["sources"]],
        notes=inputs["notes"],
        book_origin=inputs["book_origin"],
        book_fit=[FitRow(**row) for row in inputs["book_fit"]],
        manifest=_read(folder / "manifest.json"),
        units=units,
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path.name} of the run cannot be read: {error}.") from None
