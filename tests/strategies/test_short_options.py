"""Short options: venues' own numbers, a literal reading of the law, and what it must keep."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError
from backtest.instruments import OPTION
from backtest.kernels.types import Holdings, Market
from experiments.vector_adapters import MARGIN, answer
from strategies.kernels.short_options import short_options, short_options_constants
from strategies.portfolio import Ask, Portfolio
from strategies.portfolio import ask as ask_policy
from strategies.registry import policy
from tests.strategies.portfolios import (
    ask,
    equal_bits,
    given_numbers,
    make_market,
    one_account,
    random_holdings,
    revalue,
)

NOTHING = np.empty(0)
DERIBIT = short_options_constants((0.15, 0.1, 0.075, 0.075, 0.0, 0.075, 0.0, 1.0))
DERIVE = short_options_constants((0.15, 0.13, 0.09, 0.09, 0.0, 0.09, 0.0, 1.05), max_loss=True)
BYBIT = short_options_constants((0.15, 0.1, 0.03, 0.03, 0.03, 0.03, 0.002, 1.0))
OPYN = short_options_constants(
    (0.15, 0.1, 0.075, 0.075, 0.0, 0.075, 0.0, 1.0),
    max_loss=True,
    unpaired=(1.0, 1.0),
    bounds=[(0.02, 0.1678), (0.2, 0.3326)],
)
LAWS = st.sampled_from([DERIBIT, DERIVE, BYBIT, OPYN])
SEEDS = st.integers(0, 2**16)

SPOT, FORWARD = 1500.0, 1500.8332793109938176
DERIVES_TESTS = {
    "max_req": 0.15, "min_req": 0.1, "mm_call": 0.075, "mm_put": 0.075, "mm_put_mtm": 0.075,
    "unpaired_im": 1.2, "unpaired_mm": 1.1, "mm_offset": 1.05, "perp_mm": 0.05, "perp_im": 0.065,
    "conf_threshold": 0.4, "oc_factor": 0.4, "base_factor": 0.1, "base_im_scale": 1.0,
    "depeg_threshold": 0.98, "depeg_factor": 1.2,
}  # fmt: skip


def standard(
    *options: tuple[float, bool, float, float], stable: float = 1.0, **changes: Any
) -> dict[str, Any]:
    legs = [dict(zip(("K", "call", "qty", "vol"), option, strict=True)) for option in options]
    market = {
        "name": "ETH", "spot": SPOT, "spot_conf": 1.0, "perp_conf": 1.0, "perp": 0.0,
        "perp_price": 1505.0, "perp_unrealised": 0.0, "base": 0.0,
        "expiries": [{"sec": 500_400, "fwd": FORWARD, "conf": 1.0, "options": legs}],
    }  # fmt: skip
    inputs = {"cash": 0.0, "stable": stable, "markets": [market | changes]}
    return answer(
        MARGIN, "Derive Standard manager", "static_isolated_with_max_loss",
        inputs | {"params": DERIVES_TESTS},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "initial", "maintenance"),
    [
        ([(1500, True, -1, 1.04788449408498624)], -304.371585189059952, -191.871585189059952),
        ([(1500, True, 1, 1.04788449408498624)], 0.0, 0.0),
        ([(1900, True, -1, 1.179993832279113216)], -156.008261835426660, -118.508261835426660),
        ([(1300, False, -1, 1.08318941550987648)], -164.322794294374039, -126.822794294374039),
        ([(1100, True, -1, 1.198874027186882), (1300, True, 1, 1.08318941550987648)],
         -200.0, -200.0),
        ([(1900, True, 1, 1.179993832279113216), (1700, True, -1, 1.116354471205355648)],
         -173.104014466582446, -135.604014466582446),
    ],
)  # fmt: skip
def test_derives_standard_manager_answers_its_own_cases(
    options: list[tuple[float, bool, float, float]], initial: float, maintenance: float
) -> None:
    """`StandardManager/test-cases.json`, Test1 to Test6."""
    found = standard(*options)
    assert found["IM"] == pytest.approx(initial, rel=1e-9, abs=1e-9)
    assert found["MM"] == pytest.approx(maintenance, rel=1e-9, abs=1e-9)


def test_a_put_deep_in_the_money_asks_a_multiple_of_maintenance_with_its_mark() -> None:
    found = standard((4_000.0, False, -1.0, 0.5))
    assert found["MM"] == pytest.approx(-1.075 * (4_000.0 - FORWARD), rel=1e-6)
    assert found["IM"] == pytest.approx(1.05 * found["MM"])


def test_the_standard_manager_charges_perpetuals_doubt_coins_and_a_lost_peg() -> None:
    """Test17 of the file, and the terms of initial margin by hand."""
    perp = standard(perp=1.0, perp_unrealised=-20.0)
    assert (perp["IM"], perp["MM"]) == pytest.approx((-117.825, -95.25))
    short = (1500.0, True, -1.0, 1.04788449408498624)
    plain, doubted = standard(short), standard(short, spot_conf=0.3)
    assert doubted["MM"] == plain["MM"]
    assert plain["IM"] - doubted["IM"] == pytest.approx(0.7 * 0.4 * SPOT)
    depegged = standard(short, stable=0.88)
    assert plain["IM"] - depegged["IM"] == pytest.approx(0.1 * 1.2 * SPOT)
    assert standard(short, stable=0.99) == plain
    hedged, lost = standard(short, perp=-2.0), standard(short, perp=-2.0, stable=0.88)
    assert hedged["IM"] - lost["IM"] == pytest.approx(0.1 * 1.2 * SPOT * 3.0)
    assert hedged["MM"] == pytest.approx(lost["MM"])
    assert standard(base=2.0)["IM"] == pytest.approx(0.1 * 2.0 * SPOT)
    # The least of the confidences of coin and of perpetual counts.
    thin = standard(perp=-2.0, perp_conf=0.2, spot_conf=0.3, base=1.0)
    sure = standard(perp=-2.0, base=1.0)
    assert sure["IM"] - thin["IM"] == pytest.approx((2.0 * 0.8 + 0.7) * 0.4 * SPOT)


@pytest.mark.parametrize(
    ("index", "strike", "mark", "call", "initial", "maintenance"),
    [
        (10_000.0, 9_000.0, 0.025, True, 1_750.0, 1_000.0),
        (10_000.0, 11_000.0, 0.01, True, 1_100.0, 850.0),
        (10_000.0, 9_800.0, 0.02, False, 1_500.0, 950.0),
        # Maintenance of a put dearer than its underlying exceeds the formula of initial margin.
        (10_000.0, 40_000.0, 3.0, False, 32_250.0, 32_250.0),
    ],
)
def test_deribits_short_options_ask_its_formula_and_their_mark(
    index: float, strike: float, mark: float, call: bool, initial: float, maintenance: float
) -> None:
    found = answer(
        MARGIN, "Deribit standard margin", "static_option_formula",
        {"underlying": index, "strike": strike, "mark": mark, "call": call},
    )  # fmt: skip
    assert found == pytest.approx({"IM": initial, "MM": maintenance})


def test_an_option_dearer_than_its_underlying_asks_bybit_a_share_of_its_value() -> None:
    for mark, asked in ((250.0, 7.5 + 250.0 + 0.2), (5.0, 3.0 + 5.0 + 0.2)):
        inputs = {"index": 100.0, "mark": mark, "f": 0.03, "liq_fee": 0.002, "qty": -2.0}
        found = answer(MARGIN, "Bybit", "static_option_formula", inputs)
        assert found["MM"] == pytest.approx(2.0 * asked)


def naked(preset: str = "preset:opyn-naked", **leg: Any) -> Ask:
    account = Portfolio.model_validate(
        {
            "assets": {"ETH": {"index": 150.0}},
            "positions": [{"asset": "ETH", "kind": "option", "quantity": -1.0, "iv": 0.9, **leg}],
        }
    )
    return ask_policy(policy(preset), account)


def test_opyns_bound_grows_with_time_and_ends_in_full_collateral() -> None:
    """`marginCalculatorNakedMargin.test.ts`: u * min(K, s S) + max(K - s S, 0)."""
    held = []
    for days, share in ((5, 0.1678), (7, 0.1678), (8, 0.237), (56, 0.4603), (57, 1.0)):
        put = naked(strike=120.0, expires_in=f"{days}d")
        held.append(put.initial_usd - put.equity_usd)
        assert held[-1] == pytest.approx(share * 112.5 + 7.5)
        assert put.maintenance_usd == put.initial_usd
        call = naked(strike=120.0, call=True, expires_in=f"{days}d")
        assert call.initial_usd - call.equity_usd == pytest.approx(share * 90.0 + 60.0)
    assert held == sorted(held)
    assert held[-1] == pytest.approx(120.0)
    # What the option is worth beyond the bound is asked for nowhere else, and never paid out.
    assert naked(strike=120.0, expires_in="1d", value=110.0).initial_usd == 0.0


def literal(constants: np.ndarray, market: Market, holdings: Holdings, account: int) -> list[float]:
    """Read the venues' formulas slowly: net margins with the mark inside, as they print them."""
    initial, floor, call, put, call_mark, put_mark, fee, offset = constants[:8]
    scales = constants[9:11]
    expiries = defaultdict(list)
    first = holdings.start[account]
    for slot in range(first, first + holdings.count[account]):
        i = holdings.instrument[slot]
        if market.kind[i] == OPTION:
            key = market.asset[i], market.years[i], market.inverse[i]
            expiries[key].append((i, holdings.quantity[slot]))
    asked = [0.0, 0.0]
    for legs in expiries.values():
        value = sum(q * market.value_usd[i] for i, q in legs)
        isolated = [0.0, 0.0]
        for i, q in legs:
            spot, size = market.index[market.asset[i]], market.contract_size[i]
            mark, strike = market.value_usd[i], market.strike[i]
            if q > 0.0:
                continue
            if market.is_call[i]:
                kept = max(call * spot * size, call_mark * mark) + mark + fee * spot * size
                otm = max(strike - spot, 0.0)
            else:
                kept = max(put * spot * size, put_mark * mark) + mark + fee * spot * size
                otm = max(spot - strike, 0.0)
            opened = max(initial - otm / spot, floor) * spot * size + mark
            opened = max(opened, kept if market.is_call[i] else offset * kept)
            isolated = [isolated[0] + q * opened, isolated[1] + q * kept]

        def payoff(price: float, legs: list[tuple[int, float]] = legs) -> float:
            return sum(
                q * market.contract_size[i]
                * max((1 if market.is_call[i] else -1) * (price - market.strike[i]), 0.0)
                for i, q in legs
            )  # fmt: skip

        least = min(0.0, *(payoff(x) for x in (0.0, *(market.strike[i] for i, _ in legs))))
        calls = sum(
            q * market.contract_size[i] * market.forward[i] for i, q in legs if market.is_call[i]
        )
        for kind, scale in enumerate(scales):
            lost = least + min(calls, 0.0) * scale
            net = max(isolated[kind], lost) if constants[8] else isolated[kind]
            asked[kind] += max(value - net, 0.0)
    return asked


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([DERIBIT, DERIVE, BYBIT]))
def test_the_kernel_asks_what_a_literal_reading_of_the_formulas_asks(
    seed: int, constants: np.ndarray
) -> None:
    market = make_market(seed, options=16)
    holdings = random_holdings(market, seed, legs=14)
    found = ask(short_options, NOTHING, constants, market, holdings)
    for account in range(len(holdings.start)):
        wanted = literal(constants, market, holdings, account)
        assert found.initial[account] == pytest.approx(wanted[0], rel=1e-11, abs=1e-9)
        assert found.maintenance[account] == pytest.approx(wanted[1], rel=1e-11, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(SEEDS, LAWS, st.integers(1, 3), st.integers(0, 80))
def test_compiled_and_plain_short_options_have_equal_bits(
    seed: int, constants: np.ndarray, assets: int, legs: int
) -> None:
    market = make_market(seed, assets=assets)
    if seed % 4 == 0:  # what is undefined is undefined in both
        market.value_usd[seed % len(market.kind)] = math.nan
    holdings = random_holdings(market, seed, legs=legs)
    compiled = ask(short_options, NOTHING, constants, market, holdings)
    assert equal_bits(
        compiled, ask(short_options, NOTHING, constants, market, holdings, plain=True)
    )


@settings(max_examples=60, deadline=None)
@given(SEEDS, LAWS)
def test_initial_margin_of_options_covers_maintenance_and_neither_is_negative(
    seed: int, constants: np.ndarray
) -> None:
    market = make_market(seed)
    asked = ask(short_options, NOTHING, constants, market, random_holdings(market, seed, legs=10))
    assert np.isfinite(asked.initial).all()
    assert (asked.initial >= asked.maintenance).all()
    assert (asked.maintenance >= 0.0).all()


def options_of(market: Market, asset: int = 0) -> list[int]:
    """List the dollar-settled options of an asset, made one expiry by their time."""
    legs = [
        int(i)
        for i in np.flatnonzero((market.kind == OPTION) & (market.asset == asset))
        if not market.inverse[i]
    ]
    market.years[legs], market.sigma[legs] = 0.1, 0.7
    market.forward[legs] = 1.01 * market.index[asset]
    revalue(market)
    return legs


def initial(constants: np.ndarray, market: Market, *legs: tuple[int, float]) -> float:
    return float(ask(short_options, NOTHING, constants, market, one_account(*legs)).initial[0])


@settings(max_examples=100, deadline=None)
@given(SEEDS, LAWS, st.lists(st.floats(-5.0, 5.0), min_size=5, max_size=5))
def test_another_long_option_asks_for_no_more_than_its_value(
    seed: int, constants: np.ndarray, quantities: list[float]
) -> None:
    market = make_market(seed)
    *held, added = options_of(market)
    legs = list(zip(held, quantities, strict=True))
    calls = sum(q for i, q in legs if market.is_call[i])
    if calls < 0.0 and market.strike[added] > market.strike[held].max():
        return  # the venue's own rule counts that strike's payoff beside the unpaired calls
    before = initial(constants, market, *legs)
    for quantity in (0.1, 1.0, 10.0):
        after = initial(constants, market, *legs, (added, quantity))
        assert after <= before + quantity * market.value_usd[added] + 1e-9 * (1.0 + before)


@settings(max_examples=60, deadline=None)
@given(SEEDS, LAWS, st.lists(st.floats(-5.0, 0.0), min_size=6, max_size=6), st.integers(0, 5))
def test_more_options_sold_never_ask_for_less(
    seed: int, constants: np.ndarray, quantities: list[float], place: int
) -> None:
    market = make_market(seed)
    legs = list(zip(options_of(market), quantities, strict=True))
    more = [(i, q - (k == place)) for k, (i, q) in enumerate(legs)]
    before = initial(constants, market, *legs)
    assert initial(constants, market, *more) >= before - 1e-9 * before


@settings(max_examples=40, deadline=None)
@given(SEEDS, LAWS)
def test_twice_the_options_ask_for_twice_the_margin(seed: int, constants: np.ndarray) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, legs=10)
    once = ask(short_options, NOTHING, constants, market, holdings)
    holdings.quantity[:] *= 2.0
    twice = ask(short_options, NOTHING, constants, market, holdings)
    assert np.array_equal(twice.initial, 2.0 * once.initial)
    assert np.array_equal(twice.maintenance, 2.0 * once.maintenance)


