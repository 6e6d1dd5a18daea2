"""Expected shortfall of a lognormal price as a margin rate (Vega protocol, spec 0018)."""

from __future__ import annotations

import math


def lognormal_factors(
    tail: float, years: float, drift: float, volatility: float
) -> tuple[float, float]:
    """Return the risk factors of a long and of a short position, per unit of mark price.

    Parameters
    ----------
    tail
        Probability of the tail, such as 1e-6.
    years
        Horizon.
    drift, volatility
        Annual, of the logarithm's process.

    Returns
    -------
    tuple of float
        ``1 - e**(mu tau) Phi(Phi^-1(l) - v) / l`` and ``e**(mu tau) Phi(v - Phi^-1(1 - l)) / l
        - 1``, where ``v`` is the deviation over the horizon.
    """
    from scipy.special import ndtr, ndtri

    deviation = volatility * math.sqrt(years)
    growth = math.exp(drift * years) / tail
    worst = float(ndtri(tail))
    # Phi^-1(1 - l) is -Phi^-1(l), without the digits that 1 - l loses.
    return (
        1.0 - growth * float(ndtr(worst - deviation)),
        growth * float(ndtr(deviation + worst)) - 1.0,
    )


def maintenance(mark: float, slippage: float, factor: float, quantity: float) -> float:
    """Return Vega's maintenance margin: slippage and risk factor on the marked value."""
    return mark * (slippage + factor) * abs(quantity)
