"""Each family of published cases, at numbers that documents print and at the edges of its law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.vector_adapters import MARGIN, RISK, NotCoveredError, answer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "vectors.md"

ADA = [[0, 0.025], [1e5, 0.05], [5e5, 0.1], [1e6, 0.15], [2e6, 0.25], [5e6, 0.5]]
AUCTION = {
    "mm": -100.0, "mtm": 300.0, "elapsed": 0, "buffer": 0.1, "start_pct": 1.0, "cut_pct": 0.8,
    "fast_len": 600, "slow_len": 7200,
}  # fmt: skip


def ask(system: str, engine: str, **inputs: Any) -> dict[str, Any]:
    return answer(MARGIN, system, engine, inputs)


def test_paradex_liquidates_in_fifths_and_charges_half_of_the_released_margin() -> None:
    """docs.paradex.trade/risk/liquidations, the account of Alice."""
    alice = {
        "collateral": 1000.0,
        "mmf": 0.01,
        "liq_fee": 0.5,
        "positions": [
            {"q": 0.1, "entry": 60_000.0, "mark": 54_800.0},
            {"q": -1.0, "entry": 3_000.0, "mark": 3_400.0},
        ],
    }
    found = ask("Paradex", "partial_liquidation", **alice)
    assert found == pytest.approx(
        {
            "account_value": 80.0, "mmr": 88.8, "share": 0.4, "penalty": 17.76,
            "new_value": 62.24, "new_ratio": 0.85604113110, "collateral_left": 614.24,
        }
    )  # fmt: skip
    healthy = ask("Paradex", "partial_liquidation", **{**alice, "collateral": 2_000.0})
    assert (healthy["share"], healthy["penalty"], healthy["new_value"]) == (0.0, 0.0, 1_080.0)
    broke = ask("Paradex", "partial_liquidation", **{**alice, "collateral": 900.0})
    assert (broke["share"], broke["penalty"], broke["collateral_left"]) == (1.0, 0.0, -20.0)


def test_derives_auction_passes_from_value_to_pay() -> None:
    """`SolventAuction.t.sol`: half way a bid of 270 takes 34.1 % for 92 dollars."""
    half_way = ask("Derive DutchAuction", "liquidation_auction", **{**AUCTION, "elapsed": 300})
    assert half_way["bid_price"] == pytest.approx(270.0)
    assert int(1_000 * half_way["max_fraction"]) == 341
    assert int(half_way["cash_at_max"]) == 92
    later = ask("Derive DutchAuction", "liquidation_auction", **{**AUCTION, "reserved": 50.0})
    assert later["bid_price"] == 250.0
    ended = ask("Derive DutchAuction", "liquidation_auction", **{**AUCTION, "elapsed": 7_800})
    assert (ended["bid_price"], ended["max_fraction"]) == (0.0, 1.0)
    # Margin beyond the buffer leaves nothing to sell.
    safe = ask("Derive DutchAuction", "liquidation_auction", **{**AUCTION, "mm": 100.0})
    assert safe["max_fraction"] == 0.0
    insolvent = {**AUCTION, "mtm": -100.0, "mm": -300.0, "elapsed": 300}
    pay = ask("Derive DutchAuction", "liquidation_auction", **insolvent)
    assert (pay["bid_price"], pay["max_fraction"]) == (-200.0, 1.0)
    with pytest.raises(NotCoveredError, match="has ended"):
        ask("Derive DutchAuction", "liquidation_auction", **{**AUCTION, "reserved": 301.0})


def test_drifts_sizes_cover_the_shortage() -> None:
    """`math/liquidation/tests.rs`."""
    perp = {
        "kind": "cover", "shortage": 10.0, "price": 100.0, "quote_price": 1.0, "ratio": 0.1,
        "liq_fee": 0.01, "if_fee": 0.01,
    }  # fmt: skip
    assert ask("Drift v2", "partial_liquidation", **perp)["base"] == pytest.approx(1.25)
    spot = {
        "kind": "spot_cover", "shortage": 10.0, "price": 100.0, "wl": 1.2, "wa": 0.8, "ma": 1.1,
        "ml": 0.9, "if_fee": 0.0,
    }  # fmt: skip
    found = ask("Drift v2", "partial_liquidation", **spot)["liability"]
    assert found == pytest.approx(0.44998425, rel=1e-4)


def test_the_network_sheds_shorts_as_it_sheds_longs() -> None:
    book = {"fraction": 0.5, "full": 50.0, "book": 10_000.0, "max_frac": 0.01}
    long = ask("Vega protocol", "network_disposal", qty=280.0, **book)
    short = ask("Vega protocol", "network_disposal", qty=-280.0, **book)
    assert long == short == {"trades": [100.0, 90.0, 45.0, 45.0]}
    assert ask("Vega protocol", "network_disposal", qty=0.0, **book) == {"trades": []}
    with pytest.raises(NotCoveredError, match="never"):
        ask("Vega protocol", "network_disposal", qty=1.0, **{**book, "book": 0.0})


@pytest.mark.parametrize(
    ("notional", "margin", "deduction"),
    [(0.0, 0.0, 0.0), (1e5, 2_500.0, 0.0), (3e5, 12_500.0, 2_500.0), (-3e5, 12_500.0, 2_500.0),
     (1.5e6, 147_500.0, 77_500.0), (6e6, 1_472_500.0, 1_527_500.0)],
)  # fmt: skip
def test_tiers_hold_at_their_edges_and_beyond(
    notional: float, margin: float, deduction: float
) -> None:
    """Binance's ADAUSDT tiers and their cumulative amounts."""
    for venue in ("Binance USD-M", "Bybit", "Hyperliquid"):
        found = ask(venue, "tiered_maintenance", notional=notional, tiers=ADA)
        assert found["MM"] == pytest.approx(margin, rel=1e-12)
        assert found["deduction"] == pytest.approx(deduction, rel=1e-12)
        assert deduction or found["deduction"] == 0.0


