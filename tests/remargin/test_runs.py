"""From imported files to a tracked run, its list, its comparison and its reproduction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backtest.metrics import METRICS
from experiments.outputs import TABLES
from tests.remargin.desk import Desk, bars

WINDOWS = {
    "search": ["2023-11-15", "2023-11-16"],
    "holdout": ["2023-11-17", "2023-11-18"],
}
SEARCHED = {"policy": "volatility", "multiplier": {"search": [2.0, 8.0]}}


@pytest.fixture
def filled(desk: Desk) -> Desk:
    desk.write_data(bars())
    assert desk.import_data()[0] == 0
    return desk


def answer(desk: Desk, *words: object) -> Any:
    """Run a command with ``--json`` and demand that standard output is JSON and nothing else."""
    code, out, err = desk.run(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_replay_prints_metrics_and_manifest_as_json(filled: Desk) -> None:
    said = answer(filled, "replay", filled.config)
    assert list(said["metrics"]) == list(METRICS)
    assert said["metrics"]["open_notional_usd"] > 0
    assert (Path(said["files"]) / "replay.accounts.parquet").is_file()
    assert {"tape_digest", "book_digest", "config", "seed", "packages"} <= said["manifest"].keys()


def test_the_same_replay_twice_gives_the_same_numbers_to_the_bit(filled: Desk) -> None:
    first, second = (answer(filled, "replay", filled.config) for _ in range(2))
    assert first["metrics"] == second["metrics"]
    assert first["manifest"] == second["manifest"]
    assert first["run_id"] != second["run_id"]


def test_runs_are_listed_newest_first_each_with_its_run_id(filled: Desk) -> None:
    ids = [answer(filled, "replay", filled.config)["run_id"] for _ in range(2)]
    assert [run["run_id"] for run in answer(filled, "runs")] == ids[::-1]
    code, out, _ = filled.run("runs")
    assert code == 0
    assert out.index(ids[1]) < out.index(ids[0])


def test_a_run_is_reproduced_to_the_bit_and_a_changed_number_is_found(filled: Desk) -> None:
    run_id = answer(filled, "replay", filled.config)["run_id"]
    for name in ("latest", run_id[:8]):
        code, out, _ = filled.run("reproduce", name, "--store", filled.store)
        assert code == 0
        assert out.startswith("MATCH")
    (recorded,) = filled.folder.rglob("metrics.json")
    numbers = json.loads(recorded.read_text())
    numbers["liquidations"] += 1.0
    recorded.write_text(json.dumps(numbers))
    code, out, _ = filled.run("reproduce", "latest", "--store", filled.store)
    assert code == 1
    assert out.startswith("DIFFERS")
    assert "liquidations" in out


def test_the_terminal_shows_headlines_with_units_and_what_to_do_next(filled: Desk) -> None:
    code, out, err = filled.run("replay", filled.config)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("  tape      BTC · 1h · 2023-11-15")
    assert "20 synthetic accounts" in lines[1]
    assert any("capital efficiency" in line and "x" in line for line in lines)
    assert any("ledger" in line and "balanced to 0.00 USD" in line for line in lines)
    assert "remargin reproduce " in lines[-1]
    folder = Path(lines[-2].split()[1]).parent
    assert {path.name for path in folder.glob("*.parquet")} == {
        f"replay.{table}.parquet" for table in TABLES
    }


def test_two_policies_are_compared_in_pairs(filled: Desk) -> None:
    said = answer(filled, "compare", filled.config, filled.config, "--store", filled.store)
    paired = said["intervals"]["capital_efficiency"]
    gain = paired["proposed"]["value"] - paired["current"]["value"]
    assert paired["difference"]["value"] == pytest.approx(gain)
    # The sample lasts four days: too short for an interval, and that is said.
    assert paired["difference"]["low"] is None
    code, out, _ = filled.run("compare", filled.config, filled.config, "--store", filled.store)
    assert code == 0
    assert "95% interval" in out
    assert "too few to tell an effect from luck" in " ".join(out.split())
    assert "nan" not in out


def test_a_search_needs_both_windows(filled: Desk) -> None:
    filled.write_config({"candidate": SEARCHED})
    assert "windows" in filled.refuses("optimize", filled.config)


def test_a_study_is_searched_tracked_reported_and_reproduced(filled: Desk) -> None:
    filled.write_config({"candidate": SEARCHED, "windows": WINDOWS, "trials": 4, "batch": 2})
    said = answer(filled, "optimize", filled.config)
    assert said["trials"] == 4
    assert "proposed.holdout.capital_efficiency" in said["metrics"]
    written = answer(filled, "report", "latest", "--out", filled.folder / "page")
    page = (filled.folder / "page" / "report.html").read_text()
    assert written["html"].endswith("report.html")
    assert said["run_id"] in page or said["run_id"][:8] in page
    code, out, _ = filled.run("reproduce", "latest", "--store", filled.store)
    assert (code, out[:5]) == (0, "MATCH")


def test_a_replay_has_no_report_and_says_what_has(filled: Desk) -> None:
    answer(filled, "replay", filled.config)
    assert "remargin optimize" in filled.refuses("report", "latest")


def test_a_generated_book_is_described_saved_and_replayed_as_the_same_book(filled: Desk) -> None:
    facts = {row["name"]: row for row in answer(filled, "book", "describe", filled.config)}
    assert facts["accounts"]["achieved"] == 20
    folder = filled.folder / "saved"
    saved = answer(filled, "book", "generate", filled.config, "--out", folder)
    before = answer(filled, "replay", filled.config)
    filled.write_config({"book": {"import": str(folder)}})
    after = answer(filled, "replay", filled.config)
    assert after["manifest"]["book_digest"] == before["manifest"]["book_digest"] == saved["digest"]
    assert after["metrics"] == before["metrics"]
