"""SVI slices: published examples, recovery of known parameters, arbitrage that is really there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backtest.units import MS_PER_DAY
from data_ingest.simulator import MarketParameters, SimulatedMarket
from data_ingest.simulator.surface import VolatilitySurface, black_76_coin
from data_ingest.surfaces.arbitrage import butterfly_violations, calendar_violations
from data_ingest.surfaces.fit import fit_svi, vega_weights
from data_ingest.surfaces.smiles import smile_of
from data_ingest.surfaces.surface import FittedSlice, fit_slice
from data_ingest.surfaces.svi import STEEPEST_WING, SVI

VOGT = SVI(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)
"""Axel Vogt's slice of one year, from section 5.3 of Gatheral and Jacquier (2014)."""
START_MS = 1_700_000_000_000


def slice_of(svi: SVI, days: int = 365, reach: float = 1.5, **changes: Any) -> FittedSlice:
    values: dict[str, Any] = {
        "asset": "BTC",
        "ts_ms": START_MS,
        "expiry_ms": START_MS + days * MS_PER_DAY,
        "forward_usd": 100.0,
        "svi": svi,
        "points": 20,
        "lowest_k": -reach,
        "highest_k": reach,
        "rmse": 0.0,
        "max_error": 0.0,
    }
    return FittedSlice(**values | changes)


def from_jump_wings(v: float, psi: float, p: float, c: float, v_low: float) -> SVI:
    """Lemma 3.2 of Gatheral and Jacquier (2014) for one year, written down on its own."""
    w = v
    b = 0.5 * math.sqrt(w) * (c + p)
    rho = 1.0 - p * math.sqrt(w) / b
    beta = rho - 2.0 * psi * math.sqrt(w) / b
    alpha = math.copysign(math.sqrt(1.0 / beta**2 - 1.0), beta)
    flat = math.sqrt(1.0 - rho**2)
    m = (v - v_low) / (b * (-rho + math.copysign(math.sqrt(1.0 + alpha**2), alpha) - alpha * flat))
    sigma = alpha * m
    return SVI(a=v_low - b * sigma * flat, b=b, rho=rho, m=m, sigma=sigma)


def test_the_published_slice_reads_in_jump_wings_as_published() -> None:
    wings = VOGT.jump_wings(1.0)
    assert wings.atm_variance == pytest.approx(0.01742625, abs=5e-9)
    assert wings.atm_skew == pytest.approx(-0.1752111, abs=5e-8)
    assert wings.put_wing == pytest.approx(0.6997381, abs=5e-8)
    assert wings.call_wing == pytest.approx(1.316798, abs=5e-7)
    assert wings.lowest_variance == pytest.approx(0.0116249, abs=5e-8)


def test_jump_wings_of_a_shorter_slice_are_annual() -> None:
    year, month = VOGT.jump_wings(1.0), VOGT.jump_wings(1.0 / 12.0)
    assert month.atm_variance == pytest.approx(12.0 * year.atm_variance)
    assert month.lowest_variance == pytest.approx(12.0 * year.lowest_variance)
    assert (month.put_wing, month.atm_skew) == (year.put_wing, year.atm_skew)


def test_the_published_butterfly_is_found_where_it_is() -> None:
    (found,) = butterfly_violations(slice_of(VOGT))
    assert (found.kind, found.quoted) == ("butterfly", True)
    k = np.linspace(-1.5, 1.5, 300_001)
    density = VOGT.density_sign(k)
    assert found.log_moneyness == pytest.approx(k[np.argmin(density)], abs=0.005)
    assert found.size == pytest.approx(-density.min(), rel=1e-3)


@pytest.mark.parametrize(
    ("c", "v_low"), [(0.3493158, 0.01548182), (0.8564763, 0.0116249)], ids=["ssvi", "nearest"]
)
def test_the_published_repairs_of_that_slice_have_no_butterfly(c: float, v_low: float) -> None:
    repaired = from_jump_wings(0.01742625, -0.1752111, 0.6997381, c, v_low)
    assert butterfly_violations(slice_of(repaired)) == []


def test_a_butterfly_beyond_the_quotes_is_called_extrapolation() -> None:
    (found,) = butterfly_violations(slice_of(VOGT, reach=0.3))
    assert not found.quoted
    both = butterfly_violations(slice_of(VOGT, reach=0.85))
    assert [each.quoted for each in both] == [True, False]
    assert both[0].log_moneyness <= 0.85 < both[1].log_moneyness


