"""Estimators: known answers, elapsed time, warm-up, causality, agreement with slow forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from strategies.signals import EWMA, Rolling, horizon_returns, rolling_tail, tail_multiple
from tests.tapes import make_tape


@pytest.mark.parametrize("estimator", [EWMA(halflife="12h"), Rolling(window="2d")])
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 149), seed=st.integers(0, 99))
def test_volatility_is_the_same_when_the_future_is_hidden(
    estimator: EWMA | Rolling, rows: int, seed: int
) -> None:
    tape = make_tape(150, options=False, inverse=False, seed=seed)
    assert np.array_equal(estimator(tape)[:rows], estimator(tape.head(rows)))


@pytest.mark.parametrize("estimator", [EWMA(prior=0.6), Rolling(prior=0.6)])
def test_volatility_before_any_history_is_the_prior(estimator: EWMA | Rolling) -> None:
    tape = make_tape(1, options=False, inverse=False)
    assert estimator(tape) == pytest.approx(np.full((1, 2), 0.6), rel=1e-15)


@pytest.mark.parametrize("estimator", [EWMA(halflife="2d"), Rolling(window="20d")])
def test_volatility_of_a_long_random_walk_is_found(estimator: EWMA | Rolling) -> None:
    tape = make_tape(5_000, options=False, inverse=False, volatility=0.7, jump_share=0.0)
    assert estimator(tape)[1_000:].mean() == pytest.approx(0.7, rel=0.05)


def test_ewma_is_the_riskmetrics_recursion_at_even_steps() -> None:
    tape = make_tape(50, options=False, inverse=False)
    keep = 0.5 ** (1 / 12)
    variance = 0.8**2
    for t in range(1, 50):
        move = math.log(tape.index[t, 0] / tape.index[t - 1, 0])
        variance = keep * variance + (1 - keep) * move**2 * MS_PER_YEAR / MS_PER_HOUR
    assert EWMA(halflife="12h")(tape)[-1, 0] == pytest.approx(math.sqrt(variance), rel=1e-12)


def test_rolling_is_the_root_mean_square_return_of_its_window() -> None:
    tape = make_tape(200, options=False, inverse=False)
    moves = np.diff(np.log(tape.index), axis=0)[-48:]
    expected = np.sqrt((moves**2).sum(axis=0) * MS_PER_YEAR / (48 * MS_PER_HOUR))
    assert Rolling(window="2d")(tape)[-1] == pytest.approx(expected, rel=1e-9)


def test_return_over_a_longer_step_weighs_as_much_as_it_lasts() -> None:
    # One move of 2 % over four hours is an annualised variance of 0.0004 * 365 * 6.
    tape = make_tape(2, options=False, inverse=False, interval_ms=4 * MS_PER_HOUR)
    move = np.log(tape.index[1] / tape.index[0])
    keep = 0.5 ** (4 / 6)
    expected = np.sqrt(keep * 0.8**2 + (1 - keep) * move**2 * 365 * 6)
    assert EWMA(halflife="6h")(tape)[1] == pytest.approx(expected, rel=1e-12)


def test_window_shorter_than_a_hole_knows_nothing() -> None:
    tape = make_tape(3, options=False, inverse=False, interval_ms=MS_PER_DAY)
    assert np.all(Rolling(window="1h", prior=0.9)(tape) == 0.9)


def test_horizon_return_starts_at_the_last_row_that_is_old_enough() -> None:
    ts = np.array([0, 10, 25, 30, 60])
    index = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    returns = horizon_returns(ts, index, 20)
    assert np.isnan(returns[:2]).all()
    assert returns[2:, 0].tolist() == [3.0, 3.0, 1.0]


def slow_tail(losses: np.ndarray, confidence: float, shortfall: bool) -> float:
    ordered = np.sort(losses)[::-1]
    size = math.floor((1 - confidence) * len(ordered) + 1e-9) + 1
    return float(ordered[:size].mean() if shortfall else ordered[size - 1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(50, 120), st.sampled_from([0.9, 0.95]), st.booleans())
def test_rolling_tail_equals_sorting_every_window(
    seed: int, window: int, confidence: float, shortfall: bool
) -> None:
    losses = np.random.default_rng(seed).normal(size=200).round(2)
    losses[:3] = np.nan
    ts = np.arange(200)
    found = rolling_tail(ts, losses, float(window), confidence, shortfall, -1.0)
    for t in range(200):
        seen = losses[max(0, t - window + 1) : t + 1]
        seen = seen[~np.isnan(seen)]
        enough = len(seen) * (1 - confidence) >= 2.0 - 1e-9
        expected = slow_tail(seen, confidence, shortfall) if enough else -1.0
        assert found[t] == pytest.approx(expected, abs=1e-12)


def test_tail_multiples_are_those_of_the_literature() -> None:
    # Normal: the 97.5 % expected shortfall, 2.3378, replaces the 99 % value at risk, 2.3263.
    assert tail_multiple(0.99, False, None) == pytest.approx(2.3263, abs=5e-5)
    assert tail_multiple(0.975, True, None) == pytest.approx(2.3378, abs=5e-5)


@given(st.floats(0.9, 0.999), st.floats(2.5, 30.0))
def test_student_multiples_agree_with_the_library_at_unit_variance(
    confidence: float, nu: float
) -> None:
    scale = math.sqrt((nu - 2) / nu)
    edge = float(stats.t.ppf(confidence, nu))
    assert tail_multiple(confidence, False, nu) == pytest.approx(edge * scale, rel=1e-9)
    beyond = float(stats.t.pdf(edge, nu)) / (1 - confidence) * (nu + edge**2) / (nu - 1)
    assert tail_multiple(confidence, True, nu) == pytest.approx(beyond * scale, rel=1e-9)
    assert tail_multiple(confidence, True, nu) > tail_multiple(confidence, False, nu)
