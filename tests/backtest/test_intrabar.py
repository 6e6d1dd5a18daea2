"""A bar's extremes are lived through in order, and nobody learns from them too early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.book import OPEN, AccountBook
from backtest.errors import DataError
from backtest.intrabar import expand
from backtest.replay import replay
from backtest.timeline import build_timeline
from backtest.units import MS_PER_HOUR
from backtest.venue import VenueRules
from tests.backtest.cases import gross_policy
from tests.tapes import START_MS, make_tape


def high_low(**given: object):
    return replace(make_tape(**given), intrabar="high_low")


def test_a_rising_bar_passes_its_low_first_and_a_falling_one_its_high():
    tape = make_tape(rows=3, assets=("BTC",), options=False)
    columns = {
        "mark": [[100.0], [110.0], [105.0]],
        "index": [[50.0], [55.0], [52.5]],
        "low": [[90.0], [80.0], [104.0]],
        "high": [[101.0], [111.0], [120.0]],
    }
    tape = replace(tape, intrabar="high_low", **{k: np.array(v) for k, v in columns.items()})
    made = expand(tape).tape
    assert made.mark[:, 0].tolist() == [90, 101, 100, 80, 111, 110, 120, 104, 105]
    np.testing.assert_allclose(made.index[:, 0], made.mark[:, 0] / 2.0, rtol=1e-15)
    assert made.high[:, 0].tolist() == [100, 101, 101, 100, 111, 111, 120, 120, 120]
    assert made.low[:, 0].tolist() == [90, 90, 90, 80, 80, 80, 110, 104, 104]


def test_the_extremes_stand_at_thirds_of_the_bar_and_the_first_is_as_long_as_the_second():
    made = expand(high_low(rows=3, options=False))
    minutes = (made.tape.ts - START_MS) // 60_000
    assert minutes.tolist() == [-40, -20, 0, 20, 40, 60, 80, 100, 120]
    assert made.bar_of_row.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert made.last_row_of_bar.tolist() == [2, 5, 8]
    assert made.rows(slice(1, 3)) == slice(3, 9)
    assert made.rows(slice(0, 1)) == slice(0, 3)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 500), latency=st.integers(0, 3 * MS_PER_HOUR))
def test_the_closes_are_the_bars_themselves(seed, latency):
    tape = high_low(rows=30, seed=seed, latency_ms=latency)
    made = expand(tape)
    closes = made.last_row_of_bar
    for name in ("ts", "known_ts", "index", "mark", "high", "low", "depth_usd"):
        np.testing.assert_array_equal(getattr(made.tape, name)[closes], getattr(tape, name))
    inside = np.delete(np.arange(len(made.tape)), closes)
    for name in ("funding", "volume_usd"):
        np.testing.assert_array_equal(getattr(made.tape, name)[closes], getattr(tape, name))
        assert not getattr(made.tape, name)[inside].any()
    np.testing.assert_array_equal(made.tape.iv, tape.iv)
    extremes = made.tape.mark.reshape(30, 3, 2)
    np.testing.assert_array_equal(extremes.min(axis=1), np.minimum(tape.low, tape.mark))
    np.testing.assert_array_equal(extremes.max(axis=1), np.maximum(tape.high, tape.mark))


def test_a_bar_that_is_late_makes_its_extremes_as_late_but_not_out_of_order():
    tape = high_low(rows=3, options=False)
    tape = replace(tape, known_ts=tape.ts + np.array([MS_PER_HOUR, MS_PER_HOUR // 2, 0]))
    minutes = (expand(tape).tape.known_ts - START_MS) // 60_000
    assert minutes.tolist() == [20, 40, 60, 60, 70, 90, 90, 100, 120]


def test_inside_a_bar_only_the_close_before_it_is_known():
    made = expand(high_low(rows=4, options=False))
    line = build_timeline(made.tape, VenueRules(), slice(0, 12))
    assert made.closed_bar(line.policy_row).tolist() == [-1, -1, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert made.closed_bar(np.array([-1, 11])).tolist() == [-1, 3]
    assert line.seen_row[:, 0].tolist() == list(range(12))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 500), latency=st.integers(0, 3 * MS_PER_HOUR))
def test_parameters_are_in_force_when_the_bar_itself_would_have_put_them_in_force(seed, latency):
    tape = high_low(rows=20, seed=seed, options=False, latency_ms=latency)
    venue = VenueRules.model_validate({"oracle": {"latency": "7min"}})
    made = expand(tape)
    line = build_timeline(made.tape, venue, made.rows(slice(3, 20)))
    known = np.searchsorted(tape.known_ts + 7 * 60_000, line.at_ms, side="right") - 1
    np.testing.assert_array_equal(made.closed_bar(line.policy_row), known)


def test_closes_alone_leave_the_tape_as_it_is():
    tape = make_tape(rows=5)
    made = expand(tape)
    assert made.tape is tape
    assert made.bar_of_row.tolist() == made.last_row_of_bar.tolist() == [0, 1, 2, 3, 4]
    assert made.rows(slice(1, 4)) == slice(1, 4)


def test_a_single_bar_has_no_length_and_is_refused():
    with pytest.raises(DataError, match="at least two bars"):
        expand(high_low(rows=1, options=False))


def test_only_a_tape_that_shows_its_extremes_has_another_digest():
    tape = make_tape(rows=20)
    assert replace(tape, intrabar="close").digest == tape.digest
    assert replace(tape, intrabar="high_low").digest != tape.digest
    with pytest.raises(DataError, match=r"'hi_low' is not a choice\. Did you mean 'high_low'"):
        replace(tape, intrabar="hi_low")


@pytest.mark.parametrize(("intrabar", "liquidations"), [("close", 0), ("high_low", 1)])
def test_a_wick_that_is_gone_at_the_close_liquidates_only_where_it_is_shown(intrabar, liquidations):
    tape = make_tape(rows=6, assets=("BTC",), options=False, inverse=False)
    still = np.full((6, 1), 100.0)
    wick = still.copy()
    wick[3] = 80.0
    tape = replace(tape, index=still, mark=still, high=still, low=wick, intrabar=intrabar,
                   funding=np.zeros_like(still), depth_usd=np.full_like(still, 1e12))  # fmt: skip
    # The second account trades in the bar of the wick, at its close.
    when = tape.ts[[1, 3]]
    book = AccountBook(
        mode="elastic", assets=tape.assets, symbols=tape.instruments.symbols,
        collateral_currency=np.zeros(2), wallet=np.full(2, 12.0), buffer=np.ones(2),
        release=np.full(2, 1e9), top_up_share=np.zeros(2), top_up_delay_ms=np.zeros(2),
        segment=np.zeros(2), segments=("test",), order_ts=when, order_account=np.arange(2),
        order_instrument=np.zeros(2), order_quantity=np.ones(2), order_kind=np.full(2, OPEN),
        order_group=np.arange(2),
    )  # fmt: skip
    result = replay(tape, book, gross_policy(0.1), VenueRules())
    assert len(result.ts) == 6
    assert result.series["liquidations"].tolist() == [0, 0, 0, liquidations, 0, 0]
    assert (result.series["gross_bad_debt_usd"].sum() > 0) == (liquidations > 0)
