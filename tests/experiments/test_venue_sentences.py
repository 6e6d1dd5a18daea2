"""A report says in words how the venue enforces, and nothing of rules that are off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backtest.units import MS_PER_HOUR
from backtest.venue import VenueRules
from experiments.report import Pair
from experiments.report.assumptions import assumptions
from experiments.report.venue_rules import venue_assumptions
from tests.experiments.report_cases import make_input

PLAIN = [item.text for item in venue_assumptions(VenueRules(), MS_PER_HOUR)]


def said_by(rules: dict[str, Any]) -> list[str]:
    """Return the sentences that rules add to those of a plain venue, thin spaces made plain."""
    told = venue_assumptions(VenueRules.model_validate(rules), MS_PER_HOUR)
    new = [item.text for item in told if item.text not in PLAIN]
    return [text.replace("\u202f", " ").replace("\u00a0", " ") for text in new]


def test_a_plain_venue_is_told_in_few_sentences() -> None:
    assert len(PLAIN) == 7
    for word in ("heartbeat", "vault", "winners", "keeper", "linear estimate", "collateral"):
        assert not any(word in text for text in PLAIN)


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (
            {"oracle": {"heartbeat": "1h", "deviation": "0.5%", "latency": "30s"}},
            "The venue's oracle adds 30s to the delays that the tape carries, and margin is "
            "checked at every row of the tape and whenever a price arrives, at most 1h apart. A "
            "price is posted at least every 1h or when it has moved by 0.5 %.",
        ),
        (
            {"oracle": {"stale_after": "90min"}},
            "While a price is older than 90min, accounts that hold the asset are not liquidated "
            "and do not trade it.",
        ),
        (
            {"oracle": {"outages": [["2020-03-12T10:00", "2020-03-12T11:00"]]}},
            "The oracle posts nothing during 1 window of 1h in all.",
        ),
        (
            {"liquidation": {"keepers": {"capacity": 50, "block": "12s"}}},
            "Keepers carry out 50 liquidations per 12s; the others wait.",
        ),
        (
            {"liquidation": {"keepers": {"cost_usd": 20, "cost_per_move": 100}}},
            "A liquidation costs its keeper 20.00 USD in a calm market, and 100 % more for each "
            "percent of the largest move of the row.",
        ),
        (
            {"liquidation": {"keepers": {"participation": True}}},
            "No keeper works at a loss: a liquidation that pays less than it costs is put off.",
        ),
        (
            {"liquidation": {"mode": "step", "step": "20%", "interval": "30s"}},
            "A liquidation closes 20 % of the first portfolio per step until 1.3 times maintenance "
            "margin is restored, 30s between steps, for a penalty of 1.5 % of closed notional.",
        ),
        (
            {"insurance_fund": {"start_usd": 0, "target_usd": "5M", "fee_share": "10%"}},
            "The insurance fund starts each window at 0 USD and is refilled by 60 % of penalties "
            "and 10 % of trading fees, up to 5.00 M USD.",
        ),
        (
            {"insurance_fund": {"start_usd": 0}, "liquidation": {"penalty": 0}},
            "The insurance fund starts each window at 0 USD and is refilled by nobody.",
        ),
        (
            {"auto_deleveraging": {"mode": "queue"}},
            "A deficit that the fund and winners cannot pay is shared among accounts with "
            "positions by their equity.",
        ),
        (
            {"socialised_loss": {"by": "withdrawal"}},
            "A deficit that the fund cannot pay is taken from withdrawals until it is paid.",
        ),
        (
            {"collateral": {"ETH": {"haircut": "10%", "peg": {"usd": 1}}}},
            "ETH as collateral: 10 % is taken off, more off its peg of 1 USD.",
        ),
        (
            {"circuit_breaker": {"move": "10%"}},
            "A move of 10 % within 5min stops trading and liquidation of the asset for 10min.",
        ),
    ],
)
def test_a_rule_in_force_is_told_with_its_numbers(rules: dict[str, Any], sentence: str) -> None:
    assert sentence in said_by(rules)


def test_liquidators_do_not_always_answer_where_the_rules_say_otherwise() -> None:
    always = next(text for text in PLAIN if text.startswith("Liquidators always answer"))
    for keepers in ({"capacity": 1}, {"participation": True}):
        venue = VenueRules.model_validate({"liquidation": {"keepers": keepers}})
        assert always not in [item.text for item in venue_assumptions(venue, MS_PER_HOUR)]


def test_a_venue_with_feedback_does_not_say_that_cascades_are_left_out() -> None:
    venue = VenueRules.model_validate({"liquidation": {"impact": {"feedback": {}}}})
    told = " ".join(item.text for item in venue_assumptions(venue, MS_PER_HOUR))
    assert "Liquidations move the price at which everybody is margined" in told
    assert "cascades are not replayed" not in told


def test_the_report_lists_the_rules_under_which_its_replays_ran() -> None:
    report = make_input()
    venue = VenueRules.model_validate({"auto_deleveraging": {"mode": "pro_rata"}})
    ruled = [replace(r, venue=venue) for r in (report.holdout.current, report.holdout.proposed)]
    pair = Pair(ruled[0], ruled[1], report.holdout.comparison)
    told = [item.text for item in assumptions(replace(report, holdout=pair))]
    assert any("each in proportion to its gain" in text for text in told)
