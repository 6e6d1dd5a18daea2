from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator import MarketParameters, SimulatedMarket
from data_ingest.simulator.orderbook import ladder
from data_ingest.simulator.parameters import STEP_MS
from data_ingest.simulator.processes import spread

SHORT = {"start": "2024-01-01", "end": "2024-03-01"}


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return SimulatedMarket()


def digest(market: SimulatedMarket) -> str:
    sha = hashlib.sha256()
    for path in market.assets.values():
        for array in (path.index, path.variance, path.carry, path.stress, path.open_interest_usd):
            sha.update(array.tobytes())
        for venue in path.venues.values():
            for array in (venue.trade, venue.mark, venue.volume_usd, venue.depth_usd):
                sha.update(array.tobytes())
    return sha.hexdigest()


def hourly_closes(market: SimulatedMarket, asset: str) -> np.ndarray:
    span = market.parameters
    _, bars, _ = market.candles(asset, "binance", "trade", MS_PER_HOUR, span.start, span.end)
    return bars[:, 3]


def test_equal_parameters_give_equal_bits_and_another_seed_does_not() -> None:
    first = digest(SimulatedMarket(MarketParameters(**SHORT)))
    assert first == digest(SimulatedMarket(MarketParameters(**SHORT)))
    assert first != digest(SimulatedMarket(MarketParameters(**SHORT, seed=8)))


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_two_crises_that_do_not_overlap_each_cost_a_fifth_of_the_price(seed: int) -> None:
    market = SimulatedMarket(MarketParameters(seed=seed))
    first, second = market.crises
    assert market.parameters.start < first.start_ms < first.end_ms < second.start_ms
    assert second.end_ms < market.parameters.end
    for path in market.assets.values():
        for crisis in market.crises:
            window = path.index_usd[market.point(crisis.start_ms) : market.point(crisis.end_ms)]
            assert 1 - (window / np.maximum.accumulate(window)).min() > 0.2


def test_crises_vanish_with_their_count() -> None:
    calm = SimulatedMarket(MarketParameters(**SHORT, crises={"count": 0}))
    assert calm.crises == ()
    assert not calm.assets["BTC"].stress.any()


@pytest.mark.parametrize("asset", ["BTC", "ETH"])
def test_volatility_clusters_and_tails_are_heavy(market: SimulatedMarket, asset: str) -> None:
    returns = np.diff(np.log(hourly_closes(market, asset)))
    squared = returns**2
    for lag in (1, 6, 24):
        assert np.corrcoef(squared[lag:], squared[:-lag])[0, 1] > 0.1
    assert abs(np.corrcoef(returns[1:], returns[:-1])[0, 1]) < 0.1
    centred = returns - returns.mean()
    assert (centred**4).mean() / returns.var() ** 2 - 3 > 2


def test_annual_volatility_and_correlation_are_those_of_the_recorded_year(
    market: SimulatedMarket,
) -> None:
    returns = {name: np.diff(np.log(hourly_closes(market, name))) for name in ("BTC", "ETH")}
    assert 0.45 < returns["BTC"].std() * np.sqrt(8760) < 0.75
    assert returns["ETH"].std() > returns["BTC"].std()
    assert 0.7 < np.corrcoef(returns["BTC"], returns["ETH"])[0, 1] < 0.95


@pytest.mark.parametrize("exchange", ["binance", "deribit"])
def test_depth_thins_in_a_crisis(market: SimulatedMarket, exchange: str) -> None:
    for path in market.assets.values():
        depth = path.venues[exchange].depth_usd
        assert depth.min() > 0
        for crisis in market.crises:
            worst = depth[market.point(crisis.start_ms) : market.point(crisis.end_ms)]
            assert np.median(worst) < 0.35 * np.median(depth)


def test_volume_rises_in_a_crisis(market: SimulatedMarket) -> None:
    volume = market.assets["BTC"].venues["binance"].volume_usd
    for crisis in market.crises:
        window = volume[market.point(crisis.start_ms) : market.point(crisis.end_ms)]
        assert window.mean() > 1.5 * np.median(volume)


def test_candles_hold_their_open_and_close_and_mark_stays_near_index(
    market: SimulatedMarket,
) -> None:
    for path in market.assets.values():
        for venue in path.venues.values():
            for bars in (venue.trade, venue.mark, path.index):
                assert (bars > 0).all()
                assert (bars[:, 1] >= bars[:, [0, 3]].max(axis=1)).all()
                assert (bars[:, 2] <= bars[:, [0, 3]].min(axis=1)).all()
            np.testing.assert_array_equal(venue.trade[1:, 0], venue.trade[:-1, 3])
            gap = np.abs(venue.mark[:, 3] / path.index[:, 3] - 1)
            assert 0 < np.median(gap) < 0.001
            assert gap.max() < 0.02
            assert not np.array_equal(venue.trade[:, 3], venue.mark[:, 3])


