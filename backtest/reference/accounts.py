"""Accounts and prices of the plain-Python engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backtest.instruments import PERPETUAL
from backtest.kernels.black76 import black76_delta_reference, black76_reference
from backtest.units import MS_PER_YEAR

if TYPE_CHECKING:
    from backtest.kernels.state import TapeArrays
    from backtest.venue import VenueNumbers


@dataclass
class Position:
    """Signed contracts of one instrument."""

    instrument: int
    quantity: float


@dataclass
class Account:
    """Cash per currency at the venue, a wallet outside it, and positions."""

    currency: int
    cash: list[float]
    wallet: float
    positions: list[Position] = field(default_factory=list)
    called_at: int | None = None
    deposit_due: int | None = None
    deposit_usd: float = 0.0

    def held(self, instrument: int) -> float:
        """Contracts held of an instrument."""
        return next((p.quantity for p in self.positions if p.instrument == instrument), 0.0)

    def trade(self, instrument: int, quantity: float) -> None:
        """Add contracts; the last position takes the place of one that becomes nothing."""
        for k, position in enumerate(self.positions):
            if position.instrument == instrument:
                position.quantity += quantity
                if position.quantity == 0.0:
                    self.positions[k] = self.positions[-1]
                    self.positions.pop()
                return
        self.positions.append(Position(instrument, quantity))


@dataclass(frozen=True)
class Quote:
    """What one contract is worth."""

    unit: float
    value_usd: float
    notional_usd: float
    delta_usd: float
    exposure_usd: float
    forward: float
    sigma: float
    years: float


def quote(tape: TapeArrays, i: int, row: int, snapshot: int, delta_floor: float) -> Quote | None:
    """Value one contract; nothing if its volatility was never quoted."""
    asset, size = tape.asset[i], float(tape.contract_size[i])
    index = float(tape.index[row, asset])
    if tape.kind[i] == PERPETUAL:
        mark = float(tape.mark[row, asset])
        if tape.inverse[i]:
            unit, value, notional, delta = -size / mark, -size / mark * index, size, size
        else:
            unit = value = notional = delta = size * mark
        forward, sigma, years = mark, 0.0, 0.0
    else:
        if snapshot < 0 or math.isnan(tape.iv[snapshot, tape.iv_column[i]]):
            return None
        sigma = float(tape.iv[snapshot, tape.iv_column[i]])
        forward = index * float(tape.forward_ratio[snapshot, tape.expiry_column[i]])
        years = float(tape.expiry_ms[i] - tape.ts[row]) / MS_PER_YEAR
        terms = (forward, float(tape.strike[i]), sigma, years, bool(tape.is_call[i]))
        price, notional = black76_reference(*terms), size * index
        delta = black76_delta_reference(*terms) * notional
        unit = size * price / forward if tape.inverse[i] else size * price
        value = unit * index if tape.inverse[i] else unit
    exposure = max(abs(delta), delta_floor * notional)
    return Quote(unit, value, notional, delta, exposure, forward, sigma, years)


def impact_cost(volume: float, already: float, depth: float, venue: VenueNumbers) -> float:
    """Apply the square-root law, integrated from what was sold to what will have been."""
    ceiling = venue.impact_cap * volume
    if depth <= 0.0:
        return ceiling
    until = already + volume
    swept = until * math.sqrt(until) - already * math.sqrt(already)
    return min(2.0 / 3.0 * venue.impact_at_depth * swept / math.sqrt(depth), ceiling)


def requested_notional_usd(tape: TapeArrays, row: int, legs: list[tuple[int, float]]) -> float:
    """Add up the underlying notional that a group asks for, priced or not."""
    total = 0.0
    for i, quantity in legs:
        asset, size = tape.asset[i], float(tape.contract_size[i])
        if tape.kind[i] == PERPETUAL:
            mark = float(tape.mark[row, asset])
            total += abs(quantity) * (size if tape.inverse[i] else size * mark)
        else:
            total += abs(quantity) * (size * float(tape.index[row, asset]))
    return total
