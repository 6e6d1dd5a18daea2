"""Results as files: Parquet tables, arrays in one ``.npz``, everything else in readable JSON.

What is read back equals what was written, to the bit, so a report can be made, and two runs
compared, long after the replays themselves.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from backtest.errors import RunError
from backtest.mistakes import first_mistake
from backtest.result import MarginPath, ReplayResult
from backtest.settings import TIME, unit_of
from backtest.venue import VenueRules
from experiments.outputs import read_parquet, read_tables, tables_of, write_tables
from optimize.goal import Goal, Limit, Objective
from optimize.search import Trial
from optimize.space import Dimension
from optimize.study import Pair, StudyResult

if TYPE_CHECKING:
    from backtest.book import AccountBook

_MARGIN = ("initial", "maintenance", "loss")


def save_result(
    result: ReplayResult, book: AccountBook, folder: Path, name: str = "replay"
) -> None:
    """Write ``NAME.json``, ``NAME.npz`` and the tables of `experiments.outputs` into a folder.

    The folder is made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = _arrays(result)
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    write_tables(result, book, folder, name)
    _write_json(
        folder / f"{name}.json",
        {
            "assets": result.assets,
            "tape_digest": result.tape_digest,
            "book_digest": result.book_digest,
            "policy": result.policy,
            "venue": rereadable(result.venue),
            "seed": result.seed,
            "window": result.window,
            "synthetic_market": result.synthetic_market,
            "synthetic_book": result.synthetic_book,
            "notes": result.notes,
            "metrics": result.metrics,
        },
    )


def stored_arrays(result: ReplayResult) -> dict[str, dict[str, np.ndarray]]:
    """Return every array of a replay, by the ending of its file and its name there."""
    tables = {f"{key}.parquet": columns for key, columns in tables_of(result).items()}
    return {"npz": _arrays(result), **tables}


def _arrays(result: ReplayResult) -> dict[str, np.ndarray]:
    return {
        "index": result.index,
        **{f"margin.{key}": getattr(result.margin, key) for key in _MARGIN},
    }


def load_result(folder: Path, name: str = "replay") -> ReplayResult:
    """Read what `save_result` wrote.

    Raises
    ------
    RunError
        If a file is missing or damaged, or holds rules that this version does not know.
    """
    meta = _read_json(folder / f"{name}.json")
    try:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError) as error:
        raise RunError(f"{name}.npz of the run cannot be read: {error}.") from None
    try:
        venue = VenueRules.model_validate(meta["venue"])
    except ValidationError as error:
        said = first_mistake(error, "venue", VenueRules, meta["venue"])
        raise RunError(f"{name}.json of the run cannot be read: {said}") from None
    return ReplayResult(
        assets=tuple(meta["assets"]),
        index=arrays["index"],
        margin=MarginPath(*(arrays[f"margin.{key}"] for key in _MARGIN)),
        tape_digest=meta["tape_digest"],
        book_digest=meta["book_digest"],
        policy=meta["policy"],
        venue=venue,
        seed=meta["seed"],
        window=(meta["window"][0], meta["window"][1]),
        synthetic_market=meta["synthetic_market"],
        synthetic_book=meta["synthetic_book"],
        notes=tuple(meta["notes"]),
        metrics=meta["metrics"],
        **read_tables(folder, name, tuple(meta["assets"])),
    )


def save_study(study: StudyResult, book: AccountBook, folder: Path) -> None:
    """Write a study: four replays, the trial ledger as Parquet, the rest as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, pair in (("incumbent", study.incumbent), ("proposed", study.proposed)):
        save_result(pair.search, book, folder, f"{role}-search")
        save_result(pair.holdout, book, folder, f"{role}-holdout")
    _write_json(
        folder / "study.json",
        {
            "front": study.front,
            "proposal": study.proposal,
            "reason": study.reason,
            "goal": asdict(study.goal),
            "dimensions": [asdict(dimension) for dimension in study.dimensions],
            "search_window": study.search_window,
            "holdout_window": study.holdout_window,
            "batch": study.batch,
            "seed": study.seed,
        },
    )
    _write_trials(study, folder / "trials.parquet")


def load_study(folder: Path) -> StudyResult:
    """Read what `save_study` wrote.

    Raises
    ------
    RunError
        If a file is missing or damaged.
    """
    meta = _read_json(folder / "study.json")
    goal = Goal(
        tuple(Objective(**objective) for objective in meta["goal"]["objectives"]),
        tuple(Limit(**limit) for limit in meta["goal"]["limits"]),
    )
    dimensions = tuple(
        Dimension(**{**values, "choices": tuple(values["choices"])})
        for values in meta["dimensions"]
    )
    trials, holdout = _read_trials(folder / "trials.parquet", goal, dimensions)
    pairs = [
        Pair(load_result(folder, f"{role}-search"), load_result(folder, f"{role}-holdout"))
        for role in ("incumbent", "proposed")
    ]
    return StudyResult(
        trials=trials,
        front=tuple(meta["front"]),
        proposal=meta["proposal"],
        reason=meta["reason"],
        incumbent=pairs[0],
        proposed=pairs[1],
        holdout=holdout,
        goal=goal,
        dimensions=dimensions,
        search_window=(meta["search_window"][0], meta["search_window"][1]),
        holdout_window=(meta["holdout_window"][0], meta["holdout_window"][1]),
        batch=meta["batch"],
        seed=meta["seed"],
    )


def _write_trials(study: StudyResult, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for row in study.rows():
        flat = {key: row[key] for key in ("trial", "role", "state", "feasible", "on_front")}
        flat |= {f"params.{d.path}": row["params"].get(d.path) for d in study.dimensions}
        for group in ("metrics", "violations"):
            flat |= {f"{group}.{key}": value for key, value in row[group].items()}
        flat |= {
            f"holdout.{key}": (row["holdout"] or {}).get(key) for key in study.trials[0].metrics
        }
        rows.append(flat)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


def _read_trials(
    path: Path, goal: Goal, dimensions: tuple[Dimension, ...]
) -> tuple[tuple[Trial, ...], dict[int, dict[str, float]]]:
    trials, holdout = [], {}
    for row in read_parquet(path).to_pylist():
        metrics = _group(row, "metrics.")
        values = {d.path: row[f"params.{d.path}"] for d in dimensions}
        trials.append(
            Trial(
                number=row["trial"],
                values={} if None in values.values() else values,
                metrics=metrics,
                objectives=goal.values(metrics),
                violations=goal.violations(metrics),
                defined=goal.is_defined(metrics),
            )
        )
        judged = _group(row, "holdout.")
        if None not in judged.values():
            holdout[row["trial"]] = judged
    return tuple(trials), holdout


def _group(row: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): row[key] for key in row if key.startswith(prefix)}


def rereadable(rules: BaseModel) -> dict[str, Any]:
    """Write durations with their unit; the model refuses a bare number of milliseconds."""
    written: dict[str, Any] = {}
    for name, info in type(rules).model_fields.items():
        value = getattr(rules, name)
        if isinstance(value, BaseModel):
            written[name] = rereadable(value)
        elif isinstance(value, dict):
            written[name] = {
                key: rereadable(item) if isinstance(item, BaseModel) else item
                for key, item in value.items()
            }
        else:
            is_time = unit_of(info) == TIME and value is not None
            written[name] = f"{value}ms" if is_time else value
    return written


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path.name} of the run cannot be read: {error}.") from None