def test_liquidation_prices_of_long_and_short_meet_their_venues() -> None:
    long = {
        "wallet": 1_535_443.01, "mm_other": 0.0, "upnl_other": 0.0, "cum": 135_365.0, "side": 1,
        "qty": 3_683.979, "entry": 1_456.84, "mmr": 0.1,
    }  # fmt: skip
    found = ask("Binance USD-M", "tiered_maintenance", **long)["liq_price"]
    assert found == pytest.approx(1_114.78, abs=0.01)
    # A loss elsewhere is as good as a smaller wallet.
    poorer = {**long, "wallet": 1_545_443.01, "mm_other": 4_000.0, "upnl_other": -6_000.0}
    assert ask("Binance USD-M", "tiered_maintenance", **poorer)["liq_price"] == found
    short = {
        "asset": "ETH", "max_leverage": 50, "side": "short", "entry": 2_642.8, "size": 0.019,
        "collateral": 25.091876,
    }  # fmt: skip
    price = ask("Hyperliquid", "liquidation_price", **short)["liq_price"]
    assert price == pytest.approx(3_924.18322043, rel=1e-9)


def test_dydx_prices_come_from_the_whole_account() -> None:
    """`liquidations_test.go`: other positions add equity and margin."""
    alone = {
        "quote": -4_501.0, "positions": [{"q": 0.1, "price": 50_000.0, "mmf": 0.1}],
        "which": 0, "ba": 1.0, "smmr": 0.1,
    }  # fmt: skip
    found = ask("dYdX v4 liquidation price", "liquidation_fillable_price", **alone)
    assert found == pytest.approx({"fillable_price": 49_999.0, "bankruptcy_quote": 4_501.0})
    short = {**alone, "quote": 5_499.0, "positions": [{"q": -0.1, "price": 50_000.0, "mmf": 0.1}]}
    found = ask("dYdX v4 liquidation price", "liquidation_fillable_price", **short)
    assert found == pytest.approx({"fillable_price": 50_001.0, "bankruptcy_quote": -5_499.0})
    with pytest.raises(NotCoveredError, match="no position 3"):
        ask("dYdX v4 liquidation price", "liquidation_fillable_price", **{**alone, "which": 3})