def test_a_wing_steeper_than_lees_bound_is_a_butterfly_for_ever() -> None:
    steep = SVI(a=0.04, b=1.2, rho=0.8, m=0.0, sigma=0.3)
    assert steep.wing_slopes[1] > STEEPEST_WING
    last = butterfly_violations(slice_of(steep))[-1]
    assert last.log_moneyness == math.inf
    assert last.size == pytest.approx((1.2 * 1.8) ** 2 / 16 - 0.25)


def test_negative_total_variance_is_a_butterfly_without_bound() -> None:
    below = SVI(a=-0.1, b=0.2, rho=0.0, m=0.3, sigma=0.1)
    assert below.lowest_total_variance < 0
    assert any(each.size == math.inf for each in butterfly_violations(slice_of(below)))


@settings(max_examples=40, deadline=None)
@given(
    rho=st.floats(-0.9, 0.9),
    b=st.floats(0.02, 0.6),
    m=st.floats(-0.3, 0.3),
    sigma=st.floats(0.05, 0.6),
    lowest=st.floats(0.01, 0.3),
)
def test_durrlemans_function_has_the_sign_of_the_density_of_prices(
    rho: float, b: float, m: float, sigma: float, lowest: float
) -> None:
    svi = SVI(lowest - b * sigma * math.sqrt(1 - rho**2), b, rho, m, sigma)
    strike = np.linspace(0.7, 1.4, 141)
    step = 1e-3
    price = [
        black_76_coin(
            np.ones_like(strike), at, np.sqrt(svi.total_variance(np.log(at))),
            np.ones(len(strike), bool),
        )
        for at in (strike - step, strike, strike + step)
    ]  # fmt: skip
    density = (price[0] - 2.0 * price[1] + price[2]) / step**2
    sign = svi.density_sign(np.log(strike))
    deviation = np.sqrt(svi.total_variance(np.log(strike)))
    lower = -np.log(strike) / deviation - 0.5 * deviation
    expected = sign * np.exp(-0.5 * lower**2) / (np.sqrt(2 * np.pi) * strike * deviation)
    # Three prices bend, to second order, as the density does in their midst.
    assert density == pytest.approx(expected, rel=2e-3, abs=2e-3)


def test_falling_total_variance_is_a_calendar_with_its_place_and_size() -> None:
    early = slice_of(SVI(0.05, 0.1, 0.0, 0.0, 0.2), days=30, reach=0.5)
    late = slice_of(SVI(0.068, 0.02, 0.0, 0.0, 0.2), days=60, reach=0.5)
    assert calendar_violations([late, replace_expiry(late, 90)]) == []
    found = calendar_violations([early, late])
    assert {each.kind for each in found} == {"calendar"}
    assert {each.expiry_ms for each in found} == {late.expiry_ms}
    inside = [each for each in found if each.quoted]
    assert [abs(each.log_moneyness) for each in inside] == pytest.approx([0.5, 0.5], abs=0.02)
    k = inside[0].log_moneyness
    lacking = early.svi.volatility(k, late.years) - late.svi.volatility(k, late.years)
    assert inside[0].size == pytest.approx(float(lacking))


def test_a_calendar_beyond_either_expirys_quotes_is_called_extrapolation() -> None:
    early = slice_of(SVI(0.05, 0.1, 0.0, 0.0, 0.2), days=30, reach=0.5)
    late = slice_of(SVI(0.068, 0.02, 0.0, 0.0, 0.2), days=60, reach=0.08)
    found = calendar_violations([early, late])
    assert found
    assert not any(each.quoted for each in found)


def replace_expiry(held: FittedSlice, days: int) -> FittedSlice:
    return slice_of(held.svi, days=days, reach=held.highest_k)


@settings(max_examples=40, deadline=None)
@given(
    days=st.floats(0.2, 700),
    volatility=st.floats(0.2, 1.5),
    rho=st.floats(-0.85, 0.85),
    slope=st.floats(0.1, 1.1),
    shift=st.floats(-0.6, 0.6),
    roundness=st.floats(0.15, 1.5),
)
def test_known_parameters_are_recovered(
    days: float, volatility: float, rho: float, slope: float, shift: float, roundness: float
) -> None:
    years = days / 365
    unit = volatility * math.sqrt(years)
    b, m, sigma = slope * unit, shift * unit, roundness * unit
    a = unit**2 - b * (math.hypot(m, sigma) - rho * m)
    svi = SVI(a, b, rho, m, sigma)
    assume(svi.lowest_total_variance > 0.02 * unit**2)
    assume(max(svi.wing_slopes) < 0.95 * STEEPEST_WING)
    k = unit * np.linspace(-3, 3, 21)
    fit = fit_svi(k, svi.volatility(k, years), years)
    assert fit.rmse < 1e-9
    told = (fit.svi.a / unit**2, fit.svi.b / unit, fit.svi.rho, fit.svi.m / unit,
            fit.svi.sigma / unit)  # fmt: skip
    assert told == pytest.approx((a / unit**2, slope, rho, shift, roundness), abs=1e-6)


