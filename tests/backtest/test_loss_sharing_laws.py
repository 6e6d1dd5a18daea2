"""Fund, winners and everybody else: nobody gives more than they have, and the sums meet."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.kernels.laws.collateral import (
    borrow_scaling,
    deposit_scaling,
    depth_haircut,
    peg_haircut,
    size_discount,
    size_premium,
    wrong_way_haircut,
)
from backtest.kernels.laws.deleveraging import (
    capped_profit,
    effective_leverage,
    fund_payment,
    fund_threshold,
    loss_per_contract,
    pro_rata_share,
    profit_leverage_rank,
    profit_to_pool,
    queue_taken,
    slice_shortfall,
    withdrawal_haircut,
)
from backtest.kernels.laws.funding import funding_cash, imbalance_rate
from backtest.kernels.laws.impact import permanent_impact, temporary_impact
from backtest.kernels.laws.insurance import (
    cover_probability,
    exponential_quantile,
    fund_after,
    liquidation_fee,
)
from backtest.kernels.laws.limits import (
    large_position_premium,
    loan_to_value,
    pool_loss_ratio,
)

amounts = st.floats(0.0, 1e9)
gains = st.lists(amounts, min_size=1, max_size=20)


@settings(deadline=None)
@given(gains=gains, budget=amounts)
def test_the_queue_takes_no_more_than_was_gained_and_meets_the_budget(
    gains: list[float], budget: float
) -> None:
    left, taken = budget, []
    for gain in gains:
        taken.append(queue_taken(gain, left))
        left -= taken[-1]
    assert all(0.0 <= t <= g for t, g in zip(taken, gains, strict=True))
    assert sum(taken) == pytest.approx(min(budget, sum(gains)), rel=1e-9, abs=1e-6)


@settings(deadline=None)
@given(gains=gains, budget=amounts)
def test_sharing_pro_rata_takes_one_share_of_all_and_meets_the_budget(
    gains: list[float], budget: float
) -> None:
    share = pro_rata_share(budget, sum(gains))
    assert 0.0 <= share <= 1.0
    assert share * sum(gains) == pytest.approx(min(budget, sum(gains)), rel=1e-9)


def test_queue_and_pro_rata_reproduce_the_worked_example() -> None:
    """Chitra, arXiv 2512.01112: gains 8, 4 and 0.5 pay half of a deficit of 15."""
    budget = 0.5 * 15.0
    first = queue_taken(4.0, budget)
    second = queue_taken(8.0, budget - first)
    assert (first, second, queue_taken(0.5, budget - first - second)) == (4.0, 3.5, 0.0)
    assert pro_rata_share(budget, 12.5) == pytest.approx(0.6)
    assert pro_rata_share(budget, 0.0) == 0.0


@settings(deadline=None)
@given(fund=amounts, deficit=amounts, cap=amounts)
def test_a_fund_pays_the_deficit_up_to_what_it_has_and_may(
    fund: float, deficit: float, cap: float
) -> None:
    paid = fund_payment(fund, deficit, cap)
    assert paid in (fund, deficit, cap)
    assert paid <= min(fund, deficit, cap)
    assert fund_payment(fund, deficit, -1.0) == 0.0
    assert fund_payment(fund, deficit, math.inf) == min(fund, deficit)
    assert fund_after(fund, paid, 2.0) == fund - paid + 2.0


@settings(deadline=None)
@given(deficit=amounts, funds=amounts)
def test_withdrawals_are_never_cut_by_more_than_everything(deficit: float, funds: float) -> None:
    cut = withdrawal_haircut(deficit, funds)
    assert 0.0 <= cut <= 1.0
    if funds > deficit:
        assert cut * funds == pytest.approx(deficit)


@settings(deadline=None)
@given(loss=amounts, long=st.floats(1.0, 1e6), short=st.floats(0.0, 1e6))
def test_contracts_on_both_sides_bear_the_whole_loss(
    loss: float, long: float, short: float
) -> None:
    each = loss_per_contract(loss, long, -short)
    assert each * (long + short) == pytest.approx(loss)
    assert each == loss_per_contract(loss, long, short)


def test_drift_spreads_a_loss_over_open_contracts() -> None:
    """`math/liquidation/tests.rs`: 100 over 7 long and 4 short contracts."""
    assert loss_per_contract(100.0, 7.0, -4.0) == pytest.approx(9.0909, abs=1e-4)
    assert loss_per_contract(100.0, 0.0, 0.0) == 0.0


def test_the_ranking_multiplies_profit_by_leverage_and_divides_loss_by_it() -> None:
    """BitMEX: a highly levered loser comes after a hardly levered one."""
    assert effective_leverage(200.0, 150.0) == 4.0
    assert effective_leverage(-200.0, -250.0) == 4.0
    assert effective_leverage(100.0, 100.0) == math.inf
    assert profit_leverage_rank(0.5, 4.0) == 2.0
    assert profit_leverage_rank(-0.5, 4.0) == -0.125
    assert profit_leverage_rank(-0.5, 50.0) > profit_leverage_rank(-0.5, 2.0)


def test_gmx_deleverages_when_profit_outgrows_the_pool() -> None:
    """`AdlOrder.ts`: 400 coins bought at 5000 against 1000 coins at 10000 owe a fifth."""
    profit, pool = 400.0 * 5_000.0, 1_000.0 * 10_000.0
    assert profit_to_pool(profit, pool) == 0.2
    assert capped_profit(profit, pool, 0.1) == 1_000_000.0
    assert capped_profit(profit, pool, 0.5) == profit
    assert capped_profit(-profit, pool, 0.1) == -profit


def test_a_fund_is_low_when_it_lost_a_third_or_is_small() -> None:
    assert fund_threshold(400_000.0, 0.3, 50_000.0) == pytest.approx(280_000.0)
    assert fund_threshold(60_000.0, 0.3, 50_000.0) == 50_000.0


def test_a_slice_executed_above_bankruptcy_owes_nothing() -> None:
    assert slice_shortfall(0.875, 0.78, 0.4) == pytest.approx(0.038)
    assert slice_shortfall(0.875, 0.9, 0.4) == 0.0
    assert slice_shortfall(1.1, 1.2, -0.4) == pytest.approx(0.04)


def test_the_best_fund_is_a_quantile_of_deficits() -> None:
    """A newsvendor at 5 % carry: ln 20 and ln 100 times the mean of exponential deficits."""
    for cost, multiple in ((1.0, 20.0), (5.0, 100.0)):
        fund = exponential_quantile(3.0, cover_probability(0.05, cost))
        assert fund == pytest.approx(3.0 * math.log(multiple))
        assert 1.0 - math.exp(-fund / 3.0) == pytest.approx(1.0 - 0.05 / cost)
    assert cover_probability(2.0, 1.0) == 0.0


def test_liquidation_fees_of_two_venues_are_reproduced() -> None:
    """arXiv 2512.01112: 40 bp of the mark, or 20 bp of it and 10 bp of the execution."""
    assert liquidation_fee(0.5, 1.3, 1.32, 0.004, 0.0) == pytest.approx(0.0026)
    assert liquidation_fee(-0.5, 1.3, 1.32, 0.002, 0.001) == pytest.approx(0.00196)


def test_funding_pays_the_scarce_side() -> None:
    rate = imbalance_rate(3.0, 5.0, 1.4, 1.5, 1.0)
    assert rate == pytest.approx(-1.0 / 3.0)
    assert funding_cash(rate, 1.4, 1.0) == pytest.approx(-0.466667, abs=1e-6)
    assert funding_cash(rate, 1.4, -4.0) == pytest.approx(1.866667, abs=1e-6)


def test_almgrens_order_in_ibm_is_reproduced() -> None:
    """Risk 18 (2005), table 3: 10 % of a day's volume costs 32 bp in a tenth of a day."""
    volatility, volume, size = 0.0157, 6_561_000.0, 656_100.0
    stays = permanent_impact(volatility, size, volume, 1_728e6, 0.314, 0.25) * 1e4
    passes = temporary_impact(volatility, size, volume, 0.1, 0.142, 0.6) * 1e4
    assert stays == pytest.approx(20.0, abs=0.5)
    assert passes == pytest.approx(22.0, abs=0.5)
    assert 0.5 * stays + passes == pytest.approx(32.0, abs=0.5)


