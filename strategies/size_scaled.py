"""A rate that grows with the size of a position: four venues' laws of it.

Large positions take longer to close, so each dollar of them asks for more. The laws differ in
what they measure size by (``q`` coins, ``N`` dollars) and in how maintenance margin follows:

=================  ==========================================  ================================
`Slope`            ``initial + per_coin q``                    ``maintenance + per_coin q``
`Premium`          ``max(r, share r + factor sqrt(q))``        the same of its own ``r``
`Skew`             ``q / scale * ratio + least``, plus flat    scaled, plus flat
`RootNotional`     ``max(base, factor sqrt(N - shift))``       a share of it
=================  ==========================================  ================================

Sources: Deribit, "Linear Perpetual" (`Slope`); drift-labs/protocol-v2 `math/margin.rs`
(`Premium`); Synthetixio/synthetix-v3 `markets/perps-market` (`Skew`); Paradex documentation,
cross margin (`RootNotional`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from backtest.units import Fraction
from strategies.choice import Choice, read_choice
from strategies.kernels.sized_rate import GrowingRate, sized_rate, sized_rate_constants
from strategies.knobs import Knob, knob
from strategies.perpetuals import PerpetualPolicy
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape

Rates = tuple[GrowingRate, GrowingRate]
"""Of initial and of maintenance margin."""


def _initial(default: str) -> Any:
    return knob(default, low=0, high="100%", unit="of notional", doc="initial margin", log=True)


def _maintenance(default: str) -> Any:
    return knob(default, low=0, high="100%", unit="of notional", doc="maintenance margin")


class Slope(Choice):
    """Both rates grow by the same amount per coin (Deribit, linear contracts)."""

    name: ClassVar[str] = "slope"

    initial: Knob = _initial("2%")
    maintenance: Knob = _maintenance("1%")
    per_coin: Fraction = Field(5e-5, ge=0.0, le=1.0, description="added to the rate, per coin")

    def rates(self) -> Rates:
        """Return both rates as the kernel reads them."""
        return (
            GrowingRate(base=self.initial, per_coin=self.per_coin),
            GrowingRate(base=self.maintenance, per_coin=self.per_coin),
        )


class Premium(Choice):
    """A premium with the root of size takes over where it exceeds the plain rate (Drift v2)."""

    name: ClassVar[str] = "premium"

    initial: Knob = _initial("10%")
    maintenance: Knob = _maintenance("5%")
    factor: float = Field(0.0, ge=0.0, le=1.0, description="per square root of a coin")
    share: Knob = knob(
        "80%", low=0, high="100%", unit="of the rate", doc="to which the premium is added"
    )

    def rates(self) -> Rates:
        """Return both rates as the kernel reads them."""
        initial, maintenance = (
            GrowingRate(base=self.share * rate, per_root_coin=self.factor, least=rate)
            for rate in (self.initial, self.maintenance)
        )
        return initial, maintenance


class Skew(Choice):
    """The rate grows with the share of a market's skew scale (Synthetix perps v3)."""

    name: ClassVar[str] = "skew"

    scale: float = Field(1e6, gt=0.0, description="coins of skew that double the price")
    ratio: float = Field(1.0, ge=0.0, le=1e3, description="rate of a position as large as it")
    least: Knob = knob("2%", low=0, high="100%", unit="of notional", doc="rate of no size")
    maintenance_scalar: Knob = knob(
        "50%", low=0, high="100%", unit="of initial margin", doc="rate of maintenance margin"
    )
    flat_usd: Knob = knob(50.0, low=0, high=1e6, unit="USD", doc="for a position of any size")
    reward: Knob = knob(
        "0.03%", low=0, high="100%", unit="of notional", doc="for whoever flags the position"
    )

    def rates(self) -> Rates:
        """Return both rates as the kernel reads them."""
        initial, maintenance = (
            GrowingRate(
                base=scalar * self.least,
                per_coin=scalar * self.ratio / self.scale,
                fee=self.reward,
                flat_usd=self.flat_usd,
            )
            for scalar in (1.0, self.maintenance_scalar)
        )
        return initial, maintenance


class RootNotional(Choice):
    """The root of notional beyond a shift takes over where it exceeds the base (Paradex)."""

    name: ClassVar[str] = "root_notional"

    base: Knob = _initial("2%")
    factor: float = Field(0.0, ge=0.0, le=1.0, description="per square root of a dollar")
    shift: Knob = knob(0.0, low=0, high=1e10, unit="USD", doc="notional that the root passes over")
    maintenance_ratio: Knob = knob(
        "50%", low="10%", high="100%", unit="of initial margin", doc="maintenance margin"
    )

    def rates(self) -> Rates:
        """Return both rates as the kernel reads them."""
        initial, maintenance = (
            GrowingRate(
                per_root_usd=ratio * self.factor, root_from_usd=self.shift, least=ratio * self.base
            )
            for ratio in (1.0, self.maintenance_ratio)
        )
        return initial, maintenance


SIZE_LAWS: tuple[type[Any], ...] = (Slope, Premium, Skew, RootNotional)
SizeLaw = Annotated[
    Slope | Premium | Skew | RootNotional, BeforeValidator(read_choice("size law", SIZE_LAWS))
]


class SizeScaled(PerpetualPolicy):
    """A rate that grows with size, with an own law for an asset where given."""

    name: ClassVar[str] = "size_scaled"
    requirement = sized_rate

    law: SizeLaw = Slope()
    laws: dict[str, SizeLaw] = Field({}, description="own law of an asset, by name")

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return every asset's rates as `sized_rate` reads them."""
        laws: list[Any] = per_asset(self.laws, self.law, tape.assets, "laws")
        return sized_rate_constants([law.rates() for law in laws])
