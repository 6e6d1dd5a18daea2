"""Venues drawn from the whole space of rules, for tests that drive both engines."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from backtest.venue import VenueRules
from tests.tapes import START_MS

HOUR = 3_600_000


def _outages(*, hours: int) -> st.SearchStrategy[Any]:
    """Draw up to two windows within the first days of a test tape."""
    starts = st.lists(st.integers(0, hours), max_size=2, unique=True).map(sorted)
    return starts.map(
        lambda found: (
            [
                [START_MS + HOUR * h, START_MS + HOUR * h + HOUR // 2 * (1 + k)]
                for k, h in enumerate(found)
            ]
            if len(found) < 2 or found[1] > found[0] + 1
            else []
        )
    )


oracles = st.fixed_dictionaries(
    {},
    optional={
        "latency": st.sampled_from(["2s", "30min", "1h", "5h"]),
        "heartbeat": st.sampled_from(["1h", "3h"]),
        "deviation": st.sampled_from([0.005, 0.05]),
        "confidence": st.fixed_dictionaries(
            {"width": st.sampled_from([0.0, 0.01]), "range_share": st.sampled_from([0.0, 0.5])},
            optional={"limit": st.sampled_from([0.005, 0.03])},
        ),
        "outages": _outages(hours=60),
        "stale_after": st.sampled_from(["30min", "2h", "6h"]),
        "when_stale": st.sampled_from(["keep", "halt"]),
    },
)
checks = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["full", "trigger"]),
        "trigger": st.fixed_dictionaries(
            {
                "level": st.sampled_from([0.5, 1.1, 3.0]),
                "refresh": st.sampled_from(["0s", "1h", "9h"]),
            }
        ),
        "every": st.sampled_from(["30min", "3h"]),
        "near_expiry": st.sampled_from(["6h"]),
    },
)
calls = st.fixed_dictionaries(
    {
        "level": st.sampled_from([1.0, 1.25, 3.0]),
        "deadline": st.sampled_from(["0s", "20min", "1h", "6h"]),
    }
)
coin = st.fixed_dictionaries(
    {},
    optional={
        "haircut": st.sampled_from([0.1, 0.9]),
        "depth_impact": st.sampled_from([0.05, 1.0]),
        "scale_start_usd": st.sampled_from([1e3, 1e5]),
        "wrong_way": st.sampled_from([0.2, 1.0]),
        "correlation": st.sampled_from([-0.5, 0.7]),
        "peg": st.fixed_dictionaries(
            {"usd": st.sampled_from([40_000.0, 100.0]), "threshold": st.sampled_from([0.0, 0.05])}
        ),
        "treasury": st.just({"credit_spread": 0.02}),
    },
)
impacts = st.fixed_dictionaries(
    {"at_depth": st.sampled_from([0.02, 0.5])},
    optional={
        "law": st.sampled_from(["square_root", "linear"]),
        "cap": st.sampled_from([0.0, 0.3, 1.0]),
        "option_delta_floor": st.sampled_from([0.0, 0.5]),
        "feedback": st.fixed_dictionaries(
            {},
            optional={
                "permanent_share": st.sampled_from([0.0, 1.0]),
                "half_life": st.sampled_from(["1min", "2h"]),
                "delay": st.sampled_from(["1s", "1min", "3h"]),
                "least_move": st.sampled_from([1e-6, 0.01]),
            },
        ),
    },
)
keepers = st.fixed_dictionaries(
    {},
    optional={
        "capacity": st.sampled_from([1, 3]),
        "block": st.sampled_from(["1min", "2h"]),
        "cost_usd": st.sampled_from([0.5, 40.0]),
        "cost_per_move": st.sampled_from([0.0, 20.0]),
        "participation": st.booleans(),
        "outages": _outages(hours=60),
    },
)
liquidations = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(
            ["full", "step", "to_target", "step_down", "proportional", "auction"]
        ),
        "brackets": st.sampled_from([[0.0, 1e3, 1e4], [5e3]]),
    },
    optional={
        "target": st.sampled_from([1.0, 1.3, 4.0]),
        "minimum_share": st.sampled_from([0.01, 0.3, 1.0]),
        "step": st.sampled_from([0.2, 0.34, 1.0]),
        "steps_before_full": st.sampled_from([1, 3]),
        "proportional": st.fixed_dictionaries(
            {"gain": st.sampled_from([0.5, 3.0]), "cap": st.sampled_from([0.1, 1.0])}
        ),
        "auction": st.fixed_dictionaries(
            {},
            optional={
                "fast": st.sampled_from(["1min", "2h"]),
                "start": st.sampled_from([1.0, 0.9]),
                "cut": st.sampled_from([0.8, 0.3]),
                "buffer": st.sampled_from([0.0, 0.5]),
                "every": st.sampled_from(["1min", "2h"]),
            },
        ),
        "interval": st.sampled_from(["30s", "90min"]),
        "small_usd": st.sampled_from([5e3]),
        "penalty": st.sampled_from([0.0, 0.1, 0.4]),
        "penalty_base": st.sampled_from(["notional", "maintenance"]),
        "incentive_share": st.sampled_from([0.0, 0.3]),
        "fund_share": st.sampled_from([0.5]),
        "impact": impacts,
        "keepers": keepers,
        "backstop": st.fixed_dictionaries(
            {"below": st.sampled_from([0.1, 0.6667]), "start_usd": st.sampled_from([0.0, 2e3])}
        ),
    },
)
venues = st.fixed_dictionaries(
    {
        "margin_call": calls,
        "insurance_fund": st.fixed_dictionaries(
            {"start_usd": st.sampled_from([0.0, 500.0, 1e6])},
            optional={
                "target_usd": st.sampled_from([600.0, 2e6]),
                "market_cap_usd": st.sampled_from([{"BTC": 100.0}]),
                "fee_share": st.sampled_from([0.5]),
            },
        ),
        "liquidation": liquidations,
    },
    optional={
        "oracle": oracles,
        "margin_check": checks,
        "withdrawals": st.just({"gated_by_deficit": True}),
        "collateral": st.fixed_dictionaries({"BTC": coin}),
        "circuit_breaker": st.fixed_dictionaries(
            {"move": st.sampled_from([0.02, 0.2])},
            optional={"window": st.sampled_from(["3h"]), "halt": st.sampled_from(["10min", "4h"])},
        ),
        "auto_deleveraging": st.fixed_dictionaries(
            {"mode": st.sampled_from(["none", "queue", "pro_rata"])},
            optional={"severity": st.sampled_from([0.5])},
        ),
        "socialised_loss": st.sampled_from(
            [{"by": by} for by in ("equity", "profit", "funding", "withdrawal")]
        ),
        "fees": st.fixed_dictionaries(
            {},
            optional={
                "taker": st.sampled_from([0.0, 0.01]),
                "maker": st.sampled_from([0.002]),
                "option_cap": st.sampled_from([0.125]),
            },
        ),
        "funding": st.fixed_dictionaries(
            {}, optional={"interval": st.just("8h"), "cap": st.sampled_from([1e-5])}
        ),
        "settlement": st.sampled_from([{"average": "0s"}, {"average": "2h"}]),
    },
).map(VenueRules.model_validate)
