from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import RunError
from experiments.archive import load_result, load_study
from experiments.manifest import make_manifest
from experiments.run import (
    TrackedReplay,
    TrackedStudy,
    run_compare,
    run_replay,
    run_study,
    study_identity,
)
from experiments.track import Tracker
from experiments.workspace import Workspace
from tests.experiments import small_study


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tracker(home: Path) -> Tracker:
    return Tracker(workspace=Workspace(home))


@pytest.fixture(scope="module")
def replayed(tracker: Tracker) -> TrackedReplay:
    return run_replay(small_study.config(), inputs=small_study.inputs(), tracker=tracker)


@pytest.fixture(scope="module")
def studied(tracker: Tracker, home: Path, replayed: TrackedReplay) -> TrackedStudy:
    return run_study(
        small_study.config(),
        inputs=small_study.inputs(),
        tracker=tracker,
        workspace=Workspace(home),
        workers=2,
    )


def as_text(values: Any) -> str:
    """Write numbers to the bit; a metric that is not defined is not equal to itself."""
    return json.dumps(values, sort_keys=True)


def test_a_replay_reads_back_from_its_run_to_the_bit(
    tracker: Tracker, replayed: TrackedReplay
) -> None:
    again = load_result(tracker.artifacts(replayed.run_id))
    assert as_text(again.metrics) == as_text(replayed.result.metrics)
    assert again.venue == replayed.result.venue
    assert again.policy == replayed.result.policy
    assert again.window == replayed.result.window
    for key, values in replayed.result.series.items():
        assert again.series[key].tobytes() == values.tobytes()
    assert again.liquidation_log.tobytes() == replayed.result.liquidation_log.tobytes()
    assert again.account_ledger.tobytes() == replayed.result.account_ledger.tobytes()
    assert again.margin.loss.tobytes() == replayed.result.margin.loss.tobytes()


def test_a_run_keeps_what_its_generated_book_was_meant_to_look_like(
    tracker: Tracker, replayed: TrackedReplay
) -> None:
    kept = json.loads((tracker.artifacts(replayed.run_id) / "inputs.json").read_text())
    spec = small_study.config().book.generate
    assert spec is not None
    facts = {row["name"]: row for row in kept["book_fit"]}
    published = spec.targets["gini of intended notional"]
    assert facts["gini of intended notional"]["target"] == published.value
    assert facts["leverage, 25 % quantile"]["target"] == spec.leverage.p25
    assert facts["accounts"]["achieved"] == 60


def test_a_study_reads_back_from_its_run(tracker: Tracker, studied: TrackedStudy) -> None:
    again = load_study(tracker.artifacts(studied.run_id))
    assert as_text(again.rows()) == as_text(studied.study.rows())
    assert again.goal == studied.study.goal
    assert again.dimensions == studied.study.dimensions
    assert again.reason == studied.study.reason
    metrics = (study.proposed.holdout.metrics for study in (again, studied.study))
    assert as_text(next(metrics)) == as_text(next(metrics))


def test_runs_are_listed_newest_first_without_the_children(
    tracker: Tracker, replayed: TrackedReplay, studied: TrackedStudy
) -> None:
    runs = tracker.list_runs()
    assert [run.run_id for run in runs] == [studied.run_id, replayed.run_id]
    assert [run.kind for run in runs] == ["study", "replay"]
    assert all(run.status == "FINISHED" for run in runs)


def test_the_front_and_the_incumbent_are_children_of_the_study(
    home: Path, studied: TrackedStudy
) -> None:
    with sqlite3.connect(home / "mlflow.db") as database:
        children = database.execute(
            "SELECT count(*) FROM tags WHERE key = 'mlflow.parentRunId' AND value = ?",
            [studied.run_id],
        ).fetchone()
    assert children == (len(studied.study.holdout),)


def test_a_finished_study_leaves_its_journal_among_the_files_only(
    tracker: Tracker, home: Path, studied: TrackedStudy
) -> None:
    assert (tracker.artifacts(studied.run_id) / "study.journal").is_file()
    assert list((home / "studies").glob("*.journal")) == []


def test_a_run_is_found_by_its_beginning_and_as_latest(
    tracker: Tracker, replayed: TrackedReplay, studied: TrackedStudy
) -> None:
    assert tracker.find_run(replayed.run_id[:12]).run_id == replayed.run_id
    assert tracker.find_run("latest").run_id == studied.run_id


