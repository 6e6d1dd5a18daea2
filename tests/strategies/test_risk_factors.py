"""Risk factors of a price's law: Vega's own numbers, and what an expected shortfall is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from strategies.portfolio import Ask, Portfolio
from strategies.portfolio import ask as ask_policy
from strategies.registry import policy
from strategies.risk_factors import lognormal_factors
from tests.tapes import make_tape


def asked(asset: str, quantity: float, **knobs: object) -> Ask:
    portfolio = {
        "assets": {asset: {"index": 100.0}},
        "positions": [{"asset": asset, "quantity": quantity}],
    }
    return ask_policy(policy("preset:vega", **knobs), Portfolio.model_validate(portfolio))


@settings(deadline=None)
@given(tail=st.floats(1e-6, 0.2), years=st.floats(1e-4, 1.0), volatility=st.floats(0.05, 2.0))
def test_expected_shortfall_of_a_short_exceeds_that_of_a_long(
    tail: float, years: float, volatility: float
) -> None:
    long, short = lognormal_factors(tail, years, 0.0, np.array(volatility))
    assert 0.0 < long < 1.0
    assert short > long


@pytest.mark.parametrize("drift", [-0.5, 0.0, 0.8])
def test_risk_factors_are_the_mean_loss_beyond_the_quantile(drift: float) -> None:
    tail, years, volatility = 0.05, 0.1, 0.9
    ranks = (np.arange(200_000) + 0.5) / 200_000 * tail
    worst = ndtri(ranks)
    level, spread = (drift - volatility**2 / 2) * years, volatility * math.sqrt(years)
    long, short = lognormal_factors(tail, years, drift, np.array(volatility))
    assert long == pytest.approx(1.0 - np.exp(level + spread * worst).mean(), rel=1e-3)
    assert short == pytest.approx(np.exp(level - spread * worst).mean() - 1.0, rel=1e-3)


def test_vegas_own_factors_are_asked_of_either_side() -> None:
    """The integration feature files: one in a million over a tenth of a year at volatility 1."""
    lognormal = {"tail": 1e-6, "horizon": "36.5d", "estimator": {"stated": {"volatility": 1.0}}}
    for side, factor in ((1.0, 0.8007282079844139), (-1.0, 3.556903591579342)):
        found = asked("X", side, model={"lognormal": lognormal}, slippage=0.0)
        assert found.maintenance_usd == pytest.approx(100.0 * factor, rel=1e-6)
        assert found.initial_usd == pytest.approx(1.5 * found.maintenance_usd)


def test_vegas_proposals_give_about_the_leverage_that_they_state() -> None:
    # VMP-23 and VMP-33 aim at a maximum leverage of about 100x for BTC and ETH, 50x for LINK.
    for asset, leverage in (("BTC", 100.0), ("ETH", 100.0), ("LINK", 50.0)):
        found = asked(asset, 1.0)
        assert 100.0 / found.maintenance_usd == pytest.approx(leverage, rel=0.15)


def test_stated_factors_and_slippage_add_up() -> None:
    found = asked("X", -3.0, model={"simple": {"long": 0.1, "short": 0.2}}, slippage=0.05)
    assert found.maintenance_usd == pytest.approx(300.0 * 0.25)


def test_factors_follow_an_estimate_of_volatility() -> None:
    tape = make_tape(60, seed=3)
    model = {"lognormal": {"estimator": "ewma", "tail": "1%", "horizon": "1d"}}
    calm, moved = (
        policy("risk_factors", model=model, slippage=s).layers(tape)[0].parameters
        for s in (0.0, "1%")
    )
    assert calm.shape == (60, 2 * len(tape.assets))
    assert len(np.unique(calm[:, 0])) == 60
    assert moved - calm == pytest.approx(np.full(calm.shape, 0.015))
