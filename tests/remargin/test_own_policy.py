"""A user's own policy: one file anywhere, or an entry point of any installed package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backtest.errors import PolicyError
from strategies.catalog import catalog
from strategies.registry import load_policy, names
from strategies.volatility import Volatility
from tests.remargin.desk import Desk, bars

OWN = '''"""Margin follows the widest bar that a clock hour has shown so far."""
import numpy as np
from strategies.contract import Knob, knob
from strategies.rates import RatePolicy

class WidestBar(RatePolicy):
    """A multiple of the widest bar."""

    name = "widest-bar"
    multiple: Knob = knob(1.5, low=0.5, high=5, unit="bars", stress="up")

    def signals(self, tape):
        return np.maximum.accumulate(tape.high / tape.low - 1.0)

    def parameters(self, widest):
        return np.clip(self.multiple * widest, 0.01, 1.0)
'''


@pytest.fixture
def filled(desk: Desk) -> Desk:
    desk.write_data(bars())
    assert desk.import_data()[0] == 0
    return desk


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "mine" / "widest_bar.py"
    file.parent.mkdir()
    file.write_text(OWN)
    return file


@pytest.fixture
def installed(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install the file as a package would: a folder on the path, beside what describes it."""
    site = tmp_path / "site"
    about = site / "margin_plugin-1.2.dist-info"
    about.mkdir(parents=True)
    (site / "margin_plugin.py").write_text(own.read_text())
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: margin-plugin\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(
        "[remargin.policies]\n"
        "widest = margin_plugin:WidestBar\n"
        "volatility = margin_plugin:WidestBar\n"
        "gone = margin_plugin:Gone\n"
        "number = margin_plugin:np\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return "widest"


def test_a_file_replaces_the_candidate_and_is_recorded(filled: Desk, own: Path) -> None:
    code, out, err = filled.run("replay", filled.config, "--policy", own, "--json")
    assert code == 0, err
    manifest = json.loads(out)["manifest"]
    assert manifest["config"]["candidate"] == {"policy": str(own)}
    assert manifest["config"]["incumbent"] == {"policy": "fixed"}
    run = json.loads(out)["run_id"]
    assert filled.run("reproduce", run, "--store", filled.store)[0] == 0
    own.write_text(OWN.replace("0.01, 1.0", "0.02, 1.0"))
    code, out, err = filled.run("reproduce", run, "--store", filled.store)
    assert code != 0
    assert "DIFFERS" in out or "has changed" in err, (out, err)


def test_a_preset_replaces_the_incumbent(filled: Desk) -> None:
    code, out, _ = filled.run("replay", filled.config, "--incumbent", "--policy", "hyperliquid")
    assert code == 0
    assert "policy    preset:hyperliquid (" in out


def test_own_numbers_are_searched_between_their_own_bounds(filled: Desk, own: Path) -> None:
    filled.write_config(
        {
            "windows": {
                "search": ["2023-11-15", "2023-11-16"],
                "holdout": ["2023-11-17", "2023-11-18"],
            },
            "constraints": {"coverage": ">= 50%"},
            "batch": 2,
        }
    )
    words = ("optimize", filled.config, "--policy", own, "--trials", 3, "--workers", 1, "--json")
    code, out, err = filled.run(*words)
    assert code == 0, err
    told = json.loads(out)
    assert list(told["proposal"]["params"]) == ["candidate.multiple"]
    assert 0.5 <= told["proposal"]["params"]["candidate.multiple"] <= 5.0
    assert told["manifest"]["config"]["candidate"]["multiple"] == {"search": True}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("nowhere.py:Mine", "study.yaml: candidate.policy: there is no file nowhere.py."),
        ("volatilty", "candidate.policy: there is no policy 'volatilty'. Did you mean"),
    ],
)
def test_a_policy_that_is_not_there_is_said_in_one_sentence(
    filled: Desk, named: str, said: str
) -> None:
    assert said in filled.refuses("replay", filled.config, "--policy", named)


def test_an_entry_point_is_listed_loaded_and_recorded(installed: str) -> None:
    assert installed in names()
    chosen = load_policy({"policy": installed, "multiple": 2})
    assert chosen.model_dump()["multiple"] == 2.0
    identity = chosen.identity()
    assert identity["policy"] == installed
    assert load_policy(identity) == chosen
    entry = next(entry for entry in catalog() if entry.name == installed)
    assert entry.source == "margin-plugin 1.2"
    assert entry.summary == "A multiple of the widest bar."


def test_an_entry_point_cannot_take_a_name_of_the_house(installed: str) -> None:
    assert type(load_policy("volatility")) is Volatility
    assert names().count("volatility") == 1


def test_a_broken_entry_point_hides_no_other_policy(installed: str) -> None:
    with pytest.raises(PolicyError, match=r"policy: gone of margin-plugin 1.2 cannot be imported"):
        load_policy("gone", "")
    with pytest.raises(PolicyError, match=r"number of margin-plugin 1.2 is no margin policy"):
        load_policy("number", "")
    broken = {entry.name: entry for entry in catalog() if not entry.generation}
    assert set(broken) == {"gone", "number"}
    assert "cannot be imported" in broken["gone"].summary


def test_listing_policies_by_name_imports_no_plugin(installed: str) -> None:
    import sys

    sys.modules.pop("margin_plugin", None)
    assert installed in names()
    assert "margin_plugin" not in sys.modules
