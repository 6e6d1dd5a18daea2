"""The compiled loop and its plain-Python specification must agree bit for bit."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backtest.kernels.records import ADL_NAMES, LIQUIDATION_NAMES, SERIES_NAMES
from backtest.reference import replay_reference
from backtest.replay import run_loop
from backtest.seeds import stream
from backtest.units import MS_PER_DAY
from strategies.kernels.concentration import concentration
from strategies.kernels.linear_rate import linear_rate, linear_rate_constants
from strategies.kernels.scenario_grid import scenario_grid, scenario_grid_constants
from tests.backtest.cases import CURIOUS, GROSS, LayeredPolicy, gross_policy, random_book
from tests.backtest.venues import venues
from tests.tapes import START_MS, make_tape

POLICIES = (
    "gross",
    "everything a policy is shown",
    "linear_rate",
    "linear_rate with an add-on",
    "scenario_grid",
)
EXAMPLES = int(os.environ.get("REMARGIN_TWIN_EXAMPLES", "2000"))

SCENARIOS = [
    *[(move, vol, 1.0) for move in (-1.0, -0.5, 0.0, 0.5, 1.0) for vol in (-1, 0, 1)],
    (-3.0, 1, 0.3),
    (3.0, 1, 0.3),
]

tapes = st.builds(
    make_tape,
    rows=st.integers(2, 90),
    assets=st.sampled_from([("BTC",), ("BTC", "ETH"), ("BTC", "ETH", "SOL")]),
    options=st.booleans(),
    inverse=st.booleans(),
    futures=st.booleans(),
    seed=st.integers(0, 2**31),
    latency_ms=st.sampled_from([0, 60_000, 7_200_000]),
    volatility=st.sampled_from([0.1, 0.7, 4.0]),
    jump_share=st.sampled_from([0.0, 0.2]),
    interval_ms=st.sampled_from([900_000, 3_600_000, 5_000_000, 14_400_000]),
    start_ms=st.sampled_from([START_MS, START_MS + 3 * MS_PER_DAY]),
)


def _policy(name: str, rate: float, assets: int) -> LayeredPolicy:
    if name == "gross":
        return gross_policy(rate)
    if name == "everything a policy is shown":
        return LayeredPolicy(((GROSS, (rate,), ()), (CURIOUS, (1.0,), ())))
    linear = (linear_rate, (rate,) * assets, tuple(linear_rate_constants(0.6)))
    if name == "linear_rate":
        return LayeredPolicy((linear,))
    if name == "linear_rate with an add-on":
        return LayeredPolicy((linear, (concentration, (0.05, 0.3, 1e4), ())))
    if name == "scenario_grid":
        ranges = (2.0 * rate,) * assets + (0.4, 0.25)
        return LayeredPolicy(
            ((scenario_grid, ranges, tuple(scenario_grid_constants(0.7, SCENARIOS))),)
        )
    raise AssertionError(f"no policy {name} for this test and rule {GROSS.name}")


@st.composite
def markets(draw):
    tape = draw(tapes)
    chance = stream(draw(st.integers(0, 99)), "holes")
    depth, iv = tape.depth_usd.copy(), tape.iv.copy()
    if draw(st.booleans()):
        depth[chance.random(depth.shape) < 0.3] = 0.0
    if draw(st.booleans()):
        for column, late in enumerate(chance.integers(0, 3, iv.shape[1])):
            iv[:late, column] = np.nan
    intrabar = draw(st.sampled_from(["close", "high_low"]))
    return replace(tape, depth_usd=depth, iv=iv, intrabar=intrabar)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    tape=markets(),
    venue=venues,
    policy=st.sampled_from(POLICIES),
    rate=st.sampled_from([0.002, 0.05, 0.3]),
    book_seed=st.integers(0, 2**31),
    mode=st.sampled_from(["elastic", "recorded"]),
)
def test_compiled_loop_equals_its_specification_to_the_bit(
    tape, venue, policy, rate, book_seed, mode
):
    book = random_book(tape, book_seed, mode=mode, plain=False)
    rule = _policy(policy, rate, len(tape.assets))
    layers = rule.layers(tape)
    run = run_loop(tape, book, layers, venue, slice(0, len(tape)))
    series, log, twin = replay_reference(tape, book, rule, venue)
    for name in SERIES_NAMES:
        np.testing.assert_array_equal(run.series[name], series[name], err_msg=name)
    for k, name in enumerate(LIQUIDATION_NAMES):
        np.testing.assert_array_equal(run.log[:, k], log[:, k], err_msg=name)
    for k, name in enumerate(ADL_NAMES):
        np.testing.assert_array_equal(run.adl_log[:, k], twin.adl_log[:, k], err_msg=name)
    np.testing.assert_array_equal(run.ledger, twin.ledger)
    assert np.all(run.series["ledger_imbalance_usd"] <= 1e-12 * run.series["ledger_scale_usd"])