@settings(max_examples=40, deadline=None)
@given(SEEDS, LAWS)
def test_parts_of_an_options_margin_add_up_to_it(seed: int, constants: np.ndarray) -> None:
    market = make_market(seed)
    holdings = random_holdings(market, seed, legs=14)
    asked = ask(short_options, NOTHING, constants, market, holdings)
    numbers = given_numbers(short_options, NOTHING, constants, market)
    assert short_options.explain is not None
    for account in range(len(holdings.start)):
        told = short_options.explain(numbers, market, holdings, account)
        assert sum(told.initial.values()) == pytest.approx(asked.initial[account], rel=1e-9)
        assert sum(told.maintenance.values()) == pytest.approx(asked.maintenance[account], rel=1e-9)


def listed(market: Market, instruments: list[int], **columns: Any) -> Market:
    """List some instruments on other terms, and value them again."""
    table = {name: getattr(market, name).copy() for name in columns}
    for name, terms in columns.items():
        table[name][instruments] = terms
        table[name].flags.writeable = False
    changed = market._replace(**table)
    revalue(changed)
    return changed


def test_a_largest_loss_takes_over_where_it_is_less() -> None:
    market = make_market()
    legs = sorted(
        (i for i in options_of(market) if market.is_call[i]), key=lambda i: market.strike[i]
    )
    market = listed(market, legs, contract_size=1.0)
    bought, sold = legs[0], legs[1]
    # A spread that was paid for can lose no more than it is worth; one sold, its width beyond.
    worth = float(market.value_usd[bought] - market.value_usd[sold])
    width = float(market.strike[sold] - market.strike[bought])
    assert initial(DERIVE, market, (bought, 1.0), (sold, -1.0)) == pytest.approx(worth)
    short = initial(DERIVE, market, (bought, -1.0), (sold, 1.0))
    alone = initial(DERIVE, market, (bought, -1.0)) + float(market.value_usd[sold])
    assert short == pytest.approx(min(width - worth, alone))
    # Without it longs and shorts are strangers; a contract and its opposite too.
    apart = float(market.value_usd[bought]) + initial(DERIBIT, market, (sold, -1.0))
    assert initial(DERIBIT, market, (bought, 1.0), (sold, -1.0)) == pytest.approx(apart)
    assert initial(DERIVE, market, (sold, 1.0), (sold, -1.0)) == 0.0