def test_the_range_of_candles_gives_back_the_variance_that_made_them() -> None:
    calm = SimulatedMarket(
        MarketParameters(**SHORT, crises={"count": 0}, volatility={"jumps_per_day": 0})
    )
    path = calm.assets["BTC"]
    # Parkinson (1980): the mean squared log range of a Brownian step is 4 ln 2 times its variance.
    ranges = np.log(path.index[:, 1] / path.index[:, 2])
    estimate = (ranges**2).mean() / (4 * np.log(2))
    # Independent extremes make ranges a few percent too wide.
    assert estimate == pytest.approx(path.variance[:-1].mean() / 365 / 288, rel=0.1)


@pytest.mark.parametrize("hours", [1, 4, 24])
def test_longer_candles_are_the_shorter_ones_put_together(
    market: SimulatedMarket, hours: int
) -> None:
    span, length = market.parameters, hours * MS_PER_HOUR
    end = span.start + 10 * MS_PER_DAY
    _, fine, fine_volume = market.candles("BTC", "deribit", "trade", STEP_MS, span.start, end)
    opens, bars, volume = market.candles("BTC", "deribit", "trade", length, span.start, end)
    groups = fine.reshape(len(opens), -1, 4)
    np.testing.assert_array_equal(bars[:, 0], groups[:, 0, 0])
    np.testing.assert_array_equal(bars[:, 1], groups[:, :, 1].max(axis=1))
    np.testing.assert_array_equal(bars[:, 2], groups[:, :, 2].min(axis=1))
    np.testing.assert_array_equal(bars[:, 3], groups[:, -1, 3])
    np.testing.assert_allclose(volume, fine_volume.reshape(len(opens), -1).sum(axis=1))
    assert (np.diff(opens) == length).all()


def test_a_candle_in_progress_knows_only_what_has_happened(market: SimulatedMarket) -> None:
    start = market.parameters.start
    now = start + 5 * MS_PER_HOUR + 2 * STEP_MS + 7
    opens, bars, _ = market.candles("BTC", "binance", "trade", MS_PER_HOUR, start, now)
    assert opens[-1] == start + 5 * MS_PER_HOUR
    _, fine, _ = market.candles("BTC", "binance", "trade", STEP_MS, int(opens[-1]), now)
    assert len(fine) == 2
    assert bars[-1, 3] == fine[-1, 3]
    assert bars[-1, 1] == fine[:, 1].max()


def test_binance_funding_follows_the_premium_and_is_the_interest_in_calm(
    market: SimulatedMarket,
) -> None:
    times, rates = market.binance_funding("BTC", market.parameters.end)
    assert (np.diff(times) == 8 * MS_PER_HOUR).all()
    assert np.median(rates) == pytest.approx(0.0001)
    premium = market.assets["BTC"].venues["binance"].premium[:-1].reshape(-1, 96).mean(axis=1)
    assert (rates[premium > 0.0006] > 0.0001).all()
    assert (rates[premium < -0.0004] < 0.0001).all()
    assert np.abs(rates).max() <= 0.003


def test_deribit_funding_is_nil_inside_its_damper(market: SimulatedMarket) -> None:
    times, rates = market.deribit_funding("ETH", market.parameters.end)
    assert (np.diff(times) == MS_PER_HOUR).all()
    premium = market.assets["ETH"].venues["deribit"].premium[:-1].reshape(-1, 12)
    quiet = (np.abs(premium) < 0.00025).all(axis=1)
    assert quiet.any()
    assert np.abs(rates[quiet]).max() < 1e-15
    high = (premium > 0.0005).all(axis=1)
    np.testing.assert_allclose(rates[high], (premium[high] - 0.00025).mean(axis=1) / 8, rtol=1e-9)


@given(
    mid=st.floats(10.0, 1e5),
    depth=st.floats(1e4, 1e9),
    tick=st.sampled_from([0.01, 0.05, 0.1, 0.5]),
)
@settings(max_examples=50, deadline=None)
def test_the_book_holds_the_depth_within_one_percent(mid: float, depth: float, tick: float) -> None:
    bids, asks = ladder(mid, depth, tick)
    assert bids[0, 0] <= mid <= asks[0, 0]
    assert (np.diff(bids[:, 0]) < 0).all()
    assert (np.diff(asks[:, 0]) > 0).all()
    near = 0.01 * mid + tick
    assert bids[bids[:, 0] >= mid - near, 1].sum() >= depth * 0.999
    if tick < 1e-4 * mid:
        inside = asks[asks[:, 0] <= mid * 1.01, 1].sum()
        assert inside == pytest.approx(depth, rel=0.02)


def test_spreading_a_shock_over_time_keeps_its_size_and_never_acts_before_it() -> None:
    impulses = np.zeros(1_000)
    impulses[300] = -0.2
    path = spread(impulses, 0.5)
    assert path.sum() == pytest.approx(-0.2)
    assert not path[:300].any()
    assert path[300] == path.min()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": "2024-01-01T05:00"}, "midnight"),
        ({"end": "2024-01-05"}, "14 days"),
        ({"sed": 3}, "Extra inputs"),
        ({"assets": [{"name": "BTC"}, {"name": "BTC"}]}, "repeats"),
        ({"surface": {"curvature": 1.41}}, "less than or equal"),
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MarketParameters(**wrong)