def test_a_deleveraged_loser_is_left_with_nothing_of_what_was_closed() -> None:
    trade = {
        "open": 100.0, "mark": 80.0, "loser": {"deposit": 100.0, "qty": 10.0},
        "winner": {"deposit": 500.0, "qty": -10.0},
    }  # fmt: skip
    found = ask("dYdX v4 deleveraging", "adl_at_bankruptcy_price", **trade)
    assert found == pytest.approx(
        {"bankruptcy_price": 90.0, "loser_equity": -100.0, "loser_left": 0.0, "winner_pnl": 100.0}
    )
    half = {**trade, "winner": {"deposit": 500.0, "qty": -5.0}}
    found = ask("dYdX v4 deleveraging", "adl_at_bankruptcy_price", **half)
    assert (found["loser_left"], found["winner_pnl"]) == pytest.approx((-50.0, 50.0))
    with pytest.raises(NotCoveredError, match="opposite"):
        ask(
            "dYdX v4 deleveraging", "adl_at_bankruptcy_price",
            **{**trade, "winner": {"deposit": 1.0, "qty": 1.0}},
        )  # fmt: skip


def test_gains_are_paid_in_the_proportion_that_was_collected() -> None:
    found = ask(
        "Vega protocol", "socialised_loss_pro_rata",
        gains=[30.0, 70.0, 0.0], collected=80.0, target=100.0,
    )  # fmt: skip
    assert found["paid"] == pytest.approx([24.0, 56.0, 0.0])
    full = ask(
        "Vega protocol", "socialised_loss_pro_rata", gains=[30.0], collected=80.0, target=30.0
    )
    assert full["paid"] == [30.0]


def test_triggers_compare_as_their_venues_do() -> None:
    pool = {"oi_tokens": 400.0, "entry": 5_000.0, "price": 10_000.0, "pool_usd": 4e6}
    paid = ask("GMX v2", "adl_pool_factor", **pool, max_factor=0.45)
    assert paid == {"pnl_to_pool": 0.5, "adl": True, "paid_pnl": 1.8e6}
    assert not ask("GMX v2", "adl_pool_factor", **pool, max_factor=0.5)["adl"]
    fund = ask("OKX", "adl_trigger", avg8h=400_000.0, fund=200_000.0)
    assert fund == {"threshold": pytest.approx(280_000.0), "adl": True}
    assert not ask("OKX", "adl_trigger", avg8h=400_000.0, fund=300_000.0)["adl"]


def test_open_orders_ask_for_the_worse_of_all_bids_and_all_asks() -> None:
    """docs.paradex.trade/risk/cross-margin-requirement: 3 coins short at most."""
    order = {"pos": -1.0, "buys": 3.0, "sells": 2.0, "imf": 0.02, "mark": 90_000.0}
    assert ask("Paradex", "open_order_margin", **order)["net_imr"] == pytest.approx(5_400.0)
    for held, buys, sells, size in [
        (5, 0, 3, 5), (-5, 3, 0, 5), (2, 3, 9, 7), (0, 0, 0, 0), (1, 2, 1, 3)
    ]:  # fmt: skip
        changed = {**order, "pos": held, "buys": buys, "sells": sells}
        stated = max(max(0.0, buys + held), max(0.0, sells - held))
        assert stated == size
        found = ask("Paradex", "open_order_margin", **changed)["net_imr"]
        assert found == pytest.approx(0.02 * 90_000.0 * size)


@pytest.mark.parametrize(
    ("perp", "tokens", "health"),
    [
        ([-1, 100, 0, 0], {}, 30.4),
        ([1, -100, 0, 0], {}, -72.0),
        ([30, -100, 0, 0], {}, 836.0),
        ([1, 100, 0, 0], {"1": -100.0}, 26.4),
        ([-1, -100, 0, 0], {"1": 100.0}, -72.0),
        # All bids filled: 10 lots long for 131 and 350; all asks filled would be worth more.
        ([3, -131, 7, 11], {"1": 100.0}, 0.8 * (100.0 + 10 * 50 * 0.8 - 131.0 - 7 * 50)),
    ],
)
def test_mangos_health_settles_the_perpetual_in_its_first_coin(
    perp: list[int], tokens: dict[str, float], health: float
) -> None:
    """`health/cache.rs`, `test_health1`: cases 2, 3, 5, 12, 13, and one with resting orders."""
    found = ask(
        "Mango v4 health", "weighted_health", tokens=tokens, perp=perp,
        prices={"1": 1.0, "2": 5.0, "3": 10.0},
        init_asset_weights={"1": 0.8, "2": 0.5, "3": 0.5},
        init_liab_weights={"1": 1.2, "2": 1.5, "3": 1.5},
        perp_base_weights=[0.8, 1.2], perp_overall_asset_weight=0.95, perp_lot_quote=50.0,
    )  # fmt: skip
    assert found["init_health"] == pytest.approx(health)


