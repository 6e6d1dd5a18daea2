"""Margin of short options by formula, each expiry charged for its largest loss where that is less.

What venues ask of an option that is not margined in a portfolio: a rate of the index less what
the option is out of the money, with a floor. The defaults are Deribit's standard margin; the
same fields set Derive's standard manager, Bybit's, OKX's and Aevo's formulas, and a table of
upper bounds turns the rates into Opyn's spot shock. `strategies.kernels.short_options` states
the law. Sources: Deribit knowledge base, standard margin; derivexyz/v2-core
`StandardManager.sol`; opynfinance/GammaProtocol `MarginCalculator.sol`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from backtest.settings import TIME
from backtest.units import MS_PER_YEAR, Fraction
from strategies.choice import read_choice
from strategies.kernels.short_options import short_options, short_options_constants
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class UpperBound(BaseModel):
    """The most that an option may cost, as a share of its underlying, up to a maturity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    within: Knob = Field(
        gt=0, description="longest time to expiry", json_schema_extra={"unit": TIME}
    )
    share: Fraction = Field(ge=0.0, le=1.0, description="of the underlying")


class ShortOptions(AddOn):
    """Charge short options by formula, long ones their value; perpetuals and futures nothing."""

    name: ClassVar[str] = "short_options"
    requirement = short_options
    needs: ClassVar[tuple[Need, ...]] = ("prices", "implied volatility")
    scale_law: ClassVar[ScaleLaw | None] = "homogeneous"

    initial: Knob = knob(
        "15%",
        low=0,
        high="100%",
        unit="of notional",
        doc="initial margin at the money",
        stress="up",
    )
    initial_floor: Knob = knob(
        "10%",
        low=0,
        high="100%",
        unit="of notional",
        doc="initial margin far out of the money",
        stress="up",
    )
    maintenance_call: Knob = knob(
        "7.5%",
        low=0,
        high="100%",
        unit="of notional",
        doc="maintenance margin of a call",
        stress="up",
    )
    maintenance_put: Knob = knob(
        "7.5%",
        low=0,
        high="100%",
        unit="of notional",
        doc="maintenance margin of a put",
        stress="up",
    )
    maintenance_call_of_mark: Knob = knob(
        0,
        low=0,
        high="100%",
        unit="of mark",
        doc="maintenance margin of a call at least",
        stress="up",
    )
    maintenance_put_of_mark: Knob = knob(
        "7.5%",
        low=0,
        high="100%",
        unit="of mark",
        doc="maintenance margin of a put at least",
        stress="up",
    )
    liquidation_fee: Knob = knob(
        0, low=0, high="10%", unit="of notional", doc="added to maintenance margin", stress="up"
    )
    put_initial_over_maintenance: Knob = knob(
        1.0,
        low=0.0,
        high=2.0,
        unit="times",
        doc="least ratio for a put, its mark in both",
        stress="up",
    )
    max_loss: bool = Field(
        False, description="an expiry is charged for its largest loss where that is less"
    )
    unpaired_initial: Knob = knob(
        1.2,
        low=0.0,
        high=5.0,
        unit="of forward",
        doc="calls sold net, in the largest loss",
        stress="up",
    )
    unpaired_maintenance: Knob = knob(
        1.1,
        low=0.0,
        high=5.0,
        unit="of forward",
        doc="calls sold net, in the largest loss",
        stress="up",
    )
    spot_shock: Knob = knob(
        0.75,
        low=0.01,
        high=1.0,
        unit="of index",
        doc="stressed price; needs upper_bounds",
        stress="down",
    )
    upper_bounds: tuple[UpperBound, ...] = Field(
        (), description="by time to expiry, ascending; they and spot_shock replace the rates"
    )

    @property
    def nets(self) -> Netting:  # type: ignore[override]
        """Options offset each other where an expiry may be charged for its largest loss."""
        return "portfolio" if self.max_loss else "perpetuals"

    @property
    def caps_longs(self) -> bool:  # type: ignore[override]
        """Derive's largest loss adds a strike above all others to calls sold net; see the law."""
        return not self.max_loss

    @field_validator("upper_bounds")
    @classmethod
    def _ascending(cls, bounds: Any) -> Any:
        for shorter, longer in itertools.pairwise(bounds):
            if longer.within <= shorter.within or longer.share < shorter.share:
                raise ValueError(
                    f"{longer.share:g} within {longer.within / 86_400_000:g} days stands after "
                    f"{shorter.share:g} within {shorter.within / 86_400_000:g} days; time must "
                    "ascend, and a longer option cannot cost less"
                )
        return bounds

    @model_validator(mode="after")
    def _initial_is_the_larger(self) -> ShortOptions:
        if self.unpaired_initial < self.unpaired_maintenance:
            raise ValueError(
                f"unpaired_initial: {self.unpaired_initial:g} of the forward is below "
                f"unpaired_maintenance, {self.unpaired_maintenance:g}"
            )
        return self

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Look at nothing: ``(T, 0)``."""
        return np.empty((len(tape), 0))

    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Post nothing: ``(T, 0)``."""
        return signals

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return rates and bounds as `short_options` reads them."""
        return short_options_constants(
            (
                self.initial,
                self.initial_floor,
                self.maintenance_call,
                self.maintenance_put,
                self.maintenance_call_of_mark,
                self.maintenance_put_of_mark,
                self.liquidation_fee,
                self.put_initial_over_maintenance,
            ),
            self.max_loss,
            (self.unpaired_initial, self.unpaired_maintenance),
            self.spot_shock,
            [(bound.within / MS_PER_YEAR, bound.share) for bound in self.upper_bounds],
        )


OptionsFormula = Annotated[
    ShortOptions, BeforeValidator(read_choice("options formula", (ShortOptions,)))
]
"""The field type of a policy's ``options``, written ``options: {short_options: {...}}``."""
