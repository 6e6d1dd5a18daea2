"""Constants of a portfolio margin by name, and one contract under every scenario, plainly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.black76 import exp_negative, price_from_moneyness
from strategies.kernels import portfolio_terms as terms

if TYPE_CHECKING:
    from backtest.kernels.types import KernelInput, Market


class Rules:
    """Constants and parameters by their names' places.

    Attributes
    ----------
    one
        Single numbers.
    asset
        Numbers of each asset.
    scenarios
        ``(move, slope, weight, slope, direction, skewed, tail)`` of each column.
    ranges, funding
        Posted price range and expected funding of each asset, fractions.
    """

    def __init__(self, given: KernelInput, assets: int) -> None:
        numbers = [float(c) for c in given.constants]
        end = terms.SINGLES + assets * terms.ASSET_COLUMNS
        self.one = numbers[: terms.SINGLES]
        self.asset = np.reshape(numbers[terms.SINGLES : end], (assets, -1)).tolist()
        self.scenarios = np.reshape(numbers[end:], (terms.SCENARIO_ROWS, -1)).T.tolist()
        posted = [float(p) for p in given.parameters]
        self.peg, self.ranges = posted[terms.PEG], posted[terms.RANGES : terms.RANGES + assets]
        self.funding = posted[terms.RANGES + assets :]

    def move(self, asset: int, k: int) -> float:
        """Return the factor of a scenario on the price of an asset."""
        base, slope = self.scenarios[k][: terms.WEIGHT]
        return max(base + slope * self.ranges[asset], terms.LEAST_MOVE)

    def weight(self, asset: int, k: int) -> float:
        """Return the share of a scenario's profit that counts."""
        base, slope = self.scenarios[k][terms.WEIGHT : terms.DIRECTION]
        return float(base + slope * self.ranges[asset])

    def is_basis(self, k: int) -> bool:
        """Tell whether a column moves forwards alone."""
        first = int(self.one[terms.BASIS_COLUMN])
        return first >= 0 and first <= k < first + 2


def _time_discount(rules: Rules, years: float, rate: float) -> float:
    rate = 0.0 if rate < 0.0 else rate
    # The exponential of what is unknown is not: the difference keeps it so.
    unknown = rate - rate
    return exp_negative(-rules.one[terms.TIME_DISCOUNT] * rate * years) + unknown


def expiry_factors(rules: Rules, years: float, rate: float) -> tuple[float, float, float]:
    """Return what an expiry's gain and debt are multiplied by, and its share of the basis."""
    one, rate = rules.one, 0.0 if rate < 0.0 else rate
    time = _time_discount(rules, years, rate)
    gain = exp_negative(-years * (rate * one[terms.GAIN_RATE] + one[terms.GAIN_ADD]))
    debt = exp_negative(years * (rate * one[terms.DEBT_RATE] + one[terms.DEBT_ADD]))
    debt = one[terms.DEBT_BASE] * debt
    limit = 1.0 / time
    return (
        time * (one[terms.GAIN_BASE] * gain),
        time * (limit if limit < debt else debt),
        one[terms.BASIS_ADD] + one[terms.BASIS_PER_YEAR] * years,
    )


def _skew_factor(rules: Rules, log_strike: float, root: float, absolute: bool) -> float:
    """Return the factor on the volatility of a strike when the skew changes."""
    one = rules.one
    cap = one[terms.ABS_CAP] if absolute else one[terms.LINEAR_CAP]
    cap += (one[terms.ABS_SLOPE] if absolute else one[terms.LINEAR_SLOPE]) * root
    flat = root * one[terms.WIDTH] * (one[terms.WIDTH_STATIC] + root * one[terms.WIDTH_SLOPE])
    least = one[terms.LEAST_WIDTH]
    k = abs(log_strike) if absolute else log_strike
    tilt = k * cap / (least if flat < least else flat)
    below, above = (-cap if tilt < -cap else tilt), (cap if cap < tilt else tilt)
    factor = 1.0 + (above if k >= 0.0 else below)
    return 0.0 if factor < 0.0 else factor


