"""What it costs to execute against a finite book, and how far that moves the price.

Square root: Donier and Bonart, "A million metaorder analysis of market impact on the Bitcoin",
arXiv 1412.4503; ``c`` is the move at a volume equal to the depth. Linear: A. Kyle, "Continuous
auctions and insider trading", Econometrica 53 (1985). Permanent and temporary parts: Almgren,
Thum, Hauptmann and Li, "Direct estimation of equity market impact", Risk 18 (2005).
"""

from __future__ import annotations

import math

from backtest.cache import formula

SQUARE_ROOT, LINEAR = 0, 1


@formula
def price_move(volume_usd: float, depth_usd: float, law: int, at_depth: float) -> float:
    """Move of the price after a volume: ``c sqrt(Q / D)``, or ``c Q / D``.

    Parameters
    ----------
    volume_usd
        Volume executed, not negative.
    depth_usd
        Depth at which the move is ``at_depth``; without any the move is infinite.
    law
        `SQUARE_ROOT` or `LINEAR`.
    at_depth
        Move at ``Q = D``, a fraction of the price.

    Returns
    -------
    float
        Fraction of the price, not capped.
    """
    if depth_usd <= 0.0:
        return math.inf
    if law == LINEAR:
        return at_depth * volume_usd / depth_usd
    return at_depth * math.sqrt(volume_usd / depth_usd)


@formula
def execution_cost(
    volume_usd: float, already_usd: float, depth_usd: float, law: int, at_depth: float, cap: float
) -> float:
    """Cost of executing a volume after others in the same instant.

    The marginal move integrated from ``Q0`` to ``Q1``: ``2/3 c (Q1**1.5 - Q0**1.5) / sqrt(D)``
    under the square root, ``c (Q1**2 - Q0**2) / (2 D)`` under the linear law.

    Parameters
    ----------
    volume_usd, already_usd
        Volume executed now, and before it in the same instant.
    depth_usd, law, at_depth
        As for `price_move`.
    cap
        The cost is at most this share of the volume, and just that without depth.

    Returns
    -------
    float
        US dollars.
    """
    ceiling = cap * volume_usd
    if depth_usd <= 0.0:
        return ceiling
    until = already_usd + volume_usd
    if law == LINEAR:
        cost = at_depth * ((until * until - already_usd * already_usd) / (2.0 * depth_usd))
    else:
        swept = until * math.sqrt(until) - already_usd * math.sqrt(already_usd)
        cost = 2.0 / 3.0 * at_depth * swept / math.sqrt(depth_usd)
    return min(cost, ceiling)


@formula
def permanent_impact(
    volatility: float, size: float, daily_volume: float, outstanding: float, gamma: float,
    delta: float,
) -> float:  # fmt: skip
    """Move that stays after an order: ``gamma sigma (X / V) (Theta / V)**delta``.

    Parameters
    ----------
    volatility
        Daily, a fraction.
    size, daily_volume, outstanding
        Of the order, of a day, and of all that exists; one unit.
    gamma, delta
        Coefficient, and exponent of the inverse turnover.

    Returns
    -------
    float
        Fraction of the price.
    """
    return gamma * volatility * (size / daily_volume) * (outstanding / daily_volume) ** delta


@formula
def temporary_impact(
    volatility: float, size: float, daily_volume: float, days: float, eta: float, beta: float
) -> float:
    """Move that lasts while an order is worked: ``eta sigma (X / (V T))**beta``.

    Parameters
    ----------
    volatility, size, daily_volume
        As for `permanent_impact`.
    days
        Time over which the order is executed.
    eta, beta
        Coefficient, and exponent of the participation rate.

    Returns
    -------
    float
        Fraction of the price.
    """
    return eta * volatility * (size / (daily_volume * days)) ** beta
