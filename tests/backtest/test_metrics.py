"""One definition per metric, additive where it says so, right on numbers done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backtest.kernels.records import LIQUIDATION, SERIES_NAMES, TAKEOVER
from backtest.metrics import (
    METRICS,
    compute_metrics,
    daily_sums,
    from_sums,
    metrics_that_tell,
)
from backtest.replay import replay
from backtest.result import ADL_DTYPE, LIQUIDATION_DTYPE, MarginPath, ReplayResult, format_metric
from backtest.units import MS_PER_DAY, MS_PER_HOUR
from backtest.venue import VenueRules
from tests.backtest.cases import gross_policy, random_book
from tests.tapes import make_tape

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
LEVELS = ("open_notional_usd", "locked_collateral_usd", "required_initial_usd")


def hand_made_result(rows: int = 48) -> ReplayResult:
    """Two days of hours in which every level is one and every flow is nothing."""
    ts = 1_704_067_200_000 + MS_PER_HOUR * np.arange(rows)
    shape = (rows, 1, 2)
    return ReplayResult(
        ts=ts,
        interval_ms=np.full(rows, MS_PER_HOUR),
        assets=("BTC",),
        index=np.full((rows, 1), 100.0),
        series={name: np.full(rows, float(name in LEVELS)) for name in SERIES_NAMES},
        liquidation_log=np.zeros(0, LIQUIDATION_DTYPE),
        margin=MarginPath(np.full(shape, 0.1), np.full(shape, 0.06), np.zeros(shape)),
        tape_digest="",
        book_digest="",
        policy={},
        venue=VenueRules(),
        seed=0,
        window=(int(ts[0]), int(ts[-1]) + 1),
        synthetic_market=True,
        synthetic_book=True,
    )


def test_the_document_holds_the_code_s_own_definitions():
    text = DOCUMENT.read_text(encoding="utf-8")
    for key, metric in METRICS.items():
        assert f"| `{key}` | {metric.unit} | {metric.better} | {metric.definition} |" in text


def test_days_add_up_to_the_whole():
    tape = make_tape(rows=24 * 5, seed=11, volatility=2.0, jump_share=0.1)
    result = replay(tape, random_book(tape, 11), gross_policy(0.03), VenueRules())
    sums = daily_sums(result)
    whole = from_sums({key: float(days.sum()) for key, days in sums.items()})
    for key, value in whole.items():
        assert result.metrics[key] == value
    assert {key for key, metric in METRICS.items() if metric.additive} == set(whole)
    assert set(result.metrics) == set(METRICS)


def test_from_sums_takes_one_number_per_resample():
    result = hand_made_result()
    sums = daily_sums(result)
    draws = np.array([[0, 0], [0, 1], [1, 1]])
    many = from_sums({key: days[draws].sum(axis=1) for key, days in sums.items()})
    np.testing.assert_array_equal(many["capital_efficiency"], np.ones(3))


def test_residual_bad_debt_is_in_basis_points_of_mean_open_notional():
    result = hand_made_result()
    series = dict(result.series)
    series["open_notional_usd"] = np.full(48, 1_000.0)
    series["residual_bad_debt_usd"] = np.zeros(48)
    series["residual_bad_debt_usd"][5] = 2.0
    metrics = compute_metrics(replace(result, series=series, metrics={}))
    assert metrics["residual_bad_debt_bps"] == pytest.approx(20.0)
    assert metrics["residual_bad_debt_usd"] == 2.0


def test_capital_efficiency_is_weighted_by_time():
    result = hand_made_result(2)
    series = dict(result.series)
    series["open_notional_usd"] = np.array([300.0, 100.0])
    series["locked_collateral_usd"] = np.array([100.0, 100.0])
    unequal = replace(
        result, series=series, interval_ms=np.array([MS_PER_HOUR, 3 * MS_PER_HOUR]), metrics={}
    )
    assert unequal.metrics["capital_efficiency"] == pytest.approx((300 + 3 * 100) / 400)


def test_nothing_open_is_zero_not_a_division_error():
    result = hand_made_result()
    series = {name: np.zeros(48) for name in result.series}
    metrics = compute_metrics(replace(result, series=series, metrics={}))
    assert metrics["capital_efficiency"] == 0.0
    assert metrics["residual_bad_debt_bps"] == 0.0


def test_breaches_compare_the_loss_with_maintenance_margin():
    result = hand_made_result()
    loss = np.zeros((48, 1, 2))
    loss[3, 0, 0] = 0.0601
    loss[4, 0, 1] = 0.06
    loss[5] = np.nan
    margin = replace(result.margin, loss=loss)
    metrics = compute_metrics(replace(result, margin=margin, metrics={}))
    assert metrics["breaches"] == 1
    assert metrics["coverage"] == pytest.approx(1 - 1 / 94)


def test_margin_rise_looks_back_one_day_and_no_further():
    result = hand_made_result(72)
    rate = np.full((72, 1, 2), 0.10)
    rate[0:10] = 0.05
    rate[40:] = 0.12
    margin = MarginPath(rate, rate, result.margin.loss)
    metrics = compute_metrics(replace(result, margin=margin, metrics={}))
    assert metrics["max_margin_rise_1d"] == pytest.approx(1.0)
    assert metrics["peak_to_trough_margin"] == pytest.approx(2.4)
    late = rate.copy()
    late[:10] = 0.10
    margin = MarginPath(late, late, result.margin.loss)
    metrics = compute_metrics(replace(result, margin=margin, metrics={}))
    assert metrics["max_margin_rise_1d"] == pytest.approx(0.2)


def test_a_margin_that_falls_to_nothing_is_not_the_steadiest_of_all():
    result = hand_made_result(72)
    rate = np.full((72, 1, 2), 0.10)
    rate[20:30] = 0.0
    margin = MarginPath(rate, rate, result.margin.loss)
    metrics = compute_metrics(replace(result, margin=margin, metrics={}))
    assert metrics["peak_to_trough_margin"] == np.inf
    assert metrics["max_margin_rise_1d"] == np.inf
    never = MarginPath(0.0 * rate, 0.0 * rate, result.margin.loss)
    metrics = compute_metrics(replace(result, margin=never, metrics={}))
    assert metrics["peak_to_trough_margin"] == 1.0
    assert metrics["max_margin_rise_1d"] == 0.0


def test_a_liquidation_is_false_only_if_the_price_comes_back_in_time():
    tape = make_tape(rows=80, assets=("BTC",), options=False, inverse=False)
    path = np.full((80, 1), 100.0)
    path[3:20] = 94.0
    path[20:] = 101.0
    tape = replace(tape, index=path, mark=path, high=path, low=path, funding=np.zeros_like(path))
    book = random_book(tape, 1, accounts=1, groups=1)
    book = replace(
        book,
        wallet=np.array([1e6]),
        collateral_currency=np.zeros(1),
        buffer=np.ones(1),
        order_quantity=np.array([10.0]),
        order_kind=np.zeros(1),
        order_ts=tape.ts[[1]],
        top_up_share=np.zeros(1),
    )
    for window, share in (("24h", 1.0), ("10h", 0.0)):
        venue = VenueRules(recovery_window=window, margin_call={"level": 1.0})
        result = replay(tape, book, gross_policy(0.1), venue)
        assert result.metrics["liquidations"] > 0
        assert result.metrics["false_liquidation_share"] == share


@pytest.mark.parametrize(
    ("levels", "days"),
    [
        ([10.0, 10.0, 10.0, 10.0], 0.0),
        ([10.0, 4.0, 6.0, 10.0, 12.0], 2 / 24),
        # A second draw before the first is made good prolongs it; a fund is whole at its own peak.
        ([10.0, 12.0, 11.0, 9.0, 11.5, 12.0], 3 / 24),
        ([9.0, 10.0, 10.0, 8.0, 10.0], 1 / 24),
        ([10.0, 4.0, 9.99], np.inf),
    ],
)
def test_a_fund_is_short_until_it_is_back_at_its_highest_level(levels, days):
    result = hand_made_result(len(levels))
    venue = VenueRules(insurance_fund={"start_usd": 10.0})
    series = {**result.series, "fund_usd": np.array(levels)}
    metrics = replace(result, series=series, venue=venue, metrics={}).metrics
    assert metrics["fund_replenishment_days"] == pytest.approx(days)


def test_a_deficit_that_is_open_at_the_end_is_named_and_a_paid_one_is_not():
    result = hand_made_result(3)
    for levels, left in (([5.0, 9.0, 2.0], 2.0), ([5.0, 9.0, -1e-12], 0.0)):
        series = {**result.series, "deficit_usd": np.array(levels)}
        metrics = replace(result, series=series, metrics={}).metrics
        assert metrics["deficit_usd"] == left


def test_a_takeover_is_no_liquidation_step_that_could_be_false():
    result = hand_made_result(3)
    log = np.zeros(2, LIQUIDATION_DTYPE)
    log["ts"], log["false"] = result.ts[1], True
    log["kind"] = (LIQUIDATION, TAKEOVER)
    series = {**result.series, "liquidations": np.array([0.0, 1.0, 0.0])}
    metrics = replace(result, series=series, liquidation_log=log, metrics={}).metrics
    assert metrics["false_liquidation_share"] == 1.0


def test_the_largest_haircut_is_that_of_the_worst_hit_winner():
    result = hand_made_result(3)
    log = np.zeros(2, ADL_DTYPE)
    log["share"] = (0.25, 0.75)
    assert replace(result, adl_log=log, metrics={}).metrics["max_adl_haircut"] == 0.75
    assert result.metrics["max_adl_haircut"] == 0.0


def test_a_metric_of_a_rule_tells_something_where_the_rule_is_or_the_number_is_not_zero():
    plain = hand_made_result(3)
    assert "adl_usd" not in metrics_that_tell([plain])
    assert "gross_bad_debt_usd" in metrics_that_tell([plain])
    ruled = replace(plain, venue=VenueRules(auto_deleveraging={"mode": "queue"}), metrics={})
    assert "adl_usd" in metrics_that_tell([plain, ruled])
    series = {**plain.series, "adl_usd": np.array([0.0, 1.0, 0.0])}
    assert "adl_usd" in metrics_that_tell([replace(plain, series=series, metrics={})])
    assert "cascade_multiplier" not in metrics_that_tell([plain])


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("capital_efficiency", 6.812, "6.81x"),
        ("coverage", 0.99214, "99.21 %"),
        ("residual_bad_debt_bps", 0.4181, "0.42 bp"),
        ("liquidations", 1204.0, "1,204"),
        ("gross_bad_debt_usd", 1_312_345.6, "1,312,346 USD"),
        ("coverage", float("nan"), "not defined"),
        ("fund_replenishment_days", 2.04, "2.0 days"),
        ("fund_replenishment_days", float("inf"), "not within the window"),
    ],
)
def test_metrics_are_written_with_their_units(key, value, text):
    assert format_metric(key, value) == text


def test_a_result_prints_every_metric_that_tells_something_and_its_worst_rows():
    tape = make_tape(rows=2 * 24, seed=3)
    result = replay(tape, random_book(tape, 3), gross_policy(0.1), VenueRules())
    printed = str(result)
    told = metrics_that_tell([result])
    assert all(key in printed for key in told)
    assert len(told) < len(METRICS)
    assert printed.count("%") >= 5
    assert len(result.worst_hours(3)) == 3
    assert result.ts[-1] - result.ts[0] < 2 * MS_PER_DAY
    assert len(result.plot().axes) == 2
