"""What is taken from the value of a coin that serves as collateral.

Each law returns a haircut, a share of the balance's value; `backtest.rules.collateral` says how
they add up. The size discount and the scaling by deposits are Drift's (`math/margin.rs`,
`state/spot_market.rs`) and Mango's (`health/cache.rs`).
"""

from __future__ import annotations

import math

from backtest.cache import formula

SIZE_DISCOUNT_CEILING = 1.1
"""A size discount below this factor over one bites; Drift's constant."""


@formula
def depth_haircut(value_usd: float, depth_usd: float, at_depth: float) -> float:
    """Square-root cost of selling a balance: ``c sqrt(V / D)``; 1 without depth."""
    return at_depth * math.sqrt(value_usd / depth_usd) if depth_usd > 0.0 else 1.0


@formula
def wrong_way_haircut(adverse_usd: float, value_usd: float, rate: float) -> float:
    """Haircut for positions that lose where the collateral loses.

    Parameters
    ----------
    adverse_usd
        Delta of those positions, weighted by correlation; negative ones hedge and take nothing.
    value_usd
        Value of the balance, positive.
    rate
        Taken where the two are equally large, and at most.
    """
    return rate * min(adverse_usd / value_usd, 1.0) if adverse_usd > 0.0 else 0.0


@formula
def peg_haircut(price_usd: float, peg_usd: float, threshold: float, factor: float) -> float:
    """Haircut for the distance from a peg beyond what is forgiven, in either direction."""
    off = abs(price_usd / peg_usd - 1.0) - threshold
    return factor * off if off > 0.0 else 0.0


@formula
def deposit_scaling(deposits_usd: float, scale_start_usd: float) -> float:
    """Factor on a coin's weight for how much of it the whole venue holds: ``start / deposits``."""
    return scale_start_usd / deposits_usd if deposits_usd > scale_start_usd else 1.0


@formula
def borrow_scaling(borrows_usd: float, scale_start_usd: float) -> float:
    """Factor on the weight of a debt for how much of the coin all accounts owe (Mango)."""
    return borrows_usd / scale_start_usd if borrows_usd > scale_start_usd else 1.0


@formula
def size_discount(weight: float, factor: float, size: float) -> float:
    """Weight of a large balance: ``min(w, 1.1 / (1 + factor sqrt(|q|)))`` (Drift).

    Parameters
    ----------
    weight
        Of a small balance.
    factor
        Of the square root; 0 leaves the weight.
    size
        Contracts or coins.
    """
    discounted = SIZE_DISCOUNT_CEILING / (1.0 + factor * math.sqrt(abs(size)))
    # A size that is not a number must not leave the weight of a small balance.
    return weight if factor == 0.0 or discounted >= weight else discounted


@formula
def size_premium(ratio: float, factor: float, size: float) -> float:
    """Margin ratio of a large position: ``max(r, 0.8 r + factor sqrt(|q|))`` (Drift)."""
    raised = 0.8 * ratio + factor * math.sqrt(abs(size))
    return ratio if factor == 0.0 or raised <= ratio else raised
