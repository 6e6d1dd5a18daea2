"""Derive's portfolio margin, first and second form: the worst of a grid of scenarios.

Results are *net* margins, value minus requirement. Source: `PMRMLib.sol` and `PMRMLib_2.sol` of
derivexyz/v2-core. What both forms share: options revalued under moves of spot and volatility,
gains of an expiry discounted, a contingency for forwards that move apart, and flat charges.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from strategies.formulas.derive_options import (
    YEAR_S,
    OptionLeg,
    leg_value,
    naked_shorts,
    volatility_stretch,
)

DAY_S = 86_400.0
UP, NONE, DOWN, LINEAR, ABS = "up", "none", "down", "linear", "abs"


class Scenario(NamedTuple):
    """Factor on spot, direction of volatility, and the share of the profit that counts."""

    move: float
    direction: str
    damping: float = 1.0


class PortfolioExpiry(NamedTuple):
    """Options that expire together; part of the forward may be fixed already."""

    seconds: float
    forward_fixed: float
    forward_variable: float
    rate: float
    confidence: float
    legs: tuple[OptionLeg, ...]


class Collateral(NamedTuple):
    """Value of a coin beside the portfolio, and what is taken from it."""

    value: float
    confidence: float
    cancels_risk: bool
    mm_haircut: float
    im_haircut: float


class Account(NamedTuple):
    """One portfolio; ``perp_value`` is unrealised profit and funding."""

    cash: float
    spot: float
    spot_confidence: float
    stable: float
    perp: float
    perp_price: float
    perp_confidence: float
    perp_value: float
    base: float
    collateral: tuple[Collateral, ...]
    expiries: tuple[PortfolioExpiry, ...]


class Discounts(NamedTuple):
    """Factors on the value of an expiry: of time, on a gain and on a debt."""

    time: float
    gain: float
    debt: float


def discounts(expiry: PortfolioExpiry, given: Any) -> Discounts:
    """Return the factors on an expiry's value under a parameter set of either form."""
    years = expiry.seconds / YEAR_S
    rate = max(expiry.rate, 0.0)
    if not hasattr(given, "short_rate_add"):
        gain = given.static_disc * math.exp(-years * (rate * given.rate_mult + given.rate_add))
        return Discounts(1.0, gain, 1.0)
    time = math.exp(-rate * years)
    gain = math.exp(-years * (rate * given.long_rate_mult + given.long_rate_add))
    debt = math.exp(years * (rate * given.short_rate_mult + given.short_rate_add))
    return Discounts(
        time,
        given.long_static_discount * gain,
        min(1.0 / time, given.short_static_discount * debt),
    )


def expiry_value(expiry: PortfolioExpiry, scenario: Scenario, given: Any) -> float:
    """Return what an expiry is worth under a scenario, undiscounted."""
    forward = expiry.forward_variable * scenario.move + expiry.forward_fixed
    stretch = volatility_stretch(
        expiry.seconds, given.dte_floor_days * DAY_S, given.short_power, given.long_power
    )
    total = 0.0
    for leg in expiry.legs:
        volatility = leg.volatility
        if scenario.direction == UP:
            volatility = max(volatility * (1.0 + given.vol_up * stretch), given.min_vol_up)
        elif scenario.direction == DOWN:
            volatility *= max(1.0 - given.vol_down * stretch, 0.0)
        elif scenario.direction in (LINEAR, ABS):
            volatility *= _skew(leg.strike / forward, expiry.seconds, scenario.direction, given)
        total += leg_value(leg, forward, volatility, expiry.seconds)
    return total


def _skew(moneyness: float, seconds: float, direction: str, given: Any) -> float:
    """Factor on the volatility of a strike when the wings of the surface rise."""
    skew: Any = given.skew
    root = math.sqrt(seconds / YEAR_S)
    linear = direction == LINEAR
    slope, cap = (skew.linear_slope, skew.linear_cap) if linear else (skew.abs_slope, skew.abs_cap)
    cap += slope * root
    flat_beyond: float = root * skew.width * (skew.vol_static + root * skew.vol_scale)
    flat_beyond = max(float(skew.min_k_star), flat_beyond)
    k = math.log(moneyness) if linear else abs(math.log(moneyness))
    tilt = k * cap / flat_beyond
    return float(max(1.0 + (min(cap, tilt) if k >= 0.0 else max(-cap, tilt)), 0.0))


