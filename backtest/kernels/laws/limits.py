"""How much may be held: against liquidity, against a pool, against a market's size.

Sources: B.Protocol `SmartLTV.sol`; Chaos Labs on GMX single-token pools; Synthetix SCCP-2014.
"""

from __future__ import annotations

import math

from backtest.cache import formula


@formula
def loan_to_value(
    confidence: float, volatility: float, liquidity: float, debt_ceiling: float, bonus: float
) -> float:
    """Largest loan that liquidity can close in time: ``exp(-c sigma / sqrt(l / d)) - beta``.

    Parameters
    ----------
    confidence
        Standard deviations to withstand.
    volatility
        Daily, a fraction.
    liquidity, debt_ceiling
        What can be sold at the bonus, and what may be borrowed; one unit.
    bonus
        Of the liquidator, a fraction.

    Returns
    -------
    float
        Share of the collateral's value.
    """
    return math.exp(-confidence * volatility / math.sqrt(liquidity / debt_ceiling)) - bonus


@formula
def pool_loss_ratio(reserve_factor: float, skew: float, drop: float) -> float:
    """Profit of net-short traders over a pool held in the coin that falls.

    Parameters
    ----------
    reserve_factor
        Open interest over the pool before the fall.
    skew
        Net short share of that open interest.
    drop
        Fall of the price, below 1.

    Returns
    -------
    float
        ``RF * skew * d / (1 - d)``; above 1 the pool cannot pay.
    """
    return reserve_factor * skew * drop / (1.0 - drop)


@formula
def large_position_premium(
    multiplier: float, size: float, skew_scale: float, price: float
) -> float:
    """Extra liquidation premium of a large position: ``m (S / scale) P S`` (Synthetix)."""
    return multiplier * (abs(size) / skew_scale) * price * abs(size)
