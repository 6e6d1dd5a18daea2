"""Parts of venues' margin rules that no requirement kernel has a place for.

Sources: Synthetix perps v3 `markets/perps-market`; Paradex documentation, portfolio margin.
"""

from __future__ import annotations


def skew_fill_price(price: float, size: float, skew_scale: float) -> float:
    """Return what opening a position on a balanced market is filled at (Synthetix).

    The skew half-way through the trade sets the price: ``price (1 + size / (2 scale))``.
    """
    return price * (1.0 + size / (2.0 * skew_scale))
