"""SPAN: equal bits, published arrays, spreads worked by hand, netting, what equity counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError
from backtest.instruments import OPTION
from backtest.kernels.black76 import black76
from backtest.kernels.types import empty_requirement
from strategies.kernels.span import span, span_constants
from strategies.kernels.span_law import price_risk
from strategies.kernels.span_layout import scenario_of
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

PLAIN: dict[str, Any] = {
    "initial_ratio": 1.1,
    "short_minimum": 0.0,
    "delivery": (0.0, 0.0),
    "decay_years": 0.0,
    "vol_relative": True,
    "extremes": (3.0, 0.33),
    "tiers": [],
    "spreads": [],
    "credits": [],
}
RANGES = [0.2, 0.3, 0.5]
"""Of the two assets' prices, then of volatility."""

rates = st.floats(0.0, 0.5)


@st.composite
def constants(draw: st.DrawFn) -> np.ndarray:
    tiers = sorted(draw(st.lists(st.floats(0.01, 1.0), max_size=3, unique=True)))
    tier = st.integers(0, len(tiers))
    ratio = st.floats(0.1, 10.0)
    credits = st.tuples(st.just(0), ratio, st.just(1), ratio, st.floats(0.0, 1.0))
    return span_constants(
        initial_ratio=draw(st.floats(1.0, 2.0)),
        short_minimum=draw(rates),
        delivery=(draw(rates), draw(st.floats(0.0, 0.5))),
        decay_years=draw(st.sampled_from([0.0, 1 / 365, 0.1])),
        vol_relative=draw(st.booleans()),
        extremes=(draw(st.floats(1.0, 5.0)), draw(st.floats(0.0, 1.0))),
        tiers=tiers,
        spreads=draw(st.lists(st.tuples(tier, tier, rates), max_size=6)),
        credits=draw(st.lists(credits, max_size=3)),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**16),
    constants(),
    st.lists(st.floats(0.01, 0.9), min_size=2, max_size=2),
    st.floats(0.0, 2.0),
)
def test_compiled_and_plain_margin_have_equal_bits(
    seed: int, numbers: np.ndarray, ranges: list[float], shift: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)
    row = [*ranges, shift]
    compiled = ask(span, row, numbers, market, holdings)
    assert equal_bits(compiled, ask(span, row, numbers, market, holdings, plain=True))
    assert np.all(compiled.initial >= compiled.maintenance)
    assert np.all(compiled.maintenance >= 0.0)
    assert np.any(compiled.maintenance > 0.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), constants(), st.integers(0, 5))
def test_the_parts_add_up_and_options_in_equity_cancel(
    seed: int, numbers: np.ndarray, account: int
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)
    asked = ask(span, RANGES, numbers, market, holdings)
    assert span.explain is not None
    told = span.explain(given_numbers(span, RANGES, numbers, market), market, holdings, account)
    value = abs(told.initial["net option value"])
    for parts, total in ((told.initial, asked.initial), (told.maintenance, asked.maintenance)):
        assert sum(parts.values()) == pytest.approx(total[account], rel=1e-9, abs=1e-9 * value)
        assert parts["net option value"] == -parts["options counted in equity"]
    assert bool(told.worst) == (holdings.count[account] > 0)


def test_scenarios_stand_in_the_order_that_cme_prints() -> None:
    thirds = [0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3]
    listed = [scenario_of(span_constants(**PLAIN).tolist(), k) for k in range(16)]
    assert listed[:14] == [
        (third / 3, 1.0 if k % 2 == 0 else -1.0, 1.0) for k, third in enumerate(thirds)
    ]
    assert listed[14:] == [(3.0, 0.0, 0.33), (-3.0, 0.0, 0.33)]


def test_an_array_of_a_long_call_gives_its_published_scan_risk() -> None:
    # A worked S&P futures option: scan risk 3,990 in the 14th scenario.
    array = [460, -610, 2640, 1730, -1270, -2340, 5210, 4540]
    array += [-2540, -3430, 8060, 7640, -3380, -3990, 3130, -1500]
    market = make_market()
    numbers = given_numbers(span, RANGES, span_constants(**PLAIN), market)
    numbers.scratch[0, :16] = array
    numbers.scratch_tick[0] = market.tick[0]
    asked = empty_requirement(1)
    span.kernel(numbers, market, one_account((0, 1.0)), np.zeros(1, np.int64), asked)
    assert asked.maintenance[0] == 3_990.0
    assert asked.worst_scenario[0] == 14 - 1


