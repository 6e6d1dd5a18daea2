"""A portfolio written by hand: what it leaves unsaid is unknown, and is not zero."""

from __future__ import annotations

import math
from typing import Any

from strategies.portfolio import Portfolio, ask, market_of
from strategies.registry import policy


def written(**leg: Any) -> Portfolio:
    option = {"asset": "BTC", "kind": "option", "quantity": -1.0, "strike": 5e4, "call": True}
    return Portfolio.model_validate(
        {
            "assets": {"BTC": {"index": 5e4, "net_open_usd": "-120M"}},
            "positions": [option | {"expires_in": "30d"} | leg, {"asset": "BTC", "quantity": 1.0}],
        }
    )


def test_net_open_interest_is_money_and_may_be_short() -> None:
    assert written(iv="50%").assets["BTC"].net_open_usd == -120e6


def test_an_option_without_volatility_has_none_rather_than_zero() -> None:
    unknown = written(value=2_000.0)
    _, market = market_of(unknown)
    assert math.isnan(market.sigma[0])
    assert market.sigma[1] == 0.0
    assert market.value_usd[0] == 2_000.0
    assert math.isnan(ask(policy("scenario"), unknown).initial_usd)
    assert ask(policy("fixed"), unknown).initial_usd > 0.0


def test_a_volatility_of_zero_is_one() -> None:
    _, market = market_of(written(iv=0.0, strike=4e4))
    assert market.sigma[0] == 0.0
    assert market.value_usd[0] == 1e4
