"""Leverage brackets: every asset has a table of rates by size, one for each margin.

What centralised venues post for perpetuals: the larger the position, the lower its leverage.
A position of net notional ``N`` whose bracket is ``k`` asks ``N * rate_k - deduction_k``, the
deduction being what makes the charge continuous at every edge. Sources: Binance, "Leverage and
Margin of USD-M Futures"; Bybit, "Risk Limit"; OKX, "Position tiers"; Hyperliquid, "Margin
tiers".
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from backtest.units import Fraction, Usd
from strategies.kernels.bracketed import bracketed, bracketed_constants
from strategies.perpetuals import PerpetualPolicy
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class LeverageBracket(BaseModel):
    """The rates on what lies above a bound and below the next bracket's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    above: Usd = Field(0.0, ge=0.0, description="net position where the bracket begins")
    initial: Fraction = Field(ge=0.0, le=1.0, description="initial margin")
    maintenance: Fraction = Field(ge=0.0, le=1.0, description="maintenance margin")

    @model_validator(mode="after")
    def _initial_covers_maintenance(self) -> LeverageBracket:
        if self.initial < self.maintenance:
            raise ValueError(
                f"initial {self.initial:.6g} of notional is less than maintenance "
                f"{self.maintenance:.6g}"
            )
        return self


def _ascending(table: tuple[LeverageBracket, ...]) -> tuple[LeverageBracket, ...]:
    above = [bracket.above for bracket in table]
    if not above or above[0] != 0.0:
        raise ValueError("the first bracket must begin at 0")
    for lower, upper in itertools.pairwise(above):
        if upper <= lower:
            raise ValueError(f"the bracket above {upper:,.0f} stands after {lower:,.0f}")
    return table


BracketTable = Annotated[tuple[LeverageBracket, ...], AfterValidator(_ascending)]


class Brackets(PerpetualPolicy):
    """Rates by brackets of net notional, with an own table for an asset where given."""

    name: ClassVar[str] = "brackets"
    requirement = bracketed

    brackets: BracketTable = Field(
        (LeverageBracket(initial=0.05, maintenance=0.025),),
        description="of every asset without a table of its own, ascending from 0",
    )
    tables: dict[str, BracketTable] = Field({}, description="own table of an asset, by name")
    in_coins: bool = Field(False, description="bounds count coins instead of US dollars")

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return the tables as `bracketed` reads them."""
        tables: list[Any] = per_asset(self.tables, self.brackets, tape.assets, "tables")
        return bracketed_constants(
            [tuple((b.above, b.initial, b.maintenance) for b in table) for table in tables],
            self.in_coins,
        )