def test_options_of_other_settlement_expiry_or_asset_are_charged_apart() -> None:
    market = make_market()
    one, other, *_ = options_of(market)
    terms = {"is_call": 1, "strike": market.strike[one], "contract_size": 1.0}
    market = listed(market, [one, other], **terms)
    pair = (one, -1.0), (other, 1.0)
    short, value = initial(DERIVE, market, pair[0]), float(market.value_usd[other])
    assert initial(DERIVE, market, *pair) == pytest.approx(0.0, abs=1e-9)
    in_coins = listed(market, [other], inverse=1)
    worth = float(in_coins.value_usd[other])
    assert initial(DERIVE, in_coins, *pair) == pytest.approx(short + worth)
    elsewhere = listed(market, [other], asset=1)
    worth = float(elsewhere.value_usd[other])
    assert initial(DERIVE, elsewhere, *pair) == pytest.approx(short + worth)
    market.years[other] = 0.2
    assert initial(DERIVE, market, *pair) == pytest.approx(short + value)


def test_perpetuals_and_futures_ask_nothing_of_an_options_formula() -> None:
    market = make_market()
    perpetuals = np.flatnonzero(market.kind != OPTION)
    assert initial(DERIVE, market, *((int(i), -3.0) for i in perpetuals)) == 0.0


