"""A tape refuses what no market can have shown, and shows no one the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import BookError, DataError
from backtest.instruments import InstrumentTable
from backtest.tape import MarketTape
from tests.backtest.cases import random_book
from tests.tapes import make_tape

TAPE = make_tape(rows=60, latency_ms=1_800_000)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("index", -1.0, "index of ETH at 2024-01-01 07:00 UTC is -1.0"),
        ("mark", 0.0, "mark of ETH"),
        ("low", float("nan"), "low of ETH"),
        ("depth_usd", -5.0, "depth_usd of ETH"),
        ("funding", float("inf"), "funding of ETH"),
    ],
)
def test_an_impossible_number_is_refused_with_its_place(name, value, said):
    array = getattr(TAPE, name).copy()
    array[7, 1] = value
    with pytest.raises(DataError, match=said.replace(".", r"\.").replace("(", r"\(")):
        replace(TAPE, **{name: array})


@pytest.mark.parametrize(
    ("ts", "said"), [(lambda t: t[6], "repeats"), (lambda t: t[5], "runs backwards")]
)
def test_a_clock_that_repeats_or_runs_back_is_refused(ts, said):
    clock = TAPE.ts.copy()
    clock[7] = ts(clock)
    with pytest.raises(DataError, match=said):
        replace(TAPE, ts=clock, known_ts=clock)


def test_nothing_is_known_before_it_happened():
    with pytest.raises(DataError, match="before it happened"):
        replace(TAPE, known_ts=TAPE.ts - 1)


def test_an_option_that_expires_before_its_first_mark_is_refused():
    row = {"symbol": "BTC-1JAN24-40000-C", "asset": 0, "kind": 1, "strike": 4e4}
    row |= {"iv_column": 0, "expiry_column": 0, "listed_ms": 2_000, "expiry_ms": 1_000}
    with pytest.raises(DataError, match="precedes its first mark"):
        InstrumentTable.from_rows([row])


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        TAPE.index[0, 0] = 1.0


@given(rows=st.integers(1, 60), late=st.integers(0, 7_200_000))
def test_upto_shows_exactly_what_was_known(rows, late):
    now = int(TAPE.known_ts[rows - 1]) + late
    seen = TAPE.upto(now)
    assert len(seen) == int((TAPE.known_ts <= now).sum())
    assert np.all(seen.known_ts <= now)
    known = TAPE.vol_known_ts <= now
    if known.any():
        np.testing.assert_array_equal(seen.iv, TAPE.iv[: known.sum()])


def test_the_digest_changes_with_any_array_and_only_then():
    assert replace(TAPE, notes=("another",)).digest == TAPE.digest
    for name in ("index", "funding", "iv", "forward_ratio", "depth_usd"):
        array = getattr(TAPE, name).copy()
        array.flat[-1] *= 1.0 + 1e-12
        assert replace(TAPE, **{name: array}).digest != TAPE.digest


def test_a_tape_of_closes_keeps_the_digest_that_runs_have_recorded():
    price, ts = np.array([[100.0], [101.5]]), np.array([1_000, 2_000])
    names = ("index", "mark", "high", "low", "funding", "volume_usd", "depth_usd")
    table = InstrumentTable.from_rows([{"symbol": "BTC-PERP", "asset": 0}])
    tape = MarketTape(("BTC",), table, ts, ts, **dict.fromkeys(names, price))
    assert tape.digest == "2df6e6a52e4bce63ae097d070f67d7626bf8da8080590189c90adffc79ec3d51"


def test_a_window_without_rows_names_the_tape_s_own_span():
    with pytest.raises(DataError, match="which spans 2024-01-01 00:00 to 2024-01-03 11:00 UTC"):
        TAPE.rows_between(0, 1)


BOOK = random_book(TAPE, 1)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"buffer": np.full(12, 0.5)}, "buffer of account 0"),
        ({"wallet": np.full(12, np.nan)}, "wallet row 0"),
        ({"order_ts": BOOK.order_ts[::-1]}, "stands after a later one"),
        ({"order_account": np.full(len(BOOK.order_ts), 99)}, "names account 99 of 12"),
        ({"order_group": np.zeros(len(BOOK.order_ts))}, "share group 0"),
        ({"top_up_share": np.full(12, 1.5)}, "top_up_share of account 0"),
    ],
)
def test_a_book_that_contradicts_itself_is_refused_with_its_row(columns, said):
    with pytest.raises(BookError, match=said):
        replace(BOOK, **columns)


def test_a_book_and_a_tape_must_count_assets_alike():
    with pytest.raises(BookError, match="same assets in the same order"):
        replace(BOOK, assets=("ETH", "BTC")).tape_rows(TAPE)
