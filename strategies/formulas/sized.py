"""Parts of venues' margin rules that no requirement kernel has a place for.

Sources: Synthetix perps v3 `markets/perps-market`; Paradex documentation, portfolio margin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def skew_fill_price(price: float, size: float, skew_scale: float) -> float:
    """Return what opening a position on a balanced market is filled at (Synthetix).

    The skew half-way through the trade sets the price: ``price (1 + size / (2 scale))``.
    """
    return price * (1.0 + size / (2.0 * skew_scale))


def hedged_delta_floor(
    deltas: Sequence[float], spot: float, net_rate: float, hedged_rate: float
) -> float:
    """Return the least portfolio margin: one rate on net delta, another on what it hedges.

    Parameters
    ----------
    deltas
        Of the legs, in coins.
    spot
        Price of the coin.
    net_rate, hedged_rate
        Paradex: 2 % and 1 %.
    """
    net = abs(sum(deltas))
    gross = sum(abs(delta) for delta in deltas)
    return (net_rate * net + hedged_rate * 0.5 * (gross - net)) * spot
