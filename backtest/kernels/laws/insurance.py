"""How large an insurance fund should be, and what liquidations pay into it.

The fund that minimises idle capital plus uncovered loss is a newsvendor's: the quantile of
deficits at ``1 - r / kappa`` (Chitra, "Autodeleveraging: impossibilities and optimization",
arXiv 2512.01112).
"""

from __future__ import annotations

import math

from backtest.cache import formula


@formula
def cover_probability(carry: float, cost_of_deficit: float) -> float:
    """Probability with which the best fund covers a deficit: ``1 - r / kappa``, not negative.

    Parameters
    ----------
    carry
        Cost of holding one unit of capital.
    cost_of_deficit
        Cost of one unit of uncovered loss.
    """
    return max(1.0 - carry / cost_of_deficit, 0.0)


@formula
def exponential_quantile(mean: float, probability: float) -> float:
    """Quantile of exponentially distributed deficits."""
    return -mean * math.log1p(-probability)


@formula
def liquidation_fee(
    quantity: float, mark: float, execution: float, mark_rate: float, execution_rate: float
) -> float:
    """Fee on a liquidated quantity: a rate at the mark and a rate at the execution price."""
    return abs(quantity) * (mark * mark_rate + execution * execution_rate)


@formula
def fund_after(fund: float, paid: float, income: float) -> float:
    """Balance of a fund after it paid for a deficit and took its share of fees."""
    return fund - paid + income