def test_the_published_slice_is_recovered_with_its_negative_level() -> None:
    k = np.linspace(-1.5, 1.5, 25)
    svi = fit_svi(k, VOGT.volatility(k, 1.0), 1.0).svi
    found = (svi.a, svi.b, svi.rho, svi.m, svi.sigma)
    assert found == pytest.approx((VOGT.a, VOGT.b, VOGT.rho, VOGT.m, VOGT.sigma), abs=1e-6)


@pytest.mark.parametrize("days", [7, 60])
def test_the_simulators_surface_svi_is_fitted_exactly_and_shows_no_arbitrage(days: int) -> None:
    market = SimulatedMarket(MarketParameters(start="2024-01-01", end="2024-01-20", seed=5))
    simulated = VolatilitySurface(market, "BTC")
    at_ms = market.parameters.start + 2 * MS_PER_DAY
    slices = []
    for expiry_ms in (at_ms + days * MS_PER_DAY, at_ms + 2 * days * MS_PER_DAY):
        forward = float(simulated.forward_usd(at_ms, np.array([expiry_ms]))[0])
        strike = forward * np.exp(np.linspace(-0.4, 0.4, 17))
        quoted = simulated.implied_volatility(at_ms, np.full(17, expiry_ms), strike)
        fitted = fit_slice(smile_of("BTC", at_ms, expiry_ms, forward, strike, quoted))
        assert fitted is not None
        assert fitted.max_error < 1e-8
        assert butterfly_violations(fitted) == []
        slices.append(fitted)
    assert not any(found.quoted for found in calendar_violations(slices))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 40))
def test_any_quotes_get_a_slice_within_the_models_bounds_and_the_same_one_again(
    seed: int, points: int
) -> None:
    draws = np.random.default_rng(seed)
    k = np.sort(draws.uniform(-1.0, 1.0, points))
    volatility = draws.uniform(0.2, 2.0, points)
    first, again = (fit_svi(k, volatility, 0.1) for _ in range(2))
    assert first == again
    assert first.svi.lowest_total_variance > 0
    assert max(first.svi.wing_slopes) <= STEEPEST_WING * (1 + 1e-9)
    assert abs(first.svi.rho) <= 1
    assert first.svi.sigma > 0
    error = first.svi.volatility(k, 0.1) - volatility
    assert first.max_error == pytest.approx(np.abs(error).max())
    weights = vega_weights(k, volatility, 0.1)
    assert first.rmse == pytest.approx(math.sqrt(np.average(error**2, weights=weights)))


def test_no_slice_nearby_fits_better_than_the_fitted_one() -> None:
    draws = np.random.default_rng(4)
    k = np.linspace(-0.6, 0.5, 23)
    truth = SVI(0.01, 0.2, -0.3, 0.02, 0.15)
    quoted = truth.volatility(k, 0.25) + draws.normal(0, 0.004, len(k))
    weights = vega_weights(k, quoted, 0.25)
    fit = fit_svi(k, quoted, 0.25)
    for name in ("a", "b", "rho", "m", "sigma"):
        for change in (-1e-4, 1e-4):
            moved = SVI(**{**fit.svi.__dict__, name: getattr(fit.svi, name) + change})
            error = moved.volatility(k, 0.25) - quoted
            assert math.sqrt(np.average(error**2, weights=weights)) > fit.rmse


def test_a_strike_of_more_weight_is_fitted_more_closely() -> None:
    k = np.linspace(-0.5, 0.5, 11)
    quoted = 0.6 + 0.3 * k**2
    quoted[3] += 0.05
    weights = np.ones(11)
    plain = fit_svi(k, quoted, 0.25, weights)
    weights[3] = 100.0
    pulled = fit_svi(k, quoted, 0.25, weights)
    errors = [abs(float(fit.svi.volatility(k[3], 0.25)) - quoted[3]) for fit in (plain, pulled)]
    assert errors[1] < 0.5 * errors[0]


def test_four_strikes_are_refused() -> None:
    with pytest.raises(ValueError, match="4 strikes cannot fix the five parameters"):
        fit_svi(np.linspace(-0.1, 0.1, 4), np.full(4, 0.5), 0.1)
