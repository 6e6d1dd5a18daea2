"""Prices kept beside the oracle's: Mango's own figures, Drift's average, causal."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from strategies.posted_prices import Average, Oracle, Stable
from tests.tapes import make_tape

NOON = 20_000 * MS_PER_DAY


def stable(seconds: list[float], prices: list[float]) -> np.ndarray:
    """Return the stable price of one asset along rows at these seconds after a midnight."""
    from strategies.posted_prices import _stable

    ts = NOON + (1_000 * np.array(seconds)).astype(np.int64)
    return np.asarray(_stable(ts, np.array(prices)[:, None], 0.0003, 0.06))[:, 0]


def test_a_tenfold_jump_is_followed_as_mangos_own_test_has_it() -> None:
    """`state/stable_price.rs`, test_stable_price_10x: each of its stages, within its 0.1."""
    seconds = [0.0, *(60.0 * (k + 1) for k in range(60))]
    seconds += [3_600.0 + 10.0 * (k + 1) for k in range(360)]
    seconds += [7_200.0 + 300.0 * (k + 1) for k in range(12 * 23)]
    found = stable(seconds, [1.0] + [10.0] * (len(seconds) - 1))
    assert found[60] == pytest.approx(1.8, abs=0.1)
    assert found[420] == pytest.approx(2.3, abs=0.1)
    assert found[-1] == pytest.approx(7.4, abs=0.1)


def test_a_calm_price_is_its_own_stable_price() -> None:
    found = stable([3_600.0 * k for k in range(50)], [7.0] * 50)
    assert np.all(found == 7.0)


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=60))
def test_the_stable_price_moves_by_no_more_than_ten_minutes_allow_on_hourly_rows(
    moves: list[float],
) -> None:
    prices = np.cumprod([100.0, *moves])
    found = stable([3_600.0 * k for k in range(len(prices))], list(prices))
    assert np.all(found > 0.0)
    low = np.minimum(prices, np.concatenate([[100.0], found[:-1]]))
    assert np.all(found >= np.minimum(low, np.roll(prices, 1)) * (1.0 - 0.18) - 1e-9)


def test_the_average_of_a_window_forgets_as_drifts_does() -> None:
    tape = make_tape(4, seed=1)
    tape = dataclasses.replace(
        tape,
        ts=tape.ts[0] + np.array([0, 60_000, 120_000, 500_000]),
        known_ts=tape.ts[0] + np.array([0, 60_000, 120_000, 500_000]),
    )
    found = Average(window="5min")(tape)
    price = tape.index
    first = price[0]
    second = first * 0.8 + price[1] * 0.2
    third = second * 0.8 + price[2] * 0.2
    assert found == pytest.approx(np.array([first, second, third, price[3]]))
    assert np.array_equal(Oracle()(tape), price)


@pytest.mark.parametrize("posted", [Oracle(), Average(window="3h"), Stable()], ids=lambda p: p.name)
def test_posted_prices_are_the_same_when_the_future_is_hidden(
    posted: Oracle | Average | Stable,
) -> None:
    tape = make_tape(120, seed=5)
    whole = posted(tape)
    for rows in (1, 40, 119):
        assert np.array_equal(posted(tape.head(rows)), whole[:rows])
    assert np.all(np.isfinite(whole) & (whole > 0.0))
    assert tape.ts[1] - tape.ts[0] <= MS_PER_HOUR
