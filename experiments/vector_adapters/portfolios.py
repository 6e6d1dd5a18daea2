"""Published accounts as the portfolios that policies are asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import RemarginError
from backtest.kernels.black76 import black76
from backtest.kernels.types import Holdings, KernelInput
from backtest.units import years
from experiments.vector_adapters.base import NotCoveredError
from strategies.kernels.portfolio_account import Parts, scenario_parts
from strategies.portfolio import Leg, Portfolio, market_of
from strategies.registry import policy

if TYPE_CHECKING:
    from strategies.contract import MarginPolicy


def revalued_leg(*, discount: float = 1.0, **fields: Any) -> Leg:
    """Return an option that is worth its discounted Black-76 price.

    A case's numbers go as they are, beyond what a portfolio written by hand may hold: a
    volatility of 250,000 % or a fraction of a millisecond to expiry.
    """
    terms = (fields["forward"], fields["strike"], fields["iv"], years(fields["expires_in"]))
    value = discount * float(black76(*terms, float(fields["call"])))
    return Leg.model_construct(**fields, value=value)


def preset(name: str, **numbers: Any) -> MarginPolicy:
    """Return a preset with a case's numbers in place of its own.

    Raises
    ------
    NotCoveredError
        If the policy cannot have such numbers.
    """
    try:
        return policy(f"preset:{name}", **numbers)
    except RemarginError as error:
        raise NotCoveredError(f"the policy has no answer to these inputs: {error}") from None


def scenario_profits(rules: MarginPolicy, portfolio: Portfolio) -> Parts:
    """Return the profits of a portfolio under every scenario of a portfolio margin."""
    tape, market = market_of(portfolio)
    layer = rules.layers(tape)[0]
    legs = portfolio.positions
    cash = np.array([[0.0], *([portfolio.coins.get(a, 0.0)] for a in portfolio.assets)])
    holdings = Holdings(
        np.zeros(1, np.int64),
        np.full(1, len(legs)),
        np.arange(len(legs)),
        np.array([leg.quantity for leg in legs], np.float64),
        np.zeros(len(legs)),
        cash,
    )
    given = KernelInput(
        np.array(layer.parameters[0]), layer.constants, np.empty((0, 0)), np.empty(0, np.int64)
    )
    return scenario_parts(given, market, holdings, 0)