@pytest.mark.parametrize("field", ["value_usd", "index", "notional_usd"])
@pytest.mark.parametrize("constants", [DERIBIT, DERIVE, BYBIT, OPYN])
def test_an_undefined_market_gives_an_undefined_margin(field: str, constants: np.ndarray) -> None:
    market = make_market()
    first, second, *_ = options_of(market)
    getattr(market, field)[:] = math.nan
    for quantity in (-1.0, 1.0):
        if quantity > 0.0 and field != "value_usd":
            continue  # a long option asks for its value, whatever the index
        assert math.isnan(initial(constants, market, (first, quantity)))
    assert math.isnan(initial(constants, market, (first, -1.0), (second, 1.0)))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"unpaired_initial": 1.0},
            "unpaired_initial: 1 of the forward is below unpaired_maintenance, 1.1",
        ),
        (
            {"upper_bounds": [{"within": "7d", "share": 0.2}, {"within": "3d", "share": 0.3}]},
            "0.3 within 3 days stands after 0.2 within 7 days",
        ),
        ({"initial": "500%"}, "500% is above"),
    ],
)
def test_a_formula_that_contradicts_itself_is_refused(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        policy("fixed", addons=[{"short_options": fields}])


@pytest.mark.parametrize("name", ["derive-standard", "deribit-standard", "opyn-naked"])
def test_presets_of_option_venues_margin_any_market(name: str) -> None:
    chosen = policy(f"preset:{name}")
    assets = {"BTC": {"index": 60_000.0}, "ETH": {"index": 2_500.0}, "DOGE": {"index": 0.1}}
    legs: list[dict[str, Any]] = []
    for asset, state in assets.items():
        strike = 1.1 * state["index"]
        option = {"kind": "option", "strike": strike, "iv": 0.8, "expires_in": "20d"}
        future = {"kind": "future", "expires_in": "20d"}
        legs += [
            {**option, "call": call, "settles_in": settles_in, "asset": asset}
            for call in (False, True)
            for settles_in in ("usd", "coin")
        ]
        legs.append({"asset": asset})
        legs.append({**future, "asset": asset})
        legs.append({"asset": asset, "settles_in": "coin", "contract_size": state["index"]})
    for size in (-1.0, 1.0):
        account = {"assets": assets, "positions": [{**leg, "quantity": size} for leg in legs]}
        asked = ask_policy(chosen, Portfolio.model_validate(account))
        assert asked.initial_usd >= asked.maintenance_usd > 0.0
        assert sum(part[2] for part in asked.parts) == pytest.approx(asked.initial_usd)
