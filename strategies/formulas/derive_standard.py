"""Derive's standard manager: each expiry by its shorts alone, or by its largest loss at expiry.

Results are *net* margins, value minus requirement; an account is in order while they are not
negative. Initial margin also pays for oracles of low confidence and a settlement coin below its
peg. Source: `StandardManager.sol` of derivexyz/v2-core.
"""

from __future__ import annotations

from typing import NamedTuple

from strategies.formulas.derive_options import OptionLeg, leg_value


class StandardParameters(NamedTuple):
    """Rates of spot or of value, as the contract's configuration has them."""

    max_req: float
    min_req: float
    mm_call: float
    mm_put: float
    mm_put_mtm: float
    unpaired_im: float
    unpaired_mm: float
    mm_offset: float
    perp_mm: float
    perp_im: float
    conf_threshold: float
    oc_factor: float
    base_factor: float
    base_im_scale: float
    depeg_threshold: float
    depeg_factor: float


class StandardExpiry(NamedTuple):
    """Options that expire together; confidence is the least of its feeds."""

    seconds: float
    forward: float
    confidence: float
    legs: tuple[OptionLeg, ...]


class StandardMarket(NamedTuple):
    """What an account holds in one market."""

    spot: float
    spot_confidence: float
    perp_confidence: float
    perp: float
    perp_price: float
    perp_unrealised: float
    base: float
    expiries: tuple[StandardExpiry, ...]


def isolated_margin(
    leg: OptionLeg, value: float, spot: float, initial: bool, given: StandardParameters
) -> float:
    """Return the margin of one leg alone; a long one neither asks nor gives.

    Parameters
    ----------
    leg, value
        The options, and what all of them are worth; negative if short.
    spot
        Price of the underlying.
    initial
        Or maintenance.
    given
        The market's parameters.
    """
    if leg.quantity >= 0.0:
        return 0.0
    if leg.is_call:
        maintenance = given.mm_call * spot * leg.quantity + value
    else:
        maintenance = min(given.mm_put * spot * leg.quantity, given.mm_put_mtm * value) + value
    if not initial:
        return maintenance
    out_of_the_money = max(leg.strike - spot if leg.is_call else spot - leg.strike, 0.0) / spot
    asked = max(given.max_req - out_of_the_money, given.min_req) * spot * leg.quantity + value
    return asked if leg.is_call else min(asked, maintenance * given.mm_offset)


def expiry_margin(
    expiry: StandardExpiry, spot: float, initial: bool, given: StandardParameters
) -> float:
    """Return the better of the isolated margins and the largest loss at expiry."""
    isolated = sum(
        isolated_margin(
            leg, leg_value(leg, expiry.forward, leg.volatility, expiry.seconds), spot, initial,
            given,
        )
        for leg in expiry.legs
    )  # fmt: skip
    largest_loss = min(
        min(_payoff(expiry.legs, price), 0.0) for price in (0.0, *(x.strike for x in expiry.legs))
    )
    net_calls = sum(leg.quantity for leg in expiry.legs if leg.is_call)
    if net_calls < 0.0:
        scale = given.unpaired_im if initial else given.unpaired_mm
        largest_loss += net_calls * scale * expiry.forward
    return max(isolated, largest_loss)


def market_margin(
    market: StandardMarket, stable: float, initial: bool, given: StandardParameters
) -> float:
    """Return the net margin of one market.

    Parameters
    ----------
    market
        What is held.
    stable
        Price of the settlement coin.
    initial
        Or maintenance.
    given
        The market's parameters.
    """
    spot, size = market.spot, abs(market.perp)
    total = market.perp_unrealised if size else 0.0
    total -= size * market.perp_price * (given.perp_im if initial else given.perp_mm)
    total += market.base * spot * given.base_factor * (given.base_im_scale if initial else 1.0)
    total += sum(expiry_margin(expiry, spot, initial, given) for expiry in market.expiries)
    if not initial:
        return total
    doubted = size * _doubt(min(market.perp_confidence, market.spot_confidence), given)
    doubted += market.base * _doubt(market.spot_confidence, given)
    shorts = 0.0
    for expiry in market.expiries:
        short = -sum(min(leg.quantity, 0.0) for leg in expiry.legs)
        doubted += short * _doubt(min(market.spot_confidence, expiry.confidence), given)
        shorts += short
    depegged = max(given.depeg_threshold - stable, 0.0) * given.depeg_factor * (shorts + size)
    return total - (doubted + depegged) * spot


def _doubt(confidence: float, given: StandardParameters) -> float:
    return (1.0 - confidence) * given.oc_factor if confidence < given.conf_threshold else 0.0


def _payoff(legs: tuple[OptionLeg, ...], price: float) -> float:
    return sum(
        leg.quantity * max(price - leg.strike if leg.is_call else leg.strike - price, 0.0)
        for leg in legs
    )
