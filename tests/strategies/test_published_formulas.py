"""Venues' own test cases, through the formulas that state their rules."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.vector_adapters import MARGIN, answer
from tests.strategies.derive_literal import PortfolioExpiry, discounts
from tests.strategies.derive_options_literal import OptionLeg, naked_shorts, volatility_stretch

FORWARD = 1500.8332793109938176
FIRST = {
    "scenarios": [[x, d] for x in (1.15, 1.1, 1.05, 1.0, 0.95, 0.9, 0.85) for d in "UND"],
    "basis_up": 1.05, "basis_dn": 0.95, "basis_add": 0.25, "basis_mult": 0.01,
    "peg_threshold": 0.98, "peg_factor": 2.0, "conf_threshold": 0.6, "conf_margin": 0.5,
    "base_pct": 0.02, "perp_pct": 0.02, "opt_pct": 0.01, "im_factor": 1.3, "static_disc": 0.95,
    "rate_mult": 4.0, "rate_add": 0.05, "vol_up": 0.45, "vol_dn": 0.3, "short_pow": 0.3,
    "long_pow": 0.13, "dte_floor_days": 1,
}  # fmt: skip
TAILS = [[0.34, 0.054545454545454536], [0.67, 0.10909090909090907], [1.5, 0.072], [2.0, 0.036],
         [3.0, 0.018], [4.0, 0.011999999999999999]]  # fmt: skip
SECOND = {
    "scenarios": [
        [1.18, "Up", 1.0], [0.82, "Up", 1.0],
        *[[x, d, 1.0] for x in (1.135, 1.09, 1.045, 1.0, 0.955, 0.91, 0.865)
          for d in ("Down", "None", "Up")],
        *[[x, "Up", damping] for x, damping in TAILS], [1.0, "LINEAR", 1.0], [1.0, "ABS", 3.0],
    ],
    "im_loss_factor": 1.0, "mm_loss_factor": 0.8, "short_rate_mult": 0.5, "long_rate_mult": 1.0,
    "short_rate_add": 0.08, "long_rate_add": 0.08, "long_static_discount": 0.95,
    "short_static_discount": 1.04, "vol_up": 0.5, "vol_down": 0.275, "min_vol_up": 0.45,
    "short_power": 0.3, "long_power": 0.13, "dte_floor_days": 1.0, "basis_up": 1.045,
    "basis_down": 0.955, "basis_add": 0.5, "basis_mult": 2.0, "peg_threshold": 0.98,
    "peg_factor": 2.0, "conf_threshold": 0.55, "conf_margin": 1.0, "mm_perp": 0.015,
    "im_perp_extra": 0.005, "mm_option": 0.003, "im_option_extra": 0.002,
    "skew": {
        "linear_cap": 0.15, "linear_slope": -0.05, "abs_cap": 9.5, "abs_slope": -0.05,
        "min_k_star": 0.01, "width": 5.0, "vol_static": 4.5, "vol_scale": 1.0,
    },
}  # fmt: skip


def option(strike: float, call: bool, quantity: float, volatility: float) -> dict[str, Any]:
    return {"K": strike, "call": call, "qty": quantity, "vol": volatility}


def first(*options: dict[str, Any], **changes: Any) -> dict[str, Any]:
    expiry = {
        "sec": 500_400, "fwd_fixed": 0.0, "fwd_var": FORWARD, "rate": 0.03, "conf": 1.0,
        "options": [*options],
    }  # fmt: skip
    inputs = {
        "cash": 0.0, "spot": 1500.0, "spot_conf": 1.0, "stable": 1.0, "perp": 0.0,
        "perp_price": 1505.0, "perp_conf": 1.0, "cash_excluded_mtm_perp": 0.0, "base": 0.0,
        "expiries": [expiry] if options else [], "params": FIRST,
    }  # fmt: skip
    return answer(MARGIN, "Derive PMRM v1", "scenario_grid_portfolio_margin", inputs | changes)


@pytest.mark.parametrize(
    ("options", "confidence", "initial", "maintenance"),
    [
        ([(1500, True, -1, 1.04788449408498624)], 1.0, -368.48761976175558, -301.7685348603643),
        ([(1200, True, 1, 1.138939398828297472)], 1.0, 14.004464630197813, 81.3297422807588864),
        ([(500, True, 1, 1.653152366370104064), (900, True, -1, 1.32865746389711104)], 1.0,
         332.34423845885673472, 347.9430663305740288),
        ([(1500, True, 1, 1.04788449408498624)], 0.5, -398.511886412749864, 0.230453187667771392),
        ([(1500, True, 1, 1.04788449408498624)], 0.8, -23.511886412749873, 0.230453187667771392),
        ([(1500, True, -1, 1.0), (1500, False, 1, 1.0), (2500, True, 1, 1.3),
          (2500, False, -1, 1.3)], 1.0, -1000.0, -1000.0),
    ],
)  # fmt: skip
def test_the_first_form_of_portfolio_margin_answers_derives_own_cases(
    options: list[tuple[float, bool, float, float]],
    confidence: float,
    initial: float,
    maintenance: float,
) -> None:
    """`PMRM/testAndVerifyScenarios.json`, Test1 to Test4, Test6 and the short box of Test20."""
    found = first(*(option(*each) for each in options), spot_conf=confidence)
    assert found["IM"] == pytest.approx(initial, rel=1e-9, abs=1e-8)
    assert found["MM"] == pytest.approx(maintenance, rel=1e-9, abs=1e-8)


def test_a_perpetual_in_the_first_form_loses_at_its_own_price_and_pays_on_spot() -> None:
    found = first(perp=-2.0, cash_excluded_mtm_perp=7.0)
    worst = -2.0 * 1505.0 * 0.15 - 2.0 * 0.02 * 1500.0
    assert found["MM"] == pytest.approx(worst + 7.0)
    assert found["IM"] == pytest.approx(1.3 * worst + 7.0)
    depegged = first(perp=-2.0, stable=0.88)
    assert depegged["IM"] == pytest.approx((1.3 + 0.1 * 2.0) * worst)


def test_coins_in_the_first_form_are_worth_and_lose_their_price_in_the_settlement_coin() -> None:
    found = first(base=2.0, stable=1.25)
    worst = -2.0 * 1500.0 / 1.25 * 0.15 - 2.0 * 0.02 * 1500.0
    assert found["MM"] == pytest.approx(2.0 * 1500.0 / 1.25 + worst)
    assert found["IM"] == pytest.approx(2.0 * 1500.0 / 1.25 + 1.3 * worst)


def test_a_debt_is_marked_up_but_never_beyond_its_undiscounted_value() -> None:
    """`PMRMLib_2.sol`: a gain shrinks with a raised rate, a debt grows with another."""
    names = (
        "short_rate_mult", "long_rate_mult", "short_rate_add", "long_rate_add",
        "long_static_discount", "short_static_discount",
    )  # fmt: skip
    rules = SimpleNamespace(**dict(zip(names, (0.5, 2.0, 0.03, 0.08, 0.95, 0.9), strict=True)))
    year = PortfolioExpiry(365 * 86_400.0, 0.0, 100.0, 0.1, 1.0, ())
    factors = discounts(year, rules)
    assert factors == pytest.approx(
        (math.exp(-0.1), 0.95 * math.exp(-0.28), 0.9 * math.exp(0.08)), rel=1e-12
    )
    rules.short_static_discount = 1.04
    assert discounts(year, rules).debt == pytest.approx(math.exp(0.1))
    assert discounts(year._replace(rate=-0.1), rules).time == 1.0


def second(
    collateral: list[tuple[float, float, bool, float, float]], expiries: list[Any], **changes: Any
) -> dict[str, Any]:
    names = ("qty", "price", "cancels_risk", "mm_haircut", "im_haircut")
    coins = [
        {"name": "coin", "conf": 1.0, **dict(zip(names, coin, strict=True))} for coin in collateral
    ]
    inputs = {
        "cash": 0.0, "spot_conf": 1.0, "stable": 1.00019088635,
        "perp": {"qty": 0.0, "price": 0.0, "conf": 0.0, "unrealised_pnl": 0.0,
                 "unrealised_funding": 0.0},
        "collateral": coins, "expiries": expiries, "params": SECOND,
    }  # fmt: skip
    return answer(MARGIN, "Derive PMRM_2", "scenario_grid_portfolio_margin", inputs | changes)


def test_collateral_in_the_second_form_is_cut_and_moves_with_spot_if_it_cancels_risk() -> None:
    """`portfolio_cases/test_4_collateral_multiple_lrts.json`."""
    found = second(
        [
            (2.0, 2765.7082515126017, True, 0.03, 0.01),
            (1.0, 2681.6029850999994, True, 0.015, 0.005),
            (0.3, 95663.50604855, False, 0.25, 0.05),
            (2.0, 95621.88912023272, False, 0.35, 0.1),
        ],
        [],
        spot=2681.6029850999994,
    )
    assert found == pytest.approx(
        {
            "IM": 131708.06029199643, "MM": 152627.78829777747, "basis_contingency": 0.0,
            "worst_regular_loss": -1478.0613661232805, "worst_tail_loss": -295.6122732246563,
            "worst_skew_loss": 0.0,
        },
        rel=1e-9,
    )  # fmt: skip


def test_a_perpetual_in_the_second_form_pays_on_spot_in_both_margins() -> None:
    perp = {"qty": 2.0, "price": 100_500.0, "conf": 1.0, "unrealised_pnl": 30.0,
            "unrealised_funding": -5.0}  # fmt: skip
    found = second([], [], spot=100_000.0, perp=perp)
    worst = -2.0 * 100_500.0 * 0.18
    assert found["worst_regular_loss"] == pytest.approx(worst)
    assert found["worst_tail_loss"] == pytest.approx(-2.0 * 100_500.0 * 0.036)
    assert found["MM"] == pytest.approx(0.8 * worst - 200_000.0 * 0.015 + 25.0)
    assert found["IM"] == pytest.approx(worst - 200_000.0 * 0.02 + 25.0)
    doubted = second([], [], spot=100_000.0, perp=perp | {"conf": 0.5})
    assert found["IM"] - doubted["IM"] == pytest.approx(0.5 * 200_000.0)
    assert found["MM"] == doubted["MM"]
    depegged = second([], [], spot=100_000.0, perp=perp, stable=0.88)
    assert found["IM"] - depegged["IM"] == pytest.approx(0.1 * 2.0 * -worst)
    assert found["MM"] == depegged["MM"]


def test_the_second_form_of_portfolio_margin_answers_derives_hardest_case() -> None:
    """`portfolio_cases/test_44_skews_abs_as_worst_case_complex.json`.

    The file prints the contingency of its last expiry, -3099.197; the contract adds all three.
    """

    def expiry(seconds: int, forward: float, rate: float, sure: float, *legs: Any) -> Any:
        names = ("strike", "call", "qty", "vol")
        return {
            "seconds": seconds, "forward": forward, "forward_conf": 1.0, "rate": rate,
            "rate_conf": 1.0, "vol_conf": sure,
            "options": [dict(zip(names, leg, strict=True)) for leg in legs],
        }  # fmt: skip

    found = second(
        [
            (2000.0, 0.99984231175, False, 0.02, 0.03),
            (0.01, 95569.65243595604, True, 0.03, 0.015),
            (2.0, 2840.575164415104, False, 0.25, 0.1),
        ],
        [
            expiry(794852, 95776.67392, 0.15, 0.4, (170e3, True, 21.0, 2511.421980938193)),
            expiry(
                18938852, 104711.10395262072, 0.29, 0.95,
                (80e3, False, -14.0, 0.563728859721523), (50e3, True, 22.0, 0.6547430217060337),
            ),
            expiry(
                5633252, 101143.47771765916, 0.23, 0.95, (60e3, False, 32.0, 0.7173364058978552)
            ),
        ],
        cash=-145000.0, spot=100000.0, spot_conf=0.9,
    )  # fmt: skip
    assert found == pytest.approx(
        {
            "IM": 462567.11559944274, "MM": 1946914.2909302036,
            "basis_contingency": -214249.1558376, "worst_regular_loss": -875049.3210995173,
            "worst_tail_loss": -142029.467278876, "worst_skew_loss": -1104524.2846056242,
        },
        rel=1e-9,
    )  # fmt: skip


def test_shorts_are_naked_beyond_what_is_bought_of_their_strike() -> None:
    legs = [OptionLeg(100.0, call, q, 0.5) for call, q in ((True, -3.0), (False, 1.0))]
    assert naked_shorts([*legs, OptionLeg(90.0, True, -2.0, 0.5)]) == 4.0
    assert naked_shorts([OptionLeg(90.0, True, 2.0, 0.5)]) == 0.0


def test_the_stretch_of_a_shock_follows_deribits_powers() -> None:
    day = 86_400.0
    assert volatility_stretch(30 * day, day, 0.3, 0.13) == 1.0
    assert volatility_stretch(7.5 * day, day, 0.3, 0.13) == pytest.approx(4.0**0.3)
    assert volatility_stretch(120 * day, day, 0.3, 0.13) == pytest.approx(0.25**0.13)
    assert volatility_stretch(60.0, day, 0.3, 0.13) == pytest.approx(30.0**0.3)
