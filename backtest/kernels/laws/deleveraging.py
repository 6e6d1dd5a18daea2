"""Who pays for a deficit: the fund, winners by rank or pro rata, everybody per contract.

Money amounts are of one currency; "gain" is a winner's unrealised profit, the most that
deleveraging may take.
"""

from __future__ import annotations

import math

from backtest.cache import formula


@formula
def profit_leverage_rank(profit_share: float, leverage: float) -> float:
    """Place in the queue: profit times leverage, or divided by it for a loss (BitMEX).

    Parameters
    ----------
    profit_share
        Unrealised profit over the absolute value at entry.
    leverage
        Effective leverage, positive.

    Returns
    -------
    float
        The larger, the earlier deleveraged.
    """
    return profit_share * leverage if profit_share >= 0.0 else profit_share / leverage


@formula
def effective_leverage(mark_value: float, bankrupt_value: float) -> float:
    """Leverage that is left: ``|mark| / (mark - bankrupt)``; infinite at bankruptcy (BitMEX).

    Negative beyond it, where a position is liquidated and not ranked.

    Parameters
    ----------
    mark_value, bankrupt_value
        Signed value of the position at the mark and at its bankruptcy price, so that their
        difference is the equity.
    """
    equity = mark_value - bankrupt_value
    return abs(mark_value) / equity if equity != 0.0 else math.inf


@formula
def queue_taken(gain: float, budget_left: float) -> float:
    """Amount taken from the next winner in the queue, never more than was gained."""
    return max(min(gain, budget_left), 0.0)


@formula
def pro_rata_share(budget: float, total_gain: float) -> float:
    """Share of every gain that meets a budget, 0 to 1."""
    return min(budget / total_gain, 1.0) if total_gain > 0.0 else 0.0


@formula
def fund_payment(fund: float, deficit: float, cap_left: float) -> float:
    """Amount an insurance fund pays: all of a deficit, but no more than it has or may."""
    return max(min(fund, deficit, cap_left), 0.0)


@formula
def loss_per_contract(loss: float, long: float, short: float) -> float:
    """Loss that every open contract bears through the funding index (Drift).

    Parameters
    ----------
    loss
        What nobody else paid.
    long, short
        Open contracts of either side; ``short`` may carry its sign.

    Returns
    -------
    float
        Per contract; 0 where none is open.
    """
    contracts = long + abs(short)
    return loss / contracts if contracts > 0.0 else 0.0


@formula
def withdrawal_haircut(deficit: float, client_funds: float) -> float:
    """Share held back from withdrawals while a deficit is open, 0 to 1 (Paradex, Derive)."""
    return max(min(deficit / client_funds, 1.0), 0.0) if client_funds > 0.0 else 0.0


@formula
def profit_to_pool(profit: float, pool: float) -> float:
    """Traders' profit over the pool that has to pay it (GMX)."""
    return profit / pool


@formula
def capped_profit(profit: float, pool: float, largest_factor: float) -> float:
    """Profit that a pool pays out: at most a share of itself (GMX)."""
    return min(profit, largest_factor * pool)


@formula
def fund_threshold(average: float, fall: float, floor: float) -> float:
    """Balance of a fund below which winners are deleveraged (OKX).

    Parameters
    ----------
    average
        Balance over the last eight hours.
    fall
        Share of it that may be lost.
    floor
        The threshold is never lower.
    """
    return max(average * (1.0 - fall), floor)


@formula
def slice_shortfall(bankruptcy: float, execution: float, quantity: float) -> float:
    """Loss beyond an account's equity of a slice executed through its bankruptcy price.

    Parameters
    ----------
    bankruptcy, execution
        Prices.
    quantity
        Closed, with the sign of the position.
    """
    return max((bankruptcy - execution) * quantity, 0.0)
