"""Black's formula with fifty digits, to tell how far a fast one is off."""

from __future__ import annotations

from decimal import Decimal, localcontext

DIGITS = 60
_FARTHEST = Decimal(15)
"""Beyond it a normal tail is below 1e-50."""
_SQRT_TWO_PI = Decimal("2.506628274631000502415765284811045253006986740609938316629923576")


def black76_exactly(
    forward: Decimal, strike: Decimal, deviation: Decimal, is_call: bool
) -> Decimal:
    """Return the undiscounted price of one option; doubles become decimals without rounding.

    Parameters
    ----------
    forward, strike
        US dollars, positive.
    deviation
        ``sigma * sqrt(years)``, positive.
    is_call
        A call, or a put.
    """
    with localcontext() as context:
        context.prec = DIGITS
        side = 1 if is_call else -1
        d1 = (forward / strike).ln() / deviation + deviation / 2
        asset, cash = _normal_cdf(side * d1), _normal_cdf(side * (d1 - deviation))
        return side * (forward * asset - strike * cash)


def _normal_cdf(x: Decimal) -> Decimal:
    """Sum the series ``1/2 + phi(x) * (x + x^3/3 + x^5/(3*5) + ...)``."""
    if abs(x) > _FARTHEST:
        return Decimal(int(x > 0))
    term = total = x
    odd = 1
    while abs(term) > Decimal(10) ** -DIGITS:
        odd += 2
        term *= x * x / odd
        total += term
    return Decimal("0.5") + total * (-x * x / 2).exp() / _SQRT_TWO_PI