def test_coins_held_or_owed_by_everybody_weigh_less_and_more() -> None:
    """`health/cache.rs`, `test_health1`: cases 10 and 11."""
    shared = {
        "prices": {"1": 1.0, "2": 5.0, "3": 10.0},
        "init_asset_weights": {"1": 0.8, "2": 0.5, "3": 0.5},
        "init_liab_weights": {"1": 1.2, "2": 1.5, "3": 1.5},
        "perp_base_weights": [0.8, 1.2], "perp_overall_asset_weight": 0.95, "perp_lot_quote": 50.0,
    }  # fmt: skip
    totals = {"1": (100, 1_000), "2": (1_500, 5_000), "3": (10_000, 10_000)}
    for name, sign, wanted in (
        ("deposits", 1.0, 80.0 + 250.0 * 5_000 / 7_500 + 500.0 / 10),
        ("borrows", -1.0, -120.0 - 750.0 * 7_500 / 5_000 - 1_500.0 * 10),
    ):
        scale = {coin: {name: held, "start_quote": start} for coin, (held, start) in totals.items()}
        tokens = dict.fromkeys(totals, sign * 100.0)
        found = ask("Mango v4 health", "weighted_health", tokens=tokens, scale=scale, **shared)
        assert found["init_health"] == pytest.approx(wanted)


def test_synthetix_charges_skew_and_reserves_the_reward() -> None:
    """`Account/Margins.test.ts`, two positions."""
    found = ask(
        "Synthetix perps v3", "skew_scaled_margin", collateral=100_000.0,
        positions=[
            {"size": -2.0, "min_margin": 1000.0, "skew_scale": 100.0, "imr": 2.0,
             "min_imr": 0.01, "mm_scalar": 0.5, "reward": 0.05, "price": 30_000.0},
            {"size": 20.0, "min_margin": 500.0, "skew_scale": 1000.0, "imr": 2.0,
             "min_imr": 0.01, "mm_scalar": 0.5, "reward": 0.05, "price": 2_000.0},
        ],
    )  # fmt: skip
    assert found == pytest.approx(
        {"IM": 6_500.0, "MM": 4_000.0, "reward": 5_000.0, "available": 99_000.0,
         "withdrawable": 87_500.0}
    )  # fmt: skip


def test_the_printed_option_margins_are_reproduced() -> None:
    deribit = {"underlying": 10_000.0, "strike": 9_000.0, "mark": 0.025, "call": True}
    found = ask("Deribit standard margin", "static_option_formula", **deribit)
    assert found == pytest.approx({"IM": 1_750.0, "MM": 1_000.0})
    far = {**deribit, "strike": 11_000.0, "mark": 0.01}
    found = ask("Deribit standard margin", "static_option_formula", **far)
    assert found == pytest.approx({"IM": 1_100.0, "MM": 850.0})
    put = {**deribit, "strike": 30_000.0, "mark": 2.0, "call": False}
    found = ask("Deribit standard margin", "static_option_formula", **put)
    assert found == pytest.approx({"IM": 21_500.0, "MM": 21_500.0})
    bybit = {"index": 20_000.0, "mark": 500.0, "f": 0.03, "liq_fee": 0.002}
    for quantity in (2, -2):
        found = ask("Bybit", "static_option_formula", **bybit, qty=quantity)
        assert found["MM"] == pytest.approx(2 * (600.0 + 500.0 + 40.0))
    opyn = {"strike": 100.0, "spot_shock": 0.75, "upper_bound": 0.1678, "amount": 1}
    for put_, spot, margin in ((True, 150.0, 16.78), (True, 100.0, 37.585), (False, 150.0, 0.5839)):
        found = ask(
            "Opyn Gamma naked margin", "static_option_upper_bound", put=put_, spot=spot, **opyn
        )
        assert found["margin"] == pytest.approx(margin)


