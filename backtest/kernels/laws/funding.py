"""Funding that pulls a mark towards its oracle and open interest towards balance."""

from __future__ import annotations

from backtest.cache import formula


@formula
def imbalance_rate(
    long: float, short: float, mark: float, oracle: float, sensitivity: float
) -> float:
    """Rate that holders receive per unit: ``k (L / S - P / oracle)``; negative, longs pay.

    Parameters
    ----------
    long, short
        Open interest of either side, positive.
    mark, oracle
        Prices.
    sensitivity
        Factor on the rate.

    Notes
    -----
    The worked example of arXiv 2512.01112. Most venues quote the opposite sign.
    """
    return sensitivity * (long / short - mark / oracle)


@formula
def funding_cash(rate: float, price: float, quantity: float) -> float:
    """Cash that a signed quantity receives at a rate per unit of notional."""
    return rate * price * quantity
