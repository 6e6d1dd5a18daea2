"""SPAN in plain Python: how its constants are laid out, and what they mean.

`strategies.kernels.span` states the law and compiles it; this is its specification, with which
it must agree bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import price_from_moneyness
from backtest.requirement import Explanation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement

SCENARIOS = 16
PAIRED = 14
"""The scenarios before it come in pairs of one price, volatility up and down."""
LEAST_MOVE = 0.01
"""No scenario takes a price below 1 % of the present one."""
PERPETUAL_MONTH = -1.0
"""Stands for the time to expiry of what never expires: a month of its own in the front tier."""

(
    INITIAL_RATIO,
    SHORT_MINIMUM,
    DELIVERY_RATE,
    DELIVERY_YEARS,
    DECAY_YEARS,
    VOL_RELATIVE,
    EXTREME_RANGES,
    EXTREME_COVER,
    TIERS,
    SPREADS,
    CREDITS,
) = range(11)
FIRST_TIER = 11
SPREAD_FIELDS = 3
CREDIT_FIELDS = 5

_THIRDS = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0)


def span_constants(
    *,
    initial_ratio: float,
    short_minimum: float,
    delivery: tuple[float, float],
    decay_years: float,
    vol_relative: bool,
    extremes: tuple[float, float],
    tiers: Sequence[float],
    spreads: Sequence[tuple[int, int, float]],
    credits: Sequence[tuple[int, float, int, float, float]],
) -> np.ndarray:
    """Lay out the constants of `span`.

    Parameters
    ----------
    initial_ratio
        Initial over maintenance margin, at least 1.
    short_minimum
        Least margin of a short option, fraction of its notional.
    delivery
        Rate on the delta of a month, and for how many years before its expiry.
    decay_years
        Time that passes in every scenario.
    vol_relative
        Whether the posted volatility range is a share of volatility or counts in points.
    extremes
        Size of the extreme moves in price ranges, and the share of their loss that counts.
    tiers
        Upper bounds in years to expiry, ascending; the last tier is without bound.
    spreads
        ``(tier, tier, rate)`` by priority, tiers counted from 0.
    credits
        ``(asset, ratio, asset, ratio, rate)`` by priority, assets by their number.

    Returns
    -------
    numpy.ndarray
        ``(11 + tiers + 1 + 3 * spreads + 5 * credits,)``.
    """
    head = [initial_ratio, short_minimum, *delivery, decay_years, float(vol_relative), *extremes]
    counts = [len(tiers) + 1, len(spreads), len(credits)]
    tables = [float(cell) for table in (spreads, credits) for line in table for cell in line]
    return np.array([*head, *counts, *tiers, math.inf, *tables], dtype=np.float64)


def scenario_of(constants: Sequence[float], k: int) -> tuple[float, float, float]:
    """Return scenario ``k`` as fraction of the price range, direction of volatility, weight."""
    if k >= PAIRED:
        side = 1.0 if k == PAIRED else -1.0
        return side * constants[EXTREME_RANGES], 0.0, constants[EXTREME_COVER]
    return _THIRDS[k // 2] / 3.0, 1.0 if k % 2 == 0 else -1.0, 1.0


@dataclass
class _Commodity:
    """What an account holds of one asset, and what it is asked for it in USD."""

    asset: int
    losses: list[float]
    months: dict[float, float]
    """Net delta in USD by years to expiry."""
    short_notional: float = 0.0
    option_value: float = 0.0
    scan: float = 0.0
    worst: int = -1
    spread_charge: float = 0.0
    delivery_charge: float = 0.0
    credit: float = 0.0
    minimum: float = 0.0

    @property
    def net_delta(self) -> float:
        return sum(self.months.values(), 0.0)

    @property
    def charged(self) -> float:
        return self.scan + self.spread_charge + self.delivery_charge - self.credit

    @property
    def risk(self) -> float:
        return self.minimum if self.charged < self.minimum else self.charged


def span_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for margin as the module describes, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: the price range of every asset, then the volatility range.
        ``constants``: from `span_constants`. The scratch table is not used.
    market, holdings, accounts, requirement
        As for every requirement kernel; a leg whose volatility is NaN makes its account's
        requirement NaN.
    """
    ratio = float(given.constants[INITIAL_RATIO])
    for account in accounts:
        asked = largest = 0.0
        worst = -1
        for held in _commodities(given, market, holdings, int(account)):
            asked += held.risk
            if worst < 0 or held.scan > largest:
                largest, worst = held.scan, held.worst
        requirement.initial[account] = ratio * asked
        requirement.maintenance[account] = asked
        requirement.worst_scenario[account] = worst


