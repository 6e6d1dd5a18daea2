"""Accounts of the plain-Python engine: cash, positions, and where each stands with the venue."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass
class Position:
    """Signed contracts of one instrument, and the average unit value they were opened at."""

    instrument: int
    quantity: float
    entry_unit: float

    def change(self, quantity: float, unit: float) -> None:
        """Add contracts traded at a unit value; only what opens moves the entry."""
        before = self.quantity
        self.quantity += quantity
        if before * quantity > 0.0:
            self.entry_unit = (before * self.entry_unit + quantity * unit) / self.quantity
        elif before * self.quantity < 0.0:
            self.entry_unit = unit


@dataclass(frozen=True)
class Anchor:
    """What the last full check knew: the cheap trigger moves it along straight lines."""

    at_ms: int
    maintenance: float
    value_usd: float
    delta_usd: list[float]
    index: list[float]


@dataclass
class Account:
    """One margin account. Its wallet lies outside the venue, under the owner's number."""

    number: int
    owner: int
    currency: int
    legs_alone: bool
    cash: list[float]
    resting: list[int]
    positions: list[Position] = field(default_factory=list)
    anchor: Anchor | None = None
    called_at: int | None = None
    deposit_due: int | None = None
    deposit_usd: float = 0.0
    liquidated_since: int | None = None
    steps: int = 0
    reserved_usd: float = 0.0
    queued: bool = False

    def held(self, instrument: int) -> float:
        """Contracts held of an instrument."""
        return next((p.quantity for p in self.positions if p.instrument == instrument), 0.0)

    def trade(self, instrument: int, quantity: float, unit: float) -> None:
        """Add contracts; the last position takes the place of one that becomes nothing."""
        self.anchor = None
        for k, position in enumerate(self.positions):
            if position.instrument == instrument:
                position.change(quantity, unit)
                if position.quantity == 0.0:
                    self.positions[k] = self.positions[-1]
                    self.positions.pop()
                return
        self.positions.append(Position(instrument, quantity, unit))

    def copy(self) -> Account:
        """Return an account to try a trade on."""
        return replace(self, cash=list(self.cash), positions=[replace(p) for p in self.positions])

    def leave_liquidation(self) -> None:
        """Forget an episode of liquidation that is over."""
        self.liquidated_since, self.steps, self.reserved_usd = None, 0, 0.0


def sum_by_halves(parts: list[float]) -> float:
    """Add the upper half to the lower one until a single number is left."""
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [one + two for one, two in zip(parts[:half], parts[half:], strict=True)]
    return parts[0]
