"""The bracketed rate: published numbers, netting, continuity, options, equal bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import PolicyError
from backtest.instruments import OPTION
from backtest.kernels.types import Holdings, empty_requirement
from strategies.kernels.linear_rate import LANES, linear_rate, linear_rate_constants
from tests.strategies.portfolios import (
    ask,
    equal_bits,
    given_numbers,
    make_market,
    one_account,
    random_holdings,
    revalue,
)

PLAIN = linear_rate_constants(0.5)
TIERS = linear_rate_constants(0.5, ((1e5, 1.0), (1e6, 2.0), (math.inf, 5.0)))
rates = st.floats(0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.lists(rates, min_size=4, max_size=4), st.booleans())
def test_compiled_and_plain_margin_have_equal_bits(
    seed: int, row: list[float], by_side: bool
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    parameters = row if by_side else row[:2]
    for constants in (TIERS, np.empty(0)):
        compiled = ask(linear_rate, parameters, constants, market, holdings)
        plain = ask(linear_rate, parameters, constants, market, holdings, plain=True)
        assert equal_bits(compiled, plain)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.booleans(), st.floats(0.0, 0.05))
def test_neighbours_of_one_leg_ask_what_each_would_ask_alone(
    seed: int, by_side: bool, odd_share: float
) -> None:
    market = make_market(seed)
    draws = np.random.default_rng(seed)
    accounts = 3 * LANES + 5
    count = np.where(draws.random(accounts) < odd_share, draws.integers(0, 4, accounts), 1)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    slots = int(count.sum())
    instrument = np.where(
        draws.random(slots) < odd_share, draws.integers(4, 28, slots), draws.integers(0, 4, slots)
    )
    dollars = draws.normal(0.0, 3e4, slots)
    held = dollars / market.notional_usd[instrument]
    cash = np.zeros((3, accounts))
    holdings = Holdings(start, count, instrument, held, np.zeros(slots), cash)
    row = [0.1, 0.2, 0.3, 0.4] if by_side else [0.1, 0.2]
    for constants in (TIERS, np.empty(0)):
        compiled = ask(linear_rate, row, constants, market, holdings)
        assert equal_bits(compiled, ask(linear_rate, row, constants, market, holdings, plain=True))
        numbers = given_numbers(linear_rate, row, constants, market)
        some = np.flatnonzero(draws.random(accounts) < 0.9)
        few = empty_requirement(accounts)
        linear_rate.kernel(numbers, market, holdings, some, few)
        assert np.array_equal(few.initial[some], compiled.initial[some])
        assert np.array_equal(few.maintenance[some], compiled.maintenance[some])


def test_more_assets_than_a_word_has_bits_are_netted_each() -> None:
    market = make_market(assets=150)
    holdings = random_holdings(market, 5, accounts=20, legs=40)
    rates = np.random.default_rng(5).random(150)
    compiled = ask(linear_rate, rates, TIERS, market, holdings)
    assert equal_bits(compiled, ask(linear_rate, rates, TIERS, market, holdings, plain=True))
    assert np.all(compiled.initial[holdings.count > 0] > 0.0)


def test_perpetual_asks_rate_times_notional() -> None:
    market = make_market()
    asked = ask(linear_rate, [0.1, 0.2], PLAIN, market, one_account((1, -3.0)))
    assert asked.initial[0] == pytest.approx(0.2 * 3.0 * market.mark[1])
    assert asked.maintenance[0] == 0.5 * asked.initial[0]
    assert asked.worst_scenario[0] == -1


def test_opposite_perpetuals_net_to_nothing_across_settlements() -> None:
    market = make_market()
    contracts = market.notional_usd[0] / market.notional_usd[2]
    asked = ask(linear_rate, [0.1, 0.2], PLAIN, market, one_account((0, 1.0), (2, -contracts)))
    assert asked.initial[0] == pytest.approx(0.0, abs=1e-9)


def test_different_assets_do_not_net() -> None:
    market = make_market()
    hedge = market.notional_usd[0] / market.notional_usd[1]
    asked = ask(linear_rate, [0.1, 0.1], PLAIN, market, one_account((0, 1.0), (1, -hedge)))
    assert asked.initial[0] == pytest.approx(2 * 0.1 * market.notional_usd[0])


def test_sides_may_have_rates_of_their_own() -> None:
    market = make_market()
    row = [0.1, 0.2, 0.3, 0.4]
    long = ask(linear_rate, row, PLAIN, market, one_account((1, 1.0)))
    short = ask(linear_rate, row, PLAIN, market, one_account((1, -1.0)))
    assert long.initial[0] == pytest.approx(0.2 * market.mark[1])
    assert short.initial[0] == pytest.approx(0.4 * market.mark[1])


@pytest.mark.parametrize(
    ("notional_usd", "brackets", "maintenance_usd"),
    [
        # Hyperliquid, BTC tiers 1.25 % and 2.5 % above 150M: 200M ask 3,125,000.
        (200e6, ((150e6, 1.0), (math.inf, 2.0)), 3_125_000.0),
        # The same below the edge, without the second bracket.
        (100e6, ((150e6, 1.0), (math.inf, 2.0)), 1_250_000.0),
    ],
)
def test_brackets_reproduce_a_venues_table(
    notional_usd: float, brackets: tuple[tuple[float, float], ...], maintenance_usd: float
) -> None:
    market = make_market()
    constants = linear_rate_constants(0.5, brackets)
    quantity = notional_usd / market.notional_usd[0]
    asked = ask(linear_rate, [0.025, 0.025], constants, market, one_account((0, quantity)))
    assert asked.maintenance[0] == pytest.approx(maintenance_usd, rel=1e-9)


@settings(deadline=None)
@given(st.sampled_from([1e5, 1e6]), st.floats(1e-9, 1e-6))
def test_brackets_are_continuous_at_their_edges(edge_usd: float, step: float) -> None:
    market = make_market()
    asked = [
        ask(
            linear_rate, [0.1, 0.1], TIERS, market, one_account((0, usd / market.notional_usd[0]))
        ).initial[0]
        for usd in (edge_usd * (1 - step), edge_usd * (1 + step))
    ]
    assert 0.0 <= asked[1] - asked[0] <= 2.1 * step * edge_usd * 0.1 * 5.0


@settings(deadline=None)
@given(st.floats(-1e7, 1e7), st.floats(1.0, 3.0))
def test_margin_rises_with_size(usd: float, factor: float) -> None:
    market = make_market()
    small, large = (
        ask(
            linear_rate, [0.1, 0.1], TIERS, market, one_account((0, u / market.notional_usd[0]))
        ).initial[0]
        for u in (usd, usd * factor)
    )
    assert large >= small * (1 - 1e-12)


def test_deribit_short_call_asks_its_published_margin() -> None:
    # S = 10,000, K = 9,000, mark 0.025 BTC: IM 1,750 and MM 1,000 USD, mark included.
    market = make_market(assets=1, options=12)
    market.index[0] = market.mark[0] = 10_000.0
    revalue(market)
    call = next(i for i in range(14) if market.kind[i] == OPTION and market.is_call[i] == 1)
    strike = market.strike.copy()
    strike[call] = 9_000.0
    size = np.ones(14)
    market = market._replace(strike=_frozen(strike), contract_size=_frozen(size))
    market.notional_usd[call] = 10_000.0
    market.value_usd[call] = 250.0
    asked = ask(linear_rate, [0.15], PLAIN, market, one_account((call, -1.0)))
    # Equity has already lost the mark, 250 USD, so the requirement leaves it out.
    assert asked.initial[0] + 250.0 == pytest.approx(1_750.0)
    assert asked.maintenance[0] + 250.0 == pytest.approx(1_000.0)


@pytest.mark.parametrize(("strike", "share"), [(9_000.0, 0.15), (10_300.0, 0.12), (14_000.0, 0.10)])
def test_short_call_asks_less_out_of_the_money_down_to_a_share(strike: float, share: float) -> None:
    market = make_market(assets=1, options=12)
    call = next(i for i in range(14) if market.kind[i] == OPTION and market.is_call[i] == 1)
    market.index[0] = 10_000.0
    strikes = market.strike.copy()
    strikes[call] = strike
    market = market._replace(strike=_frozen(strikes))
    market.notional_usd[call] = 10_000.0
    asked = ask(linear_rate, [0.15], PLAIN, market, one_account((call, -1.0)))
    assert asked.initial[0] == pytest.approx(share * 10_000.0)


def test_long_option_asks_exactly_its_value_and_never_less_than_nothing() -> None:
    market = make_market()
    for i in np.flatnonzero(market.kind == OPTION):
        asked = ask(linear_rate, [0.1, 0.1], PLAIN, market, one_account((int(i), 2.0)))
        assert asked.initial[0] == 2.0 * market.value_usd[i] == asked.maintenance[0]
        assert asked.initial[0] >= 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), rates, st.floats(0.0, 0.5))
def test_margin_rises_with_the_rate_and_initial_is_at_least_maintenance(
    seed: int, rate: float, more: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    low = ask(linear_rate, [rate, rate], TIERS, market, holdings)
    high = ask(linear_rate, [rate + more, rate + more], TIERS, market, holdings)
    assert np.all(high.initial >= low.initial - 1e-9)
    assert np.all(low.initial >= low.maintenance)
    assert np.all(low.maintenance >= 0.0)


@pytest.mark.parametrize("bounds", [(), (1e6,), (2e6, 1e6, math.inf), (0.0, math.inf)])
def test_brackets_that_do_not_reach_infinity_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(PolicyError, match="must be infinite"):
        linear_rate_constants(0.5, [(bound, 1.0) for bound in bounds])


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