def test_rates_scale_with_open_interest_size_and_hedges() -> None:
    tier = {"base_imf": 0.2, "lower": 1e6, "upper": 2e6}
    engine = ("dYdX v4 liquidity tier", "open_interest_scaled_imf")
    for interest, rate in ((0.0, 0.2), (1e6, 0.2), (1.5e6, 0.6), (3e6, 1.0)):
        assert ask(*engine, **tier, oi=interest)["imf"] == pytest.approx(rate)
    never = {"base_imf": 0.2, "lower": 0.0, "upper": 0.0, "oi": 1e9}
    assert ask(*engine, **never)["imf"] == 0.2
    sudden = {"base_imf": 0.2, "lower": 1e6, "upper": 1e6}
    assert ask(*engine, **sudden, oi=1e6)["imf"] == 0.2
    assert ask(*engine, **sudden, oi=1e6 + 1.0)["imf"] == 1.0
    assert "im" not in ask(*engine, **tier, oi=0.0)
    linear = ask(
        "Deribit standard margin", "size_scaled_static",
        size=-25, price=100_000.0, im0=0.02, mm0=0.01, slope=5e-05,
    )  # fmt: skip
    assert linear == pytest.approx({"IM": 53_125.0, "MM": 28_125.0})
    legs = [{"q": 3.0, "delta": 1.0}, {"q": -2.0, "delta": 0.5}]
    floor = ask(
        "Paradex", "portfolio_margin_greeks_floor",
        net_w=0.02, hedged_w=0.01, spot=100.0, positions=legs,
    )  # fmt: skip
    assert floor["margin"] == pytest.approx((0.02 * 2.0 + 0.01 * 1.0) * 100.0)


def test_vegas_risk_factors_are_reproduced_with_the_digits_of_the_tail() -> None:
    """Vega integration features: lambda 1e-6, tau 0.1, sigma 1."""
    factors = {"lambda": 1e-06, "tau": 0.1, "mu": 0.0, "sigma": 1.0}
    found = answer(MARGIN, "Vega protocol", "expected_shortfall", factors)
    assert found["rf_long"] == pytest.approx(0.8007282079844139, rel=1e-9)
    assert found["rf_short"] == pytest.approx(3.556903591579342, rel=1e-9)
    margin = ask(
        "Vega protocol", "expected_shortfall_plus_slippage",
        mark=100.0, slippage=0.1, rf=0.2, qty=-3,
    )  # fmt: skip
    assert margin["MM"] == pytest.approx(90.0)


def test_deribits_risk_matrix_adds_roll_and_orders() -> None:
    """Deribit's own portfolio margin example: 0.31335 BTC net, 16 % range, four buckets."""
    found = ask(
        "Deribit S:PM extended risk matrix", "scenario_grid_portfolio_margin",
        settlement="BTC (inverse)", price_range=0.16, buckets=4, pnl_offset=0.0, mm_factor=0.8,
        min_annualised_move=0.01, annualised_move_risk=0.075, mmp_margin=0.06,
        open_orders_margin=1.8212e-05, index=65_666.19,
        positions={"BTC-PERPETUAL": 0.314538364, "BTC-28JUN24": -0.001187534},
    )  # fmt: skip
    assert found["worst_case"] == pytest.approx(0.05968587238095239, rel=1e-12)
    assert found["roll_shock"] == pytest.approx(0.00315725898, rel=1e-9)
    assert found["initial_margin"] == pytest.approx(0.122861343, rel=1e-8)
    assert found["maintenance_margin"] == pytest.approx(0.050274504784, rel=1e-8)


def test_a_future_scans_to_its_range_and_its_extremes_count_in_part() -> None:
    future = {"qty": -3, "scan_range": 1_000.0, "extreme_mult": 3.0, "extreme_cover": 0.33}
    found = ask("CME SPAN", "span_scan", **future)
    assert found == {"scan_risk": pytest.approx(3_000.0), "scenario": 11}
    harsher = ask("CME SPAN", "span_scan", **{**future, "extreme_cover": 0.35})
    assert harsher == {"scan_risk": pytest.approx(3_150.0), "scenario": 15}
    short = {"qty": 1, "array_pnl": [1.0] * 15}
    for wrong, said in (([], "at least 1 item"), ([short], "at least 16 items")):
        with pytest.raises(NotCoveredError, match=said):
            ask("CME SPAN", "span_scan", positions=wrong)


