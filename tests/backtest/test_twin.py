"""The compiled loop and its plain-Python specification must agree bit for bit."""

from __future__ import annotations

import os

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backtest.reference import replay_reference
from backtest.replay import replay
from backtest.venue import VenueRules
from strategies.kernels.concentration import concentration
from strategies.kernels.linear_rate import linear_rate, linear_rate_constants
from strategies.kernels.scenario_grid import scenario_grid, scenario_grid_constants
from tests.backtest.cases import GROSS, LayeredPolicy, gross_policy, random_book
from tests.tapes import make_tape

EXAMPLES = int(os.environ.get("REMARGIN_TWIN_EXAMPLES", "300"))

SCENARIOS = [
    *[(move, vol, 1.0) for move in (-1.0, -0.5, 0.0, 0.5, 1.0) for vol in (-1, 0, 1)],
    (-3.0, 1, 0.3),
    (3.0, 1, 0.3),
]

venues = st.builds(
    lambda latency, level, deadline, mode, target, step, penalty, cap, fund, fee: VenueRules(
        oracle={"latency": latency},
        margin_call={"level": level, "deadline": deadline},
        liquidation={
            "mode": mode,
            "target": target,
            "minimum_share": step,
            "penalty": penalty,
            "impact": {"at_depth": 0.02, "cap": cap},
        },
        insurance_fund={"start_usd": fund},
        fees={"taker": fee},
    ),
    latency=st.sampled_from(["0", "30min", "1h", "5h"]).map(lambda t: 0 if t == "0" else t),
    level=st.sampled_from([1.0, 1.25, 3.0]),
    deadline=st.sampled_from([0, "1h", "6h"]),
    mode=st.sampled_from(["full", "to_target"]),
    target=st.sampled_from([1.0, 1.3, 4.0]),
    step=st.sampled_from([0.01, 0.3, 1.0]),
    penalty=st.sampled_from([0.0, 0.015, 0.4]),
    cap=st.sampled_from([0.0, 0.3, 1.0]),
    fund=st.sampled_from([0.0, 500.0, 1e6]),
    fee=st.sampled_from([0.0, 0.0005]),
)

tapes = st.builds(
    make_tape,
    rows=st.integers(2, 90),
    assets=st.sampled_from([("BTC",), ("BTC", "ETH"), ("BTC", "ETH", "SOL")]),
    options=st.booleans(),
    inverse=st.booleans(),
    seed=st.integers(0, 2**31),
    latency_ms=st.sampled_from([0, 60_000, 7_200_000]),
    volatility=st.sampled_from([0.1, 0.7, 4.0]),
    jump_share=st.sampled_from([0.0, 0.2]),
)


def _policy(name: str, rate: float, assets: int) -> LayeredPolicy:
    if name == "gross":
        return gross_policy(rate)
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


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    tape=tapes,
    venue=venues,
    policy=st.sampled_from(["gross", "linear_rate", "linear_rate with an add-on", "scenario_grid"]),
    rate=st.sampled_from([0.002, 0.05, 0.3]),
    book_seed=st.integers(0, 2**31),
    mode=st.sampled_from(["elastic", "recorded"]),
)
def test_compiled_loop_equals_its_specification_to_the_bit(
    tape, venue, policy, rate, book_seed, mode
):
    book = random_book(tape, book_seed, mode=mode)
    rule = _policy(policy, rate, len(tape.assets))
    result = replay(tape, book, rule, venue)
    series, log, _ = replay_reference(tape, book, rule, venue)
    for name, expected in series.items():
        np.testing.assert_array_equal(result.series[name], expected, err_msg=name)
    assert len(result.liquidation_log) == len(log)
    for k, name in enumerate(("notional_usd", "share", "equity_usd"), start=4):
        np.testing.assert_array_equal(result.liquidation_log[name], log[:, k], err_msg=name)
