"""Prices at which a position is closed, and prices at which nothing is left of it.

Quantities are signed, long positive. Prices and amounts are of one currency. Sources: Binance
USD-M liquidation guide and leverage brackets; Hyperliquid margin documentation; dYdX v4
`clob/keeper/liquidations.go`.
"""

from __future__ import annotations

import math

import numpy as np

from backtest.cache import formula


@formula
def equity_at(cash: float, quantity: float, entry: float, price: float) -> float:
    """Return what one linear position and its cash are worth at a price."""
    return cash + quantity * (price - entry)


@formula
def bankruptcy_price(cash: float, quantity: float, entry: float) -> float:
    """Price at which equity is zero; 0 for a long that is paid for in full.

    A short without size has none: the result is NaN where ``quantity`` is zero.
    """
    if quantity == 0.0:
        return math.nan
    return max(entry - cash / quantity, 0.0)


@formula
def leverage(price: float, quantity: float, cash: float) -> float:
    """Notional over cash; infinite without cash."""
    return abs(price * quantity) / cash if cash > 0.0 else math.inf


@formula
def bracket_deduction(notional: float, lowers: np.ndarray, rates: np.ndarray) -> float:
    """Amount that makes bracketed maintenance continuous: ``M = rate * notional - deduction``.

    Parameters
    ----------
    notional
        Absolute value of the position.
    lowers, rates
        ``(B,)`` where each bracket begins, ascending from 0, and its maintenance rate.

    Returns
    -------
    float
        ``sum lower_i (rate_i - rate_{i-1})`` over the brackets below ``notional``.
    """
    deduction = 0.0
    for b in range(1, lowers.shape[0]):
        if notional > lowers[b]:
            deduction += lowers[b] * (rates[b] - rates[b - 1])
    return deduction


@formula
def bracket_liquidation_price(
    balance: float, quantity: float, entry: float, rate: float, deduction: float
) -> float:
    """Price at which a cross or isolated position meets its maintenance margin (Binance).

    Solves ``balance + q (P - entry) = rate |q| P - deduction``.

    Parameters
    ----------
    balance
        Wallet balance, less maintenance of and plus profit on other positions.
    quantity, entry
        Of the position.
    rate, deduction
        Of the bracket that holds at that price.

    Returns
    -------
    float
        Not positive where no price liquidates it.
    """
    return (balance + deduction - quantity * entry) / (abs(quantity) * rate - quantity)


@formula
def isolated_liquidation_price(
    collateral: float, quantity: float, entry: float, rate: float
) -> float:
    """Price at which an isolated position meets maintenance (Hyperliquid).

    ``entry - side (collateral - rate * |q| entry) / |q| / (1 - rate * side)``: the same price
    as `bracket_liquidation_price` without a deduction, in the venue's own terms.

    Parameters
    ----------
    collateral
        Margin of the position.
    quantity, entry
        Of the position.
    rate
        Maintenance rate: half the initial rate at the highest leverage of the tier.
    """
    side = 1.0 if quantity > 0.0 else -1.0
    size = abs(quantity)
    available = collateral - rate * size * entry
    return entry - side * available / size / (1.0 - rate * side)


@formula
def adjusted_bankruptcy_rating(equity: float, maintenance: float, adjustment: float) -> float:
    """How near an account is to bankruptcy, 0 to 1: ``BA (1 - TNC / TMMR)`` (dYdX).

    Parameters
    ----------
    equity, maintenance
        Of the whole account.
    adjustment
        The venue's factor; 1 and above.
    """
    if maintenance <= 0.0:
        return 1.0 if equity < 0.0 else 0.0
    return min(max(adjustment * (1.0 - equity / maintenance), 0.0), 1.0)


@formula
def fillable_price(
    quantity: float, price: float, position_maintenance: float, rating: float, spread: float
) -> float:
    """Price at which a liquidation order is offered: ``(PNNV - ABR SMMR PMMR) / q`` (dYdX).

    Parameters
    ----------
    quantity, price
        Of the position; price of the oracle.
    position_maintenance
        Maintenance margin of this position.
    rating
        From `adjusted_bankruptcy_rating`.
    spread
        Spread to maintenance margin ratio.
    """
    return (quantity * price - rating * spread * position_maintenance) / quantity


@formula
def bankruptcy_quote(
    closed: float, price: float, equity: float, released: float, maintenance: float
) -> float:
    """Cash received for closing at the account's bankruptcy price (dYdX).

    Parameters
    ----------
    closed
        Quantity that is closed, with the sign of the position.
    price
        Of the oracle.
    equity, maintenance
        Of the whole account.
    released
        Maintenance margin that falls away.

    Returns
    -------
    float
        ``q P - TNC |DMMR| / TMMR``; negative where closing costs cash.
    """
    return closed * price - equity * released / maintenance