def test_a_run_that_is_not_there_names_the_newest(tracker: Tracker, studied: TrackedStudy) -> None:
    with pytest.raises(RunError, match=f"no run 'zzz'. The newest is {studied.run_id[:8]}"):
        tracker.find_run("zzz")


def test_latest_of_nothing_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no finished run yet"):
        Tracker(workspace=Workspace(tmp_path)).find_run("latest")


def test_a_run_that_fails_is_kept_as_failed_and_is_never_latest(
    tracker: Tracker, studied: TrackedStudy
) -> None:
    manifest = make_manifest(
        "replay", tape_digest="t", book_digest="b", config={}, config_hash="", seed=0, batch=1
    )
    with pytest.raises(ZeroDivisionError), tracker.start(manifest, "doomed") as run:
        raise ZeroDivisionError
    assert tracker.find_run(run.run_id).status == "FAILED"
    assert tracker.find_run("latest").run_id == studied.run_id


def test_a_stored_replay_compares_with_itself_without_a_difference(
    tracker: Tracker, replayed: TrackedReplay
) -> None:
    same = run_compare(replayed.run_id, replayed.run_id, tracker=tracker)
    assert not any(interval.detectable for interval in same.comparison.intervals.values())


def test_a_study_is_not_compared_as_if_it_were_a_replay(
    tracker: Tracker, studied: TrackedStudy
) -> None:
    with pytest.raises(RunError, match="is a study, not a replay"):
        run_compare(studied.run_id, studied.run_id, tracker=tracker)


def test_a_killed_study_goes_on_from_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, studied: TrackedStudy
) -> None:
    workspace = Workspace(tmp_path)
    tracker = Tracker(workspace=workspace)
    from optimize.study import Problem

    whole, calls = Problem.replay, []

    def mortal(self: Problem, *arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return whole(self, *arguments)  # type: ignore[arg-type]

    given = {"inputs": small_study.inputs(), "tracker": tracker, "workspace": workspace}
    with monkeypatch.context() as patch:
        patch.setattr(Problem, "replay", mortal)
        with pytest.raises(KeyboardInterrupt):
            run_study(small_study.config(), workers=1, **given)  # type: ignore[arg-type]
    assert len(list((tmp_path / "studies").glob("*.journal"))) == 1
    assert tracker.list_runs() == []
    resumed = run_study(small_study.config(), workers=1, **given)  # type: ignore[arg-type]
    assert as_text(resumed.study.rows()) == as_text(studied.study.rows())


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "replay.json").write_text("{")
    with pytest.raises(RunError, match=r"replay\.json of the run cannot be read"):
        load_result(tmp_path)


def test_two_processes_never_search_one_study_at_once(tmp_path: Path) -> None:
    """The second would read the first one's trials as its own, and find its journal gone."""
    workspace = Workspace(tmp_path)
    tracker = Tracker(workspace=workspace)
    config, inputs = small_study.config(), small_study.inputs()
    manifest = make_manifest(
        "study",
        tape_digest=inputs.tape.digest,
        book_digest=inputs.book.digest,
        config=config.raw,
        config_hash=config.digest,
        seed=config.seed,
        batch=config.batch,
        options={},
    )
    journal = workspace.journal(config.name, study_identity(config, manifest))
    hold = (
        "import sys; from pathlib import Path; from experiments.workspace import held_alone\n"
        "with held_alone(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, journal],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process is working on it"):
            run_study(config, trials=2, inputs=inputs, tracker=tracker, workspace=workspace)
        assert tracker.list_runs() == []
        other.kill()
    run_study(config, trials=2, inputs=inputs, tracker=tracker, workspace=workspace)
    assert list(journal.parent.iterdir()) == []


def test_processes_that_start_a_workspace_together_all_find_its_runs(tmp_path: Path) -> None:
    """MLflow's own migrations, run twice at once, leave a database that nobody can open."""
    look = (
        "import sys; from pathlib import Path; from experiments.track import Tracker\n"
        "from experiments.workspace import Workspace\n"
        "assert Tracker(workspace=Workspace(Path(sys.argv[1]))).list_runs() == []"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", look, tmp_path / "home"], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()


def test_a_database_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("junk")
    with pytest.raises(RunError, match=r"cannot be opened: .*not a database") as caught:
        Tracker(workspace=Workspace(tmp_path)).list_runs()
    assert "\n" not in str(caught.value)
