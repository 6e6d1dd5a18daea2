"""Margin of a single short option by formula, per contract of one coin.

Every result includes the option's own value, as the venues print it. Sources: Deribit knowledge
base, standard margin; Bybit help centre, option maintenance margin; Opyn
`contracts/core/MarginCalculator.sol`.
"""

from __future__ import annotations


def deribit_short(index: float, strike: float, mark: float, is_call: bool) -> tuple[float, float]:
    """Return initial and maintenance margin in coins.

    Parameters
    ----------
    index, strike
        US dollars.
    mark
        Value of the option in coins.
    is_call
        Or a put.
    """
    out_of_the_money = max(strike - index if is_call else index - strike, 0.0) / index
    initial = max(0.15 - out_of_the_money, 0.10) + mark
    if is_call:
        return initial, 0.075 + mark
    maintenance = max(0.075, 0.075 * mark) + mark
    return max(initial, maintenance), maintenance


def bybit_short(index: float, mark: float, factor: float, fee: float) -> float:
    """Return maintenance margin in dollars: ``max(f S, f m) + m + fee S``."""
    return max(factor * index, factor * mark) + mark + fee * index


def opyn_short(strike: float, spot: float, shock: float, upper_bound: float, is_put: bool) -> float:
    """Return naked margin: of a put in dollars, of a call in coins.

    Parameters
    ----------
    strike, spot
        US dollars.
    shock
        Spot factor of the stress, such as 0.75.
    upper_bound
        Share of the underlying that an option of this maturity may cost.
    is_put
        Or a call.
    """
    if is_put:
        stressed = shock * spot
        return upper_bound * min(strike, stressed) + max(strike - stressed, 0.0)
    moneyness = strike * shock / spot
    return upper_bound * min(1.0, moneyness) + max(1.0 - moneyness, 0.0)
