"""Lanes: every operation is NumPy's, number by number, at every width."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.kernels.lanes import (
    all_at_most,
    first_equal,
    gather,
    load,
    lowest,
    magnitude,
    spread,
    store,
    total,
    where,
    where_negative,
    zeros,
)

WIDTHS = (8, 32)
numbers = st.floats(allow_nan=True, allow_infinity=True, width=64)


def _make(width: int) -> dict[str, Any]:
    """Compile each operation for one width; ``out`` is filled from its place 3 on."""
    at = np.uint64(3)

    @numba.njit(_nrt=False)
    def sums(one: np.ndarray, two: np.ndarray, out: np.ndarray) -> None:
        a, b = load(one, at, width), load(two, at, width)
        store(out, at, a + b * a + spread(one[0], width) + zeros(width))

    @numba.njit(_nrt=False)
    def sizes(one: np.ndarray, out: np.ndarray) -> None:
        store(out, at, magnitude(load(one, at, width)))

    @numba.njit(_nrt=False)
    def choose(condition: bool, one: np.ndarray, two: np.ndarray, out: np.ndarray) -> None:
        store(out, at, where(condition, load(one, at, width), load(two, at, width)))

    @numba.njit(_nrt=False)
    def choose_each(one: np.ndarray, two: np.ndarray, out: np.ndarray) -> None:
        a, b = load(one, at, width), load(two, at, width)
        store(out, at, where_negative(a, b, a))

    @numba.njit(_nrt=False)
    def look_up(table: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
        store(out, at, gather(table, np.uint64(2), rows, at, width))

    @numba.njit(_nrt=False)
    def reduced(one: np.ndarray, two: np.ndarray) -> tuple[float, int, float, bool]:
        a, b = load(one, at, width), load(two, at, width)
        least = lowest(a)
        return least, first_equal(a, least), total(a), all_at_most(a, b)

    return {"sums": sums, "sizes": sizes, "choose": choose, "choose_each": choose_each} | {
        "look_up": look_up,
        "reduced": reduced,
    }


COMPILED = {width: _make(width) for width in WIDTHS}


def _pair(width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    return draws.normal(size=width + 5), draws.normal(size=width + 5)


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_lanewise_operations_are_numpys_and_touch_nothing_else(
    width: int, seed: int, condition: bool
) -> None:
    one, two = _pair(width, seed)
    there = slice(3, 3 + width)
    a, b = one[there], two[there]
    rows = np.random.default_rng(seed).integers(0, width, width + 5)
    for name, given_arrays, expected in (
        ("sums", (one, two), a + b * a + one[0]),
        ("sizes", (one,), abs(a)),
        ("choose", (condition, one, two), a if condition else b),
        ("choose_each", (one, two), np.where(a < 0.0, b, a)),
        ("look_up", (one, rows), one[2 + rows[there]]),
    ):
        out = np.full(width + 5, 7.0)
        COMPILED[width][name](*given_arrays, out)
        np.testing.assert_array_equal(out[there], expected, err_msg=name)
        assert np.all(np.delete(out, np.arange(3, 3 + width)) == 7.0)


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_lowest_is_found_at_its_first_place(width: int, seed: int, twice: bool) -> None:
    one, two = _pair(width, seed)
    if twice:
        one[2 + width] = one[3:-2].min()
    least, place, _, _ = COMPILED[width]["reduced"](one, two)
    assert least == one[3:-2].min()
    assert place == int(np.argmin(one[3:-2]))


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16))
def test_total_adds_halves(width: int, seed: int) -> None:
    one, two = _pair(width, seed)
    expected = one[3:-2]
    while len(expected) > 1:
        half = len(expected) // 2
        expected = expected[:half] + expected[half:]
    assert COMPILED[width]["reduced"](one, two)[2] == expected[0]


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_number_above_or_unknown_is_noticed_in_any_lane(width: int, data: Any) -> None:
    one, two = np.zeros(width + 5), np.ones(width + 5)
    lane = 3 + data.draw(st.integers(0, width - 1))
    one[lane] = data.draw(numbers)
    assert COMPILED[width]["reduced"](one, two)[3] == (one[lane] <= 1.0)


@pytest.mark.parametrize("width", WIDTHS)
def test_lanes_that_are_all_unknown_stay_so(width: int) -> None:
    unknown = np.full(width + 5, np.nan)
    least, place, _, _ = COMPILED[width]["reduced"](unknown, unknown)
    assert np.isnan(least)
    assert place == width