def test_limits_of_size_are_reproduced() -> None:
    assert loan_to_value(10.0, 0.03, 10e6, 5e6, 0.05) == pytest.approx(0.758858, abs=1e-6)
    assert pool_loss_ratio(0.5, 0.25, 0.8) == pytest.approx(0.5)
    assert pool_loss_ratio(0.75, 0.25, 0.9) > 1.0
    assert large_position_premium(1.5625, -1_000.0, 1e6, 20.0) == pytest.approx(31.25)


@settings(deadline=None)
@given(weight=st.floats(0.1, 1.0), factor=st.floats(0.0, 0.01), size=amounts)
def test_large_balances_weigh_less_and_large_positions_ask_more(
    weight: float, factor: float, size: float
) -> None:
    assert 0.0 < size_discount(weight, factor, size) <= weight
    assert size_discount(weight, factor, 4.0 * size) <= size_discount(weight, factor, size)
    assert size_premium(weight, factor, -size) >= weight
    assert size_premium(weight, factor, size) == size_premium(weight, factor, -size)


def test_drifts_weights_are_reproduced() -> None:
    """`math/margin/tests.rs` and `state/perp_market/tests.rs`."""
    assert size_discount(1.0, 0.001, 22_699.050905) == pytest.approx(0.9559, abs=1e-4)
    assert size_premium(0.1, 0.00005, 1e6) == pytest.approx(0.13)
    assert size_discount(1.2, 0.0, 1e9) == 1.2