def test_printed_risk_arrays_are_combined_scenario_by_scenario() -> None:
    gains, losses = [float(k) for k in range(16)], [-2.0 * k for k in range(16)]
    book = [{"qty": 2, "array_pnl": gains}, {"qty": 3, "array_pnl": losses}]
    assert ask("CME SPAN", "span_scan", positions=book) == {"scan_risk": 60.0, "scenario": 16}
    hedged = [{"qty": 2, "array_pnl": gains}, {"qty": 1, "array_pnl": losses}]
    assert ask("CME SPAN", "span_scan", positions=hedged) == {"scan_risk": 0.0, "scenario": 1}


def test_dederis_future_loses_at_the_lower_end_of_its_range() -> None:
    """wiki.dederi.io, portfolio margin: Alice's ten ETH futures, printed rounded."""
    future = {
        "qty": 10, "index": 2243.3, "annual_basis": 0.08, "days": 20, "shock": 0.15,
        "contingency": 0.006,
    }  # fmt: skip
    venue = ("Dederi portfolio margin (Deribit-like)", "scenario_grid_portfolio_margin")
    found = ask(*venue, **future)
    assert found["forward"] == pytest.approx(2253.2, abs=0.05)
    assert found["future_contingency"] == pytest.approx(134.6, abs=0.05)
    assert found["pnl_down_15"] == pytest.approx(-3380.0, abs=0.5)
    short = ask(*venue, **{**future, "qty": -10})
    assert short["pnl_down_15"] == -found["pnl_down_15"]
    assert short["future_contingency"] == found["future_contingency"]


def test_the_worked_book_of_five_is_reproduced() -> None:
    """arXiv 2512.01112: leverage, bankruptcy prices, funding and who is below 10 % at 1.4."""
    book = {
        "p0": 1.0,
        "positions": {
            "A": {"q": 1, "cash": 2, "side": 1},
            "C": {"q": 4, "cash": 8 / 3, "side": -1},
            "D": {"q": 1, "cash": 2 / 19, "side": 1},
        },
    }
    wanted = frozenset({"lev0", "lev_1_4", "p_bk"})
    found = answer(RISK, "waterfall", "", book, wanted)
    assert found["lev0"] == pytest.approx({"A": 0.5, "C": 1.5, "D": 9.5})
    assert found["lev_1_4"] == pytest.approx({"A": 0.7, "C": 2.1, "D": 13.3})
    assert found["p_bk"] == pytest.approx({"A": 0.0, "C": 5 / 3, "D": 17 / 19})


def test_limits_in_the_names_of_answers_are_read_from_them() -> None:
    pool = {"RF": [0.5, 0.2], "skew": 0.25, "drop": [0.8]}
    key = "past_bad_debt_at_90pct"
    found = answer(RISK, "oi_caps", "", pool, frozenset({"ratio", key}))
    assert found["ratio"] == [[pytest.approx(0.5)], [pytest.approx(0.2)]]
    assert found[key] == [True, False]


def test_gains_that_an_account_no_longer_has_are_not_taken() -> None:
    drained = {
        "cash": [-7.0, 0.0], "pnl": [8.0, 4.0], "deficit": 10.0, "severity": 1.0,
        "queue_order_1based": [1, 2],
    }  # fmt: skip
    found = answer(RISK, "adl", "", drained, frozenset())
    assert found["queue_seized"] == [1.0, 4.0]
    assert found["prorata_seized"] == [1.0, 4.0]
    assert min(found["queue_equity"] + found["prorata_equity"]) >= 0.0


def test_the_documentation_lists_every_rule_that_is_answered() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for system, engine in MARGIN:
        assert any(system in row and f"`{engine}`" in row for row in rows), (system, engine)
    for area, _ in RISK:
        assert any(row.startswith(f"| `{area}` |") for row in rows), area
