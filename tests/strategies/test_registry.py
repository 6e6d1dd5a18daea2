"""Finding policies by name, preset and file; one helpful sentence for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import ConfigError, PolicyError
from strategies.registry import describe, knobs, load_policy, names, policy, policy_class
from strategies.volatility import Volatility
from tests.tapes import make_tape

ROOT = Path(__file__).resolve().parents[2]
OWN_POLICY = '''
"""Half of the notional, always."""
import numpy as np
from strategies.contract import Knob, MarginPolicy, knob
from strategies.kernels.linear_rate import linear_rate

class Half(MarginPolicy):
    name = "half"
    requirement = linear_rate
    share: Knob = knob("50%", low=0, high=1, unit="of notional")

    def signals(self, tape):
        return np.full(tape.index.shape, self.share)

    def parameters(self, signals):
        return signals
'''
MISTAKES = [
    ({"policy": "volatilty"}, "candidate.policy", "Did you mean 'volatility'?"),
    ({"preset": "dydx"}, "candidate.preset", "Did you mean 'dydx-v4'?"),
    ({"multiplier": 3}, "candidate.policy", "is missing"),
    (
        {"policy": "volatility", "multiplier": 40},
        "candidate.multiplier: 40 is above the highest allowed value, 12 sigmas.",
        "Did you mean 4.0?",
    ),
    ({"policy": "volatility", "floor": 5}, "candidate.floor: 5 is above", "25%. Did you mean 5%?"),
    ({"policy": "volatility", "multiplyer": 4}, "candidate.multiplyer", "'multiplier'"),
    ({"policy": "volatility", "multiplier": "many"}, "candidate.multiplier", "not a number"),
    ({"policy": "volatility", "multiplier": float("nan")}, "candidate.multiplier", "finite"),
    ({"policy": "volatility", "horizon": 60}, "candidate.horizon: 60", "Did you mean 10min?"),
    (
        {"policy": "volatility", "estimator": {"ewma": {"halflife": "3y"}}},
        "candidate.estimator.ewma.halflife: 3y is above",
        "180d",
    ),
    (
        {"policy": "volatility", "estimator": {"ewma": {"halflif": "3d"}}},
        "candidate.estimator.ewma.halflif",
        "Did you mean 'halflife'?",
    ),
    ({"policy": "volatility", "estimator": {"ewm": {}}}, "candidate.estimator", "'ewma'?"),
    (
        {"policy": "tail", "method": {"student": {"estimator": {"rolling": {"window": "1min"}}}}},
        "candidate.method.student.estimator.rolling.window: 1min is below",
        "1h",
    ),
    ({"policy": "tail", "measure": "var"}, "candidate.measure: 'var'", "value_at_risk"),
    ({"policy": "scenario", "price_range": "160%"}, "candidate.price_range: 160%", "mean 16%?"),
    (
        {"policy": "fixed", "addons": [{"concentration": {"share_of_open_interest": "500%"}}]},
        "candidate.addons.0.concentration.share_of_open_interest: 500% is above",
        "100%",
    ),
    (
        {"policy": "fixed", "addons": [{"concentratio": {}}]},
        "candidate.addons.0",
        "'concentration'",
    ),
    (
        {
            "policy": "fixed",
            "brackets": [{"above": "5M", "multiple": 2}, {"above": "4M", "multiple": 3}],
        },
        "candidate.brackets",
        "4,000,000 USD stands after 5,000,000 USD",
    ),
    ({"policy": "volatility", "version": "0"}, "candidate.version", "is at version 1"),
    ({"policy": "nowhere.py:Half"}, "candidate.policy", "there is no file nowhere.py"),
]


@pytest.mark.parametrize(("spec", "place", "advice"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistake_is_answered_in_one_sentence_with_place_and_advice(
    spec: dict[str, Any], place: str, advice: str
) -> None:
    with pytest.raises((ConfigError, PolicyError)) as caught:
        load_policy(spec, "candidate")
    message = str(caught.value)
    assert message.startswith(place)
    assert advice in message
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize("name", names())
def test_every_name_can_be_described_built_and_listed(name: str) -> None:
    assert 20 < len(describe(name)) < 120
    chosen = load_policy(name)
    assert isinstance(chosen, policy_class(name))
    listed = {row.name for row in knobs(name)}
    assert "update.keeper.threshold" in listed
    assert listed & {"scale", "maintenance_ratio", "initial_ratio"}


def test_knobs_are_told_with_bounds_and_units_along_their_path() -> None:
    rows = {row.name: row for row in knobs("volatility")}
    assert rows["multiplier"].low == "1"
    assert rows["multiplier"].unit == "sigmas"
    assert rows["estimator.ewma.halflife"].default == "3d"
    assert rows["estimator.rolling.window"].high == "720d"
    assert rows["floor"].default == "1%"
    assert all(row.doc for row in rows.values())


def test_preset_yields_to_what_is_written_beside_it() -> None:
    chosen = load_policy({"preset": "cme-span", "short_minimum": "3%"})
    assert chosen.model_dump()["short_minimum"] == 0.03
    assert chosen.model_dump()["initial_ratio"] == 1.1
    assert load_policy("preset:dydx-v4") == policy("preset:dydx-v4")


def test_only_what_equals_a_preset_is_called_by_its_name() -> None:
    as_is, changed = policy("preset:dydx-v4"), policy("preset:dydx-v4", scale=2.0)
    assert (as_is.preset, changed.preset) == ("dydx-v4", None)
    assert load_policy(as_is.identity()) == as_is
    assert load_policy(changed.identity()) == changed
    assert policy("preset:dydx-v4", scale=1.0).preset == "dydx-v4"


def test_policy_by_keyword_equals_policy_by_config() -> None:
    spec = {"policy": "volatility", "multiplier": "4", "estimator": {"ewma": {"halflife": "5d"}}}
    assert policy("volatility", multiplier=4, estimator={"ewma": {"halflife": "5d"}}) == (
        load_policy(spec)
    )
    assert isinstance(load_policy(spec), Volatility)


def test_policy_of_a_users_file_is_loaded_under_a_private_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN_POLICY)
    # A folder of the user's that is called like ours must not be picked up.
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "__init__.py").write_text("raise RuntimeError('wrong room')")
    before = list(sys.path)
    mine = load_policy({"policy": f"{file}:Half", "share": "25%"})
    assert type(mine).__module__.startswith("_remargin_policy_")
    assert mine.layers(make_tape(5))[0].parameters.tolist() == [[0.25, 0.25]] * 5
    assert sys.path == before
    with pytest.raises(PolicyError, match=r"no policy class 'Hal'.*Did you mean 'Half'"):
        load_policy(f"{file}:Hal")


def test_identity_of_a_users_policy_leads_back_to_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN_POLICY)
    identity = load_policy(f"{file}:Half").identity()
    assert load_policy(identity).identity() == identity
    file.write_text(OWN_POLICY.replace("Half of", "A part of"))
    with pytest.raises(PolicyError, match="has changed since this was recorded"):
        load_policy(identity)


def test_users_file_that_fails_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")
    with pytest.raises(PolicyError, match=r"broken.py fails with ZeroDivisionError"):
        load_policy(f"{file}:Half")


def test_kernels_called_through_the_loops_tuple_are_found_on_disk_by_the_next_process(
    tmp_path: Path,
) -> None:
    program = """
import numpy as np, numba
from backtest.kernels.types import *
from strategies.kernels.scenario_grid import scenario_grid
from tests.strategies.portfolios import *
market = make_market(); holdings = random_holdings(market, 1)
from strategies.kernels.scenario_grid import scenario_grid_constants
numbers = given_numbers(scenario_grid, [0.1, 0.1, 0.5, 0.2],
                        scenario_grid_constants(0.8, [(1.0, 0, 1.0), (-1.0, 0, 1.0)]), market)
@numba.njit
def loop(kernels, given, market, holdings, accounts, requirement):
    for kernel in kernels:
        kernel(given, market, holdings, accounts, requirement)
asked = empty_requirement(12)
accounts = np.arange(12)
loop((scenario_grid.kernel, no_requirement, no_requirement, no_requirement),
     numbers, market, holdings, accounts, asked)
plain = ask(scenario_grid, [0.1, 0.1, 0.5, 0.2], numbers.constants, market, holdings, plain=True)
assert equal_bits(asked, plain)
print(sum(scenario_grid.kernel.stats.cache_hits.values()))
"""
    hits = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "REMARGIN_CACHE": str(tmp_path), "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        hits.append(int(done.stdout))
    assert hits == [0, 1]