@settings(deadline=None)
@given(start=st.floats(1.0, 1e9), total=amounts)
def test_a_coin_of_which_much_is_held_counts_for_its_limit(start: float, total: float) -> None:
    scale = deposit_scaling(total, start)
    assert 0.0 < scale <= 1.0
    assert scale * total <= start * (1.0 + 1e-12)
    assert borrow_scaling(total, start) >= 1.0
    if total > start:
        assert borrow_scaling(total, start) * scale == pytest.approx(1.0)


def test_a_total_or_weight_that_is_not_a_number_never_becomes_one() -> None:
    nan = math.nan
    for scaling in (deposit_scaling, borrow_scaling):
        assert math.isnan(scaling(nan, 5e6))
        assert scaling(nan, math.inf) == 1.0
    assert math.isnan(size_discount(nan, 0.1, 4.0))
    assert math.isnan(size_discount(0.9, 0.1, nan))


def test_haircuts_of_a_coin_are_taken_only_where_it_is_at_risk() -> None:
    assert depth_haircut(4e6, 1e6, 0.01) == pytest.approx(0.02)
    assert depth_haircut(1.0, 0.0, 0.01) == 1.0
    assert wrong_way_haircut(-5.0, 10.0, 0.3) == 0.0
    assert wrong_way_haircut(5.0, 10.0, 0.3) == pytest.approx(0.15)
    assert wrong_way_haircut(50.0, 10.0, 0.3) == pytest.approx(0.3)
    assert peg_haircut(0.995, 1.0, 0.01, 4.0) == 0.0
    assert peg_haircut(0.95, 1.0, 0.01, 4.0) == pytest.approx(0.16)
    assert peg_haircut(1.05, 1.0, 0.01, 4.0) == pytest.approx(0.16)