def scenario_profit(account: Account, scenario: Scenario, given: Any) -> float:
    """Return the profit of a portfolio under a scenario, against its present mark."""
    profit = account.perp * account.perp_price * (scenario.move - 1.0)
    profit += account.base * account.spot / account.stable * (scenario.move - 1.0)
    profit += sum(c.value * (scenario.move - 1.0) for c in account.collateral if c.cancels_risk)
    skewed = scenario.direction in (LINEAR, ABS)
    for expiry in account.expiries:
        factors = discounts(expiry, given)
        shocked = factors.time * expiry_value(expiry, scenario, given)
        shocked *= factors.gain if shocked >= 0.0 else factors.debt
        moved = shocked - marked(expiry, given)
        # The surface may turn either way: in a skew scenario every expiry loses.
        profit += -abs(moved) if skewed else moved
    return profit * scenario.damping


def marked(expiry: PortfolioExpiry, given: Any) -> float:
    """Return the present value of an expiry."""
    present = expiry_value(expiry, Scenario(1.0, NONE), given)
    return discounts(expiry, given).time * present


def basis_contingency(account: Account, given: Any) -> float:
    """Return the charge for forwards that move apart: a share of each expiry's worse move."""
    total = 0.0
    for expiry in account.expiries:
        time, present = discounts(expiry, given).time, marked(expiry, given)
        moved = [
            time * expiry_value(expiry, Scenario(move, NONE), given) - present
            for move in (given.basis_up, given.basis_down)
        ]
        share = given.basis_add + given.basis_mult * expiry.seconds / YEAR_S
        total += min(*moved, 0.0) * share
    return total


def confidence_contingency(account: Account, given: Any) -> float:
    """Return the charge of initial margin for oracles that are not sure of their price."""

    def doubt(confidence: float) -> float:
        low = confidence < given.conf_threshold
        return (1.0 - confidence) * given.conf_margin if low else 0.0

    sure = account.spot_confidence
    if account.perp != 0.0:
        sure = min(sure, account.perp_confidence)
    total = doubt(sure) * (abs(account.perp) + account.base) * account.spot
    for expiry in account.expiries:
        held = sum(abs(leg.quantity) for leg in expiry.legs)
        total += doubt(min(sure, expiry.confidence)) * held * account.spot
    spot = account.spot_confidence
    return total + sum(doubt(min(c.confidence, spot)) * c.value for c in account.collateral)


def portfolio_value(account: Account, given: Any) -> float:
    """Return cash, marked options, unrealised profit and collateral together."""
    total = account.cash + account.perp_value + account.base * account.spot / account.stable
    total += sum(marked(expiry, given) for expiry in account.expiries)
    return total + sum(c.value for c in account.collateral)


def shorts_notional(account: Account) -> float:
    """Return the notional of options sold and not bought at the same strike and expiry."""
    return account.spot * sum(naked_shorts(expiry.legs) for expiry in account.expiries)


def first_form(account: Account, profits: list[float], given: Any) -> tuple[float, float]:
    """Return initial and maintenance margin of the first form from the scenarios' profits."""
    worst = min(*profits, basis_contingency(account, given))
    charges = abs(account.perp) * given.perp_pct + account.base * given.base_pct
    worst -= charges * account.spot + given.opt_pct * shorts_notional(account)
    peg = max(given.peg_threshold - account.stable, 0.0) * given.peg_factor
    value = portfolio_value(account, given)
    initial = worst * (given.im_factor + peg) - confidence_contingency(account, given)
    return initial + value, worst + value


def second_form(account: Account, profits: list[float], given: Any) -> tuple[float, float]:
    """Return initial and maintenance margin of the second form from the scenarios' profits."""
    worst = min(*profits, basis_contingency(account, given))
    perp_notional = abs(account.perp) * account.spot
    shorts = shorts_notional(account)
    kept = perp_notional * given.mm_perp + shorts * given.mm_option
    kept += sum(c.value * c.mm_haircut for c in account.collateral)
    extra = perp_notional * given.im_perp_extra + shorts * given.im_option_extra
    extra += sum(c.value * c.im_haircut for c in account.collateral)
    extra += confidence_contingency(account, given)
    peg = max(given.peg_threshold - account.stable, 0.0) * given.peg_factor
    value = portfolio_value(account, given)
    initial = worst * (given.im_loss_factor + peg) - extra - kept
    return initial + value, worst * given.mm_loss_factor - kept + value
