"""SPAN in plain Python: what is asked of an account, and its parts.

`strategies.kernels.span` states the law and compiles it; this is its specification, with which
it must agree bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.instruments import OPTION, PERPETUAL
from backtest.requirement import Explanation
from strategies.kernels.span_layout import (
    CREDIT_FIELDS,
    DELIVERY_RATE,
    DELIVERY_YEARS,
    FIRST_TIER,
    INITIAL_RATIO,
    LEAST_MOVE,
    PAIRED,
    SCENARIOS,
    SHORT_MINIMUM,
    SPREAD_FIELDS,
    SPREADS,
    TIERS,
    month_key,
    scenario_of,
)
from strategies.kernels.span_prices import profits_usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement


@dataclass
class _Commodity:
    """What an account holds of one asset, and what it is asked for it in USD."""

    asset: int
    profits: list[float]
    months: dict[float, tuple[float, float]]
    """Years to expiry (less than nothing for perpetuals) and net delta in USD, by key."""
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
        return sum((delta for _, delta in self.months.values()), 0.0)

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
            held.profits[k] += quantity * profit
        perpetual = bool(market.kind[i] == PERPETUAL)
        years = -1.0 if perpetual else float(market.years[i])
        key = month_key(asset, years, perpetual)
        _, before = held.months.get(key, (years, 0.0))
        held.months[key] = years, before + quantity * float(market.delta_usd[i])
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
    if any(math.isnan(profit) for profit in held.profits):
        held.scan, held.worst = math.nan, 0
        return
    lowest = min(held.profits)
    held.scan = -lowest if lowest < 0.0 else 0.0
    held.worst = held.profits.index(lowest)


def _charge_months(held: _Commodity, constants: list[float]) -> None:
    tiers, spreads = int(constants[TIERS]), int(constants[SPREADS])
    bounds = constants[FIRST_TIER : FIRST_TIER + tiers]
    longs, shorts = [0.0] * tiers, [0.0] * tiers
    for years, delta in held.months.values():
        tier = next((t for t, bound in enumerate(bounds) if years <= bound), tiers - 1)
        if delta > 0.0:
            longs[tier] += delta
        else:
            shorts[tier] -= delta
        if 0.0 <= years <= constants[DELIVERY_YEARS]:
            held.delivery_charge += constants[DELIVERY_RATE] * abs(delta)
    start = FIRST_TIER + tiers
    for line in range(start, start + SPREAD_FIELDS * spreads, SPREAD_FIELDS):
        long, short, rate = int(constants[line]), int(constants[line + 1]), constants[line + 2]
        formed = min(longs[long], shorts[short])
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
            per_dollar = price_risk(held.profits, held.worst) / abs(held.net_delta)
            held.credit += rate * (used * per_dollar)


def price_risk(profits: Sequence[float], worst: int) -> float:
    """Return the part of the scan that is due to the move of the price alone, in USD.

    The active scenario averaged with its pair (the same price, volatility the other way) is free
    of volatility risk; less the mean of the two scenarios without a move it is free of time.
    The extremes keep volatility as it is and are their own pair. Never below nothing, nor above
    the scan.
    """
    active = profits[worst]
    pair = profits[worst ^ 1] if worst < PAIRED else active
    due = 0.5 * (profits[0] + profits[1]) - 0.5 * (active + pair)
    due = -active if due > -active else due
    return due if due > 0.0 else 0.0
