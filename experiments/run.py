"""From a config to a tracked run: store, tape, book, policies, replay or study, MLflow."""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from backtest.cascade import with_cascade
from backtest.errors import ConfigError, RunError
from backtest.metrics import metrics_that_tell
from backtest.replay import replay
from experiments.archive import load_result, save_result, save_study
from experiments.config import RunConfig, canonical_json, load_config
from experiments.manifest import Manifest, make_manifest
from experiments.track import OpenRun, RunRecord, Tracker, flat_parameters
from experiments.workspace import Workspace, held_alone
from optimize.bootstrap import Comparison, compare_paired
from optimize.study import Problem, StudyResult
from optimize.study import run_study as search_and_judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backtest.book import AccountBook
    from backtest.requirement import Policy
    from backtest.result import ReplayResult
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules

    Progress = Callable[[int, int], None]

Role = Literal["incumbent", "candidate"]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a config's market and accounts become."""

    tape: MarketTape
    book: AccountBook


@dataclass(frozen=True, eq=False)
class TrackedReplay:
    """A replay and where it is kept."""

    run_id: str
    result: ReplayResult
    manifest: Manifest


@dataclass(frozen=True, eq=False)
class TrackedStudy:
    """A study and where it is kept."""

    run_id: str
    study: StudyResult
    manifest: Manifest


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """Two replays of the same market and accounts, and their paired difference."""

    current: ReplayResult
    proposed: ReplayResult
    comparison: Comparison

    def __str__(self) -> str:
        """Align current, proposed and the interval of the difference, one metric a line."""
        lines = [f"{'':<28}{'current':>16}{'proposed':>16}{'difference':>16}   95 % interval"]
        told = metrics_that_tell([self.current, self.proposed])
        for key in [key for key in self.comparison.intervals if key in told]:
            paired = self.comparison.intervals[key]
            numbers = (paired.current.value, paired.proposed.value, paired.difference.value)
            cells = "".join(f"{number:>16,.6g}" for number in numbers)
            low, high = paired.difference.low, paired.difference.high
            verdict = "" if paired.detectable else "  no detectable difference"
            ends = "none" if math.isnan(low) else f"{low:,.6g} to {high:,.6g}"
            lines.append(f"{key:<28}{cells}   {ends}{verdict}")
        return "\n".join(lines)


def tape_of(config: RunConfig, store: Path | None = None) -> MarketTape:
    """Build a config's market tape from the snapshot that it names, or else from the store.

    Raises
    ------
    DataError
        If there is no store, it lacks the market, or a byte of the snapshot was changed.
    """
    from dataclasses import replace

    from data_ingest.build import build_tape
    from experiments.market_data import opened_market

    with opened_market(config, store) as (opened, snapshot):
        tape = build_tape(opened, config.market)
    return replace(tape, sources=snapshot + tape.sources) if snapshot else tape


def book_of(config: RunConfig, tape: MarketTape) -> AccountBook:
    """Generate or load a config's accounts."""
    if config.book.generate is not None:
        from backtest.generate import generate_book

        spec = config.book.generate
        return generate_book(spec, tape, config.seed if spec.seed is None else spec.seed)
    from backtest.book_files import load_book

    return load_book(Path(str(config.book.recorded)))


def inputs_of(config: RunConfig, store: Path | None = None) -> Inputs:
    """Build tape and book."""
    tape = tape_of(config, store)
    return Inputs(tape, book_of(config, tape))


