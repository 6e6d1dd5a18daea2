"""Margin rates that rise with size, open interest or skew.

Sources: dYdX v4 `perpetuals/types/liquidity_tier.go`; Deribit knowledge base, linear
perpetuals; Synthetix perps v3 `markets/perps-market`; Paradex documentation, portfolio margin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    pass


def open_interest_rate(base: float, lower: float, upper: float, open_interest: float) -> float:
    """Return dYdX's initial rate: from ``base`` at a lower open interest to 1 at an upper one.

    Parameters
    ----------
    base
        Initial margin rate of a quiet market.
    lower, upper
        Open notional between which the rate rises; an upper one of 0 means that it does not.
    open_interest
        Open notional of the market.
    """
    if upper <= 0.0 or open_interest <= lower:
        return base
    if open_interest >= upper:
        return 1.0
    return base + (open_interest - lower) / (upper - lower) * (1.0 - base)


def size_rate(base: float, slope: float, size: float) -> float:
    """Return Deribit's rate of a linear contract: ``base + slope |size|``."""
    return base + slope * abs(size)


class SkewMarket(NamedTuple):
    """A position on a market whose margin scales with its skew (Synthetix)."""

    size: float
    price: float
    skew_scale: float
    initial_ratio: float
    minimum_ratio: float
    maintenance_scalar: float
    minimum_margin: float
    reward_ratio: float


def skew_scaled(position: SkewMarket) -> tuple[float, float, float]:
    """Return initial margin, maintenance margin and the reward for flagging, one position.

    The rate is ``|size| / skew_scale * initial_ratio + minimum_ratio`` of notional; maintenance
    scales it, and a flat amount is added to both.
    """
    notional = abs(position.size) * position.price
    rate = abs(position.size) / position.skew_scale * position.initial_ratio
    initial = notional * (rate + position.minimum_ratio)
    return (
        initial + position.minimum_margin,
        initial * position.maintenance_scalar + position.minimum_margin,
        notional * position.reward_ratio,
    )


def skew_cost(position: SkewMarket) -> float:
    """Return what opening a position on a balanced market cost: ``size**2 / (2 scale) price``.

    The fill is priced at the skew half-way through the trade, so it is a loss at the oracle.
    """
    return position.size * position.size / (2.0 * position.skew_scale) * position.price
