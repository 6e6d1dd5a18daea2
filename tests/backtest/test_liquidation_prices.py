"""At a liquidation price equity is the margin asked for; at a bankruptcy price it is nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backtest.kernels.laws.liquidation_price import (
    adjusted_bankruptcy_rating,
    bankruptcy_price,
    bankruptcy_quote,
    bracket_deduction,
    bracket_liquidation_price,
    equity_at,
    fillable_price,
    isolated_liquidation_price,
    leverage,
)

prices = st.floats(0.1, 1e6)
sizes = st.floats(1e-3, 1e4) | st.floats(-1e4, -1e-3)
rates = st.floats(0.001, 0.4)
ADA_LOWERS = np.array([0.0, 1e5, 5e5, 1e6, 2e6, 5e6])
ADA_RATES = np.array([0.025, 0.05, 0.1, 0.15, 0.25, 0.5])


@settings(deadline=None)
@given(quantity=sizes, entry=prices, margin=st.floats(0.5, 0.99), rate=rates)
def test_equity_is_maintenance_at_the_liquidation_price(
    quantity: float, entry: float, margin: float, rate: float
) -> None:
    cash = margin * abs(quantity) * entry
    price = bracket_liquidation_price(cash, quantity, entry, rate, 0.0)
    assert price > 0.0
    equity = equity_at(cash, quantity, entry, price)
    notional = abs(quantity) * price
    assert equity == pytest.approx(rate * notional, rel=1e-6, abs=1e-6 * abs(quantity) * entry)
    assert isolated_liquidation_price(cash, quantity, entry, rate) == pytest.approx(price)


@settings(deadline=None)
@given(quantity=sizes, entry=prices, margin=st.floats(0.01, 2.0))
def test_nothing_is_left_at_the_bankruptcy_price(
    quantity: float, entry: float, margin: float
) -> None:
    cash = margin * abs(quantity) * entry
    price = bankruptcy_price(cash, quantity, entry)
    if quantity > 0.0 and margin >= 1.0:
        assert price == pytest.approx(0.0, abs=1e-9 * entry)
    else:
        left = equity_at(cash, quantity, entry, price)
        assert left == pytest.approx(0.0, abs=1e-9 * abs(quantity) * entry)
    assert math.isnan(bankruptcy_price(cash, 0.0, entry))


def test_binances_isolated_example_is_reproduced() -> None:
    """Binance FAQ: 3683.979 ETH bought at 1456.84 are liquidated at 1114.78."""
    price = bracket_liquidation_price(1_535_443.01, 3_683.979, 1_456.84, 0.1, 135_365.0)
    assert price == pytest.approx(1_114.78, abs=0.01)


def test_hyperliquids_own_price_is_reproduced() -> None:
    """Reported by the exchange for a short of 0.019 ETH at 50 times."""
    price = isolated_liquidation_price(25.091876, -0.019, 2_642.8, 0.01)
    assert price == pytest.approx(3_924.18322043, rel=1e-9)


@settings(deadline=None)
@given(notional=st.floats(0.0, 1e7))
def test_a_deduction_charges_each_part_of_a_notional_at_its_own_rate(notional: float) -> None:
    uppers = [*ADA_LOWERS[1:], math.inf]
    parts = [
        max(min(notional, upper) - lower, 0.0) * rate
        for lower, upper, rate in zip(ADA_LOWERS, uppers, ADA_RATES, strict=True)
    ]
    rate = ADA_RATES[max(np.searchsorted(ADA_LOWERS, notional) - 1, 0)]
    asked = rate * notional - bracket_deduction(notional, ADA_LOWERS, ADA_RATES)
    assert asked == pytest.approx(sum(parts), rel=1e-9, abs=1e-6)


def test_deductions_of_binances_ada_tiers_are_reproduced() -> None:
    wanted = {5e4: 0.0, 1e5: 0.0, 3e5: 2_500.0, 7e5: 27_500.0, 1.5e6: 77_500.0, 6e6: 1_527_500.0}
    for notional, deduction in wanted.items():
        assert bracket_deduction(notional, ADA_LOWERS, ADA_RATES) == pytest.approx(deduction)


def test_dydx_offers_below_the_oracle_and_never_beyond_bankruptcy_for_nothing() -> None:
    """`liquidations_test.go`: a long of 0.1 at 50000 with 499 left of 500."""
    rating = adjusted_bankruptcy_rating(499.0, 500.0, 1.0)
    assert fillable_price(0.1, 50_000.0, 500.0, rating, 0.1) == pytest.approx(49_999.0)
    assert bankruptcy_quote(0.1, 50_000.0, 499.0, 500.0, 500.0) == pytest.approx(4_501.0)
    short = fillable_price(-0.1, 50_000.0, 500.0, rating, 0.1)
    assert short == pytest.approx(50_001.0)
    assert bankruptcy_quote(-0.1, 50_000.0, 499.0, 500.0, 500.0) == pytest.approx(-5_499.0)


@settings(deadline=None)
@given(equity=st.floats(-1e6, 1e6), maintenance=st.floats(1.0, 1e6), factor=st.floats(1.0, 3.0))
def test_the_bankruptcy_rating_stays_between_nothing_and_one(
    equity: float, maintenance: float, factor: float
) -> None:
    rating = adjusted_bankruptcy_rating(equity, maintenance, factor)
    assert 0.0 <= rating <= 1.0
    if equity >= maintenance:
        assert rating == 0.0
    if equity <= 0.0:
        assert rating == 1.0
    assert adjusted_bankruptcy_rating(-1.0, 0.0, factor) == 1.0
    assert adjusted_bankruptcy_rating(1.0, 0.0, factor) == 0.0


@settings(deadline=None)
@given(quantity=sizes, price=prices, cash=st.floats(1.0, 1e6))
def test_leverage_falls_as_cash_grows(quantity: float, price: float, cash: float) -> None:
    assume(abs(quantity * price) > 1e-6)
    assert leverage(price, quantity, 2.0 * cash) == pytest.approx(
        leverage(price, quantity, cash) / 2.0
    )
    assert leverage(price, quantity, 0.0) == math.inf
