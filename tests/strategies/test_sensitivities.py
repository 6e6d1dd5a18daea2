"""Sensitivities: equal bits, sums worked by hand, correlations that can be, tables of users."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError, PolicyError
from backtest.instruments import OPTION
from backtest.kernels.black76 import black76
from backtest.kernels.types import empty_requirement
from strategies.kernels.sensitivities import sensitivities, sensitivities_constants
from strategies.kernels.sensitivities_law import aggregate, curvature_margin, relative_vega
from strategies.portfolio import Ask, Portfolio
from strategies.portfolio import ask as ask_policy
from strategies.registry import load_policy, policy
from tests.strategies.portfolios import (
    ask,
    equal_bits,
    given_numbers,
    make_market,
    one_account,
    random_holdings,
)

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = [0.2, 0.3, 0.25, 0.4]
"""Delta of both assets, then vega."""
INVENTED = """
assets:
  BTC: {delta_weight: 20%, vega_weight: 50%}
  ETH: {delta_weight: 30%, vega_weight: 60%}
asset_correlations:
  - {assets: [BTC, ETH], correlation: 80%}
tenors: [30d, 90d]
tenor_correlations: [[1, 0.9], [0.9, 1]]
perpetual_correlation: 95%
historical_volatility_ratio: 0.5
"""


def draw_correlations(rng: np.random.Generator, size: int) -> np.ndarray:
    loadings = rng.normal(size=(size, size + 1))
    matrix = loadings @ loadings.T
    scale = np.sqrt(np.diag(matrix))
    matrix = matrix / np.outer(scale, scale)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray((matrix + matrix.T) / 2.0)


def numbers(seed: int, thresholds: float = math.inf, tenors: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return sensitivities_constants(
        maintenance_ratio=0.8,
        volatility_ratio=float(rng.uniform(0.3, 1.0)),
        tenors=np.cumsum(rng.uniform(0.01, 0.4, tenors)),
        factors=draw_correlations(rng, 1 + tenors),
        assets=draw_correlations(rng, 2),
        thresholds=np.full((2, 2), thresholds),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([1e3, 1e5, math.inf]), st.integers(1, 4))
def test_compiled_and_plain_margin_have_equal_bits(
    seed: int, threshold: float, tenors: int
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)
    constants = numbers(seed, threshold, tenors)
    compiled = ask(sensitivities, WEIGHTS, constants, market, holdings)
    assert equal_bits(
        compiled, ask(sensitivities, WEIGHTS, constants, market, holdings, plain=True)
    )
    assert np.all(compiled.initial >= compiled.maintenance)
    assert np.all(compiled.maintenance >= 0.0)
    assert np.any(compiled.maintenance > 0.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_the_three_parts_add_up(seed: int) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=3)
    asked = ask(sensitivities, WEIGHTS, numbers(seed), market, holdings)
    assert sensitivities.explain is not None
    given_to = given_numbers(sensitivities, WEIGHTS, numbers(seed), market)
    for account in range(3):
        told = sensitivities.explain(given_to, market, holdings, account)
        assert sum(told.initial.values()) == pytest.approx(asked.initial[account], rel=1e-12)
        assert sum(told.maintenance.values()) == pytest.approx(asked.maintenance[account])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 3))
def test_aggregation_is_the_quadratic_form_within_assets_and_across(
    seed: int, width: int, assets: int
) -> None:
    rng = np.random.default_rng(seed)
    exposures = rng.normal(0.0, 1e4, (assets, width))
    weights = rng.uniform(0.1, 0.5, assets)
    inner, across = draw_correlations(rng, width), draw_correlations(rng, assets)
    weighted = weights[:, None] * exposures
    roots = np.sqrt(np.einsum("ak,km,am->a", weighted, inner, weighted))
    sums = np.clip(weighted.sum(axis=1), -roots, roots)
    expected = math.sqrt((roots**2).sum() + sums @ across @ sums - (sums**2).sum())
    found, total = aggregate(
        exposures, weights, np.full(assets, np.inf), inner, across, np.arange(assets), 1,
        np.empty(assets),
    )  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-9)
    assert total == pytest.approx(weighted.sum(), rel=1e-9, abs=1e-6)


@pytest.fixture
def invented(tmp_path: Path) -> str:
    path = tmp_path / "invented.yaml"
    path.write_text(INVENTED, encoding="utf-8")
    return str(path)


def asked_of(
    table: Any, *legs: dict[str, Any], indices: tuple[float, float] = (100.0, 10.0)
) -> Ask:
    market = {name: {"index": usd} for name, usd in zip(("BTC", "ETH"), indices, strict=True)}
    book = Portfolio.model_validate({"assets": market, "positions": legs})
    return ask_policy(policy("sensitivities", table=table), book)


def parts(asked: Ask) -> dict[str, float]:
    return {part: initial for _, part, initial, _ in asked.parts}


def test_two_assets_net_by_their_correlation(invented: str) -> None:
    # 1,000 USD of BTC at 20 % and -500 of ETH at 30 %: 200 and -150, correlated by 80 %.
    legs = ({"asset": "BTC", "quantity": 10.0}, {"asset": "ETH", "quantity": -50.0})
    expected = math.sqrt(200**2 + 150**2 - 2 * 0.8 * 200 * 150)
    asked = asked_of(invented, *legs)
    assert asked.initial_usd == pytest.approx(expected)
    assert asked.maintenance_usd == pytest.approx(0.8 * expected)


def test_a_future_between_tenors_counts_at_both(invented: str) -> None:
    # -1,000 USD at 75 days: a quarter at 30, the rest at 90 days, against 1,000 in perpetuals.
    legs = (
        {"asset": "BTC", "quantity": 10.0},
        {"asset": "BTC", "kind": "future", "quantity": -10.0, "expires_in": "75d"},
    )
    weighted = np.array([200.0, -50.0, -150.0])
    within = np.array([[1.0, 0.95, 0.855], [0.95, 1.0, 0.9], [0.855, 0.9, 1.0]])
    expected = math.sqrt(weighted @ within @ weighted)
    assert asked_of(invented, *legs).initial_usd == pytest.approx(expected)


def test_vega_and_curvature_of_one_option_follow_from_its_price(invented: str) -> None:
    # The vega of a reprice, not of a formula; 20 days lie below the first tenor.
    years, sigma = 20 / 365, 0.6
    step = 1e-5
    up, down = (black76(100.0, 110.0, sigma * (1 + by), years, 1.0) for by in (step, -step))
    vega = (up - down) / (2 * step)
    option = {"asset": "BTC", "kind": "option", "strike": 110.0, "call": True, "iv": sigma}
    option |= {"expires_in": "20d"}
    short, long = (
        parts(asked_of(invented, option | {"quantity": quantity})) for quantity in (-7.0, 7.0)
    )
    assert short["vega"] == pytest.approx(0.5 * 0.5 * 7 * vega, rel=1e-6)
    assert long["vega"] == short["vega"]
    bent = 0.5 * min(1.0, 14 / 20) * 7 * vega
    tail = 2.5758293035489004**2 - 1
    assert short["curvature"] == pytest.approx((1 + tail) * bent / 0.5**2, rel=1e-6)
    assert long["curvature"] == pytest.approx(0.0, abs=1e-9 * bent)


def test_curvature_of_mixed_signs_lies_between_its_ends() -> None:
    # Sum 1 of magnitudes 5: no theta. Sum -1: theta is -1/5.
    tail = 2.5758293035489004**2 - 1
    assert curvature_margin(3.0, 1.0, 5.0) == pytest.approx(1 + tail * 3)
    assert curvature_margin(3.0, -1.0, 5.0) == pytest.approx(-1 + (tail * 0.8 + 0.2) * 3)
    assert curvature_margin(0.0, 0.0, 0.0) == 0.0


def test_vega_dies_with_time_and_with_volatility() -> None:
    assert relative_vega(100.0, 100.0, 0.5, 0.0) == 0.0
    assert relative_vega(100.0, 100.0, 0.0, 1.0) == 0.0
    assert math.isnan(relative_vega(100.0, 100.0, math.nan, 1.0))


def test_exposures_beyond_their_threshold_weigh_by_the_root() -> None:
    table = {"default": {"delta_weight": "10%", "delta_threshold": 250}}
    four_times = asked_of(table, {"asset": "BTC", "quantity": 10.0})
    assert four_times.initial_usd == pytest.approx(0.1 * 1_000 * 2)
    at_it = asked_of(table, {"asset": "BTC", "quantity": 2.5})
    assert at_it.initial_usd == pytest.approx(0.1 * 250)


def test_vega_counts_where_curvature_nets_to_nothing() -> None:
    # One factor, curvature shares of 1/2 and 1/4: vegas of 1 and -2 bend by nothing at all.
    market, asked = make_market(), empty_requirement(1)
    given_to = given_numbers(sensitivities, WEIGHTS, numbers(1), market)
    given_to.scratch[0] = [0.0, 1.0, -0.5, 1.0, 0.0]
    given_to.scratch[2] = [0.0, -2.0, 0.5, 1.0, 0.0]
    given_to.scratch_tick[:] = market.tick[0]
    legs = one_account((0, 1.0), (2, 1.0))
    sensitivities.kernel(given_to, market, legs, np.zeros(1, np.int64), asked)
    ratio = numbers(1)[1]
    assert asked.initial[0] == pytest.approx(ratio * 0.25 * 1.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 27), st.floats(-50.0, 50.0))
def test_opposite_positions_ask_nothing(seed: int, instrument: int, quantity: float) -> None:
    market = make_market(seed)
    both = one_account((instrument, quantity), (instrument, -quantity))
    assert ask(sensitivities, WEIGHTS, numbers(seed), market, both).initial[0] == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.25, 2.0, 64.0]))
def test_margin_is_homogeneous_of_degree_one_below_thresholds(seed: int, by: float) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)
    scaled = holdings._replace(quantity=holdings.quantity * by)
    once, more = (
        ask(sensitivities, WEIGHTS, numbers(seed), market, held) for held in (holdings, scaled)
    )
    assert np.array_equal(more.initial, by * once.initial)
    crowded = ask(sensitivities, WEIGHTS, numbers(seed, 1e4), market, holdings)
    doubled = holdings._replace(quantity=holdings.quantity * 2.0)
    larger = ask(sensitivities, WEIGHTS, numbers(seed, 1e4), market, doubled)
    assert np.all(larger.initial >= 2.0 * crowded.initial * (1 - 1e-12))


@pytest.mark.parametrize("plain", [False, True])
def test_a_leg_without_volatility_makes_the_requirement_unknown(plain: bool) -> None:
    market = make_market()
    option = int(np.flatnonzero(market.kind == OPTION)[2])
    market.sigma[option] = market.delta_usd[option] = math.nan
    legs = one_account((0, 1.0), (option, -1.0))
    asked = ask(sensitivities, WEIGHTS, numbers(1), market, legs, plain=plain)
    assert math.isnan(asked.initial[0])
    assert math.isnan(asked.maintenance[0])


def test_exposures_are_read_again_only_when_the_market_ticks() -> None:
    market = make_market()
    legs = one_account((6, -1.0))
    given_to = given_numbers(sensitivities, WEIGHTS, numbers(1), market)
    asked = ask(sensitivities, WEIGHTS, numbers(1), market, legs)
    who = np.zeros(1, np.int64)
    sensitivities.kernel(given_to, market, legs, who, asked)
    before = asked.initial[0]
    market.sigma[6] *= 2.0
    sensitivities.kernel(given_to, market, legs, who, asked)
    assert asked.initial[0] == before
    market.tick[0] += 1
    sensitivities.kernel(given_to, market, legs, who, asked)
    assert asked.initial[0] != before


def test_a_table_from_a_file_is_kept_whole_in_the_policys_identity(invented: str) -> None:
    chosen = policy("sensitivities", table=invented)
    assert load_policy(chosen.identity()) == chosen
    assert "invented" not in str(chosen.identity())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("tenors: [90d, 30d]", "tenors: the times to expiry must ascend"),
        ("tenors: [30d, 90d]\ntenor_correlations: [[1]]", "2 tenors need as many rows"),
        (
            "tenors: [1d, 2d]\ntenor_correlations: [[1, 0.5], [0.4, 1]]",
            "symmetric, with 1 on its diagonal",
        ),
        (
            "tenors: [1d, 2d, 3d]\n"
            "tenor_correlations: [[1, -0.9, -0.9], [-0.9, 1, -0.9], [-0.9, -0.9, 1]]",
            "the least eigenvalue is -0.9",
        ),
        ("assets: {BTC: {delta_wieght: 1%}}", "delta_weight"),
        ("asset_correlation: 120%", "asset_correlation: 120% is above the highest"),
    ],
)
def test_a_slip_in_a_table_names_file_and_field(tmp_path: Path, written: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(written, encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as told:
        policy("sensitivities", table=str(path))
    assert str(told.value).startswith(f"{path}: ")


def test_a_missing_table_and_impossible_assets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="table: there is no file"):
        policy("sensitivities", table=str(tmp_path / "nowhere.yaml"))
    pairs = [{"assets": ["BTC", "ETH"], "correlation": 0.9}]
    pairs += [
        {"assets": [name, "SOL"], "correlation": sign}
        for name, sign in (("BTC", 0.9), ("ETH", -0.9))
    ]
    chosen = policy("sensitivities", table={"asset_correlations": pairs})
    book = {"assets": {name: {"index": 1.0} for name in ("BTC", "ETH", "SOL")}}
    with pytest.raises(PolicyError, match=r"asset_correlations.*least eigenvalue is -0\.8"):
        ask_policy(
            chosen,
            Portfolio.model_validate(book | {"positions": [{"asset": "BTC", "quantity": 1}]}),
        )
