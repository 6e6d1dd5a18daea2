from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import ConfigError
from backtest.venue import VenueRules
from optimize.space import Dimension, fill, find_dimensions

DAY = 86_400_000


def only(leaf: Any, where: str = "candidate") -> Dimension:
    (dimension,) = find_dimensions({"knob": leaf}, where)
    return dimension


def test_leaves_are_found_in_dicts_and_lists_whatever_the_order_of_keys() -> None:
    raw = {
        "multiplier": {"search": [2, 8]},
        "addons": [{"concentration": {"share": {"search": ["2%", "20%"]}}}],
        "plain": 3,
    }
    found = find_dimensions(raw, "candidate")
    assert [d.path for d in found] == [
        "candidate.addons.0.concentration.share",
        "candidate.multiplier",
    ]
    assert (found[0].low, found[0].high) == (0.02, 0.2)
    assert find_dimensions(dict(reversed(raw.items())), "candidate") == found
    filled = fill(raw, {"candidate.multiplier": 3.5}, found, "candidate")
    assert filled == {
        "multiplier": 3.5,
        "addons": [{"concentration": {"share": 0.11}}],
        "plain": 3,
    }
    assert raw["multiplier"] == {"search": [2, 8]}


def test_durations_are_searched_in_milliseconds_and_written_with_their_unit() -> None:
    dimension = only({"search": ["1d", "14d"], "log": True})
    assert (dimension.low, dimension.high, dimension.unit) == (DAY, 14 * DAY, "time")
    assert dimension.written(3 * DAY) == "259200000ms"
    assert dimension.text(3 * DAY) == "3d"
    assert dimension.read("3d") == 3 * DAY


def test_millions_are_money_and_minutes_are_time() -> None:
    assert only({"search": ["1M", "5M"]}).high == 5e6
    assert only({"search": ["1m", "5m"]}).high == 300_000


def test_search_true_takes_the_bounds_and_unit_of_the_field() -> None:
    raw = {"margin_call": {"level": {"search": True}}}
    (dimension,) = find_dimensions(raw, "venue", VenueRules)
    assert (dimension.low, dimension.high, dimension.start) == (1.0, 10.0, 1.25)


def test_the_start_is_the_middle_in_the_scale_of_the_search() -> None:
    assert only({"search": [2, 8]}).start == 5.0
    assert only({"search": [2, 8], "log": True}).start == 4.0
    assert only({"search": [2, 8], "start": 3}).start == 3.0
    assert only({"choices": ["full", "to_target"], "start": "to_target"}).start == "to_target"


@pytest.mark.parametrize(
    ("leaf", "sentence"),
    [
        ({"search": [8, 2]}, "the lowest value searched, 8, must be below 2"),
        ({"search": [2]}, r"search is \[2\]; write search: \[lowest, highest\]"),
        ({"search": ["1d", 8]}, "mixes a duration and a plain number"),
        ({"search": ["soon", 8]}, "'soon' is not a number"),
        ({"search": [0, 8], "log": True}, "must start above 0, not at 0"),
        ({"search": [2, 8], "stpe": 1}, "no 'stpe'. Did you mean 'step'?"),
        ({"search": [2, 8], "step": 7}, "step 7 does not fit between 2 and 8"),
        ({"search": [2, 8], "step": 1, "log": True}, "either log or step"),
        ({"search": [2, 8], "start": 9}, "start 9 lies outside 2 to 8"),
        ({"search": True}, "needs a number with bounds of its own"),
        ({"choices": ["full"]}, "at least two values"),
        ({"choices": ["full", "part"], "start": "none"}, "'none' is not one of the choices"),
    ],
)
def test_a_malformed_leaf_is_one_sentence_with_its_path(leaf: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=r"^candidate\.knob: .*" + sentence):
        only(leaf)


@given(
    low=st.floats(0.001, 100.0),
    width=st.floats(0.01, 100.0),
    share=st.floats(0.0, 1.0),
    time=st.booleans(),
)
def test_rounding_never_leaves_the_bounds_and_keeps_three_digits(
    low: float, width: float, share: float, time: bool
) -> None:
    unit = "time" if time else ""
    low, high = (low * DAY, (low + width) * DAY) if time else (low, low + width)
    low, high = (round(low), round(high)) if time else (low, high)
    dimension = Dimension("x", low, high, unit=unit)
    value = low + share * (high - low)
    rounded = dimension.rounded(value)
    assert dimension.contains(rounded)
    assert dimension.rounded(rounded) == rounded
    assert abs(float(rounded) - value) <= (0.05 if time else 0.005) * value + time