def explain_span(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split the margin of one account into SPAN's own lines.

    The last two lines cancel: a clearing house subtracts net option value because the cash that
    it looks at excludes options; an equity that includes them has it already.
    """
    ratio = float(given.constants[INITIAL_RATIO])
    commodities = _commodities(given, market, holdings, account)
    parts = {
        "scan risk": sum(held.scan for held in commodities),
        "inter-month spreads": sum(held.spread_charge for held in commodities),
        "delivery": sum(held.delivery_charge for held in commodities),
        "inter-commodity credits": -sum(held.credit for held in commodities),
    }
    parts["raised to the short option minimum"] = sum(h.risk - h.charged for h in commodities)
    value = sum(held.option_value for held in commodities)
    cash = {"net option value": -value, "options counted in equity": value}
    worst = ""
    for held in commodities:
        name = f"asset {held.asset}" if len(market.index) > 1 else "price"
        worst += "; " * bool(worst) + f"{name}: {_in_words(given, held)}"
    return Explanation(
        {name: ratio * usd for name, usd in parts.items()} | cash, parts | cash, worst
    )


def _in_words(given: KernelInput, held: _Commodity) -> str:
    fraction, direction, weight = scenario_of([float(c) for c in given.constants], held.worst)
    move = max(fraction * float(given.parameters[held.asset]), LEAST_MOVE - 1.0)
    vol = {1.0: ", volatility up", -1.0: ", volatility down", 0.0: ""}[direction]
    counted = f", {weight:.0%} of the loss counted" if weight != 1.0 else ""
    return f"scenario {held.worst + 1}, {move:+.1%}{vol}{counted}"


def _commodities(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> list[_Commodity]:
    """Ask for every asset that an account holds, by number, credits between them included."""
    constants = [float(c) for c in given.constants]
    found: dict[int, _Commodity] = {}
    first = int(holdings.start[account])
    for slot in range(first, first + int(holdings.count[account])):
        i = int(holdings.instrument[slot])
        quantity = float(holdings.quantity[slot])
        asset = int(market.asset[i])
        held = found.setdefault(asset, _Commodity(asset, [0.0] * SCENARIOS, {}))
        for k, profit in enumerate(profits_usd(i, given, market, constants)):
            held.losses[k] -= quantity * profit
        month = PERPETUAL_MONTH if market.kind[i] == PERPETUAL else float(market.years[i])
        held.months[month] = held.months.get(month, 0.0) + quantity * float(market.delta_usd[i])
        if market.kind[i] == OPTION:
            held.option_value += quantity * float(market.value_usd[i])
            if quantity < 0.0:
                held.short_notional += -quantity * float(market.notional_usd[i])
    ordered = [found[asset] for asset in sorted(found)]
    for held in ordered:
        held.minimum = constants[SHORT_MINIMUM] * held.short_notional
        _scan(held)
        _charge_months(held, constants)
    _credit_pairs(found, constants)
    return ordered


def _scan(held: _Commodity) -> None:
    largest = -math.inf
    for k, loss in enumerate(held.losses):
        # A loss that is not known is the worst of all.
        if loss > largest or loss != loss:
            largest, held.worst = loss, k
    held.scan = 0.0 if largest < 0.0 else largest


def _charge_months(held: _Commodity, constants: list[float]) -> None:
    tiers, spreads = int(constants[TIERS]), int(constants[SPREADS])
    bounds = constants[FIRST_TIER : FIRST_TIER + tiers]
    longs, shorts = [0.0] * tiers, [0.0] * tiers
    for years, delta in held.months.items():
        tier = next((t for t, bound in enumerate(bounds) if years <= bound), tiers - 1)
        if delta > 0.0:
            longs[tier] += delta
        else:
            shorts[tier] -= delta
        if 0.0 <= years <= constants[DELIVERY_YEARS]:
            held.delivery_charge += constants[DELIVERY_RATE] * abs(delta)
    start = FIRST_TIER + tiers
    for line in range(start, start + SPREAD_FIELDS * spreads, SPREAD_FIELDS):
        one, other, rate = int(constants[line]), int(constants[line + 1]), constants[line + 2]
        for long, short in ((one, other), (other, one)):
            formed = shorts[short] if shorts[short] < longs[long] else longs[long]
            longs[long] -= formed
            shorts[short] -= formed
            held.spread_charge += rate * formed


def _credit_pairs(found: dict[int, _Commodity], constants: list[float]) -> None:
    start = FIRST_TIER + int(constants[TIERS]) + SPREAD_FIELDS * int(constants[SPREADS])
    left = {asset: abs(held.net_delta) for asset, held in found.items()}
    for line in range(start, len(constants), CREDIT_FIELDS):
        one, ratio_one, other, ratio_other, rate = constants[line : line + CREDIT_FIELDS]
        legs = ((int(one), ratio_one), (int(other), ratio_other))
        if any(asset not in found for asset, _ in legs):
            continue
        if not found[int(one)].net_delta * found[int(other)].net_delta < 0.0:
            continue
        (first, per_first), (second, per_second) = legs
        formed, too = left[first] / per_first, left[second] / per_second
        formed = too if too < formed else formed
        for asset, per in legs:
            held, used = found[asset], formed * per
            rest = left[asset] - used
            left[asset] = rest if rest > 0.0 else 0.0
            per_dollar = price_risk(held.losses, held.worst) / abs(held.net_delta)
            held.credit += rate * (used * per_dollar)


def price_risk(losses: Sequence[float], worst: int) -> float:
    """Return the part of the scan that is due to the move of the price alone, in USD.

    The active scenario averaged with its pair (the same price, volatility the other way) is free
    of volatility risk; less the mean of the two scenarios without a move it is free of time.
    The extremes keep volatility as it is and are their own pair. Never below nothing, nor above
    the scan.
    """
    active = losses[worst]
    pair = losses[worst ^ 1] if worst < PAIRED else active
    due = 0.5 * (active + pair) - 0.5 * (losses[0] + losses[1])
    due = active if due > active else due
    return due if due > 0.0 else 0.0


def profits_usd(
    i: int, given: KernelInput, market: Market, constants: Sequence[float]
) -> list[float]:
    """Return what one contract gains under every scenario, USD."""
    asset = int(market.asset[i])
    reach, shift = float(given.parameters[asset]), float(given.parameters[-1])
    value, inverse = float(market.value_usd[i]), bool(market.inverse[i])
    profits = []
    for k in range(SCENARIOS):
        fraction, direction, weight = scenario_of(constants, k)
        x = max(1.0 + fraction * reach, LEAST_MOVE)
        if market.kind[i] != OPTION:
            profits.append(weight * (value * ((1.0 / x if inverse else x) - 1.0)))
            continue
        forward, strike = float(market.forward[i]), float(market.strike[i])
        sigma, years = float(market.sigma[i]), float(market.years[i])
        is_call, size = float(market.is_call[i]), float(market.contract_size[i])
        moneyness = math.log(forward / strike)
        relative = constants[VOL_RELATIVE] > 0.5
        shocked = sigma * (1.0 + direction * shift) if relative else sigma + direction * shift
        shocked = 0.0 if shocked < 0.0 else shocked
        left = years - constants[DECAY_YEARS]
        left = 0.0 if left < 0.0 else left
        deviation = shocked * math.sqrt(left)
        before = price_from_moneyness(forward, strike, moneyness, sigma * math.sqrt(years), is_call)
        after = price_from_moneyness(
            forward * x, strike, moneyness + math.log(x), deviation, is_call
        )
        gain = after * (1.0 / x) - before if inverse else after - before
        scale = size * (float(market.index[asset]) / forward if inverse else 1.0)
        profits.append(weight * (scale * gain))
    return profits