def run_replay(
    config: RunConfig,
    *,
    role: Role = "candidate",
    store: Path | None = None,
    tracker: Tracker | None = None,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> TrackedReplay:
    """Replay one policy of a config over its whole market and track it.

    Parameters
    ----------
    config
        Searched numbers take their start values.
    role
        Which of the config's two policies.
    store
        DuckDB file; the config's or the workspace's if not given.
    tracker
        Where the run is kept.
    inputs
        Tape and book, if they are built already.
    progress
        Called with rows done and rows in all.
    """
    inputs = inputs or inputs_of(config, store)
    result = replay_role(config, role, inputs, progress)
    manifest = _manifest("replay", config, inputs, {"role": role})
    name = f"{config.name} · {role}"
    with (tracker or Tracker()).start(manifest, name, config.question) as run:
        run.numbers(result.metrics, flat_parameters(result.policy))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            save_result(result, inputs.book, folder)
            _save_common(folder, config, inputs, dict(result.metrics))
            run.folder(folder)
    return TrackedReplay(run.run_id, result, manifest)


def replay_role(
    config: RunConfig, role: Role, inputs: Inputs, progress: Progress | None = None
) -> ReplayResult:
    """Replay one of a config's two policies; nothing is tracked.

    Where liquidations move prices, a second replay without that gives the cascade multiplier.
    """
    policy = config.incumbent_policy() if role == "incumbent" else config.candidate_policy()
    venue = config.venue_rules()
    given = (inputs.tape, inputs.book, policy)
    if venue.liquidation.impact.feedback is None:
        return replay(*given, venue, config.seed, progress=progress)
    first, second = _halves(progress)
    return with_cascade(replay(*given, venue, config.seed, progress=first), *given, second)


def _halves(progress: Progress | None) -> tuple[Progress | None, Progress | None]:
    """Report two replays, one after the other, as one."""
    if progress is None:
        return None, None
    return (
        lambda done, rows: progress(done, 2 * rows),
        lambda done, rows: progress(rows + done, 2 * rows),
    )


def run_study(
    config: RunConfig,
    *,
    trials: int | None = None,
    workers: int | None = None,
    store: Path | None = None,
    tracker: Tracker | None = None,
    inputs: Inputs | None = None,
    workspace: Workspace | None = None,
    progress: Progress | None = None,
) -> TrackedStudy:
    """Search a config's space, judge on the hold-out and track it.

    A study that was killed goes on where it stopped; its journal is part of the run's files
    when it has ended.

    Parameters
    ----------
    config
        With searched leaves and both windows.
    trials
        Overrides the config's number of candidates.
    workers
        Threads; one per processor if not given. They change nothing but the time.
    store, tracker, inputs, progress
        As in `run_replay`; progress counts trials.
    workspace
        Where the journal of an unfinished study lies.

    Raises
    ------
    ConfigError
        If nothing is searched or the windows are missing.
    RunError
        If another process is searching the same study.
    """
    config.searched()
    inputs = inputs or inputs_of(config, store)
    manifest = _manifest("study", config, inputs, {"trials": trials or config.trials})
    identity = study_identity(config, manifest)
    journal = (workspace or Workspace.default()).journal(config.name, identity)
    with held_alone(journal):
        study = search_and_judge(
            problem_of(config, inputs, trials),
            workers=workers or os.cpu_count() or 1,
            journal=journal,
            identity=identity,
            progress=progress,
        )
        tracker = tracker or Tracker()
        with tracker.start(manifest, config.name, config.question) as run:
            proposed = flat_parameters(study.proposed.search.policy, "proposed.")
            run.numbers(_headline(study), proposed)
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                save_study(study, inputs.book, folder)
                _save_common(folder, config, inputs, study_numbers(study))
                (folder / "study.journal").write_bytes(journal.read_bytes())
                run.folder(folder)
            _track_children(tracker, run, manifest, config, study)
        journal.unlink()
    return TrackedStudy(run.run_id, study, manifest)


def problem_of(config: RunConfig, inputs: Inputs, trials: int | None = None) -> Problem:
    """Put a config's question to its tape and book."""
    dimensions, windows = config.searched()
    return Problem(
        tape=inputs.tape,
        book=inputs.book,
        incumbent=config.incumbent,
        candidate=config.candidate,
        venue=config.venue,
        dimensions=dimensions,
        goal=config.goal(),
        search_window=windows.search,
        holdout_window=windows.holdout,
        trials=trials or config.trials,
        batch=config.batch,
        seed=config.seed,
    )


def study_identity(config: RunConfig, manifest: Manifest) -> str:
    """Name everything that decides a study's trials but their number."""
    import hashlib

    resolved = {k: v for k, v in config.resolved().items() if k not in {"trials", "question"}}
    parts = [manifest.tape_digest, manifest.book_digest, manifest.source_hash]
    return hashlib.sha256(canonical_json([parts, resolved]).encode()).hexdigest()


def study_numbers(study: StudyResult) -> dict[str, float]:
    """Return every metric of the four replays, by ``role.window.metric``."""
    return {
        f"{role}.{window}.{key}": value
        for role, pair in (("incumbent", study.incumbent), ("proposed", study.proposed))
        for window, result in (("search", pair.search), ("holdout", pair.holdout))
        for key, value in result.metrics.items()
    }


def compare(
    current: Policy,
    proposed: Policy,
    tape: MarketTape,
    book: AccountBook,
    venue: VenueRules,
    *,
    seed: int = 0,
    window: tuple[int, int] | None = None,
) -> PolicyComparison:
    """Replay two policies over the same market and accounts and compare them in pairs.

    Returns
    -------
    PolicyComparison
        Both replays, and a 95 % block-bootstrap interval for every additive metric.
    """
    results = [replay(tape, book, p, venue, seed, window=window) for p in (current, proposed)]
    return PolicyComparison(results[0], results[1], compare_paired(results[0], results[1], seed))


def run_compare(
    current: str,
    proposed: str,
    *,
    store: Path | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> PolicyComparison:
    """Compare two replays, each named by a run or by a config file.

    A config as ``current`` stands for its incumbent, as ``proposed`` for its candidate; both
    are replayed and tracked. A run is read from its files.

    Raises
    ------
    RunError
        If a run is no replay, or the two read different markets or accounts.
    """
    tracker = tracker or Tracker()
    results = []
    for text, role in ((current, "incumbent"), (proposed, "candidate")):
        if text.endswith((".yaml", ".yml")):
            config = load_config(text)
            wanted: Role = "incumbent" if role == "incumbent" else "candidate"
            tracked = run_replay(
                config, role=wanted, store=store, tracker=tracker, progress=progress
            )
            results.append(tracked.result)
        else:
            results.append(_stored_replay(tracker, tracker.find_run(text)))
    a, b = results
    for what in ("tape", "book"):
        if getattr(a, f"{what}_digest") != getattr(b, f"{what}_digest"):
            noun = "market data" if what == "tape" else "accounts"
            raise RunError(f"{current} and {proposed} did not read the same {noun}.")
    if a.window != b.window:
        raise RunError(f"{current} and {proposed} cover different windows.")
    return PolicyComparison(a, b, compare_paired(a, b, a.seed))


def _stored_replay(tracker: Tracker, record: RunRecord) -> ReplayResult:
    if record.kind != "replay":
        raise RunError(
            f"run {record.run_id[:8]} is a {record.kind}, not a replay; its report compares "
            "the incumbent with the proposal."
        )
    return load_result(tracker.artifacts(record.run_id))


def _manifest(kind: str, config: RunConfig, inputs: Inputs, options: dict[str, Any]) -> Manifest:
    if not config.raw:
        raise ConfigError("a config has to be loaded from a file or from plain values.")
    from experiments.market_data import snapshot_of

    return make_manifest(
        kind,
        snapshot=snapshot_of(inputs.tape),
        tape_digest=inputs.tape.digest,
        book_digest=inputs.book.digest,
        config=config.raw,
        config_hash=config.digest,
        seed=config.seed,
        batch=config.batch,
        options=options,
    )


def _save_common(
    folder: Path, config: RunConfig, inputs: Inputs, numbers: Mapping[str, float]
) -> None:
    import yaml

    written = yaml.safe_dump(config.raw, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(written, encoding="utf-8")
    _write(folder / "metrics.json", numbers)
    _write(
        folder / "inputs.json",
        {
            "sources": [asdict(source) for source in inputs.tape.sources],
            "notes": inputs.tape.notes,
            "book_origin": inputs.book.origin,
            "book_fit": _book_fit(config, inputs),
        },
    )


def _book_fit(config: RunConfig, inputs: Inputs) -> list[dict[str, Any]]:
    """Return the targets of a generated book beside what was achieved; none if recorded."""
    if config.book.generate is None:
        return []
    from backtest.generate import describe_book

    rows = describe_book(inputs.book, inputs.tape, config.book.generate).rows()
    return [row._asdict() for row in rows]


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _headline(study: StudyResult) -> dict[str, float]:
    chosen = study.trials[study.proposal]
    return {
        "trials": len(study.trials) - 1,
        "infeasible_trials": sum(not trial.feasible for trial in study.trials[1:]),
        "front_size": len(study.front),
        "proposal_trial": study.proposal,
        **{f"search.{key}": value for key, value in chosen.metrics.items()},
        **{f"holdout.{key}": value for key, value in study.holdout[study.proposal].items()},
    }


def _track_children(
    tracker: Tracker, run: OpenRun, manifest: Manifest, config: RunConfig, study: StudyResult
) -> None:
    from dataclasses import replace

    child = replace(manifest, kind="trial")
    for number in sorted(study.holdout):
        trial = study.trials[number]
        name = "incumbent" if number == 0 else f"trial {number}"
        with tracker.start(child, f"{config.name} · {name}", parent=run.run_id) as opened:
            opened.numbers(
                {
                    **{f"search.{key}": value for key, value in trial.metrics.items()},
                    **{f"holdout.{k}": value for k, value in study.holdout[number].items()},
                },
                trial.values or flat_parameters(study.incumbent.search.policy),
            )
