"""What one contract is worth, and what it costs to trade a lot of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.instruments import FUTURE, PERPETUAL
from backtest.kernels.black76 import black76_delta_reference, black76_reference
from backtest.rules.liquidation import SQUARE_ROOT
from backtest.units import MS_PER_YEAR

if TYPE_CHECKING:
    from backtest.arrays import TapeArrays
    from backtest.venue import VenueNumbers


@dataclass(frozen=True)
class Quote:
    """One contract: its unit value in the settlement currency, and the rest in US dollars."""

    unit: float
    value_usd: float
    notional_usd: float
    delta_usd: float
    exposure_usd: float
    forward: float
    sigma: float
    years: float
    rate: float
    settled: float


def quote(
    tape: TapeArrays,
    i: int,
    index: float,
    mark: float,
    snapshot: int,
    now_ms: int,
    venue: VenueNumbers,
) -> Quote | None:
    """Value one contract; nothing if it is an option whose volatility was never quoted."""
    kind, size = tape.kind[i], float(tape.contract_size[i])
    if kind == PERPETUAL:
        forward, sigma, years = mark, 0.0, 0.0
    else:
        forward = index
        if snapshot >= 0:
            forward = index * float(tape.forward_ratio[snapshot, tape.expiry_column[i]])
        sigma, years = 0.0, max(float(tape.expiry_ms[i] - now_ms), 0.0) / MS_PER_YEAR
    if kind in (PERPETUAL, FUTURE):
        if tape.inverse[i]:
            unit, notional, delta = -size / forward, size, size
            value = unit * index
        else:
            unit = value = notional = delta = size * forward
    else:
        if snapshot < 0 or math.isnan(tape.iv[snapshot, tape.iv_column[i]]):
            return None
        sigma = float(tape.iv[snapshot, tape.iv_column[i]])
        terms = (forward, float(tape.strike[i]), sigma, years, bool(tape.is_call[i]))
        price, notional = black76_reference(*terms), size * index
        delta = black76_delta_reference(*terms) * notional
        unit = size * price / forward if tape.inverse[i] else size * price
        value = unit * index if tape.inverse[i] else unit
    exposure = max(abs(delta), venue.option_delta_floor * notional)
    rate = settled = 0.0
    if kind != PERPETUAL:
        if snapshot >= 0 and years > 0.0:
            rate = float(tape.carry[snapshot, tape.expiry_column[i]]) / years
        left = max(float(tape.expiry_ms[i] - now_ms), 0.0)
        average = venue.settlement_average_ms
        settled = 1.0 - left / average if left < average else 0.0
    return Quote(unit, value, notional, delta, exposure, forward, sigma, years, rate, settled)


def settlement_unit(tape: TapeArrays, i: int) -> float:
    """Return what an expired contract pays, at the price it is settled at."""
    price, size = float(tape.settlement_usd[i]), float(tape.contract_size[i])
    if tape.kind[i] == FUTURE:
        return -size / price if tape.inverse[i] else size * price
    intrinsic = price - float(tape.strike[i])
    payoff = size * max(intrinsic if tape.is_call[i] else -intrinsic, 0.0)
    return payoff / price if tape.inverse[i] else payoff


def execution_cost(volume: float, already: float, depth: float, venue: VenueNumbers) -> float:
    """Integrate the price move from what was sold at this instant to what will have been."""
    ceiling = venue.impact_cap * volume
    if depth <= 0.0:
        return ceiling
    until = already + volume
    if venue.impact_law == SQUARE_ROOT:
        swept = until * math.sqrt(until) - already * math.sqrt(already)
        cost = 2.0 / 3.0 * venue.impact_at_depth * swept / math.sqrt(depth)
    else:
        cost = venue.impact_at_depth * ((until * until - already * already) / (2.0 * depth))
    return min(cost, ceiling)


def price_move(volume: float, depth: float, venue: VenueNumbers) -> float:
    """Return how far a volume moves the price, as a share of it."""
    if depth <= 0.0:
        move = math.inf
    elif venue.impact_law == SQUARE_ROOT:
        move = venue.impact_at_depth * math.sqrt(volume / depth)
    else:
        move = venue.impact_at_depth * volume / depth
    return min(move, venue.impact_cap)
