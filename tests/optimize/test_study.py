from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backtest.errors import ConfigError
from experiments.run import problem_of
from optimize.goal import Goal, Limit, Objective, make_goal
from optimize.proposal import choose, pareto_front
from optimize.search import INCUMBENT, Trial
from optimize.space import find_dimensions
from optimize.study import Problem, StudyResult, run_study
from tests.experiments import small_study

TWO = Goal(
    (Objective("capital_efficiency", True), Objective("residual_bad_debt_bps", False)),
    (Limit("coverage", True, 0.99),),
)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return problem_of(small_study.config(), small_study.inputs())


@pytest.fixture(scope="module")
def study(problem: Problem) -> StudyResult:
    return run_study(problem)


def made_up(*points: tuple[float, float], infeasible: tuple[int, ...] = ()) -> list[Trial]:
    return [
        Trial(n, {}, {}, point, {"coverage": 0.1 * n if n in infeasible else -1.0}, True)
        for n, point in enumerate(points)
    ]


def test_two_workers_find_the_same_study_to_the_bit(problem: Problem, study: StudyResult) -> None:
    again = run_study(problem, workers=2)
    assert again.rows() == study.rows()
    assert (again.front, again.proposal) == (study.front, study.proposal)


def test_the_search_never_reads_the_hold_out_window(problem: Problem, study: StudyResult) -> None:
    blind = replace(problem, tape=problem.tape.head(len(problem.tape) // 2 + 24))
    last = problem.search_window[1]
    shortened = replace(blind, holdout_window=(last, last + 20 * 3_600_000))
    seen = run_study(shortened)
    assert [t.metrics for t in seen.trials] == [t.metrics for t in study.trials]


def test_incumbent_and_front_are_judged_on_both_windows(
    problem: Problem, study: StudyResult
) -> None:
    assert set(study.holdout) == {INCUMBENT, study.proposal, *study.front}
    for pair, number in ((study.incumbent, INCUMBENT), (study.proposed, study.proposal)):
        assert pair.search.metrics == study.trials[number].metrics
        assert pair.holdout.metrics == study.holdout[number]
        assert pair.search.window[1] <= problem.search_window[1]
        assert pair.holdout.window[0] >= problem.holdout_window[0]
    assert study.incumbent.search.policy["policy"] == "fixed"
    assert study.proposed.search.policy["policy"] == "volatility"


def test_no_infeasible_trial_is_on_the_front_and_none_is_dropped(study: StudyResult) -> None:
    rows = study.rows()
    assert len(rows) == 11
    assert all(row["feasible"] for row in rows if row["on_front"])
    limit = 0.9
    assert all(row["feasible"] == (row["metrics"]["coverage"] >= limit) for row in rows)


def test_an_incumbent_of_the_same_family_is_a_point_of_the_space() -> None:
    incumbent = {
        "policy": "volatility",
        "estimator": {"ewma": {"halflife": "2d"}},
        "multiplier": 4,
        "floor": "2%",
    }
    config = small_study.config(incumbent=incumbent)
    values = problem_of(config, small_study.inputs()).incumbent_values()
    assert values == {
        "candidate.estimator.ewma.halflife": 172_800_000,
        "candidate.floor": 0.02,
        "candidate.multiplier": 4.0,
    }
    other = {**incumbent, "maintenance_ratio": "70%"}
    outside = problem_of(small_study.config(incumbent=other), small_study.inputs())
    assert outside.incumbent_values() is None


def test_the_incumbent_keeps_todays_venue_while_the_search_changes_it() -> None:
    venue = {"liquidation": {"penalty": {"search": ["0.5%", "3%"], "start": "1%"}}}
    problem = problem_of(small_study.config(venue=venue), small_study.inputs())
    assert problem.rules(None).liquidation.penalty == 0.01
    assert problem.rules({"venue.liquidation.penalty": 0.03}).liquidation.penalty == 0.03


def test_overlapping_windows_are_refused(problem: Problem) -> None:
    last = problem.search_window[1]
    with pytest.raises(ConfigError, match="overlap"):
        replace(problem, holdout_window=(last - 1, last + 10))


@pytest.mark.parametrize("rule", ["margin_period", "recovery_window"])
def test_what_candidates_are_measured_by_is_not_searched(rule: str) -> None:
    venue = {rule: {"search": ["10min", "6h"], "start": "1h"}}
    problem = problem_of(small_study.config(venue=venue), small_study.inputs())
    with pytest.raises(ConfigError, match=rf"venue\.{rule}: .* is measured by"):
        run_study(problem)


def test_a_search_bound_that_no_policy_may_have_fails_before_any_replay(problem: Problem) -> None:
    candidate = {"policy": "volatility", "multiplier": {"search": [2.0, 40.0], "start": 3}}
    dimensions = find_dimensions(candidate, "candidate")
    with pytest.raises(ConfigError, match=r"candidate\.multiplier: 40.* above the highest"):
        run_study(replace(problem, candidate=candidate, dimensions=dimensions))


@pytest.mark.parametrize(
    ("points", "infeasible", "proposal", "words"),
    [
        ([(5, 1), (6, 1), (7, 2), (8, 3)], (), 1, "no worse than the incumbent"),
        ([(5, 1), (6, 1), (7, 0.5), (8, 3)], (), 2, "no worse than the incumbent"),
        ([(5, 0), (9, 4), (7, 1), (6, 0.9)], (), 2, "ideal point"),
        ([(5, 0), (4, 1), (3, 2)], (), 1, "dominates them all"),
        ([(5, 0), (9, 0), (8, 0)], (1, 2), 1, "exceeds them least"),
    ],
)
def test_the_proposal_follows_the_stated_rule(
    points: Any, infeasible: Any, proposal: int, words: str
) -> None:
    trials = made_up(*points, infeasible=infeasible)
    number, reason = choose(trials, pareto_front(trials, TWO), TWO)
    assert number == proposal
    assert words in reason


def test_the_least_excess_is_weighed_by_its_limit_not_by_its_unit() -> None:
    limits = {"coverage": ">= 99%", "gross_bad_debt_usd": "<= 1k"}
    goal = make_goal(["capital_efficiency"], None, limits, "constraints")

    def trial(number: int, coverage: float, bad_debt_usd: float) -> Trial:
        metrics = {
            "capital_efficiency": 5.0, "coverage": coverage, "gross_bad_debt_usd": bad_debt_usd,
        }  # fmt: skip
        return Trial(number, {}, metrics, goal.values(metrics), goal.violations(metrics), True)

    # A dollar too many is less than a policy that hardly covers anything.
    trials = [trial(0, 1.0, 0.0), trial(1, 0.2, 1_000.0), trial(2, 0.9899, 1_001.0)]
    assert choose(trials, pareto_front(trials, goal), goal)[0] == 2


def test_a_dominated_or_infeasible_trial_is_not_on_the_front() -> None:
    trials = made_up((5, 1), (6, 1), (4, 0), (4, 2), (9, 9), infeasible=(4,))
    assert pareto_front(trials, TWO) == (1, 2)


def test_one_metric_can_be_minimised_under_a_cap() -> None:
    goal = make_goal([], "locked_collateral_usd", {"residual_bad_debt_bps": "<= 1bp"}, "subject_to")
    assert goal.objectives == (Objective("locked_collateral_usd", False),)
    assert goal.violations({"residual_bad_debt_bps": 1.5}) == {"residual_bad_debt_bps": 0.5}
    config = small_study.config(
        objectives=None,
        minimise="locked_collateral_usd",
        constraints={},
        subject_to={"residual_bad_debt_bps": "<= 40"},
    )
    study = run_study(problem_of(config, small_study.inputs()))
    feasible = [t for t in study.trials[1:] if t.feasible]
    least = min(feasible, key=lambda t: t.metrics["locked_collateral_usd"])
    assert study.front in ((least.number,), (INCUMBENT,))


@pytest.mark.parametrize(
    ("objectives", "limits", "sentence"),
    [
        (["capital_eficiency"], {}, "Did you mean 'capital_efficiency'"),
        (["margin_to_notional"], {}, "neither good nor bad"),
        (["coverage"], {"coverage": "99%"}, "constraints.coverage: '99%' is not a limit"),
        (["coverage"], {"coverage": ">= high"}, "'high' is not a number of share"),
        ([], {}, "name at least one metric"),
    ],
)
def test_a_goal_that_cannot_be_read_is_one_sentence(
    objectives: list[str], limits: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_goal(objectives, None, limits, "constraints")
