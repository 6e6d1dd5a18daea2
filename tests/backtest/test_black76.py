"""Option prices: accuracy against independent code, bits against plain Python, no-arbitrage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from backtest.kernels.black76 import (
    black76,
    black76_delta,
    black76_delta_reference,
    black76_reference,
    exp_negative,
    normal_cdf,
    normal_cdf_reference,
    stressed_prices,
    stressed_prices_reference,
)
from backtest.seeds import stream

forwards = st.floats(1e-3, 1e6)
moneyness = st.floats(-3.0, 3.0)
sigmas = st.floats(0.0, 8.0)
maturities = st.floats(0.0, 5.0)
sides = st.sampled_from([0.0, 1.0])
options = st.tuples(forwards, moneyness, sigmas, maturities, sides).map(
    lambda o: (o[0], o[0] * math.exp(o[1]), *o[2:])
)


def textbook(forward: float, strike: float, sigma: float, years: float, is_call: float) -> float:
    deviation = sigma * math.sqrt(years)
    d1 = math.log(forward / strike) / deviation + deviation / 2
    d2 = d1 - deviation
    if is_call:
        return float(forward * ndtr(d1) - strike * ndtr(d2))
    return float(strike * ndtr(-d2) - forward * ndtr(-d1))


def random_options(count: int) -> np.ndarray:
    draws = stream(7, "options")
    forward = np.exp(draws.uniform(0.0, 12.0, count))
    strike = forward * np.exp(draws.normal(0.0, 0.6, count))
    sigma, years = draws.uniform(0.02, 4.0, count), draws.uniform(1e-5, 3.0, count)
    return np.stack([forward, strike, sigma, years, draws.integers(0, 2, count)], axis=1)


def test_price_agrees_with_the_textbook_formula_to_1e_14_of_the_forward() -> None:
    rows = random_options(20_000)
    error = [abs(black76(*row) - textbook(*row)) / row[0] for row in rows]
    assert max(error) < 1e-14


def test_price_agrees_with_hulls_example_of_a_put_on_futures() -> None:
    # J. Hull, "Options, Futures, and Other Derivatives", Black's model: F = K = 20, r = 9 %,
    # four months, sigma = 25 %; the discounted put is worth 1.12.
    price = black76(20.0, 20.0, 0.25, 4 / 12, 0.0)
    assert price * math.exp(-0.09 * 4 / 12) == pytest.approx(1.12, abs=5e-3)


def test_at_the_money_price_is_the_error_function() -> None:
    for deviation in (0.01, 0.2, 1.0, 3.0):
        expected = math.erf(deviation / 2 / math.sqrt(2.0))
        assert black76(1.0, 1.0, deviation, 1.0, 1.0) == pytest.approx(expected, abs=2e-15)


@settings(deadline=None)
@given(options)
def test_compiled_and_plain_prices_have_equal_bits(option: tuple[float, ...]) -> None:
    assert black76(*option) == black76_reference(*option)
    assert black76_delta(*option) == black76_delta_reference(*option)


@settings(deadline=None)
@given(options)
def test_price_lies_between_intrinsic_value_and_its_bound(option: tuple[float, ...]) -> None:
    forward, strike, _, _, is_call = option
    price = black76(*option)
    gain = forward - strike if is_call else strike - forward
    assert price >= max(gain * (1 - 1e-14) - 1e-15 * forward, 0.0)
    assert price <= (forward if is_call else strike) * (1 + 1e-14)


@settings(deadline=None)
@given(options)
def test_put_and_call_differ_by_the_forward_value(option: tuple[float, ...]) -> None:
    forward, strike, sigma, years, _ = option
    call = black76(forward, strike, sigma, years, 1.0)
    put = black76(forward, strike, sigma, years, 0.0)
    assert call - put == pytest.approx(forward - strike, abs=2e-14 * max(forward, strike))


@settings(deadline=None)
@given(options, st.floats(1.001, 3.0))
def test_price_rises_with_volatility(option: tuple[float, ...], factor: float) -> None:
    forward, strike, sigma, years, is_call = option
    more = black76(forward, strike, sigma * factor, years, is_call)
    assert more >= black76(*option) - 1e-14 * max(forward, strike)


@pytest.mark.parametrize(("sigma", "years"), [(0.0, 1.0), (0.5, 0.0), (0.5, -1.0), (1e-200, 1.0)])
def test_expired_or_certain_option_is_worth_its_intrinsic_value(sigma: float, years: float) -> None:
    for function in (black76, black76_reference):
        assert function(110.0, 100.0, sigma, years, 1.0) == 10.0
        assert function(110.0, 100.0, sigma, years, 0.0) == 0.0
        assert function(100.0, 100.0, sigma, years, 1.0) == 0.0
    assert black76_delta(110.0, 100.0, 0.0, years, 1.0) == 1.0
    assert black76_delta(90.0, 100.0, 0.0, years, 0.0) == -1.0


def test_unknown_volatility_gives_an_unknown_price() -> None:
    for function in (black76, black76_reference):
        assert math.isnan(function(100.0, 100.0, math.nan, 1.0, 1.0))


@settings(deadline=None)
@given(options)
def test_delta_is_the_slope_of_the_price(option: tuple[float, ...]) -> None:
    forward, strike, sigma, years, is_call = option
    if sigma * math.sqrt(years) < 0.05:
        return
    step = forward * 1e-5
    up = black76(forward + step, strike, sigma, years, is_call)
    down = black76(forward - step, strike, sigma, years, is_call)
    assert black76_delta(*option) == pytest.approx((up - down) / (2 * step), abs=1e-6)


@settings(deadline=None)
@given(st.floats(-60.0, 60.0))
def test_normal_distribution_agrees_with_the_library_and_with_plain_python(x: float) -> None:
    assert normal_cdf(x) == normal_cdf_reference(x)
    assert normal_cdf(x) == pytest.approx(float(ndtr(x)), abs=1e-15)


@settings(deadline=None)
@given(st.floats(-800.0, 0.0))
def test_exponential_is_within_two_units_of_the_library(x: float) -> None:
    exact = math.exp(max(x, -708.0))
    assert abs(exp_negative(x) - exact) <= 2 * math.ulp(exact)


@settings(max_examples=30, deadline=None)
@given(options, st.integers(1, 40), st.integers(0, 2**16))
def test_stressed_prices_equal_single_prices_bit_for_bit(
    option: tuple[float, ...], count: int, seed: int
) -> None:
    forward, strike, _, _, is_call = option
    draws = stream(seed, "stress")
    moves = np.concatenate([[1.0], draws.uniform(0.01, 5.0, count)])
    logs = np.array([math.log(move) for move in moves])
    deviations = draws.uniform(0.0, 3.0, count + 1)
    compiled, plain = np.empty(count + 1), np.empty(count + 1)
    stressed_prices(forward, strike, is_call, moves, logs, deviations, compiled)
    stressed_prices_reference(forward, strike, is_call, moves, logs, deviations, plain)
    assert np.array_equal(compiled, plain)
    # One year makes sigma the deviation: an unmoved forward gives the plain price.
    assert compiled[0] == black76(forward, strike, deviations[0], 1.0, is_call)