def contract_row(i: int, rules: Rules, market: Market, coins_counted: bool) -> list[float]:
    """Return what one contract adds under every scenario, USD.

    Of an option the value where expiries are valued as a whole, else its profit; of any other
    contract its profit. Profits have their weight, values have none.
    """
    asset, inverse = int(market.asset[i]), int(market.inverse[i])
    settled, value = float(market.settled[i]), float(market.value_usd[i])
    moving = coins_counted and rules.asset[asset][terms.MOVES_WITH] == asset
    row = []
    if market.kind[i] != OPTION:
        edge, clamped = rules.ranges[asset], rules.one[terms.CLAMPED] > 0.5
        for k, scenario in enumerate(rules.scenarios):
            move, weight = rules.move(asset, k), rules.weight(asset, k)
            if clamped and scenario[terms.TAIL] > 0.0:
                move, weight = (1.0 - edge if move < 1.0 else 1.0 + edge), 1.0
            factor = move if settled == 0.0 else settled + (1.0 - settled) * move
            if inverse:
                factor = (move if moving else 1.0) / factor
            row.append(weight * (value * (factor - 1.0)))
        return row
    years, sigma = float(market.years[i]), float(market.sigma[i])
    forward, strike = float(market.forward[i]), float(market.strike[i])
    is_call, size = float(market.is_call[i]), float(market.contract_size[i])
    moneyness, root = math.log(forward / strike), math.sqrt(years)
    kept = sigma * root
    lowered, raised = _shocked(rules, asset, years, sigma, root)
    scale = size * (float(market.index[asset]) / forward if inverse else 1.0)
    present = scale * price_from_moneyness(forward, strike, moneyness, kept, is_call)
    time = _time_discount(rules, years, float(market.rate[i]))
    by_expiry = rules.one[terms.BY_EXPIRY] > 0.5
    for k, scenario in enumerate(rules.scenarios):
        move, direction = rules.move(asset, k), scenario[terms.DIRECTION]
        factor = move if settled == 0.0 else settled + (1.0 - settled) * move
        log_move = math.log(factor)
        shocked = raised if direction > 0.0 else lowered
        shocked = kept if direction == 0.0 else shocked
        if scenario[terms.SKEWED] < 0.0:
            log_strike = -(moneyness + log_move)
            shocked = kept * _skew_factor(rules, log_strike, root, direction > terms.LINEAR)
        price = price_from_moneyness(
            forward * factor, strike, moneyness + log_move, shocked, is_call
        )
        index = move if moving and not rules.is_basis(k) else 1.0
        after = scale * price * (index / factor if inverse else 1.0)
        if not by_expiry:
            after = rules.weight(asset, k) * (after - value)
        elif rules.is_basis(k):
            after = time * (after - present)
        row.append(after)
    return row


def _shocked(
    rules: Rules, asset: int, years: float, sigma: float, root: float
) -> tuple[float, float]:
    """Return ``sigma * sqrt(years)`` with volatility shocked down and up."""
    one, own = rules.one, rules.asset[asset]
    days = years * 365.0
    days = one[terms.LEAST_DAYS] if days < one[terms.LEAST_DAYS] else days
    power = one[terms.POWER_NEAR] if days <= 30.0 else one[terms.POWER_FAR]
    stretch = exp_negative(power * math.log(30.0 / days))
    unit = 1.0 if one[terms.VOL_ADDED] > 0.5 else sigma
    raised = sigma + own[terms.VOL_UP] * stretch * unit
    lowered = sigma - own[terms.VOL_DOWN] * stretch * unit
    raised = own[terms.LEAST_VOL] if raised < own[terms.LEAST_VOL] else raised
    return (0.0 if lowered < 0.0 else lowered) * root, raised * root
