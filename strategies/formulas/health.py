"""Weighted health of an account of coins, debts and a perpetual (Mango v4, `health/cache.rs`)."""

from __future__ import annotations

from typing import NamedTuple

from backtest.kernels.laws.collateral import borrow_scaling, deposit_scaling


class CoinWeights(NamedTuple):
    """How the venue weights one coin; a scale start of 0 leaves a weight as it is."""

    price: float
    asset: float
    debt: float
    deposits: float = 0.0
    deposit_scale_start: float = 0.0
    borrows: float = 0.0
    borrow_scale_start: float = 0.0


class PerpetualPosition(NamedTuple):
    """Quantities of a perpetual, resting bids and asks among them, and its weights."""

    base: float
    quote: float
    bids: float
    asks: float
    price: float
    asset_weight: float
    debt_weight: float
    profit_weight: float


def coin_health(quantity: float, weights: CoinWeights) -> float:
    """Return the health of a coin held or owed; what all accounts hold of it lowers its weight.

    Parameters
    ----------
    quantity
        Coins, negative if owed.
    weights
        Of the coin.
    """
    if quantity >= 0.0:
        weight = weights.asset
        if weights.deposit_scale_start > 0.0:
            deposits = weights.deposits * weights.price
            weight *= deposit_scaling(deposits, weights.deposit_scale_start)
    else:
        weight = weights.debt
        if weights.borrow_scale_start > 0.0:
            borrows = weights.borrows * weights.price
            weight *= borrow_scaling(borrows, weights.borrow_scale_start)
    return weight * quantity * weights.price


def perpetual_value(position: PerpetualPosition) -> float:
    """Return what a perpetual adds to its settlement coin, in that coin.

    The worse of all its bids or all its asks filled; a positive total counts with the market's
    profit weight only.
    """
    outcomes = []
    for filled in (position.bids, -position.asks):
        base = position.base + filled
        weight = position.asset_weight if base >= 0.0 else position.debt_weight
        outcomes.append((weight * base - filled) * position.price + position.quote)
    worst = min(outcomes)
    return worst * position.profit_weight if worst > 0.0 else worst
