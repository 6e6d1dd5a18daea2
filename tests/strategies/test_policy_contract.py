"""The public contract suite: sound policies pass, and each planted fault is found by its check."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numba
import numpy as np
import pytest

from strategies.contract import MarginPolicy, Promises
from strategies.registry import names, policy
from strategies.testing import Finding, PolicyContract, check_policy
from strategies.testing.suite import CHECKS
from tests.strategies import faulty_policies as faulty

FAULTS = [
    (faulty.Peeks, "no_look_ahead", "is hidden: column 0 is"),
    (faulty.PeeksOneRow, "no_look_ahead", "is hidden: column 0 is"),
    (faulty.PeeksAtVolatility, "no_look_ahead", "is hidden: column 0 is"),
    (faulty.KernelDiffers, "equals_plain_form", "in plain Python"),
    (faulty.TouchesItsNeighbours, "asked_alone", "among others"),
    (faulty.PartsAreMissing, "parts_add_up", "add up to"),
    (faulty.MaintenanceAboveInitial, "initial_above_maintenance", "exceeds initial"),
    (faulty.Falls, "monotone_in_stress", "calm from"),
    (faulty.NotHomogeneous, "scale_law", "homogeneous is stated, but"),
    (faulty.StatesNoLaw, "scale_law", "states no scale law"),
    (faulty.LongOptionsAreDear, "long_options", "raises initial by"),
    (faulty.NetsNothing, "opposites_net", "that is no risk at all"),
    (faulty.Jumps, "continuous", "jumps at 1,000,000.00 USD"),
    (faulty.NeedsTwoAssets, "any_market", "ZeroDivisionError"),
    (faulty.ReturnsNaN, "nan_refused", "sound prices, but"),
    (faulty.SwallowsNaN, "nan_refused", "is NaN, yet"),
    (faulty.TrustsTheDelta, "nan_refused", "quoted volatility of every asset is NaN, yet"),
    (faulty.Adds, "nan_refused", "sound prices, but"),
    (faulty.TakesNaN, "nan_refused", "least accepts NaN"),
    (faulty.PostsNaN, "nan_refused", "must be finite"),
    (faulty.CountsThreads, "same_bits_on_threads", "differ between 1 and"),
]


def broken(findings: list[Finding]) -> dict[str, str]:
    return {f.name: f.sentence for f in findings if f.passed is False}


@pytest.mark.parametrize(("cls", "check", "words"), FAULTS, ids=lambda value: str(value)[-28:])
def test_each_planted_fault_is_found_by_exactly_its_check(
    cls: type[MarginPolicy], check: str, words: str
) -> None:
    if check == "same_bits_on_threads" and numba.config.NUMBA_NUM_THREADS == 1:
        pytest.skip("one thread only")
    found = broken(check_policy(cls))
    assert list(found) == [check], found
    assert words in found[check]


@pytest.mark.parametrize("name", names())
def test_every_policy_and_preset_keeps_the_contract(name: str) -> None:
    assert broken(check_policy(lambda: policy(name))) == {}


class TestSound(PolicyContract):
    policy: ClassVar[MarginPolicy | None] = faulty.Sound()


def test_a_sound_policy_promises_and_keeps_everything() -> None:
    assert [f.passed for f in check_policy(faulty.Sound())] == [True] * len(CHECKS)


def test_every_check_is_a_test_method() -> None:
    methods = {name for name in vars(PolicyContract) if name.startswith("test_")}
    assert methods == {f"test_{name}" for name in CHECKS}


def test_a_failing_method_says_what_the_command_line_would_say() -> None:
    class Jumping(PolicyContract):
        policy = faulty.Jumps()

    with pytest.raises(AssertionError, match=r"jumps at 1,000,000.00 USD of notional, from"):
        Jumping().test_continuous()
    Jumping().test_scale_law()


def test_a_policy_that_promises_nothing_is_not_said_to_have_passed() -> None:
    class Modest(faulty.Sound):
        scale_law = "none"
        nets = "nothing"
        caps_longs = False
        continuous = False

    passed = {f.name: f.passed for f in check_policy(Modest)}
    assert {name for name, answer in passed.items() if answer is None} == {
        "scale_law",
        "long_options",
        "opposites_net",
        "continuous",
    }


def test_a_promise_may_hang_on_how_a_knob_is_set() -> None:
    class Impact(faulty.NotHomogeneous):
        def promises(self) -> Promises:
            return replace(super().promises(), scale_law="superlinear")

    assert broken(check_policy(Impact)) == {}


def test_a_policy_that_stops_with_an_error_has_failed_in_words() -> None:
    class Stops(faulty.Sound):
        def signals(self, tape):
            if len(tape) < 100:
                raise KeyError("no such row")
            return np.full((len(tape), 1), self.rate)

    found = broken(check_policy(Stops))
    assert found == {"no_look_ahead": "stops with KeyError: 'no such row'"}


def test_the_bracket_is_found_to_the_last_digits() -> None:
    finding = next(f for f in check_policy(faulty.Jumps) if f.name == "continuous")
    numbers = finding.counterexample
    assert math.isclose(numbers["notional_usd"], faulty.EDGE_USD, rel_tol=1e-9)
    assert math.isclose(numbers["above_usd"], 1.5 * numbers["below_usd"], rel_tol=1e-9)


def test_progress_counts_every_check() -> None:
    steps: list[tuple[int, int]] = []
    check_policy(faulty.Sound(), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(k, len(CHECKS)) for k in range(1, len(CHECKS) + 1)]
