from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backtest.tape import DataSource
from experiments.config import load_config
from experiments.manifest import Manifest
from experiments.market_data import snapshot_of
from experiments.reproduce import reproduce
from experiments.run import Inputs, run_replay
from experiments.track import Tracker
from experiments.workspace import Workspace
from tests.experiments import small_study

MARKET = dict(small_study.raw()["market"])


def frozen_inputs(digest: str) -> Inputs:
    """The same tape, as if read from a snapshot with this digest."""
    inputs = small_study.inputs()
    source = DataSource("snapshot", "2024-q1", 0, 1, 2, digest, "frozen store")
    return replace(inputs, tape=replace(inputs.tape, sources=(source, *inputs.tape.sources)))


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(workspace=Workspace(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def run_id(tracker: Tracker) -> str:
    return run_replay(small_study.config(), inputs=frozen_inputs("a" * 64), tracker=tracker).run_id


def test_a_run_keeps_the_name_and_digest_of_its_snapshot(tracker: Tracker, run_id: str) -> None:
    manifest = tracker.manifest(run_id)
    assert (manifest.snapshot_name, manifest.snapshot_digest) == ("2024-q1", "a" * 64)
    assert tracker.find_run(run_id).tags["remargin.snapshot"] == "2024-q1 " + "a" * 64


def test_a_run_comes_out_again_from_the_same_snapshot_only(tracker: Tracker, run_id: str) -> None:
    assert reproduce(run_id, tracker, inputs=frozen_inputs("a" * 64)).matches
    other = reproduce(run_id, tracker, inputs=frozen_inputs("b" * 64))
    assert other.difference == "snapshot digest was aaaaaaaaaaaa…, is bbbbbbbbbbbb…"
    from_store = reproduce(run_id, tracker, inputs=small_study.inputs())
    assert from_store.difference == "snapshot digest was aaaaaaaaaaaa…, is None"


def test_a_manifest_written_before_there_were_snapshots_is_read(
    tracker: Tracker, run_id: str
) -> None:
    values = tracker.manifest(run_id).to_dict()
    for name in ("snapshot_name", "snapshot_digest"):
        del values[name]
    old = Manifest.from_json(json.dumps(values))
    assert old.snapshot_digest is None


def test_where_the_snapshot_lies_is_no_part_of_a_configs_identity() -> None:
    plain = small_study.config()
    here = small_study.config(market={**MARKET, "snapshot": "snapshots/2024-q1"})
    there = small_study.config(market={**MARKET, "snapshot": "/archive/2024-q1"})
    assert here.market.snapshot == "snapshots/2024-q1"
    assert here.digest == there.digest == plain.digest


def test_a_tape_from_a_store_names_no_snapshot() -> None:
    assert snapshot_of(small_study.inputs().tape) is None


def test_the_snapshot_survives_in_the_config_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(small_study.CONFIG.replace("market:\n", "market:\n  snapshot: 2024-q1\n"))
    assert load_config(file).raw["market"]["snapshot"] == "2024-q1"
