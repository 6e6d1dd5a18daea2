from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backtest.errors import DataError
from backtest.kernels.records import SERIES_NAMES
from backtest.metrics import METRICS
from backtest.result import LIQUIDATION_DTYPE, MarginPath, ReplayResult
from backtest.seeds import stream
from backtest.units import MS_PER_HOUR
from backtest.venue import VenueRules
from optimize.bootstrap import FEWEST_DAYS, block_length, compare_paired, draw_days

START_MS = 1_704_067_200_000


def made_up(days: int = 60, collateral: float = 1.0, noise: float = 0.0) -> ReplayResult:
    """Make a result whose locked collateral is a given multiple of a common path."""
    rows = 24 * days
    random = stream(5, "series")
    path = 1e6 * (2 + np.sin(np.arange(rows) / 200)) + 1e4 * random.standard_normal(rows)
    series = {key: np.zeros(rows) for key in SERIES_NAMES}
    series["open_notional_usd"] = 5 * path
    series["required_initial_usd"] = 0.1 * path
    wobble = 1 + noise * stream(6, "noise").standard_normal(rows)
    series["locked_collateral_usd"] = collateral * path * wobble
    nothing = np.full((rows, 1, 2), np.nan)
    return ReplayResult(
        ts=START_MS + MS_PER_HOUR * np.arange(rows),
        interval_ms=np.full(rows, MS_PER_HOUR),
        assets=("BTC",),
        index=np.full((rows, 1), 1e4),
        series=series,
        liquidation_log=np.zeros(0, LIQUIDATION_DTYPE),
        margin=MarginPath(nothing, nothing, nothing),
        tape_digest="t",
        book_digest="b",
        policy={"policy": "made-up"},
        venue=VenueRules(),
        seed=0,
        window=(START_MS, START_MS + rows * MS_PER_HOUR),
        synthetic_market=True,
        synthetic_book=True,
    )


def test_same_days_are_drawn_for_both_so_a_pure_scale_leaves_no_doubt() -> None:
    paired = compare_paired(made_up(), made_up(collateral=0.8), seed=1, resamples=300)
    found = paired.intervals["capital_efficiency"]
    assert found.current.value == pytest.approx(5.0)
    assert found.proposed.value == pytest.approx(6.25)
    assert found.difference.low == pytest.approx(1.25)
    assert found.difference.high == pytest.approx(1.25)
    assert found.detectable
    collateral = paired.intervals["locked_collateral_usd"]
    assert collateral.difference.low == pytest.approx(-0.2 * collateral.current.high)
    assert collateral.difference.high == pytest.approx(-0.2 * collateral.current.low)


def test_equal_results_show_no_detectable_difference() -> None:
    paired = compare_paired(made_up(), made_up(), seed=1, resamples=100)
    assert not any(interval.detectable for interval in paired.intervals.values())
    assert paired.block_days == 2


def test_the_order_of_additions_is_not_taken_for_an_effect_of_the_policy() -> None:
    # Two policies that ask for the same margin by other arithmetic differ in the last digits,
    # every day in the same direction.
    paired = compare_paired(made_up(), made_up(collateral=1 + 4e-15), seed=1, resamples=100)
    found = paired.intervals["capital_efficiency"]
    assert found.current.value != found.proposed.value
    assert not any(interval.detectable for interval in paired.intervals.values())
    assert paired.block_days == 2


def test_a_real_difference_of_a_thousandth_of_a_percent_is_kept() -> None:
    paired = compare_paired(made_up(), made_up(collateral=1 - 1e-5), seed=1, resamples=100)
    assert paired.intervals["capital_efficiency"].detectable


@pytest.mark.parametrize("days", [1, 2, FEWEST_DAYS - 1])
def test_a_few_days_give_no_interval_instead_of_a_certain_one(days: int) -> None:
    paired = compare_paired(made_up(days), made_up(days, collateral=0.8), seed=1, resamples=50)
    found = paired.intervals["capital_efficiency"]
    assert np.isnan([found.difference.low, found.difference.high]).all()
    assert not found.detectable
    assert found.difference.value == pytest.approx(1.25)


def test_noise_is_not_taken_for_a_difference() -> None:
    paired = compare_paired(made_up(), made_up(noise=0.3), seed=1, resamples=500)
    found = paired.intervals["locked_collateral_usd"]
    assert found.difference.low < found.difference.value < found.difference.high
    assert not found.detectable


def test_every_additive_metric_has_an_interval_in_the_order_of_metrics() -> None:
    paired = compare_paired(made_up(), made_up(), seed=1, resamples=10)
    assert list(paired.intervals) == [key for key, metric in METRICS.items() if metric.additive]


def test_same_seed_draws_the_same_days_and_another_draws_others() -> None:
    days = draw_days(50, 5, 20, seed=3)
    assert np.array_equal(days, draw_days(50, 5, 20, seed=3))
    assert not np.array_equal(days, draw_days(50, 5, 20, seed=4))
    assert days.shape == (20, 50)


def test_days_are_drawn_in_blocks_of_the_stated_mean_length() -> None:
    days = draw_days(400, 8, 200, seed=3)
    follows = (days[:, 1:] - days[:, :-1]) % 400 == 1
    assert 1 / (1 - follows.mean()) == pytest.approx(8, rel=0.1)


def test_days_that_hang_together_ask_for_longer_blocks() -> None:
    base = {"hours": np.full(200, 24.0), "x": np.zeros(200)}
    noise = stream(1, "x").standard_normal(200)
    persistent = np.convolve(noise, np.ones(20), mode="same")
    assert block_length(base, {**base, "x": noise}) <= 4
    assert block_length(base, {**base, "x": persistent}) > 8


def test_replays_that_were_measured_differently_are_not_paired() -> None:
    shorter = replace(made_up(), venue=VenueRules.model_validate({"margin_period": "10min"}))
    with pytest.raises(DataError, match=r"one venue\.margin_period"):
        compare_paired(made_up(), shorter, seed=0)


def test_replays_of_other_rows_are_not_paired() -> None:
    with pytest.raises(DataError, match="same rows"):
        compare_paired(made_up(10), made_up(11), seed=0)
