"""The demo runs the whole line, and running it again changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import demo
from experiments.reproduce import reproduce
from experiments.run import study_numbers
from experiments.track import Tracker
from experiments.workspace import Workspace

SHORT: dict[str, Any] = {
    "start": "2024-01-01",
    "end": "2024-01-15",
}


@pytest.fixture
def short_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Shorten the demo's own config to two weeks, daily chain polls and few accounts."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = yaml.safe_load(demo.CONFIG.read_text())
    config["market"] |= SHORT
    config["market"]["options"] |= {"poll": "24h", "max_snapshot_gap": "25h", "strikes": [0.9, 1.1]}
    config["book"]["generate"]["accounts"] = 60
    config["windows"] = {
        "search": ["2024-01-01", "2024-01-07"],
        "holdout": ["2024-01-08", "2024-01-14"],
    }
    short = tmp_path / "demo.yaml"
    short.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(demo, "CONFIG", short)
    return Workspace(tmp_path / "out")


def test_the_demo_ends_with_a_report_and_a_second_run_gives_the_same_bits(
    short_demo: Workspace,
) -> None:
    lines: list[str] = []
    first = demo.run_demo(trials=3, workspace=short_demo, announce=lines.append)
    assert lines[-1].endswith("rows pulled through ccxt")
    assert first.inputs.tape.synthetic
    assert first.report == short_demo.home / "demo" / "report.html"
    assert "synthetic" in first.report.read_text()
    assert first.report.with_suffix(".md").is_file()
    second = demo.run_demo(trials=3, workspace=short_demo, announce=lines.append)
    assert lines[-1] == "the store is complete; nothing pulled"
    assert study_numbers(second.tracked.study) == study_numbers(first.tracked.study)
    assert second.tracked.run_id != first.tracked.run_id
    again = reproduce("latest", Tracker(workspace=short_demo))
    assert again.matches, again.difference


def test_a_store_of_another_simulator_is_put_aside_and_kept(short_demo: Workspace) -> None:
    store = short_demo.home / "demo" / "store.duckdb"
    store.parent.mkdir(parents=True)
    for name in ("store-old-1.duckdb", "store-old-2.duckdb"):
        store.write_text("from another version")
        demo.pull_simulated(demo.load_config(demo.CONFIG), store)
        assert (store.parent / name).read_text() == "from another version"
        store.with_suffix(".simulator").unlink()
