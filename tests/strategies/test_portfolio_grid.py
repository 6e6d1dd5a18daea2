"""Portfolio margin: equal bits, the literal reading of Derive's code, venues' examples, laws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError, PolicyError
from backtest.instruments import FUTURE, OPTION
from backtest.kernels.black76 import black76
from backtest.seeds import stream
from experiments.vector_adapters import MARGIN, answer
from strategies.kernels.portfolio_grid import portfolio_grid
from strategies.portfolio import Portfolio, market_of
from strategies.portfolio import ask as ask_policy
from strategies.registry import policy
from tests.strategies.derive_literal import (
    random_first_inputs,
    random_second_inputs,
    read_first,
    read_second,
)
from tests.strategies.portfolios import ask, equal_bits, make_market, one_account, random_holdings
from tests.strategies.test_published_formulas import FIRST, SECOND

if TYPE_CHECKING:
    from backtest.kernels.types import Market
    from strategies.contract import MarginPolicy

PRESETS = ("derive-pmrm", "derive-pmrm2", "deribit-portfolio", "paradex-portfolio", "aevo")
EVERYTHING: dict[str, Any] = {
    "gain_counted": 0.4,
    "offset_between_assets": 0.3,
    "short_minimum": 0.02,
    "contract_minimum": 3.0,
    "fees": 0.001,
    "funding_provision": True,
    "roll": {},
    "delta_shock": {"free": 1000.0, "rate": 0.02, "cap": 0.1},
    "delta_floor": {"net": 0.1, "hedged": 0.05},
    "charges_inside": True,
    "peg": {"coin": "ETH", "below": 5000.0, "factor": 1e-4},
    "coins": {"BTC": {"moves_with": "itself"}, "ETH": {"moves_with": "BTC", "haircut": 0.1}},
}
"""On top of PMRM_2: every part of the law at once."""


def chosen(name: str) -> MarginPolicy:
    if name == "everything":
        return policy("preset:derive-pmrm2", **EVERYTHING)
    return policy(f"preset:{name}")


def layer_of(rules: MarginPolicy, market: Market) -> tuple[list[float], np.ndarray]:
    """Return parameters and constants on the assets of a random market."""
    names = ("BTC", "ETH", "SOL")[: len(market.index)]
    states = {name: {"index": usd} for name, usd in zip(names, market.index, strict=True)}
    tape, _ = market_of(Portfolio(assets=states, positions=[{"asset": "BTC", "quantity": 1.0}]))
    layer = rules.layers(tape)[0]
    posted = layer.parameters[0].copy()
    posted[1 + len(names) :] = 1e-4 if rules.model_dump()["funding_provision"] else 0.0
    return posted.tolist(), layer.constants


def with_a_future(market: Market) -> Market:
    """Make the last option a future."""
    kind = market.kind.copy()
    kind[-1] = FUTURE
    kind.flags.writeable = False
    return market._replace(kind=kind)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*PRESETS, "everything"]),
    st.integers(0, 2**16),
    st.integers(1, 3),
    st.booleans(),
)
def test_compiled_and_plain_margin_have_equal_bits(
    name: str, seed: int, assets: int, isolated: bool
) -> None:
    if name == "everything" and assets == 1:
        assets = 2
    market = with_a_future(make_market(seed, assets=assets))
    holdings = random_holdings(market, seed, accounts=5, legs=14)
    if isolated:
        holdings = holdings._replace(cash=np.empty((1 + assets, 0)))
    row, constants = layer_of(chosen(name), market)
    compiled = ask(portfolio_grid, row, constants, market, holdings)
    plain = ask(portfolio_grid, row, constants, market, holdings, plain=True)
    assert equal_bits(compiled, plain)
    assert np.all(compiled.initial >= compiled.maintenance)
    assert np.all(compiled.maintenance >= 0.0)
    assert np.all(np.isfinite(compiled.initial))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_pmrm2_agrees_with_the_literal_reading_of_derives_code(seed: int) -> None:
    draws = stream(seed, "second form")
    params = SECOND | {"peg_threshold": 0.99, "peg_factor": 4.0}
    inputs = random_second_inputs(draws, params)
    found = answer(MARGIN, "Derive PMRM_2", "scenario_grid_portfolio_margin", inputs)
    size = abs(inputs["cash"]) + inputs["spot"] * 100.0
    initial, maintenance = read_second(inputs)
    assert found["IM"] == pytest.approx(initial, rel=1e-12, abs=1e-12 * size)
    assert found["MM"] == pytest.approx(maintenance, rel=1e-12, abs=1e-12 * size)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_pmrm_agrees_with_the_literal_reading_of_derives_code(seed: int) -> None:
    inputs = random_first_inputs(stream(seed, "first form"), FIRST)
    found = answer(MARGIN, "Derive PMRM v1", "scenario_grid_portfolio_margin", inputs)
    size = abs(inputs["cash"]) + inputs["spot"] * 100.0
    initial, maintenance = read_first(inputs)
    assert found["IM"] == pytest.approx(initial, rel=1e-12, abs=1e-12 * size)
    assert found["MM"] == pytest.approx(maintenance, rel=1e-12, abs=1e-12 * size)


@pytest.mark.parametrize("name", [*PRESETS, "everything"])
def test_parts_add_up_to_the_requirement(name: str) -> None:
    rules = chosen(name)
    legs: list[dict[str, Any]] = [
        {"asset": "BTC", "kind": "option", "quantity": -2.0, "strike": 9e4, "call": True}
        | {"iv": 0.6, "expires_in": "20d", "confidence": 0.4},
        {"asset": "BTC", "kind": "option", "quantity": 1.0, "strike": 8e4, "call": False}
        | {"iv": 0.7, "expires_in": "90d", "settles_in": "coin"},
        {"asset": "BTC", "quantity": 1.5},
        {"asset": "ETH", "kind": "future", "quantity": -9e4, "settles_in": "coin"}
        | {"expires_in": "60d"},
    ]
    states = {"BTC": {"index": 85e3}, "ETH": {"index": 3e3}}
    held = Portfolio(assets=states, positions=legs, coins={"BTC": 0.5, "ETH": 2.0})
    asked = ask_policy(rules, held)
    initial = sum(part[2] for part in asked.parts)
    maintenance = sum(part[3] for part in asked.parts)
    assert initial == pytest.approx(asked.initial_usd, rel=1e-9)
    assert maintenance == pytest.approx(asked.maintenance_usd, rel=1e-9)
    assert "price" in asked.worst


def test_paradexs_example_of_a_delta_floor_is_reproduced() -> None:
    """docs.paradex.trade: one perpetual against five calls of delta 0.3 at 70,000 dollars."""
    legs = [{"q": 1.0, "delta": 1.0}, {"q": -5.0, "delta": 0.3}]
    inputs = {"net_w": 0.02, "hedged_w": 0.01, "spot": 70e3, "positions": legs}
    found = answer(MARGIN, "Paradex", "portfolio_margin_greeks_floor", inputs)
    assert found["margin"] == pytest.approx(1_400.0)


def test_paradex_has_its_24_scenarios() -> None:
    rules = policy("preset:paradex-portfolio")
    rows = rules.scenarios()  # type: ignore[attr-defined]
    found = {
        (round(base + slope * 0.16, 4), direction, round(weight + by_range * 0.16, 4))
        for base, slope, weight, by_range, direction, *_ in rows
    }
    grid = {(1 + k / 25, d, 1.0) for k in range(-4, 5) for d in (1.0, -1.0) if d > 0 or abs(k) < 4}
    tails = {(0.34, 0.2424), (0.67, 0.4848), (1.5, 0.32), (2.0, 0.16), (3.0, 0.08)}
    tails |= {(4.0, 0.0533), (5.0, 0.04), (6.0, 0.032)}
    assert len(rows) == 24
    assert found == {(round(m, 4), d, w) for m, d, w in grid} | {(m, 1.0, w) for m, w in tails}


def test_aevo_moves_volatility_by_points() -> None:
    leg: dict[str, Any] = {
        "asset": "ETH",
        "kind": "option",
        "quantity": -1.0,
        "strike": 1400.0,
        "call": False,
    }
    leg |= {"iv": 0.6, "expires_in": "30d"}
    held = Portfolio(assets={"ETH": {"index": 1400.0}}, positions=[leg])
    years = 30 / 365
    shocked = black76(1120.0, 1400.0, 1.1, years, 0.0)
    expected = shocked - black76(1400.0, 1400.0, 0.6, years, 0.0)
    asked = ask_policy(policy("preset:aevo"), held)
    assert asked.initial_usd == pytest.approx(expected, rel=1e-12)
    assert asked.worst == "price -20 %, volatility up"


def only(market: Market, name: str, *legs: tuple[int, float]) -> float:
    row, constants = layer_of(chosen(name), market)
    return float(ask(portfolio_grid, row, constants, market, one_account(*legs)).initial[0])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PRESETS), st.integers(0, 2**16), st.integers(0, 27))
def test_opposite_positions_ask_flat_charges_and_minimums_alone(
    name: str, seed: int, instrument: int
) -> None:
    market = make_market(seed)
    market.confidence[:] = market.index_confidence[:] = 1.0
    both = only(market, name, (instrument, 3.0), (instrument, -3.0))
    option, inverse = market.kind[instrument] == OPTION, market.inverse[instrument]
    notional = at_index = 6.0 * market.notional_usd[instrument]
    if not inverse:
        at_index = 6.0 * market.contract_size[instrument] * market.index[market.asset[instrument]]
    inside = market.value_usd[instrument] if option and inverse else 0.0
    hedged = 0.5 * 6.0 * abs(market.delta_usd[instrument] - inside)
    expected = {
        "derive-pmrm": 0.0 if option else 1.25 * 0.03 * at_index,
        "derive-pmrm2": 0.0 if option else 0.04 * at_index,
        "deribit-portfolio": 0.0,
        "paradex-portfolio": 0.01 * hedged + 0.0003 * notional,
        "aevo": 0.01 * 0.5 * notional if option else 0.0,
    }[name]
    assert both == pytest.approx(expected, rel=1e-9, abs=1e-9 * notional)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 50.0))
def test_margin_is_homogeneous_where_no_dollars_are_free(seed: int, times: float) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=5)
    larger = holdings._replace(quantity=times * holdings.quantity, cash=times * holdings.cash)
    for name in ("derive-pmrm", "derive-pmrm2", "paradex-portfolio", "aevo"):
        row, constants = layer_of(chosen(name), market)
        one = ask(portfolio_grid, row, constants, market, holdings)
        many = ask(portfolio_grid, row, constants, market, larger)
        np.testing.assert_allclose(many.initial, times * one.initial, rtol=1e-9, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(PRESETS),
    st.integers(0, 2**16),
    st.sampled_from(["initial_factor", "maintenance_ratio", "short_minimum", "fees"]),
)
def test_larger_factors_and_charges_never_ask_less(name: str, seed: int, field: str) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=5)
    rules = policy(f"preset:{name}")
    harsher = policy(f"preset:{name}", **{field: rules.model_dump()[field] + 0.05})
    mild, harsh = (
        ask(portfolio_grid, *layer_of(each, market), market, holdings) for each in (rules, harsher)
    )
    assert np.all(harsh.initial >= mild.initial * (1.0 - 1e-12))
    assert np.all(harsh.maintenance >= mild.maintenance * (1.0 - 1e-12))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(PRESETS), st.integers(0, 2**16), st.sampled_from(["vol_up", "least_vol"]))
def test_a_larger_shock_of_volatility_never_asks_less_of_sold_options(
    name: str, seed: int, field: str
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=5)
    sold = holdings._replace(quantity=-np.abs(holdings.quantity))
    rules = policy(f"preset:{name}", assets={})
    harsher = policy(f"preset:{name}", assets={}, **{field: rules.model_dump()[field] + 0.2})
    mild, harsh = (
        ask(portfolio_grid, *layer_of(each, market), market, sold) for each in (rules, harsher)
    )
    assert np.all(harsh.initial >= mild.initial * (1.0 - 1e-12) - 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16))
def test_more_scenarios_never_ask_less(seed: int) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=5)
    few, many = (
        policy("preset:derive-pmrm2", price_steps=steps, **changes)
        for steps, changes in ((2, {"tails": ()}), (4, {}))
    )
    asked = [ask(portfolio_grid, *layer_of(each, market), market, holdings) for each in (few, many)]
    assert np.all(asked[1].initial >= asked[0].initial * (1.0 - 1e-12))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PRESETS[:3]), st.integers(0, 2**16), st.integers(4, 27))
def test_a_long_option_asks_no_more_than_its_value(name: str, seed: int, option: int) -> None:
    market = make_market(seed)
    market.confidence[:] = market.index_confidence[:] = 1.0
    if market.inverse[option]:
        return
    # Charges for basis and skew may exceed an option's value at the venue too: they count
    # changes of an expiry in full, or more, whichever way it is held.
    rules = policy(f"preset:{name}", roll=None, basis=None, tails=())
    row, constants = layer_of(rules, market)
    asked = ask(portfolio_grid, row, constants, market, one_account((option, 2.0))).initial[0]
    factor = 1.25 if name == "derive-pmrm" else 1.0
    assert 0.0 <= asked <= factor * 2.0 * market.value_usd[option] * (1.0 + 1e-9) + 1e-9


@pytest.mark.parametrize("array", ["value_usd", "sigma", "forward", "rate", "confidence", "index"])
def test_what_is_unknown_is_never_taken_for_nothing(array: str) -> None:
    market, option = make_market(3), 4
    row, constants = layer_of(chosen("derive-pmrm2"), market)
    held = one_account((option, -1.0), (5, 1.0))
    values = getattr(market, array)
    values[market.asset[option] if array == "index" else option] = np.nan
    asked = ask(portfolio_grid, row, constants, market, held)
    plain = ask(portfolio_grid, row, constants, market, held, plain=True)
    assert np.isnan(asked.initial[0])
    assert np.isnan(plain.initial[0])


def test_a_hedge_asks_less_than_its_legs_apart() -> None:
    market = make_market()
    call = next(i for i in range(4, 28) if market.is_call[i] and not market.inverse[i])
    perpetual, size = int(market.asset[call]), float(market.contract_size[call])
    for name in PRESETS:
        covered = only(market, name, (perpetual, size), (call, -1.0))
        assert covered < only(market, name, (perpetual, size)) + only(market, name, (call, -1.0))


def test_coins_hedge_a_short_perpetual_where_they_move_with_it() -> None:
    states = {"BTC": {"index": 50e3}}
    short = [{"asset": "BTC", "quantity": -1.0}]
    bare = Portfolio(assets=states, positions=short, cash_usd=5e4)
    hedged = Portfolio(assets=states, positions=short, coins={"BTC": 1.0}, cash_usd=5e4)
    rules = policy("preset:derive-pmrm2", other_coins={"moves_with": "itself"})
    assert ask_policy(rules, hedged).maintenance_usd == pytest.approx(0.03 * 50e3)
    assert ask_policy(rules, bare).maintenance_usd == pytest.approx((0.8 * 0.18 + 0.03) * 50e3)


def test_a_coin_settled_short_backed_by_its_own_coin_is_a_hedge_in_dollars() -> None:
    states = {"BTC": {"index": 50e3}}
    legs = [{"asset": "BTC", "quantity": -50e3, "settles_in": "coin"}]
    # Sold at the index: the coin received stands against the contract, and one coin is put up.
    held = Portfolio(assets=states, positions=legs, coins={"BTC": 0.0})
    rules = policy("preset:derive-pmrm2", other_coins={"moves_with": "itself"}, charges={})
    assert ask_policy(rules, held).initial_usd == pytest.approx(0.0, abs=1e-9)


def test_points_of_an_empty_list_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one scenario"):
        policy("portfolio", points=[])


def test_a_peg_that_the_market_does_not_list_is_refused() -> None:
    held = Portfolio(assets={"BTC": {"index": 1.0}}, positions=[{"asset": "BTC", "quantity": 1.0}])
    with pytest.raises(PolicyError, match="no asset 'BTD'"):
        ask_policy(policy("portfolio", peg={"coin": "BTD"}), held)
