"""Rates that grow with size or open interest: published numbers, monotone, netting, equal bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError
from backtest.instruments import OPTION
from backtest.kernels.types import NET_NOTIONAL, OPEN_NOTIONAL
from experiments.vector_adapters import MARGIN, answer
from strategies.kernels.sized_rate import GrowingRate, sized_rate, sized_rate_constants
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

GROWING = GrowingRate(
    base=0.01, per_coin=1e-4, per_root_coin=1e-3, per_root_usd=1e-5, root_from_usd=1e4,
    per_open_usd=1e-9, open_from_usd=1e5, least=0.03, most=1.0, fee=0.001, flat_usd=5.0,
)  # fmt: skip
PLAIN = GrowingRate(base=0.02, per_root_coin=1e-3)


def asked(
    name: str, coins: float, price: float = 1.0, open_usd: float = 0.0, **knobs: object
) -> Ask:
    """Ask a policy for one perpetual on an asset that no preset names."""
    portfolio = {
        "assets": {"X": {"index": price, "open_interest_usd": open_usd}},
        "positions": [{"asset": "X", "quantity": coins}],
    }
    return ask_policy(policy(name, **knobs), Portfolio.model_validate(portfolio))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.booleans(), st.booleans(), st.floats(0.1, 3.0))
def test_compiled_and_plain_margin_have_equal_bits(
    seed: int, at_entry: bool, own_side: bool, scale: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    constants = sized_rate_constants([(GROWING, PLAIN), (PLAIN, GROWING)], at_entry, own_side)
    compiled = ask(sized_rate, [scale], constants, market, holdings)
    plain = ask(sized_rate, [scale], constants, market, holdings, plain=True)
    assert equal_bits(compiled, plain)
    assert np.all(compiled.initial >= compiled.maintenance)
    assert np.all(compiled.maintenance >= 0.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_explained_parts_add_up_to_the_requirement(seed: int, at_entry: bool) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed)
    constants = sized_rate_constants([(GROWING, PLAIN), (PLAIN, GROWING)], at_entry)
    requirement = ask(sized_rate, [1.5], constants, market, holdings)
    numbers = given_numbers(sized_rate, [1.5], constants, market)
    for account in range(len(requirement.initial)):
        assert sized_rate.explain is not None
        told = sized_rate.explain(numbers, market, holdings, account)
        for parts, whole in (
            (told.initial, requirement.initial[account]),
            (told.maintenance, requirement.maintenance[account]),
        ):
            assert math.fsum(parts.values()) == pytest.approx(whole, rel=1e-9)


@settings(deadline=None)
@given(st.floats(1.0, 1e6), st.floats(1.0, 5.0))
def test_margin_rises_with_size_faster_than_size(coins: float, factor: float) -> None:
    laws: tuple[dict[str, dict[str, float]], ...] = (
        {"slope": {}},
        {"premium": {"factor": 1e-3}},
        {"skew": {"flat_usd": 0}},
        {"root_notional": {"factor": 1e-4}},
    )
    for law in laws:
        small, large = (asked("size_scaled", size, law=law) for size in (coins, factor * coins))
        assert large.initial_usd >= factor * small.initial_usd * (1 - 1e-12)
        assert large.maintenance_usd >= factor * small.maintenance_usd * (1 - 1e-12)


def test_a_fixed_rate_scales_with_the_position() -> None:
    law = {"slope": {"per_coin": 0.0}}
    one, three = (asked("size_scaled", q, 7.0, law=law).initial_usd for q in (2.0, -6.0))
    assert three == pytest.approx(3.0 * one)


def test_deribits_linear_contracts_ask_more_by_the_coin() -> None:
    law = {"slope": {"initial": "4%", "maintenance": "2%", "per_coin": "0.0005%"}}
    found = asked("size_scaled", -1000.0, 100.0, law=law)
    assert found.initial_usd == pytest.approx((0.04 + 0.005) * 100_000.0)
    assert found.maintenance_usd == pytest.approx((0.02 + 0.005) * 100_000.0)


@pytest.mark.parametrize(
    ("ratio", "factor", "size", "found"),
    [
        # protocol-v2, perp_market/tests.rs: a million base units at 5e-5.
        (0.1, 5e-5, 1e6, 0.13),
        # Below the crossing the plain ratio holds.
        (0.1, 5e-5, 1e4, 0.1),
        (0.1, 5e-5, 1.6e5, 0.1),
    ],
)
def test_drifts_premium_takes_over_above_its_crossing(
    ratio: float, factor: float, size: float, found: float
) -> None:
    law = {"premium": {"initial": ratio, "maintenance": ratio / 2, "factor": factor}}
    assert asked("size_scaled", size, law=law).initial_usd == pytest.approx(found * size)


def test_synthetix_scales_by_skew_and_keeps_a_flat_amount_and_the_reward() -> None:
    # markets/perps-market/test/integration/Account/Margins.test.ts: -2 at 30,000 and its market.
    law = {
        "skew": {
            "scale": 100, "ratio": 2, "least": 0.01, "maintenance_scalar": 0.5,
            "flat_usd": 1000, "reward": 0.05,
        }
    }  # fmt: skip
    found = asked("preset:synthetix-v3", -2.0, 30_000.0, law=law)
    told = {part: (initial, kept) for _, part, initial, kept in found.parts}
    assert told["net notional at its rate"] == pytest.approx((3_000.0, 1_500.0))
    assert told["for any position"] == (1_000.0, 1_000.0)
    assert told["cost of closing"] == pytest.approx((3_000.0, 3_000.0))


def test_paradex_takes_the_root_of_notional_beyond_its_shift() -> None:
    law = {"root_notional": {"base": 0.02, "factor": 1e-4, "shift": 180_000}}
    for usd in (1e5, 2e5, 1e6, 4e6):
        rate = max(0.02, 1e-4 * math.sqrt(max(usd - 180_000.0, 0.0)))
        found = asked("preset:paradex-cross", usd, law=law)
        assert found.initial_usd == pytest.approx(rate * usd)
        assert found.maintenance_usd == pytest.approx(0.5 * rate * usd)


@pytest.mark.parametrize(
    ("open_usd", "rate"),
    [(0.0, 0.05), (40e6, 0.05), (70e6, 0.525), (100e6, 1.0), (1e9, 1.0)],
)
def test_dydx_mid_caps_initial_margin_follows_open_interest_and_maintenance_does_not(
    open_usd: float, rate: float
) -> None:
    found = asked("preset:dydx-v4", 1000.0, open_usd=2.0 * open_usd)
    assert found.initial_usd == pytest.approx(1000.0 * rate)
    assert found.maintenance_usd == pytest.approx(30.0)


def test_a_tier_without_a_range_does_not_follow_open_interest() -> None:
    tier = {"initial": 0.02, "maintenance": 0.6}
    found = asked("preset:dydx-v4", 1000.0, open_usd=1e12, tier=tier)
    assert found.initial_usd == pytest.approx(20.0)
    at_once = {**tier, "lower": "1M", "upper": "1M"}
    assert asked("preset:dydx-v4", 1.0, open_usd=2e6, tier=at_once).initial_usd == 0.02
    assert asked("preset:dydx-v4", 1.0, open_usd=2.1e6, tier=at_once).initial_usd == 1.0


@settings(deadline=None)
@given(
    base=st.floats(0.01, 1.0), lower=st.floats(0.0, 1e8), width=st.floats(1.0, 1e8),
    interest=st.floats(0.0, 1e9), more=st.floats(1.0, 3.0),
)  # fmt: skip
def test_open_interest_never_lowers_margin_and_stops_at_the_notional(
    base: float, lower: float, width: float, interest: float, more: float
) -> None:
    tier = {"initial": base, "maintenance": 0.5, "lower": lower, "upper": lower + width}
    less, rate = (
        asked("open_interest_scaled", 1.0, open_usd=usd, tier=tier).initial_usd
        for usd in (interest, more * interest)
    )
    assert base <= less <= rate <= 1.0


def test_open_interest_is_the_larger_side_or_the_positions_own() -> None:
    market = make_market()
    market.protocol[OPEN_NOTIONAL], market.protocol[NET_NOTIONAL] = 10e6, -4e6
    rate = GrowingRate(per_open_usd=1e-8)
    sides = {}
    for own_side in (False, True):
        constants = sized_rate_constants([(rate, rate)] * 2, own_side=own_side)
        for side in (1.0, -1.0):
            account = one_account((0, side))
            charged = ask(sized_rate, [1.0], constants, market, account).initial[0]
            sides[own_side, side] = charged / market.notional_usd[0]
    # Ten million are open, three of longs and seven of shorts.
    assert sides == pytest.approx(
        {(False, 1.0): 0.07, (False, -1.0): 0.07, (True, 1.0): 0.03, (True, -1.0): 0.07}
    )


def test_gmx_keeps_a_share_of_the_size_at_entry_and_the_fees() -> None:
    portfolio = {
        "assets": {"BTC": {"index": 4_200.0}},
        "positions": [{"asset": "BTC", "quantity": 40.0, "entry": 5_000.0}],
    }
    found = ask_policy(policy("preset:gmx-v2"), Portfolio.model_validate(portfolio))
    assert found.maintenance_usd == pytest.approx((0.01 + 0.0006 + 0.002) * 200_000.0)
    crowded = {"BTC": {"index": 4_200.0, "open_interest_usd": 500e6}}
    found = ask_policy(
        policy("preset:gmx-v2"), Portfolio.model_validate({**portfolio, "assets": crowded})
    )
    assert found.initial_usd == pytest.approx((250e6 * 2e-10 + 0.0026) * 200_000.0)
    assert found.maintenance_usd == pytest.approx((0.01 + 0.0026) * 200_000.0)


@pytest.mark.parametrize(
    ("price", "left", "closed"),
    [
        (4_200.0, 10_000.0, False),
        (4_050.0, 2_500.0, False),
        (4_030.0, 1_500.0, True),
        (3_900.0, -5_000.0, True),
    ],
)
def test_gmx_closes_below_the_least_collateral_of_the_size(
    price: float, left: float, closed: bool
) -> None:
    """`LiquidationOrder.ts`: 10 coins behind 200,000 dollars at 5,000 survive 4,200."""
    inputs = {
        "price": price, "size_usd": 200_000.0, "size_tokens": 40.0, "entry": 5_000.0,
        "collateral_tokens": 10.0, "min_collateral_factor": 0.01,
    }  # fmt: skip
    found = answer(MARGIN, "GMX v2", "min_collateral_factor", inputs)
    assert found == {"remaining_usd": pytest.approx(left), "liquidatable": closed}


def test_opposite_perpetuals_net_and_options_are_passed_over() -> None:
    market = make_market()
    contracts = market.notional_usd[0] / market.notional_usd[2]
    option = int(np.flatnonzero(market.kind == OPTION)[0])
    constants = sized_rate_constants([(PLAIN, PLAIN)] * 2)
    hedged = one_account((0, 1.0), (2, -contracts), (option, -5.0))
    assert ask(sized_rate, [1.0], constants, market, hedged).initial[0] == pytest.approx(
        0.0, abs=1e-9
    )
    flat = sized_rate_constants([(GROWING, GROWING)] * 2)
    assert ask(sized_rate, [1.0], flat, market, one_account((option, 1.0))).initial[0] == 0.0


def test_a_price_that_is_not_a_number_gives_a_margin_that_is_none() -> None:
    for spoil in ("notional_usd", "index"):
        market = make_market()
        getattr(market, spoil)[0] = np.nan
        constants = sized_rate_constants([(GROWING, PLAIN)] * 2)
        for account in (one_account((0, 1.0)), one_account((0, 1.0), (1, 2.0))):
            found = ask(sized_rate, [1.0], constants, market, account)
            assert np.isnan(found.initial[0])
            assert np.isnan(found.maintenance[0])


def test_an_initial_factor_below_the_least_is_refused() -> None:
    factor = {"least": "1%", "initial": "0.5%"}
    with pytest.raises(ConfigError, match=r"less than least 0\.01"):
        load_policy({"policy": "least_collateral", "factor": factor})


def test_a_tier_that_falls_is_refused() -> None:
    tier = {"initial": "5%", "maintenance": "60%", "lower": "100M", "upper": "40M"}
    with pytest.raises(ConfigError, match="lies below 100,000,000 USD"):
        load_policy({"policy": "open_interest_scaled", "tier": tier})