def test_risk_arrays_are_filled_again_only_when_the_market_ticks() -> None:
    market, who, asked = make_market(), np.zeros(1, np.int64), empty_requirement(1)
    short = one_account((6, -1.0))
    numbers = given_numbers(span, RANGES, span_constants(**PLAIN), market)
    span.kernel(numbers, market, short, who, asked)
    before = asked.maintenance[0]
    market.sigma[6] *= 2.0
    span.kernel(numbers, market, short, who, asked)
    assert asked.maintenance[0] == before
    market.tick[0] += 1
    span.kernel(numbers, market, short, who, asked)
    assert asked.maintenance[0] != before


def test_an_option_is_repriced_a_day_later_at_its_moved_price_and_volatility() -> None:
    market = make_market()
    put = next(i for i in range(4, 28) if not market.is_call[i] and not market.inverse[i])
    day, shift = 1 / 365, 0.15
    numbers = span_constants(**PLAIN | {"decay_years": day, "vol_relative": False})
    row = [0.2, 0.3, shift]
    asked = ask(span, row, numbers, market, one_account((put, -1.0)))
    forward, strike = market.forward[put], market.strike[put]
    sigma, years = market.sigma[put], market.years[put]
    before = black76(forward, strike, sigma, years, 0.0)
    losses = []
    for k in range(16):
        fraction, direction, weight = scenario_of(numbers.tolist(), k)
        x = max(1.0 + fraction * row[market.asset[put]], 0.01)
        moved = (forward * x, strike, max(sigma + direction * shift, 0.0), max(years - day, 0.0))
        losses.append(weight * (black76(*moved, 0.0) - before))
    assert asked.maintenance[0] == pytest.approx(market.contract_size[put] * max(losses))
    assert asked.worst_scenario[0] == int(np.argmax(losses))


def months(*deltas: tuple[str, float], assets: tuple[str, ...] = ("BTC",)) -> Portfolio:
    """Hold futures of 100 USD by expiry; ``perpetual`` never expires."""
    return Portfolio.model_validate(
        {
            "assets": {name: {"index": 100.0} for name in assets},
            "positions": [
                {"asset": assets[0], "quantity": usd / 100.0}
                | ({} if when == "perpetual" else {"kind": "future", "expires_in": when})
                for when, usd in deltas
            ],
        }
    )


def parts(asked: Ask) -> dict[str, float]:
    return {part: maintenance for _, part, _, maintenance in asked.parts}


def test_spreads_between_months_are_formed_by_priority_and_charged_once() -> None:
    # Worked by hand. Tiers up to 30 days, up to 90, beyond; USD of delta by month:
    #   tier 1: +500 (perpetual), -200 (10 d)    tier 2: +100 (40 d), -50 (60 d)    tier 3: -600
    # 1-1: 200 at 1 %; 2-2: 50 at 2 %; 1-3: the 300 left of +500, at 4 %; 2-3: 50 left, at 3 %.
    book = months(
        ("perpetual", 500.0), ("10d", -200.0), ("40d", 100.0), ("60d", -50.0), ("120d", -600.0)
    )
    table = [
        {"tiers": [1, 1], "charge": "1%"},
        {"tiers": [2, 2], "charge": "2%"},
        {"tiers": [3, 1], "charge": "4%"},
        {"tiers": [2, 3], "charge": "3%"},
    ]
    chosen = policy("span", tiers=["30d", "90d"], month_spreads=table, price_range="10%")
    asked = ask_policy(chosen, book)
    charge = 200 * 0.01 + 50 * 0.02 + 300 * 0.04 + 50 * 0.03
    assert parts(asked)["inter-month spreads"] == pytest.approx(charge)
    assert asked.maintenance_usd == pytest.approx(0.1 * 250 + charge)
    assert asked.initial_usd == pytest.approx(1.1 * asked.maintenance_usd)


def test_without_a_table_the_nearest_tiers_form_spreads_first() -> None:
    book = months(("perpetual", 100.0), ("40d", -60.0), ("200d", -70.0))
    chosen = policy("span", tiers=["30d", "90d"], month_charge="1%", tier_charge="2%")
    assert parts(ask_policy(chosen, book))["inter-month spreads"] == pytest.approx(
        60 * 0.03 + 40 * 0.05
    )


