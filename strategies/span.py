"""SPAN: 16 scenarios, charges between months and for delivery, credits between assets.

The margin of CME and of most futures exchanges since 1988. `strategies.kernels.span` states the
law. A clearing house publishes its numbers every day, in the price of each contract; here they
are fractions of the price, so that one config holds for years, and the price scan range may
follow volatility instead of standing still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.units import MS_PER_DAY, Fraction, years
from strategies.contract import TIME, Knob, MarginPolicy, knob
from strategies.kernels.span import span, span_constants
from strategies.scenario import WIDEST_RANGE, FixedRange, PriceRange

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class MonthSpread(BaseModel):
    """Long one tier of months against short another, or the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiers: tuple[int, int] = Field(description="numbers of the two tiers, the nearest is 1")
    charge: Fraction = Field(ge=0.0, le=1.0, description="of the delta of one leg")


class AssetSpread(BaseModel):
    """One asset against another, which earns back a part of both price risks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    assets: tuple[str, str]
    ratio: tuple[
        Annotated[float, Field(gt=0.0, allow_inf_nan=False)],
        Annotated[float, Field(gt=0.0, allow_inf_nan=False)],
    ] = Field((1.0, 1.0), description="dollars of delta of each in one spread")
    credit: Fraction = Field(ge=0.0, le=1.0, description="of the price risk of both legs")

    @model_validator(mode="after")
    def _two_assets(self) -> AssetSpread:
        if self.assets[0] == self.assets[1]:
            raise ValueError(f"a spread needs two assets, not {self.assets[0]!r} twice")
        return self


class Span(MarginPolicy):
    """Largest loss over 16 scenarios, plus spread and delivery charges, less credits."""

    name: ClassVar[str] = "span"
    requirement = span

    price_range: PriceRange = FixedRange()
    vol_range: Knob = knob(
        "50%", low=0, high="200%", unit="of volatility", doc="volatility scan range, up and down"
    )
    vol_in_points: bool = Field(
        False, description="the volatility range counts in points, not as a share of volatility"
    )
    extreme_ranges: Knob = knob(
        3.0, low=0, high=20, unit="price ranges", doc="size of the two extreme moves"
    )
    extreme_cover: Knob = knob(
        "33%", low=0, high="100%", unit="of the loss", doc="counted of an extreme move"
    )
    decay: Knob = knob("1d", low=0, high="10d", unit=TIME, doc="passes in every scenario")
    tiers: tuple[Annotated[Knob, Field(gt=0.0)], ...] = Field(
        (30.0 * MS_PER_DAY, 90.0 * MS_PER_DAY),
        description="times to expiry up to which a tier of months reaches, the last is open",
    )
    month_charge: Knob = knob(
        "1%", low=0, high="25%", unit="of delta", doc="of a spread between months of one tier"
    )
    tier_charge: Knob = knob(
        "0.5%", low=0, high="25%", unit="of delta", doc="added for every tier between the legs"
    )
    month_spreads: tuple[MonthSpread, ...] = Field(
        (), description="spreads by priority, instead of the two charges; others cost nothing"
    )
    delivery_charge: Knob = knob(
        0.0, low=0, high="50%", unit="of delta", doc="of a month that is about to expire"
    )
    delivery_within: Knob = knob(
        "2d", low=0, high="60d", unit=TIME, doc="before expiry, when delivery is charged"
    )
    asset_spreads: tuple[AssetSpread, ...] = Field(
        (), description="credits between assets by priority"
    )
    short_minimum: Knob = knob(
        "1%", low=0, high="25%", unit="of notional", doc="least margin of a short option"
    )
    initial_ratio: Knob = knob(
        "110%", low="100%", high="200%", unit="of maintenance margin", doc="initial margin"
    )

    @model_validator(mode="after")
    def _tiers_fit(self) -> Span:
        if any(self.tiers[k] <= self.tiers[k - 1] for k in range(1, len(self.tiers))):
            raise ValueError("tiers: the times to expiry must ascend")
        last = len(self.tiers) + 1
        for k, spread in enumerate(self.month_spreads):
            for tier in spread.tiers:
                if not 1 <= tier <= last:
                    raise ValueError(
                        f"month_spreads.{k}.tiers: there is no tier {tier}, only 1 to {last}"
                    )
        return self

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the price scan range of every asset, ``(T, A)``."""
        return self.price_range(tape)

    def parameters(self, ranges: np.ndarray) -> np.ndarray:
        """Post the price ranges and the volatility range, ``(T, A + 1)``."""
        shift = np.full((len(ranges), 1), self.vol_range)
        return np.hstack([np.minimum(ranges, WIDEST_RANGE), shift])

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return ratios, tiers and spreads as the kernel reads them."""
        return span_constants(
            initial_ratio=self.initial_ratio,
            short_minimum=self.short_minimum,
            delivery=(self.delivery_charge, years(self.delivery_within)),
            decay_years=years(self.decay),
            vol_relative=not self.vol_in_points,
            extremes=(self.extreme_ranges, self.extreme_cover),
            tiers=[years(bound) for bound in self.tiers],
            spreads=self._spreads(),
            credits=_credits(self.asset_spreads, tape.assets),
        )

    def _spreads(self) -> list[tuple[int, int, float]]:
        """Return spreads by priority: a table, or the nearest tiers first."""
        if self.month_spreads:
            return [(s.tiers[0] - 1, s.tiers[1] - 1, s.charge) for s in self.month_spreads]
        count = len(self.tiers) + 1
        return [
            (tier, tier + apart, self.month_charge + apart * self.tier_charge)
            for apart in range(count)
            for tier in range(count - apart)
        ]


def _credits(
    spreads: tuple[AssetSpread, ...], assets: tuple[str, ...]
) -> list[tuple[int, float, int, float, float]]:
    """Return the spreads whose assets are both in the market."""
    number = {name: place for place, name in enumerate(assets)}
    return [
        (number[one], s.ratio[0], number[other], s.ratio[1], s.credit)
        for s in spreads
        for one, other in (s.assets,)
        if one in number and other in number
    ]
