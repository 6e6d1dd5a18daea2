"""Health weights: published accounts, an independent reading, order of margins, equal bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError
from backtest.instruments import OPTION
from backtest.kernels.types import DEBTS, DEPOSITS, Holdings
from strategies.kernels.health_weights import NO_ASSET, Weights, health_constants, health_weights
from strategies.portfolio import Portfolio
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

INITIAL = Weights(
    asset=0.8, debt=1.2, factor=0.01, deposits_from_usd=1e6, debts_from_usd=1e6,
    coin_worse_price=1.0, perpetual_asset=0.9, perpetual_debt=1.1, perpetual_worse_price=1.0,
    ratio=0.1, ratio_factor=1e-3, profit=0.9, profit_cap_usd=100.0,
)  # fmt: skip
MAINTENANCE = Weights(
    asset=0.9, debt=1.1, perpetual_asset=0.95, perpetual_debt=1.05, ratio=0.05, profit=1.0
)
CASH = (Weights(asset=0.95, debt=1.05), Weights())
PLAIN = (Weights(), Weights())


def both(settles_in: int) -> np.ndarray:
    return health_constants([(INITIAL, MAINTENANCE)] * 2, CASH, settles_in)


def initial(preset: str, **portfolio: Any) -> float:
    """Return the initial health of an account under a preset."""
    asked = ask_policy(policy(f"preset:{preset}"), Portfolio.model_validate(portfolio))
    return asked.equity_usd - asked.initial_usd


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**16), settles_in=st.sampled_from([NO_ASSET, 0, 1]),
    off=st.floats(0.7, 1.4), leg_by_leg=st.booleans(),
)  # fmt: skip
def test_compiled_and_plain_margin_have_equal_bits_and_their_order(
    seed: int, settles_in: int, off: float, leg_by_leg: bool
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    if leg_by_leg:
        holdings = holdings._replace(cash=np.zeros((3, 0)))
    row = [1.5, *(off * market.index)]
    compiled = ask(health_weights, row, both(settles_in), market, holdings)
    plain = ask(health_weights, row, both(settles_in), market, holdings, plain=True)
    assert equal_bits(compiled, plain)
    assert np.all(compiled.initial >= compiled.maintenance)
    assert np.all(compiled.maintenance >= 0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([NO_ASSET, 1]))
def test_explained_parts_add_up_to_the_requirement(seed: int, settles_in: int) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    row = [1.5, *(0.98 * market.index)]
    asked = ask(health_weights, row, both(settles_in), market, holdings)
    numbers = given_numbers(health_weights, row, both(settles_in), market)
    for account in range(len(asked.initial)):
        assert health_weights.explain is not None
        told = health_weights.explain(numbers, market, holdings, account)
        for parts, whole in (
            (told.initial, asked.initial[account]),
            (told.maintenance, asked.maintenance[account]),
        ):
            assert math.fsum(parts.values()) == pytest.approx(whole, rel=1e-9, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    cash=st.floats(-1e5, 1e5), coins=st.floats(-20.0, 20.0), quantity=st.floats(-5.0, 5.0),
    entry=st.floats(30_000.0, 60_000.0), deposits=st.floats(0.0, 1e8), debts=st.floats(0.0, 1e8),
    stable=st.floats(20_000.0, 80_000.0),
)  # fmt: skip
def test_what_is_left_after_margin_is_the_health_that_mango_counts(
    cash: float, coins: float, quantity: float, entry: float, deposits: float, debts: float,
    stable: float,
) -> None:  # fmt: skip
    """Read `health/cache.rs` literally: contributions, not shortfalls."""
    market = make_market(3)
    index, mark = float(market.index[0]), float(market.mark[0])
    market.protocol[DEPOSITS, 0], market.protocol[DEBTS, 0] = deposits, debts
    initial_ = Weights(
        asset=0.8, debt=1.2, deposits_from_usd=1e7, debts_from_usd=1e7, coin_worse_price=1.0,
        perpetual_asset=0.95, perpetual_debt=1.05, perpetual_worse_price=1.0, profit=0.9,
    )  # fmt: skip
    constants = health_constants([(initial_, initial_)] * 2, PLAIN, NO_ASSET)
    money = np.zeros((3, 1))
    money[0], money[1] = cash, coins
    holdings = one_account((0, quantity))._replace(entry=np.array([entry]), cash=money)
    found = ask(health_weights, [1.0, stable, 1.0], constants, market, holdings)
    equity = cash + coins * index + quantity * mark
    if coins >= 0.0:
        scaled = 0.8 * min(1.0, 1e7 / deposits if deposits > 0.0 else 1.0)
        health = scaled * coins * min(index, stable)
    else:
        health = 1.2 * max(1.0, debts / 1e7) * coins * max(index, stable)
    # Base at the worse price, relative to an index that stands for the mark here.
    worse = min(1.0, stable / index) if quantity >= 0.0 else max(1.0, stable / index)
    base = (0.95 if quantity >= 0.0 else 1.05) * quantity * mark * worse
    settled = base - quantity * entry
    settled = 0.9 * settled if settled > 0.0 else settled
    health += cash + quantity * entry + settled
    assert equity - found.initial[0] == pytest.approx(health, rel=1e-9, abs=1e-6)


def test_mangos_own_accounts_have_their_initial_health() -> None:
    """`health/cache.rs`: a gain of 40 on a short counts 38 in a coin of weight 0.8."""
    half = {"asset_initial": 0.5, "debt_initial": 1.5, "asset_maintenance": 0.5}
    coins = {
        "1": {"asset_initial": 0.8, "asset_maintenance": 0.8, "debt_initial": 1.2},
        "2": {**half, "deposits_from": 5000},
        "3": {**half, "deposits_from": 10000},
    }
    position = {"asset_initial": 0.8, "asset_maintenance": 0.8, "debt_initial": 1.2,
                "profit_initial": 0.95, "profit_maintenance": 0.95}  # fmt: skip
    chosen = policy("preset:mango-v4", coins=coins, positions={"P": position}, settles_in="1")
    asked = ask_policy(
        chosen,
        Portfolio.model_validate(
            {
                "assets": {"1": {"index": 1.0}, "P": {"index": 50.0}},
                "cash_usd": 100.0,
                "positions": [{"asset": "P", "quantity": -1.0, "entry": 100.0}],
            }
        ),
    )
    assert asked.equity_usd - asked.initial_usd == pytest.approx(30.4)
    asked = ask_policy(
        chosen,
        Portfolio.model_validate(
            {
                "assets": {
                    "1": {"index": 1.0},
                    "2": {"index": 5.0, "deposits_usd": 7500.0},
                    "3": {"index": 10.0, "deposits_usd": 100_000.0},
                },
                "coins": {"1": 100.0, "2": 100.0, "3": 100.0},
            }
        ),
    )
    assert asked.equity_usd - asked.initial_usd == pytest.approx(80.0 + 500 / 3 + 50.0)
    asked = ask_policy(
        policy("preset:mango-v4", coins={"2": {**half, "debts_from": 5000}}),
        Portfolio.model_validate(
            {
                "assets": {"2": {"index": 5.0, "debts_usd": 7500.0}},
                "cash_usd": 2000.0,
                "coins": {"2": -100.0},
            }
        ),
    )
    assert asked.equity_usd - asked.initial_usd == pytest.approx(2000.0 - 1.5 * 1.5 * 500.0)
    assert asked.equity_usd - asked.maintenance_usd == pytest.approx(2000.0 - 500.0)


def test_drift_discounts_large_balances_and_counts_little_of_a_gain() -> None:
    # The venue's documentation: 2,000 SOL at 0.003 keep their 80 %.
    for factor, weight in ((0.003, 0.8), (0.03, 1.1 / (1.0 + 0.03 * math.sqrt(2000.0)))):
        chosen = policy("preset:drift-v2", coins={"SOL": {
            "asset_initial": 0.8, "asset_maintenance": 0.9, "factor": factor}})  # fmt: skip
        asked = ask_policy(
            chosen,
            Portfolio.model_validate(
                {"assets": {"SOL": {"index": 150.0}}, "coins": {"SOL": 2000.0}}
            ),
        )
        assert asked.equity_usd - asked.initial_usd == pytest.approx(weight * 300_000.0)
    gain = {
        "assets": {"BTC": {"index": 50_000.0}},
        "cash_usd": -40_000.0,
        "positions": [{"asset": "BTC", "quantity": 1.0, "entry": 40_000.0}],
    }
    # Of a gain of 10,000 USD 100 count, less the initial ratio.
    assert initial("drift-v2", **gain) == pytest.approx(100.0 - 0.05 * 50_000.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.5, 1.0), st.floats(1.0, 2.0))
def test_a_posted_price_further_off_never_lowers_initial_margin(
    seed: int, near: float, beyond: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    for off, farther in ((near, near / beyond), (1.0 / near, beyond / near)):
        # A price on one side is worse for coins held, or for coins owed: compare with the index.
        plain, some, more = (
            ask(health_weights, [1.0, *(x * market.index)], both(NO_ASSET), market, holdings)
            for x in (1.0, off, farther)
        )
        assert np.all(some.initial >= plain.initial - 1e-6)
        assert np.all(more.initial >= some.initial - 1e-6)
        assert np.array_equal(more.maintenance, plain.maintenance)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 10.0))
def test_without_size_factors_and_caps_margin_scales_with_money_and_positions(
    seed: int, times: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    weights = Weights(asset=0.8, debt=1.2, perpetual_asset=0.9, perpetual_debt=1.1, profit=0.9)
    constants = health_constants([(weights, weights)] * 2, CASH, NO_ASSET)
    row = [1.0, *market.index]
    once = ask(health_weights, row, constants, market, holdings)
    scaled = holdings._replace(cash=times * holdings.cash, quantity=times * holdings.quantity)
    found = ask(health_weights, row, constants, market, scaled)
    assert found.initial == pytest.approx(times * once.initial, rel=1e-9, abs=1e-5)


def test_more_deposits_and_more_debts_of_all_never_lower_initial_margin() -> None:
    market = make_market(1)
    holdings = random_holdings(market, 1)
    asked = []
    for usd in (0.0, 1e6, 3e6, 1e9):
        market.protocol[DEPOSITS], market.protocol[DEBTS] = usd, usd
        row = [1.0, *market.index]
        asked.append(ask(health_weights, row, both(NO_ASSET), market, holdings).initial)
    assert np.all(np.diff(asked, axis=0) >= -1e-6)
    assert np.any(asked[-1] > asked[0] * 1.01)


def test_an_account_of_dollars_alone_or_of_options_is_asked_for_nothing() -> None:
    market = make_market()
    option = int(np.flatnonzero(market.kind == OPTION)[0])
    constants = health_constants([(INITIAL, MAINTENANCE)] * 2, PLAIN, NO_ASSET)
    holdings = one_account((option, -3.0))
    holdings.cash[0] = 1e6
    assert ask(health_weights, [1.0, *market.index], constants, market, holdings).initial[0] == 0.0


def test_opposite_perpetuals_net() -> None:
    market = make_market()
    contracts = market.notional_usd[0] / market.notional_usd[2]
    entry = market.value_usd / np.where(market.inverse == 1, market.index[market.asset], 1.0)
    holdings = one_account((0, 1.0), (2, -contracts))._replace(entry=entry[[0, 2]])
    row = [1.0, *market.index]
    cash = holdings.cash
    cash[0], cash[1] = -entry[0], contracts * entry[2]  # what was paid: nothing is deposited
    assert ask(health_weights, row, both(NO_ASSET), market, holdings).initial[0] == pytest.approx(
        0.0, abs=1e-6
    )


def test_a_price_that_is_not_a_number_gives_a_margin_that_is_none() -> None:
    for spoil in ("notional_usd", "value_usd", "index"):
        market = make_market()
        row = [1.0, *market.index]
        getattr(market, spoil)[0] = np.nan
        found = ask(health_weights, row, both(NO_ASSET), market, one_account((0, 1.0)))
        assert np.isnan(found.initial[0])
        # Maintenance margin of a linear position without a premium never reads the index.
        assert np.isnan(found.maintenance[0]) == (spoil != "index")
    market = make_market()
    empty = Holdings(
        np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0),
        np.zeros(0), np.array([[0.0], [1.0], [0.0]]),
    )  # fmt: skip
    market.index[0] = np.nan
    assert np.isnan(ask(health_weights, [1.0, 1.0, 1.0], both(NO_ASSET), market, empty).initial[0])


@pytest.mark.parametrize(
    ("field", "weights", "advice"),
    [
        ("coin", {"asset_initial": 0.9, "asset_maintenance": 0.8}, "asset_initial 0.9"),
        ("coin", {"debt_initial": 1.1, "debt_maintenance": 1.2}, "debt_initial 1.1"),
        ("position", {"ratio_initial": "2%", "ratio_maintenance": "3%"}, "ratio_initial 0.02"),
        ("position", {"profit_initial": 1, "profit_maintenance": 0.5}, "profit_initial 1"),
    ],
)
def test_initial_weights_more_generous_than_those_of_maintenance_are_refused(
    field: str, weights: dict[str, Any], advice: str
) -> None:
    with pytest.raises(ConfigError, match=advice):
        load_policy({"policy": "health", field: weights})