def test_delivery_is_charged_on_months_about_to_expire_and_never_on_perpetuals() -> None:
    book = months(("perpetual", 500.0), ("1d", -200.0), ("1d", 50.0), ("3d", 80.0))
    chosen = policy("span", delivery_charge="10%", delivery_within="2d")
    assert parts(ask_policy(chosen, book))["delivery"] == pytest.approx(0.1 * 150)


def test_price_risk_is_the_scan_without_volatility_and_time() -> None:
    profits = [-30.0, 10.0, *[0.0] * 8, -90.0, -70.0, 0.0, 0.0, -50.0, 0.0]
    # Volatility risk (90 - 70) / 2, time risk (30 - 10) / 2.
    assert price_risk(profits, 10) == 90.0 - 10.0 - 10.0
    assert price_risk(profits, 14) == 50.0 - 10.0
    assert price_risk([200.0, 200.0, *profits[2:]], 10) == 90.0
    assert price_risk([-200.0, -200.0, *profits[2:]], 10) == 0.0


def test_opposite_assets_earn_back_a_part_of_their_price_risk() -> None:
    # Worked by hand: 300 USD of BTC against 400 of ETH at two to one forms 150 spreads, which
    # use up 300 and 150; of 150 at 20 % and 300 at 10 %, a half comes back.
    book = {
        "assets": {"BTC": {"index": 100.0}, "ETH": {"index": 10.0}, "SOL": {"index": 1.0}},
        "positions": [
            {"asset": "BTC", "quantity": 3.0},
            {"asset": "ETH", "quantity": -40.0},
            {"asset": "SOL", "quantity": -7.0},
        ],
    }
    spreads = [
        {"assets": ["ETH", "DOGE"], "credit": "90%"},
        {"assets": ["BTC", "ETH"], "ratio": [2, 1], "credit": "50%"},
        {"assets": ["SOL", "BTC"], "credit": "90%"},
    ]
    ranges = {"fixed": {"range": "30%", "ranges": {"BTC": "10%", "ETH": "20%"}}}
    chosen = policy("span", price_range=ranges, asset_spreads=spreads)
    asked = ask_policy(chosen, Portfolio.model_validate(book))
    credit = 0.5 * (300 * 0.1) + 0.5 * (150 * 0.2)
    assert parts(asked)["inter-commodity credits"] == pytest.approx(-credit)
    assert asked.maintenance_usd == pytest.approx(30 + 80 + 0.3 * 7 - credit)
    book["positions"][1]["quantity"] = 40.0  # type: ignore[index]
    assert parts(ask_policy(chosen, Portfolio.model_validate(book)))[
        "inter-commodity credits"
    ] == pytest.approx(-0.9 * (7 * 0.1 + 7 * 0.3))


def test_short_options_that_no_scenario_hurts_ask_their_minimum() -> None:
    far = {"asset": "BTC", "kind": "option", "quantity": -2.0, "strike": 1_000.0, "call": True}
    book = {"assets": {"BTC": {"index": 100.0}}, "positions": [far | {"expires_in": "2d"}]}
    book["positions"][0]["iv"] = "20%"  # type: ignore[index]
    chosen = policy("span", short_minimum="3%", price_range="5%")
    asked = ask_policy(chosen, Portfolio.model_validate(book))
    assert asked.maintenance_usd == pytest.approx(0.03 * 200.0)
    assert parts(asked)["raised to the short option minimum"] == pytest.approx(6.0)


def test_margin_against_equity_is_cmes_margin_against_cash() -> None:
    # CME: cash covers risk less net option value. Here: equity, options included, covers risk.
    legs = [
        {"kind": "option", "quantity": -2.0, "strike": 110.0, "call": True, "iv": "80%"},
        {"kind": "option", "quantity": 1.0, "strike": 90.0, "call": False, "iv": "80%"},
    ]
    book = Portfolio.model_validate(
        {
            "assets": {"BTC": {"index": 100.0}},
            "cash_usd": 50.0,
            "positions": [leg | {"asset": "BTC", "expires_in": "30d"} for leg in legs],
        }
    )
    asked = ask_policy(policy("preset:cme-span"), book)
    lines = parts(asked)
    against_cash = asked.maintenance_usd - lines["options counted in equity"]
    assert book.cash_usd - against_cash == pytest.approx(asked.equity_usd - asked.maintenance_usd)
    assert lines["options counted in equity"] == pytest.approx(asked.equity_usd - book.cash_usd)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 27), st.floats(-50.0, 50.0))
