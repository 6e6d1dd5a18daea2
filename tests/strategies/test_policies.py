"""Every policy and preset: causal, finite from the first row, monotone, and itself again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import PolicyError
from backtest.requirement import RequirementLayer, refuse_look_ahead
from strategies.concentration import Concentration
from strategies.contract import MarginPolicy
from strategies.kernels.concentration import concentration
from strategies.kernels.linear_rate import linear_rate
from strategies.registry import load_policy, names, policy
from tests.strategies.portfolios import (
    ask,
    equal_bits,
    make_market,
    one_account,
    random_holdings,
)
from tests.tapes import make_tape

SPECS = [
    *names(),
    {"policy": "volatility", "estimator": "rolling", "update": {"keeper": {"latency": "2h"}}},
    {"policy": "tail", "confidence": "95%", "method": {"historical": {"window": "7d"}}},
    {"policy": "tail", "measure": "value_at_risk", "method": "normal", "horizon": "1d"},
    {"policy": "tail", "method": {"student": {"degrees_of_freedom": 3}}},
    {"policy": "scenario", "price_range": {"scaled": {}}, "addons": ["concentration"]},
]
TAPE = make_tape(120, seed=5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@settings(max_examples=8, deadline=None)
@given(rows=st.integers(1, 119))
def test_parameters_are_the_same_when_the_future_is_hidden(spec: str, rows: int) -> None:
    chosen = load_policy(spec)
    whole, part = chosen.layers(TAPE), chosen.layers(TAPE.head(rows))
    for seen, hidden in zip(whole, part, strict=True):
        assert np.array_equal(seen.parameters[:rows], hidden.parameters)
        assert np.array_equal(seen.constants, hidden.constants)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_parameters_are_finite_and_something_is_asked_from_the_first_row(spec: str) -> None:
    base, *others = load_policy(spec).layers(TAPE)
    for layer in (base, *others):
        assert len(layer.parameters) == len(TAPE)
        assert np.all(np.isfinite(layer.parameters))
    # Beside its rates a base may post a charge of nothing, or funding that is received.
    assert np.all(base.parameters.max(axis=1) > 0.0)
    assert all(np.all(layer.parameters >= 0.0) for layer in others)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_identity_is_read_back_to_an_equal_policy(spec: str) -> None:
    chosen = load_policy(spec)
    assert load_policy(chosen.identity()) == chosen


class Clairvoyant(MarginPolicy):
    """Knows the whole tape; must not get away with it."""

    name = "clairvoyant"
    requirement = linear_rate

    def signals(self, tape):
        return np.full((len(tape), 2), np.abs(np.diff(tape.index[:, 0])).max() / tape.index[-1, 0])

    def parameters(self, signals):
        return signals


def test_a_policy_that_looks_ahead_is_caught() -> None:
    clairvoyant = Clairvoyant()
    with pytest.raises(PolicyError, match="look ahead"):
        refuse_look_ahead(clairvoyant, TAPE, clairvoyant.layers(TAPE))


def test_a_parameter_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(PolicyError, match="must be finite"):
        RequirementLayer(linear_rate, np.array([[0.1], [np.nan]]), np.empty(0))


def test_linear_rate_needs_no_constants_of_a_users_policy() -> None:
    layer = Clairvoyant().layers(TAPE)[0]
    asked = ask(linear_rate, [0.1, 0.1], layer.constants, make_market(), one_account((0, 1.0)))
    assert asked.maintenance[0] == 0.5 * asked.initial[0] > 0.0


@given(st.floats(1.0, 6.0), st.floats(1.0, 2.0))
@settings(max_examples=20, deadline=None)
def test_margin_rises_with_the_multiplier(multiplier: float, factor: float) -> None:
    low, high = (
        policy("volatility", multiplier=m).layers(TAPE)[0].parameters
        for m in (multiplier, multiplier * factor)
    )
    assert np.all(high >= low)


@given(st.floats(0.9, 0.99), st.floats(0.0, 0.009))
@settings(max_examples=20, deadline=None)
def test_margin_rises_with_the_confidence(confidence: float, more: float) -> None:
    low, high = (
        policy("tail", confidence=c, method="student").layers(TAPE)[0].parameters
        for c in (confidence, confidence + more)
    )
    assert np.all(high >= low)


@given(st.floats(0.05, 0.3), st.floats(1.0, 3.0), st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_perpetual_margin_rises_with_the_price_range(
    spread: float, factor: float, seed: int
) -> None:
    market = make_market(seed)
    legs = one_account((0, float(np.random.default_rng(seed).normal())))
    asked = []
    for size in (spread, spread * factor):
        layer = policy("scenario", price_range=size).layers(TAPE)[0]
        asked.append(ask(layer.rule, layer.parameters[0], layer.constants, market, legs))
    assert asked[1].initial[0] >= asked[0].initial[0]


def test_fixed_rate_of_an_asset_overrides_the_common_one() -> None:
    chosen = policy("fixed", rate="5%", rates={"ETH": "7%"})
    assert chosen.layers(TAPE)[0].parameters[3].tolist() == [0.05, 0.07]


def test_rate_of_an_asset_that_the_market_lacks_is_refused() -> None:
    with pytest.raises(PolicyError, match="Did you mean 'ETH'"):
        policy("fixed", rates={"ETHE": "7%"}).layers(TAPE)


def test_historical_tail_asks_more_of_the_side_that_lost_more() -> None:
    chosen = policy("tail", confidence="95%", method={"historical": {"window": "30d"}}, floor=0)
    tape = make_tape(1_500, options=False, inverse=False, jump_share=0.0)
    falls = tape.index[1:, 0] / tape.index[:-1, 0] - 1.0
    window = falls[-720:]
    parameters = chosen.layers(tape)[0].parameters[-1]
    worst = np.sort(-window)[::-1][: 720 // 20 + 1]
    assert parameters[0] == pytest.approx(worst.mean(), rel=1e-9)
    assert parameters[2] == pytest.approx(np.sort(window)[::-1][: 720 // 20 + 1].mean(), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_compiled_and_plain_concentration_have_equal_bits(
    seed: int, share: float, rate: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    row = [share, rate, 1e6]
    compiled = ask(concentration, row, np.empty(0), market, holdings)
    assert equal_bits(compiled, ask(concentration, row, np.empty(0), market, holdings, plain=True))


def test_concentration_charges_only_what_lies_beyond_the_share() -> None:
    market = make_market()
    market.protocol[1] = 5e6
    addon = Concentration(share_of_open_interest="10%", charge="20%")
    layer = policy("fixed", addons=[addon]).layers(TAPE)[1]
    for usd, extra in ((4e5, 0.0), (5e5, 0.0), (8e5, 0.2 * 3e5)):
        legs = one_account((0, usd / market.notional_usd[0]))
        asked = ask(layer.rule, layer.parameters[0], layer.constants, market, legs)
        assert asked.initial[0] == pytest.approx(extra, abs=1e-6)
        assert asked.maintenance[0] == asked.initial[0]
