"""What any base policy can wear: each add-on's law, by hand and in both forms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError
from backtest.kernels.types import DEPOSITS, OPEN_NOTIONAL
from strategies.addons import ADDONS
from strategies.concentration import rolling_volume_usd
from strategies.kernels.collateral import collateral
from strategies.kernels.concentration import concentration
from strategies.kernels.liquidity import liquidity
from strategies.kernels.naked_shorts import naked_shorts
from strategies.kernels.open_exposure import de_peg, oracle_confidence
from strategies.portfolio import Ask, Portfolio
from strategies.portfolio import ask as ask_policy
from strategies.registry import policy
from tests.strategies.portfolios import ask, equal_bits, make_market, random_holdings
from tests.tapes import make_tape

if TYPE_CHECKING:
    from backtest.requirement import RequirementRule

HOUR = 3_600_000
TAPE = make_tape(300)
NOTHING = np.empty(0)
LAWS: list[tuple[RequirementRule, Any, Any]] = [
    (concentration, lambda a: [0.001, 0.2, 1e4], lambda a: []),
    (concentration, lambda a: [0.0, 0.2, 0.0, *np.geomspace(1e3, 1e5, a)], lambda a: []),
    (liquidity, lambda a: [0.05, *np.geomspace(1e4, 1e6, a)], lambda a: []),
    (collateral, lambda a: [0.8] * a + [0.9] * a, lambda a: [5e7] * a + [0.0, 0.01, 0.4][:a]),
    (oracle_confidence, lambda a: [0.0, 0.6, 1.0, 0.3, 1.0], lambda a: []),
    (oracle_confidence, lambda a: [0.0, 0.45, 1.0, 0.3, 0.0], lambda a: []),
    (de_peg, lambda a: [0.1, 0.0, 0.0, 0.0, 0.0], lambda a: []),
    (naked_shorts, lambda a: [0.01, 0.005], lambda a: []),
]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 3), st.integers(0, 20))
@pytest.mark.parametrize(("rule", "parameters", "constants"), LAWS)
def test_every_add_on_is_the_same_compiled_and_plain_and_asks_more_initially(
    rule: RequirementRule, parameters: Any, constants: Any, seed: int, assets: int, legs: int
) -> None:
    market = make_market(seed, assets=assets)
    holdings = random_holdings(market, seed, legs=legs)
    if seed % 3 == 0:
        holdings = holdings._replace(cash=np.zeros((1 + assets, 0)))  # legs margined one by one
    numbers = parameters(assets), np.array(constants(assets), float)
    compiled = ask(rule, *numbers, market, holdings)
    assert equal_bits(compiled, ask(rule, *numbers, market, holdings, plain=True))
    assert np.isfinite(compiled.initial).all()
    assert (compiled.initial >= compiled.maintenance).all()
    assert (compiled.maintenance >= 0.0).all()


@pytest.mark.parametrize(("rule", "parameters", "constants"), LAWS)
def test_an_add_on_never_turns_what_is_undefined_into_a_number(
    rule: RequirementRule, parameters: Any, constants: Any
) -> None:
    market = make_market(3)
    market.confidence[::2] = 0.2
    holdings = random_holdings(market, 3, legs=12)
    clean = ask(rule, parameters(2), np.array(constants(2), float), market, holdings)
    market.index[:] = market.notional_usd[:] = market.delta_usd[:] = math.nan
    found = ask(rule, parameters(2), np.array(constants(2), float), market, holdings)
    assert np.isnan(found.initial[clean.initial > 0.0]).all()
    assert (clean.initial > 0.0).any()


ETH = {"index": 2_000.0, "mark": 2_020.0}


def added(addon: dict[str, Any], state: dict[str, Any] | None = None, **account: Any) -> Ask:
    """Ask for an account on ether with an add-on over the least base; its part is the last."""
    portfolio = {"assets": {"ETH": ETH | (state or {})} | account.pop("others", {}), **account}
    chosen = policy("fixed", addons=[addon])
    return ask_policy(chosen, Portfolio.model_validate(portfolio))


def extra(addon: dict[str, Any], state: dict[str, Any] | None = None, **account: Any) -> Any:
    return pytest.approx(added(addon, state, **account).parts[-1][2:], abs=1e-9)


def option(quantity: float, strike: float = 2_000.0, **terms: Any) -> dict[str, Any]:
    leg = {"asset": "ETH", "kind": "option", "quantity": quantity, "strike": strike, "iv": 0.7}
    return leg | {"call": True, "expires_in": "10d"} | terms


def perpetual(quantity: float, **terms: Any) -> dict[str, Any]:
    return {"asset": "ETH", "quantity": quantity, **terms}


def test_doubt_of_an_oracle_is_charged_below_its_threshold_only() -> None:
    addon = {"oracle_confidence": {"threshold": "50%", "factor": 0.4}}
    held = [perpetual(-3.0, confidence=0.3), option(-2.0), option(5.0, strike=2_500.0)]
    assert extra(addon, positions=held) == (0.7 * 0.4 * 3.0 * 2_000.0, 0.0)
    assert extra(addon, {"confidence": 0.5}, positions=[perpetual(-3.0)]) == (0.0, 0.0)
    # The index is part of every price; longs in options and debts in coins are not charged.
    doubted = extra(addon, {"confidence": 0.4}, positions=held, coins={"ETH": 1.5})
    assert doubted == (0.4 * 2_000.0 * (0.7 * 3.0 + 0.6 * 2.0 + 0.6 * 1.5), 0.0)
    plain = {"oracle_confidence": {**addon["oracle_confidence"], "coins": False}}
    bare = extra(plain, {"confidence": 0.4}, positions=held, coins={"ETH": 1.5})
    assert bare == (0.4 * 2_000.0 * (0.7 * 3.0 + 0.6 * 2.0), 0.0)
    kept = {"oracle_confidence": {**addon["oracle_confidence"], "maintenance_share": "25%"}}
    assert extra(kept, positions=held) == (0.28 * 6_000.0, 0.07 * 6_000.0)


def test_perpetuals_and_futures_are_doubted_net_at_their_least_confidence() -> None:
    addon = {"oracle_confidence": {"threshold": "50%", "factor": 1.0}}
    future = {"kind": "future", "expires_in": "30d", "confidence": 0.2}
    held = [perpetual(3.0, confidence=0.4), perpetual(-1.0, **future)]
    assert extra(addon, positions=held) == (0.8 * 2.0 * 2_000.0, 0.0)
    assert extra(addon, positions=[perpetual(1.0), perpetual(-1.0, **future)]) == (0.0, 0.0)


def test_a_lost_peg_is_charged_on_what_the_venue_guarantees() -> None:
    addon = {"de_peg": {"stable": "USDT", "threshold": 0.98, "factor": 2.0}}
    held = [perpetual(-3.0), option(-2.0), option(5.0, strike=2_500.0)]
    assert extra(addon, positions=held) == (0.0, 0.0)  # the market knows no such coin
    for price, charged in ((1.02, 0.0), (0.98, 0.0), (0.9, 0.08 * 2.0 * 2_000.0 * 5.0)):
        others = {"USDT": {"index": price}}
        assert extra(addon, positions=held, others=others) == (charged, 0.0)


def test_the_peg_is_posted_as_the_market_moves() -> None:
    addon = policy("fixed", addons=[{"de_peg": {"stable": TAPE.assets[0]}}]).addons[0]
    signal = addon.signals(TAPE)
    assert np.array_equal(signal[:, 0], TAPE.index[:, 0])
    rate = addon.parameters(np.array([[1.0], [0.99], [0.94]]))[:, 0]
    assert rate == pytest.approx([0.0, 0.0, 0.1])


def test_naked_shorts_are_pooled_by_strike_and_expiry() -> None:
    addon = {"naked_shorts": {"initial": "1%", "maintenance": "0.4%"}}
    pooled = [option(-3.0), option(1.0, call=False), option(-1.0, strike=1_500.0)]
    assert extra(addon, positions=pooled) == (0.01 * 3.0 * 2_000.0, 0.004 * 3.0 * 2_000.0)
    apart = [option(-3.0), option(3.0, strike=1_500.0), option(3.0, expires_in="20d")]
    assert extra(addon, positions=apart) == (0.01 * 6_000.0, 0.004 * 6_000.0)
    assert extra(addon, positions=[option(2.0), perpetual(-9.0)]) == (0.0, 0.0)


def test_coins_count_in_part_and_less_as_more_of_them_are_deposited() -> None:
    addon = {"collateral": {"initial": "20%", "maintenance": "10%", "deposits_from": "1M"}}
    coins = {"coins": {"ETH": 5.0}}
    assert extra(addon, **coins) == (2_000.0, 1_000.0)
    assert extra(addon, {"deposits_usd": 1e6}, **coins) == (2_000.0, 1_000.0)
    assert extra(addon, {"deposits_usd": 4e6}, **coins) == (8_000.0, 1_000.0)
    assert extra(addon, coins={"ETH": -5.0}) == (0.0, 0.0)
    own = {"coins": {"ETH": {"initial": "50%", "maintenance": 0}}}
    assert extra({"collateral": {**addon["collateral"], **own}}, **coins) == (5_000.0, 0.0)


def test_a_large_balance_counts_less_by_drifts_discount() -> None:
    """`math/margin.rs`: 1.1 / (1 + 0.003 * sqrt(40,000)) is below a weight of 0.8."""
    addon = {"collateral": {"initial": "20%", "maintenance": "10%", "size_factor": 0.003}}
    small, large = added(addon, coins={"ETH": 1.0}), added(addon, coins={"ETH": 40_000.0})
    assert small.initial_usd == pytest.approx(0.2 * 2_000.0)
    weighted = large.equity_usd - large.initial_usd
    assert weighted == pytest.approx(1.1 / 1.6 * 40_000.0 * 2_000.0)
    assert large.maintenance_usd == large.initial_usd


def test_concentration_looks_at_the_least_of_what_is_stated() -> None:
    state = {"open_interest_usd": 5e6, "depth_usd": 2e5, "volume_usd": 3e6}
    held = {"positions": [perpetual(400.0)]}
    notional = 400.0 * 2_020.0
    for shares, free in (
        ({}, 5e5),
        ({"share_of_open_interest": None, "share_of_depth": 2.0}, 4e5),
        ({"share_of_open_interest": None, "share_of_volume": "20%"}, 6e5),
        ({"share_of_depth": 2.0, "share_of_volume": "20%"}, 4e5),
        ({"share_of_depth": 10.0, "share_of_volume": "20%"}, 5e5),
    ):
        addon = {"concentration": {"charge": "10%", **shares}}
        assert extra(addon, state, **held) == (0.1 * (notional - free),) * 2


def test_concentration_that_is_measured_against_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="give share_of_open_interest, share_of_depth or"):
        policy("fixed", addons=[{"concentration": {"share_of_open_interest": None}}])


def test_rolling_volume_adds_up_its_window_and_scales_a_young_one() -> None:
    ts = np.array([0, 1, 2, 3, 5, 6]) * HOUR
    volume = np.array([[9.0], [1.0], [2.0], [4.0], [8.0], [16.0]])
    found = rolling_volume_usd(ts, volume, 3 * HOUR)
    # The first bar stands for itself; then 1 of 1 h and 3 of 2 h stand for 3 h.
    assert found[:, 0] == pytest.approx([9.0, 3.0, 4.5, 7.0, 12.0, 24.0])


def test_rolling_volume_knows_nothing_of_the_rows_after_it() -> None:
    whole = rolling_volume_usd(TAPE.ts, TAPE.volume_usd, 24 * HOUR)
    for rows in (1, 7, 100, 299):
        part = rolling_volume_usd(TAPE.ts[:rows], TAPE.volume_usd[:rows], 24 * HOUR)
        assert np.array_equal(part, whole[:rows])


def test_liquidity_asks_for_the_root_of_size_over_depth_and_no_more_than_all() -> None:
    addon = {"liquidity": {"cost": "2%", "least_depth": 1_000.0}}
    state = {"depth_usd": 1e5}
    for coins in (1.0, 25.0, -25.0):
        size = abs(coins) * 2_020.0
        charged = 0.02 * size * math.sqrt(size / 1e5)
        assert extra(addon, state, positions=[perpetual(coins)]) == (charged, charged)
    assert extra(addon, state, positions=[perpetual(3.0), perpetual(-3.0)]) == (0.0, 0.0)
    huge = 1e9 * 2_020.0
    assert extra(addon, state, positions=[perpetual(1e9)]) == (huge, huge)
    thin = 0.02 * 2_020.0 * math.sqrt(2.02)
    assert extra(addon, {"depth_usd": 0.0}, positions=[perpetual(1.0)]) == (thin, thin)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.floats(1.5, 20.0))
@pytest.mark.parametrize(
    ("rule", "parameters", "stressed"),
    [
        (concentration, [0.1, 0.2, 1e4], [0.02, 0.3, 1e3]),
        (liquidity, [0.05, 1e5, 1e5], [0.06, 1e4, 1e4]),
        (oracle_confidence, [0.01, 0.5, 0.4, 0.3, 0.0], [0.02, 0.7, 0.9, 0.3, 1.0]),
        (naked_shorts, [0.01, 0.005], [0.02, 0.006]),
    ],
)
def test_more_stress_and_more_size_never_ask_for_less(
    rule: RequirementRule, parameters: list[float], stressed: list[float], seed: int, size: float
) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, legs=10)
    calm = ask(rule, parameters, NOTHING, market, holdings).initial
    assert (ask(rule, stressed, NOTHING, market, holdings).initial >= calm).all()
    holdings.quantity[:] *= size
    holdings.cash[:] *= size
    assert (ask(rule, parameters, NOTHING, market, holdings).initial >= size * calm * 0.999).all()


def test_collateral_never_shrinks_as_the_venue_takes_in_more() -> None:
    market = make_market(5)
    holdings = random_holdings(market, 5)
    numbers = [0.8, 0.8, 0.9, 0.9], np.array([1e5, 1e5, 0.0, 0.0])
    before = ask(collateral, *numbers, market, holdings).initial
    market.protocol[DEPOSITS] *= 3.0
    market.protocol[OPEN_NOTIONAL] = 0.0
    after = ask(collateral, *numbers, market, holdings).initial
    assert (after >= before).all()
    assert after.sum() > before.sum()


@pytest.mark.parametrize("cls", ADDONS, ids=lambda cls: cls.name)
def test_every_add_on_is_worn_by_name_and_read_back(cls: Any) -> None:
    chosen = policy("fixed", addons=[cls.name], update={"keeper": {"threshold": "5%"}})
    assert policy(**_as_knobs(chosen.identity())) == chosen
    layers = chosen.layers(TAPE)
    assert len(layers[1].parameters) == len(TAPE)
    assert layers[1].rule is cls.requirement


def _as_knobs(identity: dict[str, Any]) -> dict[str, Any]:
    return {"name": identity.pop("policy"), **identity}


@pytest.mark.parametrize(
    ("addon", "sentence"),
    [
        ({"naked_shorts": {"initial": "0.1%"}}, "initial: 0.001 of notional is below"),
        ({"collateral": {"initial": "1%"}}, "initial: a haircut of 0.01 is below maintenance"),
    ],
)
def test_an_add_on_that_asks_more_for_maintenance_is_refused(
    addon: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        policy("fixed", addons=[addon])
