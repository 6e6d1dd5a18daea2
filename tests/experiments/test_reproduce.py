from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.errors import RunError
from experiments.reproduce import reproduce
from experiments.run import Inputs, run_replay, run_study
from experiments.track import Tracker
from experiments.workspace import Workspace
from tests.experiments import small_study

CASCADES = {"liquidation": {"mode": "full", "impact": {"at_depth": "5%", "feedback": {}}}}


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(workspace=Workspace(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def replay_id(tracker: Tracker) -> str:
    config = small_study.config()
    return run_replay(config, inputs=small_study.inputs(), tracker=tracker).run_id


@pytest.fixture(scope="module")
def study_id(tracker: Tracker, tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_study(
        small_study.config(),
        trials=6,
        inputs=small_study.inputs(),
        tracker=tracker,
        workspace=Workspace(tmp_path_factory.mktemp("work")),
    ).run_id


def tampered(tracker: Tracker, run_id: str, name: str, change: Any) -> Any:
    """Change one stored file and return what puts it back."""
    path = tracker.artifacts(run_id) / name
    before = path.read_bytes()
    values = json.loads(before)
    change(values)
    path.write_text(json.dumps(values))
    return lambda: path.write_bytes(before)


def test_a_replay_comes_out_again(tracker: Tracker, replay_id: str) -> None:
    again = reproduce(replay_id, tracker, inputs=small_study.inputs())
    assert again.matches
    assert str(again).startswith("MATCH")
    assert again.checked > 15


def test_a_replay_whose_liquidations_move_prices_comes_out_with_its_cascade(
    tracker: Tracker,
) -> None:
    config = small_study.config(venue=CASCADES)
    seen: list[tuple[int, int]] = []
    done = run_replay(
        config,
        inputs=small_study.inputs(),
        tracker=tracker,
        progress=lambda *at: seen.append(at),
    )
    assert done.result.metrics["cascade_multiplier"] > 0.0
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    again = reproduce(done.run_id, tracker, inputs=small_study.inputs())
    assert again.matches, str(again)


def test_a_study_replays_cascades_only_where_it_is_judged_by_them(
    tracker: Tracker, tmp_path: Path
) -> None:
    for judged in (False, True):
        limits = {"coverage": ">= 90%"} | ({"cascade_multiplier": "<= 50"} if judged else {})
        done = run_study(
            small_study.config(venue=CASCADES, constraints=limits),
            trials=2,
            inputs=small_study.inputs(),
            tracker=tracker,
            workspace=Workspace(tmp_path),
        )
        found = [trial.metrics["cascade_multiplier"] for trial in done.study.trials]
        assert np.isnan(found).all() == (not judged)
        assert reproduce(done.run_id, tracker, inputs=small_study.inputs()).matches


def test_a_study_comes_out_again_with_another_number_of_workers(
    tracker: Tracker, study_id: str
) -> None:
    again = reproduce(study_id, tracker, inputs=small_study.inputs(), workers=3)
    assert str(again).startswith("MATCH")
    assert again.checked > 6 * 15


def test_a_changed_number_is_named_with_both_values(tracker: Tracker, replay_id: str) -> None:
    number = json.loads((tracker.artifacts(replay_id) / "metrics.json").read_text())["coverage"]
    put_back = tampered(
        tracker, replay_id, "metrics.json", lambda m: m.update(coverage=m["coverage"] + 1e-15)
    )
    try:
        again = reproduce(replay_id, tracker, inputs=small_study.inputs())
    finally:
        put_back()
    assert not again.matches
    assert str(again).startswith("DIFFERS")
    assert f"coverage was {number + 1e-15!r}, is {number!r}" in str(again)


def test_a_match_by_other_code_or_packages_says_so(tracker: Tracker, replay_id: str) -> None:
    def age(manifest: dict[str, Any]) -> None:
        manifest["source_hash"] = "0" * 64
        manifest["packages"]["numpy"] = "1.26"

    put_back = tampered(tracker, replay_id, "manifest.json", age)
    try:
        again = reproduce(replay_id, tracker, inputs=small_study.inputs())
    finally:
        put_back()
    assert again.matches
    assert str(again).endswith("equal to the bit; changed since the run: code, numpy")
    assert not reproduce(replay_id, tracker, inputs=small_study.inputs()).changed


@pytest.mark.parametrize("name", ["incumbent-holdout", "proposed-search"])
def test_a_changed_number_that_the_report_reads_is_seen(
    tracker: Tracker, study_id: str, name: str
) -> None:
    put_back = tampered(
        tracker, study_id, f"{name}.json", lambda r: r["metrics"].update(coverage=1.25)
    )
    try:
        again = reproduce(study_id, tracker, inputs=small_study.inputs())
    finally:
        put_back()
    assert f"coverage in {name}.json was 1.25" in str(again)


def test_a_changed_series_that_the_report_draws_is_seen(tracker: Tracker, replay_id: str) -> None:
    path = tracker.artifacts(replay_id) / "replay.protocol.parquet"
    before = path.read_bytes()
    table = pq.read_table(path)
    columns = {key: table[key].to_numpy() for key in table.column_names}
    columns["fund_usd"] = columns["fund_usd"] + np.eye(1, len(columns["fund_usd"]))[0]
    pq.write_table(pa.table(columns), path)
    try:
        again = reproduce(replay_id, tracker, inputs=small_study.inputs())
    finally:
        path.write_bytes(before)
    assert "fund_usd in replay.protocol.parquet was" in str(again)


def test_a_changed_hold_out_figure_of_any_trial_is_seen(tracker: Tracker, study_id: str) -> None:
    path = tracker.artifacts(study_id) / "trials.parquet"
    before = path.read_bytes()
    rows = pq.read_table(path).to_pylist()
    judged = next(row for row in rows if row["holdout.coverage"] is not None)
    judged["holdout.coverage"] = 0.5
    pq.write_table(pa.Table.from_pylist(rows), path)
    try:
        again = reproduce(study_id, tracker, inputs=small_study.inputs())
    finally:
        path.write_bytes(before)
    assert f"holdout.coverage of trial {judged['trial']} was 0.5" in str(again)


def test_other_market_data_is_seen_before_anything_is_replayed(
    tracker: Tracker, replay_id: str
) -> None:
    inputs = small_study.inputs()
    index = inputs.tape.index.copy()
    index[5, 0] *= 1.0001
    edited = Inputs(replace(inputs.tape, index=index), inputs.book)
    again = reproduce(replay_id, tracker, inputs=edited)
    assert again.checked == 1
    assert "tape digest was" in str(again)


def test_another_book_is_seen(tracker: Tracker, replay_id: str) -> None:
    inputs = small_study.inputs()
    edited = Inputs(inputs.tape, replace(inputs.book, wallet=inputs.book.wallet * 2))
    assert "book digest was" in str(reproduce(replay_id, tracker, inputs=edited))


def test_a_manifest_with_another_config_hash_is_seen(tracker: Tracker, replay_id: str) -> None:
    put_back = tampered(
        tracker, replay_id, "manifest.json", lambda m: m["config"]["incumbent"].update(rate=0.05)
    )
    try:
        again = reproduce(replay_id, tracker, inputs=small_study.inputs())
    finally:
        put_back()
    assert "config hash was" in str(again)


def test_a_run_without_its_files_is_one_sentence(tracker: Tracker, replay_id: str) -> None:
    path: Path = tracker.artifacts(replay_id) / "metrics.json"
    before = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(RunError, match=r"metrics\.json of the run cannot be read"):
            reproduce(replay_id, tracker, inputs=small_study.inputs())
    finally:
        path.write_bytes(before)
