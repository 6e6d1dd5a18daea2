"""The scenario grid: equal bits, published scans, netting, bounds of loss, unknown prices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.instruments import OPTION
from backtest.kernels.black76 import black76
from backtest.kernels.types import empty_requirement
from strategies.kernels.scenario_grid import LANES, scenario_grid, scenario_grid_constants
from tests.strategies.portfolios import (
    ask,
    equal_bits,
    given_numbers,
    make_market,
    one_account,
    random_holdings,
)

STEPS = [k / 4 for k in range(-4, 5)]
GRID = [(step, direction, 1.0) for step in STEPS for direction in (-1, 0, 1)]
TAILS = [(-3.0, 1, 0.33), (3.0, 1, 0.33)]
FLAT = [(step, 0, 1.0) for step in STEPS]
RANGES = [0.16, 0.18, 0.5, 0.25]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**16),
    st.lists(st.floats(0.01, 0.9), min_size=2, max_size=2),
    st.floats(0.0, 2.0),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_compiled_and_plain_margin_have_equal_bits(
    seed: int, ranges: list[float], up: float, down: float, in_coin: bool
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)
    constants = scenario_grid_constants(0.8, GRID + TAILS, in_coin=in_coin)
    row = [*ranges, up, down]
    compiled = ask(scenario_grid, row, constants, market, holdings)
    plain = ask(scenario_grid, row, constants, market, holdings, plain=True)
    assert equal_bits(compiled, plain)
    assert np.any(compiled.initial > 0.0)


@pytest.mark.parametrize("assets", [1, 2, 3, 5, 66])
@pytest.mark.parametrize("columns", [8, 32, 40, 72])
def test_any_number_of_assets_and_scenarios_gives_equal_bits(assets: int, columns: int) -> None:
    market = make_market(7, assets=assets, options=4 * assets)
    holdings = random_holdings(market, 7, accounts=9, legs=12)
    steps = [(2.0 * k / (columns - 1) - 1.0, k % 3 - 1, 1.0) for k in range(columns)]
    constants = scenario_grid_constants(0.8, steps)
    row = [*np.linspace(0.1, 0.5, assets), 0.5, 0.25]
    compiled = ask(scenario_grid, row, constants, market, holdings)
    assert equal_bits(compiled, ask(scenario_grid, row, constants, market, holdings, plain=True))
    assert np.all(compiled.initial[holdings.count > 0] > 0.0)
    assert compiled.worst_scenario.max() >= min(columns - 8, 40)


def test_scratch_is_priced_again_only_when_the_market_ticks() -> None:
    market = make_market()
    holdings = one_account((6, -1.0))
    constants = scenario_grid_constants(0.8, GRID)
    numbers = given_numbers(scenario_grid, RANGES, constants, market)
    accounts, asked = np.zeros(1, np.int64), empty_requirement(1)
    scenario_grid.kernel(numbers, market, holdings, accounts, asked)
    before = asked.initial[0]
    market.sigma[6] *= 2.0
    scenario_grid.kernel(numbers, market, holdings, accounts, asked)
    assert asked.initial[0] == before
    market.tick[0] += 1
    scenario_grid.kernel(numbers, market, holdings, accounts, asked)
    assert asked.initial[0] != before


def test_cme_span_array_of_a_long_call_gives_its_published_scan_risk() -> None:
    # A worked S&P futures option: 16 scenarios in the order of SPAN; scan risk 3,990, the 14th.
    array = [460, -610, 2640, 1730, -1270, -2340, 5210, 4540]
    array += [-2540, -3430, 8060, 7640, -3380, -3990, 3130, -1500]
    market = make_market()
    constants = scenario_grid_constants(1.0, [(0.0, 0, 1.0)] * len(array))
    numbers = given_numbers(scenario_grid, RANGES, constants, market)
    numbers.scratch[0] = array
    numbers.scratch_tick[0] = market.tick[0]
    asked = empty_requirement(1)
    scenario_grid.kernel(numbers, market, one_account((0, 1.0)), np.zeros(1, np.int64), asked)
    assert asked.initial[0] == 3_990.0
    assert asked.worst_scenario[0] == 14 - 1


def test_deribit_risk_matrix_of_futures_gives_its_published_worst_case() -> None:
    # Deribit's pme/simulate example: 0.314538364 and -0.001187534 BTC of inverse futures, a
    # range of 16 %: the worst case is 0.05968587238 BTC.
    market = make_market(assets=1)
    market.index[0] = market.mark[0] = 65_666.19
    coins = 0.314538364 - 0.001187534
    contracts = coins * 65_666.19 / market.contract_size[1]
    market.value_usd[1] = -market.contract_size[1]
    asked = ask(
        scenario_grid,
        [0.16, 0.5, 0.25],
        scenario_grid_constants(0.8, FLAT),
        market,
        one_account((1, contracts)),
    )
    assert asked.initial[0] / 65_666.19 == pytest.approx(0.05968587238095239, rel=1e-9)
    assert asked.maintenance[0] == 0.8 * asked.initial[0]


def test_linear_perpetual_asks_its_range_on_either_side() -> None:
    market = make_market()
    constants = scenario_grid_constants(0.8, FLAT)
    for quantity in (2.0, -2.0):
        asked = ask(scenario_grid, RANGES, constants, market, one_account((1, quantity)))
        assert asked.initial[0] == pytest.approx(0.18 * 2.0 * market.mark[1])


def test_inverse_and_linear_hedge_exactly_where_losses_are_counted_in_dollars() -> None:
    market = make_market()
    constants = scenario_grid_constants(0.8, FLAT, in_coin=False)
    contracts = market.value_usd[0] / -market.value_usd[2]
    hedged = one_account((0, 1.0), (2, -contracts))
    assert ask(scenario_grid, RANGES, constants, market, hedged).initial[0] == pytest.approx(
        0.0, abs=1e-9 * market.value_usd[0]
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 27), st.floats(-50.0, 50.0))
def test_opposite_positions_ask_nothing_but_the_short_floor(
    seed: int, instrument: int, quantity: float
) -> None:
    market = make_market(seed)
    both = one_account((instrument, quantity), (instrument, -quantity))
    asked = ask(scenario_grid, RANGES, scenario_grid_constants(0.8, GRID + TAILS), market, both)
    floor = 0.01 * abs(quantity) * market.notional_usd[instrument]
    expected = floor if market.kind[instrument] == OPTION else 0.0
    assert asked.initial[0] == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_long_option_never_asks_more_than_its_value_or_less_than_nothing() -> None:
    market = make_market(3)
    constants = scenario_grid_constants(0.8, GRID + TAILS)
    for i in np.flatnonzero((market.kind == OPTION) & (market.inverse == 0)):
        asked = ask(
            scenario_grid, [0.9, 0.9, 2.0, 1.0], constants, market, one_account((int(i), 1.0))
        )
        assert 0.0 <= asked.initial[0] <= market.value_usd[i] * (1 + 1e-12)


def test_covered_call_asks_less_than_its_naked_legs() -> None:
    market = make_market()
    call = next(i for i in range(4, 28) if market.is_call[i] and not market.inverse[i])
    perpetual, size = int(market.asset[call]), market.contract_size[call]
    constants = scenario_grid_constants(0.8, GRID)
    covered, naked, bare = (
        ask(scenario_grid, RANGES, constants, market, one_account(*legs)).initial[0]
        for legs in (
            [(perpetual, size), (call, -1.0)],
            [(perpetual, size)],
            [(call, -1.0)],
        )
    )
    assert covered < naked + bare


def test_margin_of_one_option_is_its_worst_repriced_loss() -> None:
    market = make_market()
    put = next(i for i in range(4, 28) if not market.is_call[i] and not market.inverse[i])
    sigma, years = market.sigma[put], market.years[put]
    days = max(years * 365, 1.0)
    up = max(sigma * (1 + 0.5 * (30 / days) ** (0.3 if days <= 30 else 0.13)), 0.4)
    spread = RANGES[market.asset[put]]
    forward, strike = market.forward[put], market.strike[put]
    losses = [
        black76(forward * (1 + spread * step), strike, up, years, 0.0)
        - black76(forward, strike, sigma, years, 0.0)
        for step in STEPS
    ]
    notional = market.notional_usd[put]
    expected = market.contract_size[put] * max(losses) + 0.01 * notional
    asked = ask(
        scenario_grid, RANGES, scenario_grid_constants(0.8, GRID), market, one_account((put, -1.0))
    )
    assert asked.initial[0] == pytest.approx(expected, rel=1e-12)
    fraction, direction, _ = GRID[asked.worst_scenario[0]]
    assert (fraction, direction) == (-1.0, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.0, 1.0))
def test_margin_rises_with_the_grid_and_initial_is_at_least_maintenance(
    seed: int, ratio: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, accounts=6)
    small = ask(scenario_grid, RANGES, scenario_grid_constants(ratio, FLAT), market, holdings)
    large = ask(scenario_grid, RANGES, scenario_grid_constants(ratio, GRID), market, holdings)
    assert np.all(large.initial >= small.initial)
    assert np.all(large.initial >= large.maintenance)
    assert np.all(small.maintenance >= 0.0)


def test_losses_of_different_assets_are_added() -> None:
    market = make_market()
    constants = scenario_grid_constants(0.8, FLAT)
    both, first, second = (
        ask(scenario_grid, RANGES, constants, market, one_account(*legs)).initial[0]
        for legs in ([(0, 1.0), (1, -9.0)], [(0, 1.0)], [(1, -9.0)])
    )
    assert both == pytest.approx(first + second)


@pytest.mark.parametrize("plain", [False, True])
def test_a_leg_without_volatility_makes_the_requirement_unknown(plain: bool) -> None:
    market = make_market()
    market.sigma[6] = math.nan
    constants = scenario_grid_constants(0.8, GRID)
    legs = one_account((0, 1.0), (6, -1.0))
    assert math.isnan(ask(scenario_grid, RANGES, constants, market, legs, plain=plain).initial[0])


def test_an_account_without_positions_asks_nothing() -> None:
    market = make_market()
    holdings = random_holdings(market, 1, accounts=1, legs=0)
    asked = ask(scenario_grid, RANGES, scenario_grid_constants(0.8, GRID), market, holdings)
    assert asked.initial[0] == 0.0
    assert asked.worst_scenario[0] == -1


def test_scenarios_are_padded_without_effect() -> None:
    constants = scenario_grid_constants(0.8, GRID)
    assert scenario_grid.scratch_columns(constants) % LANES == 0
    assert scenario_grid.scratch_columns(constants) >= len(GRID)
