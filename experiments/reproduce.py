"""Run a tracked run again from its manifest and compare every number, to the bit."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.errors import RunError
from backtest.tape import array_digest
from experiments.archive import load_result, load_study, stored_arrays
from experiments.config import config_from
from experiments.manifest import package_versions, source_hash
from experiments.market_data import snapshot_of
from experiments.run import (
    Inputs,
    Role,
    inputs_of,
    problem_of,
    replay_role,
    study_numbers,
)
from optimize.study import run_study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backtest.result import ReplayResult
    from experiments.config import RunConfig
    from experiments.manifest import Manifest
    from experiments.track import Tracker


@dataclass(frozen=True)
class Reproduction:
    """Whether a run came out again.

    Parameters
    ----------
    run_id
        The run that was repeated.
    checked
        How many values were compared, the first that differs included.
    difference
        What differs first, as a sentence; None if nothing does.
    changed
        What is not as it was when the run was made, whether or not a number shows it: ``code``,
        ``python`` or the name of a package.
    """

    run_id: str
    checked: int
    difference: str | None = None
    changed: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        """Whether every value is the same, to the bit."""
        return self.difference is None

    def __str__(self) -> str:
        """Say MATCH or DIFFERS, and what was compared."""
        since = f"; changed since the run: {', '.join(self.changed)}" if self.changed else ""
        if self.matches:
            return f"MATCH  run {self.run_id[:8]}: {self.checked:,} values equal to the bit{since}"
        return f"DIFFERS  run {self.run_id[:8]}: {self.difference}{since}"


def reproduce(
    run: str,
    tracker: Tracker,
    *,
    store: Path | None = None,
    inputs: Inputs | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reproduction:
    """Repeat a run and compare snapshot, tape, book, config, metrics and trials, in this order.

    Parameters
    ----------
    run
        Id, its beginning, or ``latest``.
    tracker
        Where the run is kept.
    store
        DuckDB file or snapshot; the config's or the workspace's if not given.
    inputs
        Tape and book, if they are built already.
    workers
        Threads of a study; one per processor if not given.
    progress
        Called with rows or trials done, and all of them.

    Raises
    ------
    RunError
        If there is no such run, it is unfinished, or its files are damaged.
    """
    record = tracker.find_run(run)
    manifest = tracker.manifest(record.run_id)
    folder = tracker.artifacts(record.run_id)
    config = config_from(manifest.config, Path(f"manifest of run {record.run_id[:8]}"))
    inputs = inputs or inputs_of(config, store)
    changed = _changed(manifest)
    checked = 0
    for what, before, now in _steps(manifest, config, inputs, folder, workers, progress):
        checked += 1
        if not _same(before, now):
            said = f"{what} was {_short(before)}, is {_short(now)}"
            return Reproduction(record.run_id, checked, said, changed)
    return Reproduction(record.run_id, checked, None, changed)


def _changed(manifest: Manifest) -> tuple[str, ...]:
    """Name what a run depends on and what is no longer what it was."""
    then = {"code": manifest.source_hash, "python": manifest.python, **manifest.packages}
    now = {"code": source_hash(), "python": platform.python_version(), **package_versions()}
    return tuple(name for name, version in then.items() if now.get(name) != version)


def _steps(
    manifest: Manifest,
    config: RunConfig,
    inputs: Inputs,
    folder: Path,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[str, Any, Any]]:
    """Yield what is compared; a replay starts only when everything before it was equal."""
    if manifest.snapshot_digest:
        read = snapshot_of(inputs.tape)
        yield "snapshot digest", manifest.snapshot_digest, read.sha256 if read else None
    yield "tape digest", manifest.tape_digest, inputs.tape.digest
    yield "book digest", manifest.book_digest, inputs.book.digest
    yield "config hash", manifest.config_hash, config.digest
    recorded = _recorded_numbers(folder)
    if manifest.kind == "replay":
        role: Role = "incumbent" if manifest.options.get("role") == "incumbent" else "candidate"
        result = replay_role(config, role, inputs, progress)
        yield from _numbers(recorded, result.metrics)
        yield from _stored("replay", load_result(folder), result)
        return
    if manifest.kind != "study":
        raise RunError(f"a run of kind {manifest.kind!r} cannot be repeated by itself.")
    problem = problem_of(config, inputs, manifest.options.get("trials"))
    again = run_study(problem, workers=workers or os.cpu_count() or 1, progress=progress)
    yield from _numbers(recorded, study_numbers(again))
    before = load_study(folder)
    for who in ("incumbent", "proposed"):
        for window in ("search", "holdout"):
            stored, repeated = (getattr(getattr(study, who), window) for study in (before, again))
            yield from _stored(f"{who}-{window}", stored, repeated)
    yield "number of trials", len(before.trials), len(again.trials)
    for old, new in zip(before.rows(), again.rows(), strict=True):
        for key in ("state", "feasible", "on_front", "role"):
            yield f"{key} of trial {old['trial']}", old[key], new[key]
        for group in ("params", "metrics", "holdout"):
            judged, again_judged = old[group] or {}, new[group] or {}
            yield f"{group} of trial {old['trial']}", sorted(judged), sorted(again_judged)
            for key, value in judged.items():
                yield f"{group}.{key} of trial {old['trial']}", value, again_judged[key]
    yield "proposal", before.proposal, again.proposal


def _numbers(
    before: Mapping[str, float], now: Mapping[str, float]
) -> Iterator[tuple[str, Any, Any]]:
    for key, value in before.items():
        yield key, value, now.get(key)


def _stored(name: str, before: ReplayResult, now: ReplayResult) -> Iterator[tuple[str, Any, Any]]:
    """Compare a stored replay, which the report is made of, arrays by their digest."""
    yield f"policy in {name}.json", before.policy, now.policy
    yield f"venue in {name}.json", before.venue, now.venue
    for key, number in before.metrics.items():
        yield f"{key} in {name}.json", number, now.metrics.get(key)
    repeated = stored_arrays(now)
    for ending, arrays in stored_arrays(before).items():
        for key, array in arrays.items():
            old = array_digest([(key, array)])
            new = array_digest([(key, repeated[ending][key])])
            yield f"{key} in {name}.{ending}", old, new


def _recorded_numbers(folder: Path) -> dict[str, float]:
    try:
        numbers = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"metrics.json of the run cannot be read: {error}.") from None
    return dict(numbers)


def _same(a: Any, b: Any) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and a != a and b != b)


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)
