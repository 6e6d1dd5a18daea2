"""Update rules: causal, late, capped, and transparent when nothing holds them back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import BaseModel, ValidationError

from strategies.updates import Continuous, Keeper, UpdateRule

HOUR_MS = 3_600_000
paths = arrays(np.float64, (30, 2), elements=st.floats(0.001, 1.0))
clocks = st.lists(st.integers(1, 5 * HOUR_MS), min_size=30, max_size=30).map(np.cumsum)
keepers = st.builds(
    Keeper,
    threshold=st.floats(0.0, 0.5),
    latency=st.sampled_from(["0s", "30s", "1h", "3h"]),
    max_step=st.floats(0.01, 1.0),
)


class Wearer(BaseModel):
    update: UpdateRule = Continuous()


@settings(deadline=None)
@given(paths, clocks, keepers, st.integers(1, 29))
def test_keeper_posts_the_same_when_the_future_is_hidden(
    wished: np.ndarray, ts: np.ndarray, keeper: Keeper, rows: int
) -> None:
    whole = keeper.post(ts, wished)
    assert np.array_equal(whole[:rows], keeper.post(ts[:rows], wished[:rows]))


@settings(deadline=None)
@given(paths, clocks)
def test_keeper_that_nothing_holds_back_is_continuous(wished: np.ndarray, ts: np.ndarray) -> None:
    keeper = Keeper(threshold=0, latency="0s")
    assert np.array_equal(keeper.post(ts, wished), Continuous().post(ts, wished))


@settings(deadline=None)
@given(paths, clocks, keepers)
def test_keeper_never_steps_beyond_its_cap(
    wished: np.ndarray, ts: np.ndarray, keeper: Keeper
) -> None:
    posted = keeper.post(ts, wished)
    steps = np.abs(np.diff(posted, axis=0)) / posted[:-1]
    assert np.all(steps <= keeper.max_step * (1 + 1e-12))


@settings(deadline=None)
@given(paths, clocks, st.floats(0.0, 0.5))
def test_keeper_without_cap_or_latency_stays_within_its_threshold(
    wished: np.ndarray, ts: np.ndarray, threshold: float
) -> None:
    posted = Keeper(threshold=threshold).post(ts, wished)
    assert np.all(np.abs(wished - posted) <= threshold * posted * (1 + 1e-12))


def test_keeper_posts_late_and_only_what_it_decided_then() -> None:
    ts = HOUR_MS * np.arange(5)
    wished = np.array([[1.0], [2.0], [3.0], [3.0], [3.0]])
    posted = Keeper(threshold="5%", latency="90min").post(ts, wished)
    # Decided at hour 1 for 2, in force at hour 3, where 3 is decided and still in flight.
    assert posted.ravel().tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_keeper_ignores_moves_within_its_threshold() -> None:
    wished = np.array([[1.0], [1.04], [0.97], [1.06]])
    posted = Keeper(threshold="5%").post(np.arange(4), wished)
    assert posted.ravel().tolist() == [1.0, 1.0, 1.0, 1.06]


def test_keeper_leaves_zero_in_one_step() -> None:
    posted = Keeper(threshold="5%", max_step="10%").post(np.arange(2), np.array([[0.0], [0.3]]))
    assert posted[1, 0] == 0.3


@pytest.mark.parametrize("written", ["keeper", {"keeper": {}}, {"keeper": None}, Keeper()])
def test_update_rule_is_read_in_every_form_and_written_back(written: object) -> None:
    wearer = Wearer.model_validate({"update": written})
    assert wearer.update == Keeper()
    assert Wearer.model_validate(wearer.model_dump(mode="json")) == wearer


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("keper", "Did you mean 'keeper'"),
        ({"keeper": {}, "continuous": {}}, "write one update rule"),
        (3, "write one update rule"),
    ],
)
def test_unknown_update_rule_is_answered_with_the_nearest(written: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Wearer.model_validate({"update": written})
