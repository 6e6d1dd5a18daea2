from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from data_ingest.simulator import MarketParameters, SimulatedMarket
from data_ingest.simulator.options import OptionListing, expiry_calendar
from data_ingest.simulator.surface import black_76_coin, implied_deviation

MARKET = SimulatedMarket()
LISTING = OptionListing(MARKET, "BTC")
SURFACE = LISTING.surface
SPAN = MARKET.parameters
CRISIS = MARKET.crises[0]
instants = st.integers(SPAN.start, SPAN.end)


def chain(at_ms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return options alive, forward, volatility, mark and years."""
    alive = LISTING.alive(at_ms)
    expiry, strike, is_call = (
        LISTING.expiry_ms[alive],
        LISTING.strike[alive],
        LISTING.is_call[alive],
    )
    volatility, mark = SURFACE.mark(at_ms, expiry, strike, is_call)
    forward = SURFACE.forward_usd(at_ms, expiry)
    return alive, forward, volatility, mark, (expiry - at_ms) / MS_PER_YEAR


def atm(at_ms: int, days: float) -> float:
    years = np.array([days / 365])
    return float(np.sqrt(SURFACE.atm_variance(at_ms, years) / years)[0])


def test_black_76_in_coin_equals_quantlib() -> None:
    quantlib = pytest.importorskip("QuantLib")
    for strike in (20_000.0, 43_000.0, 90_000.0):
        for deviation in (0.02, 0.15, 0.6, 1.4):
            for is_call, kind in ((True, quantlib.Option.Call), (False, quantlib.Option.Put)):
                usd = quantlib.blackFormula(kind, strike, 43_210.0, deviation)
                coin = black_76_coin(
                    np.array(43_210.0), np.array(strike), np.array(deviation), np.array(is_call)
                )
                assert float(coin) == pytest.approx(usd / 43_210.0, abs=1e-12)


@given(instants)
@settings(max_examples=40, deadline=None)
def test_put_call_parity_holds_to_the_published_digits(at_ms: int) -> None:
    alive, forward, _, mark, _ = chain(at_ms)
    puts, calls = mark[::2], mark[1::2]
    assert not LISTING.is_call[alive[::2]].any()
    parity = 1 - LISTING.strike[alive[::2]] / forward[::2]
    np.testing.assert_allclose(calls - puts, parity, atol=1.01e-6)


@given(instants)
@settings(max_examples=40, deadline=None)
def test_no_option_is_worth_less_than_its_intrinsic_value(at_ms: int) -> None:
    alive, forward, _, mark, _ = chain(at_ms)
    sign = np.where(LISTING.is_call[alive], 1, -1)
    intrinsic = np.maximum(sign * (1 - LISTING.strike[alive] / forward), 0)
    assert (mark >= intrinsic - 5.1e-7).all()


@given(instants)
@settings(max_examples=40, deadline=None)
def test_the_published_volatility_reproduces_the_published_mark(at_ms: int) -> None:
    alive, forward, volatility, mark, years = chain(at_ms)
    strike = LISTING.strike[alive]
    deviation = volatility * np.sqrt(years)
    upper = (np.log(forward / strike) + 0.5 * deviation**2) / deviation
    call = ndtr(upper) - strike / forward * ndtr(upper - deviation)
    price = np.where(LISTING.is_call[alive], call, call - 1 + strike / forward)
    np.testing.assert_allclose(mark, price, atol=1e-6)


@given(instants, st.floats(0.005, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_surface_has_no_butterfly_arbitrage(at_ms: int, years: float) -> None:
    expiry = np.int64(at_ms + years * MS_PER_YEAR)
    k = np.linspace(-2.0, 2.0, 801)
    strike = SURFACE.forward_usd(at_ms, expiry) * np.exp(k)
    years = float(expiry - at_ms) / MS_PER_YEAR
    w = SURFACE.implied_volatility(at_ms, expiry, strike) ** 2 * years
    first, second = np.gradient(w, k), np.gradient(np.gradient(w, k), k)
    # Gatheral's density condition: g(k) must not be negative.
    g = (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + second / 2
    assert g[5:-5].min() > -1e-3


@given(instants)
@settings(max_examples=40, deadline=None)
def test_total_variance_grows_with_expiry_at_every_moneyness(at_ms: int) -> None:
    expiries = at_ms + (np.array([2, 7, 14, 30, 90, 180, 360]) * MS_PER_DAY).astype(np.int64)
    years = (expiries - at_ms) / MS_PER_YEAR
    for k in (-0.5, -0.1, 0.0, 0.1, 0.5):
        strike = SURFACE.forward_usd(at_ms, expiries) * np.exp(k)
        total = SURFACE.implied_volatility(at_ms, expiries, strike) ** 2 * years
        assert (np.diff(total) > 0).all()


@given(instants, st.sampled_from([7, 30, 90]))
@settings(max_examples=40, deadline=None)
def test_puts_are_dearer_than_calls_equally_far_out(at_ms: int, days: int) -> None:
    expiry = np.int64(at_ms + days * MS_PER_DAY)
    far = np.sqrt(SURFACE.atm_variance(at_ms, np.array([days / 365])))
    forward = SURFACE.forward_usd(at_ms, expiry)
    put = SURFACE.implied_volatility(at_ms, expiry, forward * np.exp(-far))
    call = SURFACE.implied_volatility(at_ms, expiry, forward * np.exp(far))
    assert put > call


def test_calm_smile_is_that_of_the_recorded_deribit_chain() -> None:
    at_ms = CRISIS.start_ms - MS_PER_DAY
    expiry = np.int64(at_ms + 30 * MS_PER_DAY)
    far = float(np.sqrt(SURFACE.atm_variance(at_ms, np.array([30 / 365])))[0])
    strikes = SURFACE.forward_usd(at_ms, expiry) * np.exp(far * np.array([-2, -1, 0, 1, 2]))
    smile = SURFACE.implied_volatility(at_ms, expiry, strikes)
    # BTC, 26 June 2026, expiries of two weeks to six months: +48, +21, -8 and +3 % of the middle.
    np.testing.assert_allclose(smile[[0, 1, 3, 4]] / smile[2], [1.48, 1.21, 0.92, 1.03], atol=0.03)


def test_a_crisis_lifts_the_surface_inverts_it_and_steepens_its_skew() -> None:
    before, within = CRISIS.start_ms - MS_PER_DAY, CRISIS.start_ms + 2 * MS_PER_DAY
    assert atm(within, 7) > atm(before, 7) + 0.1
    assert atm(within, 7) > atm(within, 90)
    assert atm(within, 90) > atm(before, 90)

    def skew(at_ms: int) -> float:
        expiry = np.int64(at_ms + 30 * MS_PER_DAY)
        forward = SURFACE.forward_usd(at_ms, expiry)
        low, high = (
            float(SURFACE.implied_volatility(at_ms, expiry, forward * x)) for x in (0.85, 1.15)
        )
        return (low - high) / atm(at_ms, 30)

    assert skew(within) > skew(before) > 0


def test_listed_expiries_are_fridays_at_eight_and_include_the_quarter_end() -> None:
    at_ms = int(datetime(2024, 2, 14, 12, tzinfo=UTC).timestamp() * 1_000)
    expiries = {
        datetime.fromtimestamp(ms / 1_000, tz=UTC): kind
        for ms, kind in expiry_calendar(SPAN.surface, at_ms).items()
    }
    assert all(when.weekday() == 4 and when.hour == 8 for when in expiries)
    assert {when.date().isoformat(): kind for when, kind in expiries.items()} == {
        "2024-02-16": "weekly",
        "2024-02-23": "weekly",
        "2024-03-01": "weekly",
        "2024-03-29": "monthly",
        "2024-04-26": "monthly",
        "2024-06-28": "quarterly",
        "2024-09-27": "quarterly",
    }


@pytest.mark.parametrize("days", [1, 40, 97, 200, 355])
def test_the_chain_always_brackets_spot(days: int) -> None:
    at_ms = SPAN.start + days * MS_PER_DAY + 9 * MS_PER_HOUR
    alive = LISTING.alive(at_ms)
    spot = float(SURFACE.spot_usd(at_ms))
    for expiry in np.unique(LISTING.expiry_ms[alive]):
        strikes = LISTING.strike[alive][LISTING.expiry_ms[alive] == expiry]
        assert strikes.min() < spot < strikes.max()
        assert len(strikes) >= 10


def test_no_option_is_listed_after_its_expiry_and_names_are_unique() -> None:
    assert (LISTING.listed_ms < LISTING.expiry_ms).all()
    assert len(set(LISTING.names)) == len(LISTING.names)
    assert (LISTING.expiry_ms % MS_PER_DAY == 8 * MS_PER_HOUR).all()


def test_listings_of_a_day_do_not_depend_on_prices_after_it() -> None:
    rough = MarketParameters(seed=7, assets=SPAN.assets, crises={"drop": (0.6, 0.7)})
    other = OptionListing(SimulatedMarket(rough), "BTC")
    known = {
        (name, int(listed))
        for name, listed in zip(LISTING.names, LISTING.listed_ms, strict=True)
        if listed <= CRISIS.start_ms
    }
    same = {
        (name, int(listed))
        for name, listed in zip(other.names, other.listed_ms, strict=True)
        if listed <= CRISIS.start_ms
    }
    assert known == same
    assert set(LISTING.names) != set(other.names)


def test_prints_are_ordered_alive_and_priced_at_their_volatility() -> None:
    start = CRISIS.start_ms
    prints = LISTING.trades(start, start + 3 * MS_PER_DAY)
    assert len(prints.ts_ms) > 300
    assert (np.diff(prints.ts_ms) >= 0).all()
    assert len(np.unique(prints.trade_id)) == len(prints.trade_id)
    expiry, strike = LISTING.expiry_ms[prints.option], LISTING.strike[prints.option]
    assert (LISTING.listed_ms[prints.option] <= prints.ts_ms).all()
    assert (prints.ts_ms < expiry).all()
    root_years = np.sqrt((expiry - prints.ts_ms) / MS_PER_YEAR)
    forward = SURFACE.forward_usd(prints.ts_ms, expiry)
    price = black_76_coin(forward, strike, prints.iv * root_years, LISTING.is_call[prints.option])
    np.testing.assert_allclose(price, prints.price_coin, atol=2e-5)


def test_splitting_a_window_of_prints_loses_and_repeats_none() -> None:
    start, middle, end = (SPAN.start + hours * MS_PER_HOUR for hours in (5, 31, 60))
    whole = LISTING.trades(start, end).trade_id
    parts = [LISTING.trades(start, middle).trade_id, LISTING.trades(middle + 1, end).trade_id]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@given(st.floats(0.7, 1.4), st.floats(0.02, 1.5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_implied_deviation_inverts_the_price(ratio: float, deviation: float, call: bool) -> None:
    forward, strike = np.array([1.0]), np.array([ratio])
    price = black_76_coin(forward, strike, np.array([deviation]), np.array([call]))
    intrinsic = max((1 if call else -1) * (1 - ratio), 0)
    if price[0] > intrinsic + 1e-9:
        found = implied_deviation(price, forward, strike, np.array([call]))
        again = black_76_coin(forward, strike, found, np.array([call]))
        assert again[0] == pytest.approx(price[0], abs=1e-12)
    worthless = implied_deviation(np.array([intrinsic]), forward, strike, np.array([call]))
    assert np.isnan(worthless[0])
