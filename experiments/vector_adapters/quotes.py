"""Prices that a published case states in other words than a portfolio does."""

from __future__ import annotations

import math


def forward_at_basis(index: float, annual_basis: float, days: float) -> float:
    """Return ``index * e**(basis * days / 365)``, a forward at an annual basis (Dederi)."""
    return index * math.exp(annual_basis * days / 365.0)


def skew_fill_price(price: float, size: float, skew_scale: float) -> float:
    """Return what opening a position on a balanced market is filled at (Synthetix perps v3).

    The skew half-way through the trade sets the price: ``price (1 + size / (2 scale))``.
    """
    return price * (1.0 + size / (2.0 * skew_scale))
