from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.coverage import clopper_pearson, kupiec_pof, zero_event_upper_bound


def test_kupiec_gives_the_published_example() -> None:
    # A worked example in the literature on backtesting: 57 breaches of 1,043 at 5 %.
    test = kupiec_pof(57, 1043, 0.05)
    assert test.statistic == pytest.approx(0.46147, abs=5e-6)
    assert test.p_value == pytest.approx(0.49694, abs=5e-6)


def test_kupiec_rejects_a_margin_that_is_never_breached() -> None:
    test = kupiec_pof(0, 250, 0.01)
    assert test.statistic == pytest.approx(5.025, abs=5e-4)
    assert test.p_value == pytest.approx(0.025, abs=5e-4)


@pytest.mark.parametrize(
    ("observations", "tail", "lowest", "highest"),
    [(255, 0.01, 1, 6), (510, 0.01, 2, 10), (1000, 0.05, 38, 64), (255, 0.05, 7, 20)],
)
def test_kupiec_accepts_the_published_region(
    observations: int, tail: float, lowest: int, highest: int
) -> None:
    accepted = [x for x in range(observations) if kupiec_pof(x, observations, tail).p_value >= 0.05]
    assert (accepted[0], accepted[-1]) == (lowest, highest)


@pytest.mark.parametrize(("paths", "bound"), [(100, 0.0295), (1000, 0.0030)])
def test_no_event_still_has_an_upper_bound(paths: int, bound: float) -> None:
    assert zero_event_upper_bound(paths) == pytest.approx(bound, abs=5e-5)
    assert zero_event_upper_bound(paths) == pytest.approx(1 - 0.05 ** (1 / paths), rel=1e-12)


@given(trials=st.integers(1, 400), share=st.floats(0, 1))
def test_clopper_pearson_holds_the_observed_share(trials: int, share: float) -> None:
    events = round(share * trials)
    low, high = clopper_pearson(events, trials)
    assert 0.0 <= low <= events / trials <= high <= 1.0


def test_clopper_pearson_is_the_exact_binomial_interval() -> None:
    from scipy.stats import binom

    low, high = clopper_pearson(3, 250)
    assert binom.sf(2, 250, low) == pytest.approx(0.025, rel=1e-9)
    assert binom.cdf(3, 250, high) == pytest.approx(0.025, rel=1e-9)


@pytest.mark.parametrize(("events", "trials"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(events: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is not a count"):
        clopper_pearson(events, trials)
