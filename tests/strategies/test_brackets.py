"""Leverage brackets: venues' tables and amounts, continuity, netting, coins, equal bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError, PolicyError
from backtest.instruments import OPTION
from backtest.kernels.laws.liquidation_price import (
    bracket_liquidation_price,
    isolated_liquidation_price,
)
from experiments.vector_adapters import MARGIN, answer
from strategies.kernels.bracketed import bracketed, bracketed_constants
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

THREE = ((0.0, 0.01, 0.005), (1e5, 0.02, 0.01), (1e6, 0.1, 0.08))
FLAT = ((0.0, 0.05, 0.03),)


def held(preset: str, asset: str, usd: float, price: float = 1.0) -> Ask:
    """Ask a preset for one perpetual of so many dollars."""
    position = {"asset": asset, "quantity": usd / price}
    portfolio = {"assets": {asset: {"index": price}}, "positions": [position]}
    return ask_policy(policy(f"preset:{preset}"), Portfolio.model_validate(portfolio))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.booleans(), st.floats(0.1, 3.0))
def test_compiled_and_plain_margin_have_equal_bits(seed: int, in_coins: bool, scale: float) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    constants = bracketed_constants([THREE, FLAT], in_coins)
    compiled = ask(bracketed, [scale], constants, market, holdings)
    assert equal_bits(compiled, ask(bracketed, [scale], constants, market, holdings, plain=True))
    assert np.all(compiled.initial >= compiled.maintenance)
    assert np.all(compiled.maintenance >= 0.0)


def test_more_assets_than_a_word_has_bits_are_netted_each() -> None:
    market = make_market(assets=150)
    holdings = random_holdings(market, 5, accounts=20, legs=40)
    constants = bracketed_constants([THREE if a % 3 else FLAT for a in range(150)])
    compiled = ask(bracketed, [1.0], constants, market, holdings)
    assert equal_bits(compiled, ask(bracketed, [1.0], constants, market, holdings, plain=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_explained_parts_add_up_to_the_requirement(seed: int, in_coins: bool) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    constants = bracketed_constants([THREE, FLAT], in_coins)
    asked = ask(bracketed, [1.5], constants, market, holdings)
    given_ = given_numbers(bracketed, [1.5], constants, market)
    for account in range(len(asked.initial)):
        assert bracketed.explain is not None
        told = bracketed.explain(given_, market, holdings, account)
        assert math.fsum(told.initial.values()) == pytest.approx(asked.initial[account])
        assert math.fsum(told.maintenance.values()) == pytest.approx(asked.maintenance[account])


@pytest.mark.parametrize(
    ("asset", "usd", "rate", "amount"),
    [
        # Maintenance amounts ("cum") of Binance's own tables, BTCUSDT and ETHUSDT.
        ("BTC", 40e3, 0.004, 0.0),
        ("BTC", 500e3, 0.005, 50.0),
        ("BTC", 2e6, 0.0065, 950.0),
        ("BTC", 10e6, 0.01, 11_450.0),
        ("BTC", 50e6, 0.02, 131_450.0),
        ("BTC", 90e6, 0.025, 481_450.0),
        ("BTC", 200e6, 0.05, 2_981_450.0),
        ("BTC", 400e6, 0.1, 14_481_450.0),
        ("BTC", 500e6, 0.125, 26_481_450.0),
        ("BTC", 700e6, 0.15, 41_481_450.0),
        ("BTC", 1e9, 0.25, 121_481_450.0),
        ("BTC", 1.5e9, 0.5, 421_481_450.0),
        ("ETH", 60e6, 0.025, 381_450.0),
        ("ETH", 100e6, 0.05, 2_006_450.0),
        ("ETH", 700e6, 0.25, 80_506_450.0),
        ("ETH", 1e9, 0.5, 280_506_450.0),
    ],
)
def test_binance_asks_its_rate_less_its_maintenance_amount(
    asset: str, usd: float, rate: float, amount: float
) -> None:
    asked = held("binance-usdm", asset, usd, 50_000.0)
    assert asked.maintenance_usd == pytest.approx(rate * usd - amount, rel=1e-9)
    told = {part: kept for _, part, _, kept in asked.parts}
    assert -told["deduction"] == pytest.approx(amount, abs=1e-3)


@pytest.mark.parametrize(
    ("usd", "rate", "deduction"),
    [
        # Bybit's own table of BTCUSDT: rate and maintenance margin deduction of the tier.
        (2.3e6, 0.0056, 1_200.0),
        (4.7e6, 0.0077, 8_460.0),
        (7e6, 0.01, 20_500.0),
        (18e6, 0.016, 80_000.0),
        (45e6, 0.029, 452_000.0),
        (78e6, 0.045, 1_482_000.0),
    ],
)
def test_bybit_asks_its_rate_less_its_deduction(usd: float, rate: float, deduction: float) -> None:
    asked = held("bybit", "BTC", usd)
    assert asked.maintenance_usd == pytest.approx(rate * usd - deduction, rel=1e-9)


@pytest.mark.parametrize(
    ("asset", "usd", "maintenance"),
    [
        # Hyperliquid: half of 1/leverage, 40x then 20x, 25x then 15x, 20x then 10x.
        ("BTC", 150e6, 150e6 / 80),
        ("BTC", 200e6, 3_125_000.0),
        ("ETH", 100e6, 100e6 / 50),
        ("ETH", 130e6, 100e6 / 50 + 30e6 / 30),
        ("SOL", 70e6, 70e6 / 40),
        ("SOL", 90e6, 70e6 / 40 + 20e6 / 20),
    ],
)
def test_hyperliquid_asks_half_of_its_tiers_leverage(
    asset: str, usd: float, maintenance: float
) -> None:
    asked = held("hyperliquid", asset, usd)
    assert asked.maintenance_usd == pytest.approx(maintenance, rel=1e-12)
    assert asked.initial_usd == pytest.approx(2.0 * maintenance, rel=1e-12)


def test_okx_counts_its_tiers_in_coins() -> None:
    at_price = [held("okx-standard", "BTC", 150.0 * price, price) for price in (20_000.0, 60_000.0)]
    for asked, price in zip(at_price, (20_000.0, 60_000.0), strict=True):
        coins = 20.0 * 0.004 + 80.0 * 0.005 + 50.0 * 0.01
        assert asked.maintenance_usd == pytest.approx(coins * price, rel=1e-12)


@settings(deadline=None)
@given(st.sampled_from([1e5, 1e6]), st.floats(1e-9, 1e-6))
def test_both_margins_are_continuous_at_every_edge(edge_usd: float, step: float) -> None:
    market = make_market()
    constants = bracketed_constants([THREE, THREE])
    below, above = (
        ask(bracketed, [1.0], constants, market, one_account((0, usd / market.notional_usd[0])))
        for usd in (edge_usd * (1 - step), edge_usd * (1 + step))
    )
    for margin in ("initial", "maintenance"):
        jump = getattr(above, margin)[0] - getattr(below, margin)[0]
        assert -1e-9 <= jump <= 2.0 * step * edge_usd * 0.1 + 1e-9


@settings(deadline=None)
@given(st.floats(-1e7, 1e7), st.floats(1.0, 3.0), st.floats(1.0, 2.0))
def test_margin_rises_at_least_with_size_and_with_the_scale(
    usd: float, factor: float, scale: float
) -> None:
    market = make_market()
    constants = bracketed_constants([THREE, THREE])

    def asked(size: float, times: float) -> float:
        account = one_account((0, size / market.notional_usd[0]))
        return float(ask(bracketed, [times], constants, market, account).maintenance[0])

    assert asked(usd * factor, 1.0) >= factor * asked(usd, 1.0) * (1 - 1e-12)
    assert asked(usd, scale) == pytest.approx(scale * asked(usd, 1.0))


def test_opposite_perpetuals_net_and_options_are_passed_over() -> None:
    market = make_market()
    contracts = market.notional_usd[0] / market.notional_usd[2]
    option = int(np.flatnonzero(market.kind == OPTION)[0])
    constants = bracketed_constants([THREE, THREE])
    account = one_account((0, 1.0), (2, -contracts), (option, -5.0))
    asked = ask(bracketed, [1.0], constants, market, account)
    assert asked.initial[0] == pytest.approx(0.0, abs=1e-9)


def test_a_price_that_is_not_a_number_gives_a_margin_that_is_none() -> None:
    market = make_market()
    market.notional_usd[0] = np.nan
    constants = bracketed_constants([THREE, THREE])
    for account in (one_account((0, 1.0)), one_account((0, 1.0), (1, 2.0))):
        asked = ask(bracketed, [1.0], constants, market, account)
        assert np.isnan(asked.initial[0])
        assert np.isnan(asked.maintenance[0])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, -1]), st.floats(10.0, 1e5), st.floats(0.01, 100.0), st.floats(0.02, 1.5))
def test_liquidation_prices_through_the_presets_are_the_venues_closed_forms(
    side: int, entry: float, size: float, share: float
) -> None:
    collateral = share * size * entry
    found = answer(
        MARGIN,
        "Hyperliquid",
        "liquidation_price",
        {
            "asset": "ETH", "max_leverage": 25, "side": "long" if side > 0 else "short",
            "entry": entry, "size": size, "collateral": collateral,
        },
    )  # fmt: skip
    closed = isolated_liquidation_price(collateral, side * size, entry, 0.02)
    assert found["liq_price"] == pytest.approx(closed, rel=1e-9, abs=1e-9 * entry)
    amount = 0.01 * size * entry
    found = answer(
        MARGIN,
        "Binance USD-M",
        "liquidation_price",
        {
            "wallet": collateral, "mm_other": 0.0, "upnl_other": 0.0, "cum": amount,
            "side": side, "qty": size, "entry": entry, "mmr": 0.05,
        },
    )  # fmt: skip
    closed = bracket_liquidation_price(collateral, side * size, entry, 0.05, amount)
    assert found["liq_price"] == pytest.approx(closed, rel=1e-9, abs=1e-9 * entry)


@pytest.mark.parametrize(
    ("brackets", "advice"),
    [
        ([{"above": "1M", "initial": "5%", "maintenance": "2%"}], "must begin at 0"),
        (
            [
                {"above": 0, "initial": "5%", "maintenance": "2%"},
                {"above": "5M", "initial": "6%", "maintenance": "3%"},
                {"above": "4M", "initial": "7%", "maintenance": "4%"},
            ],
            "above 4,000,000 stands after 5,000,000",
        ),
        ([{"above": 0, "initial": "2%", "maintenance": "5%"}], "less than maintenance"),
    ],
)
def test_a_table_that_is_out_of_order_is_refused(brackets: list[object], advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        load_policy({"policy": "brackets", "brackets": brackets})


def test_constants_refuse_what_no_table_may_be() -> None:
    with pytest.raises(PolicyError, match="must ascend from 0"):
        bracketed_constants([((1.0, 0.1, 0.1),)])
