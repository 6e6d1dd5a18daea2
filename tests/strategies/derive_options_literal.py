"""Options of one expiry as Derive's managers revalue them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backtest.kernels.black76 import black76

if TYPE_CHECKING:
    from collections.abc import Iterable

YEAR_S = 365 * 86_400.0
DAYS_30_S = 30 * 86_400.0


class OptionLeg(NamedTuple):
    """Options of one strike: signed quantity and the volatility they are marked at."""

    strike: float
    is_call: bool
    quantity: float
    volatility: float


def leg_value(leg: OptionLeg, forward: float, volatility: float, seconds: float) -> float:
    """Return what all options of a leg are worth, undiscounted (Black 1976)."""
    each = black76(forward, leg.strike, volatility, seconds / YEAR_S, float(leg.is_call))
    return leg.quantity * float(each)


def volatility_stretch(
    seconds: float, least_seconds: float, short_power: float, long_power: float
) -> float:
    """Return ``(30 days / time)**power``, by which a volatility shock grows near expiry."""
    power = short_power if seconds <= DAYS_30_S else long_power
    return float((DAYS_30_S / max(seconds, least_seconds)) ** power)


def naked_shorts(legs: Iterable[OptionLeg]) -> float:
    """Return the options sold beyond those bought of the same strike, calls and puts pooled."""
    net: dict[float, float] = {}
    for leg in legs:
        net[leg.strike] = net.get(leg.strike, 0.0) + leg.quantity
    return -sum(min(quantity, 0.0) for quantity in net.values())
