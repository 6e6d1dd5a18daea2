"""Runs of odd rows, bounds that look backward only, and where a candle's finding says it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.units import MS_PER_HOUR
from data_ingest.quality.bounds import LOOK_BACK
from data_ingest.quality.calendar import missing_volatility
from data_ingest.quality.candles import trailing_median
from data_ingest.quality.chains import load_chain_rows, reprice
from data_ingest.quality.findings import Finding
from data_ingest.quality.places import MOST_PLACES, Series, stretches, told
from data_ingest.quality.verify import verify
from data_ingest.store import DataStore
from data_ingest.surfaces.smiles import smile_of
from tests.data_ingest.clean_market import Frames, clean_frames, import_frames
from tests.data_ingest.samples import START_MS

Found = Callable[[Frames], list[Finding]]
SERIES = Series("trade candles 1h", "x", "BTC")


@given(st.lists(st.sampled_from(["odd", "fine", "absent"]), max_size=60))
def test_stretches_hold_every_odd_row_once_and_no_other(bars: list[str]) -> None:
    hours = np.array([hour for hour, bar in enumerate(bars) if bar != "absent"], dtype=np.int64)
    times = START_MS + hours * MS_PER_HOUR
    flags = np.array([bars[hour] == "odd" for hour in hours], dtype=bool)
    found = stretches(flags, times, MS_PER_HOUR)
    inside = np.zeros(len(times), bool)
    for each in found:
        held = (times >= each.start_ms) & (times < each.end_ms)
        assert held.sum() == each.rows == (each.end_ms - each.start_ms) // MS_PER_HOUR
        inside |= held
    assert (inside == flags).all()
    assert sum(each.rows for each in found) == flags.sum()


@given(st.lists(st.floats(0.1, 9.0), min_size=1, max_size=MOST_PLACES * 2))
def test_the_worst_places_are_told_and_no_row_is_left_uncounted(sizes: list[float]) -> None:
    odd = np.tile([True, False], len(sizes))
    size = np.repeat(sizes, 2)
    times = START_MS + np.arange(len(odd)) * MS_PER_HOUR
    found = list(
        told(SERIES, "jump", stretches(odd, times, MS_PER_HOUR, size), lambda one: f"{one.size}")
    )
    assert sum(each.rows for each in found) == len(sizes)
    named = [float(each.detail) for each in found[:MOST_PLACES]]
    assert named == sorted(sizes, reverse=True)[:MOST_PLACES]
    assert len(found) == min(len(sizes), MOST_PLACES + 1)


@settings(deadline=None, max_examples=25)
@given(st.integers(90, 1_400), st.integers(0, 10_000), st.data())
def test_a_bound_looks_backward_only_and_at_most_so_far(
    length: int, seed: int, data: st.DataObject
) -> None:
    values = np.random.default_rng(seed).exponential(size=length)
    median = trailing_median(values)
    assert np.isnan(median[:100]).all()
    at = data.draw(st.integers(0, length - 1))
    changed = values.copy()
    changed[at:] = 1e9
    np.testing.assert_array_equal(trailing_median(changed)[: at + 1], median[: at + 1])
    if length > LOOK_BACK:
        assert median[LOOK_BACK] == np.median(values[:LOOK_BACK])
        early = values.copy()
        early[: max(0, length - LOOK_BACK - 50)] = 1e9
        assert trailing_median(early)[-1] == median[-1]


@pytest.fixture
def frames_found(tmp_path: Path) -> Found:
    def run(frames: Frames) -> list[Finding]:
        with DataStore(tmp_path / "market.duckdb") as store:
            import_frames(store, frames, tmp_path)
            return list(verify(store).findings)

    return run


def test_a_jump_is_found_in_its_bar_with_its_size_and_its_bound(frames_found: Found) -> None:
    frames = clean_frames()
    hours = frames["trade_1h"]
    hours.loc[700:, ["open", "high", "low", "close"]] *= 1.3
    jumps = [each for each in frames_found(frames) if each.rule == "jump"]
    opened = int(hours.loc[700, "ts_utc_ms"])
    assert [(each.start_ms, each.end_ms) for each in jumps] == [(opened, opened + MS_PER_HOUR)]
    move = hours.loc[700, "close"] / hours.loc[699, "close"] - 1
    assert f"moved {100 * move:+.2f} %" in jumps[0].detail
    assert "the bound was" in jumps[0].detail


def test_a_move_over_a_hole_is_a_gap_and_no_jump(frames_found: Found) -> None:
    frames = clean_frames()
    hours = frames["trade_1h"]
    hours.loc[700:, ["open", "high", "low", "close"]] *= 1.3
    frames["trade_1h"] = hours.drop(index=[698, 699])
    rules = {each.rule for each in frames_found(frames) if each.feed == "trade candles 1h"}
    assert "gap" in rules
    assert "jump" not in rules


def test_a_market_reprices_its_own_marks(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        import_frames(store, clean_frames(), tmp_path)
        chain = load_chain_rows(store, "deribit", "BTC")
    # Marks are published with six decimals.
    assert len(chain.mark) > 1_000
    assert np.abs(reprice(chain)).max() < 1e-6


def test_the_volatility_that_a_later_expiry_lacks_is_measured_where_it_is_worst() -> None:
    strikes = np.array([80.0, 100.0, 125.0])
    day = 24 * MS_PER_HOUR
    early = smile_of("BTC", 0, 30 * day, 100.0, strikes, np.array([0.6, 0.5, 0.9]))
    late = smile_of("BTC", 0, 60 * day, 100.0, strikes, np.array([0.6, 0.5, 0.5]))
    size, log_moneyness = missing_volatility(early, late)
    assert size == pytest.approx(0.9 / np.sqrt(2.0) - 0.5)
    assert log_moneyness == pytest.approx(np.log(1.25))
    fine = smile_of("BTC", 0, 60 * day, 100.0, strikes, np.array([0.6, 0.5, 0.9]))
    assert missing_volatility(early, fine)[0] < 0.0