def test_opposite_positions_ask_nothing(seed: int, instrument: int, quantity: float) -> None:
    market = make_market(seed)
    both = one_account((instrument, quantity), (instrument, -quantity))
    numbers = span_constants(**PLAIN | {"spreads": [(0, 0, 0.1)], "delivery": (0.1, 1.0)})
    assert ask(span, RANGES, numbers, market, both).initial[0] == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), constants(), st.sampled_from([0.25, 2.0, 64.0]))
def test_margin_is_homogeneous_of_degree_one(seed: int, numbers: np.ndarray, by: float) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)
    scaled = holdings._replace(quantity=holdings.quantity * by)
    once, more = (ask(span, RANGES, numbers, market, held) for held in (holdings, scaled))
    assert np.array_equal(more.maintenance, by * once.maintenance)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_more_of_any_charge_never_asks_less(seed: int, low: float, more: float) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)

    def asked(rate: float) -> np.ndarray:
        numbers = span_constants(
            initial_ratio=1.0 + rate,
            short_minimum=rate,
            delivery=(rate, rate),
            decay_years=0.0,
            vol_relative=True,
            extremes=(3.0, rate),
            tiers=[0.1, 0.3],
            spreads=[(a, b, rate) for a in range(3) for b in range(a, 3)],
            credits=[],
        )
        return ask(span, RANGES, numbers, market, holdings).initial

    less, larger = asked(low), asked(low + more)
    assert np.all(larger >= less * (1.0 - 1e-12))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.integers(4, 27), st.floats(0.01, 20.0))
def test_without_charges_a_long_option_adds_at_most_its_premium(
    seed: int, option: int, quantity: float
) -> None:
    market = make_market(seed)
    held = random_holdings(market, seed, accounts=1, legs=8)
    legs = [(int(i), float(q)) for i, q in zip(held.instrument, held.quantity, strict=True)]
    if not legs:
        return
    numbers = span_constants(**PLAIN)
    assert market.kind[option] == OPTION
    before, after = (
        ask(span, RANGES, numbers, market, one_account(*book)).maintenance[0]
        for book in (legs, [*legs, (option, quantity)])
    )
    premium = quantity * market.value_usd[option]
    assert after <= before + premium + 1e-9 * (before + premium)


@pytest.mark.parametrize("plain", [False, True])
def test_a_leg_without_volatility_makes_the_requirement_unknown(plain: bool) -> None:
    market = make_market()
    market.sigma[6] = market.delta_usd[6] = math.nan
    numbers = span_constants(
        **PLAIN | {"spreads": [(0, 0, 0.1)], "credits": [(0, 1.0, 1, 1.0, 1.0)]}
    )
    legs = one_account((0, 1.0), (1, -3.0), (6, -1.0))
    asked = ask(span, RANGES, numbers, market, legs, plain=plain)
    assert math.isnan(asked.initial[0])
    assert math.isnan(asked.maintenance[0])


def test_an_account_without_positions_asks_nothing() -> None:
    market = make_market()
    nobody = random_holdings(market, 1, accounts=1, legs=0)
    asked = ask(span, RANGES, span_constants(**PLAIN), market, nobody)
    assert (asked.initial[0], asked.worst_scenario[0]) == (0.0, -1)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"tiers": ["90d", "30d"]}, "tiers: the times to expiry must ascend"),
        ({"month_spreads": [{"tiers": [1, 4], "charge": "1%"}]}, "no tier 4, only 1 to 3"),
        (
            {"asset_spreads": [{"assets": ["BTC", "BTC"], "credit": "50%"}]},
            "two assets, not 'BTC' twice",
        ),
        ({"initial_ratio": "90%"}, "initial_ratio: 90% is below the lowest allowed value"),
    ],
)
def test_a_slip_in_a_table_is_told_in_one_sentence(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        policy("span", **knobs)


@pytest.mark.parametrize("assets", [("BTC",), ("BTC", "ETH"), ("SOL", "BTC", "DOGE")])
def test_the_preset_asks_on_any_market(assets: tuple[str, ...]) -> None:
    asked = ask_policy(policy("preset:cme-span"), months(("perpetual", -100.0), assets=assets))
    assert asked.maintenance_usd == pytest.approx(35.0)
    assert asked.initial_usd == pytest.approx(38.5)
    assert "scenario 11, +35.0%, volatility up" in asked.worst


def test_the_preset_is_written_and_read_back_unchanged() -> None:
    chosen = policy("preset:cme-span")
    assert load_policy(chosen.identity()) == chosen
