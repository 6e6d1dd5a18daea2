from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import RunError
from optimize.search import INCUMBENT, Trial, search
from tests.optimize.landscape import DIMENSIONS, GOAL, metrics


class Killed(BaseException):
    """Stands for a process that dies."""


def run(evaluate: Any = metrics, **changes: Any) -> tuple[Trial, ...]:
    settings: dict[str, Any] = {"trials": 28, "batch": 8, "seed": 3}
    return search(DIMENSIONS, GOAL, evaluate, **{**settings, **changes})


@pytest.fixture(scope="module")
def unbroken() -> tuple[Trial, ...]:
    return run()


def test_four_workers_search_what_one_does(unbroken: tuple[Trial, ...]) -> None:
    threads = set()

    def slow(values: Any) -> dict[str, float]:
        threads.add(threading.get_ident())
        threading.Event().wait(0.002)
        return metrics(values)

    assert run(slow, workers=4) == unbroken
    assert len(threads) > 1


@pytest.mark.parametrize("after", [0, 1, 5, 9, 20])
def test_a_killed_search_ends_with_the_trials_of_an_unbroken_one(
    tmp_path: Path, unbroken: tuple[Trial, ...], after: int
) -> None:
    journal = tmp_path / "study.journal"
    evaluated: list[Any] = []

    def mortal(values: Any) -> dict[str, float]:
        if len(evaluated) == after:
            raise Killed
        evaluated.append(values)
        return metrics(values)

    with pytest.raises(Killed):
        run(mortal, journal=journal)
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"a line that was never fini')
    again: list[Any] = []

    def counted(values: Any) -> dict[str, float]:
        again.append(values)
        return metrics(values)

    assert run(counted, journal=journal, workers=2) == unbroken
    assert len(again) <= len(unbroken) - after


def test_more_trials_continue_the_same_search(tmp_path: Path, unbroken: tuple[Trial, ...]) -> None:
    journal = tmp_path / "study.journal"
    assert run(journal=journal, trials=11) == unbroken[:12]
    assert run(journal=journal) == unbroken


def test_the_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    run(journal=journal, trials=12)
    with pytest.raises(RunError, match=r"trial 2 is not the one this search asks for"):
        run(journal=journal, trials=12, seed=4)


def test_other_seed_and_other_batch_search_elsewhere(unbroken: tuple[Trial, ...]) -> None:
    assert run(seed=4) != unbroken
    assert run(batch=4) != unbroken


def test_the_incumbent_is_trial_zero_and_the_start_point_comes_next(
    unbroken: tuple[Trial, ...],
) -> None:
    assert unbroken[INCUMBENT].values == {}
    assert unbroken[INCUMBENT].metrics == metrics(None)
    assert unbroken[1].values == {d.path: d.start for d in DIMENSIONS}
    assert [trial.number for trial in unbroken] == list(range(29))


def test_no_batch_repeats_the_draws_of_another(unbroken: tuple[Trial, ...]) -> None:
    assert len({tuple(trial.values.values()) for trial in unbroken[1:]}) == 28


def test_limits_decide_feasibility_and_pull_the_search(unbroken: tuple[Trial, ...]) -> None:
    for trial in unbroken[1:]:
        assert trial.feasible == (float(trial.values["candidate.multiplier"]) >= 3.0)
    feasible = [trial.feasible for trial in run(trials=80)[1:]]
    assert not all(feasible)
    assert sum(feasible[40:]) > sum(feasible[:40])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_metric_without_a_number_is_recorded_and_never_feasible(number: float) -> None:
    def holed(values: Any) -> dict[str, float]:
        found = metrics(values)
        if values and float(values["candidate.multiplier"]) > 5:
            found["capital_efficiency"] = number
        return found

    trials = run(holed)
    undefined = [trial for trial in trials if not trial.defined]
    assert undefined
    assert not any(trial.feasible for trial in undefined)


def test_dashboards_find_the_violations_in_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    trials = run(journal=journal, trials=8)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    stored = [line["user_attrs"] for line in lines if "user_attrs" in line]
    attrs = [entry for entry in stored if "violations" in entry]
    assert [entry["violations"] for entry in attrs] == [dict(t.violations) for t in trials]
    assert [entry["role"] for entry in attrs] == ["incumbent"] + ["candidate"] * 8
