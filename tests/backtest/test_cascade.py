"""Liquidations that move the price cost more, and what they cost is counted once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backtest.cascade import cascade_multiplier, liquidation_loss, with_cascade, without_feedback
from backtest.errors import ConfigError
from backtest.kernels.records import AUCTIONED, LIQUIDATION, TAKEOVER
from backtest.replay import replay
from backtest.result import LIQUIDATION_DTYPE
from backtest.venue import VenueRules
from tests.backtest.cases import gross_policy, random_book
from tests.backtest.test_metrics import hand_made_result
from tests.tapes import make_tape

FEEDBACK = VenueRules(
    liquidation={"mode": "full", "impact": {"at_depth": 0.05, "feedback": {}}},
    insurance_fund={"start_usd": 0},
)


def crowded():
    """A wild market with little depth, and accounts at the edge of their margin."""
    tape = make_tape(rows=24 * 6, seed=5, volatility=2.0, jump_share=0.1)
    tape = replace(tape, depth_usd=np.full_like(tape.depth_usd, 2e4))
    return tape, random_book(tape, 5, accounts=30, groups=90), gross_policy(0.04)


def test_a_crowd_that_is_liquidated_into_a_thin_book_loses_more_with_feedback():
    tape, book, policy = crowded()
    cascade = cascade_multiplier(tape, book, policy, FEEDBACK)
    assert cascade.without_usd > 0.0
    assert cascade.multiplier == cascade.with_feedback_usd / cascade.without_usd
    assert cascade.multiplier > 1.05
    still = replay(tape, book, policy, without_feedback(FEEDBACK))
    assert liquidation_loss(still) == cascade.without_usd


def test_the_multiplier_of_a_window_is_that_of_the_window():
    tape, book, policy = crowded()
    window = (int(tape.ts[40]), int(tape.ts[100]))
    result = with_cascade(replay(tape, book, policy, FEEDBACK, window=window), tape, book, policy)
    still = replay(tape, book, policy, without_feedback(FEEDBACK), window=window)
    expected = liquidation_loss(result) / liquidation_loss(still)
    assert result.metrics["cascade_multiplier"] == expected
    assert cascade_multiplier(tape, book, policy, FEEDBACK, window=window).multiplier == expected
    assert cascade_multiplier(tape, book, policy, FEEDBACK).multiplier != expected
    assert np.isnan(replay(tape, book, policy, FEEDBACK).metrics["cascade_multiplier"])


def test_what_an_account_cannot_pay_is_in_its_shortfall_and_is_not_counted_twice():
    result = hand_made_result(3)
    log = np.zeros(4, LIQUIDATION_DTYPE)
    log["kind"] = (LIQUIDATION, LIQUIDATION, AUCTIONED, TAKEOVER)
    log["equity_usd"] = (100.0, -5.0, 50.0, 20.0)
    log["cost_usd"] = (120.0, 7.0, 3.0, 4.0)
    log["penalty_usd"] = (0.0, 0.0, 1.0, 16.0)
    log["discount_usd"] = (0.0, 0.0, 10.0, 0.0)
    log["shortfall_usd"] = (20.0, 12.0, 0.0, 0.0)
    series = {**result.series, "gross_bad_debt_usd": np.array([32.0, 0.0, 0.0])}
    result = replace(result, series=series, liquidation_log=log, metrics={})
    # All equity of the first, none of the second, discount and penalty, and all of the last.
    assert liquidation_loss(result) == 32.0 + 100.0 + 0.0 + 11.0 + 20.0


def test_without_feedback_there_is_nothing_to_multiply():
    tape, book, policy = crowded()
    with pytest.raises(ConfigError, match=r"impact\.feedback, which is off"):
        cascade_multiplier(tape, book, policy, without_feedback(FEEDBACK))
