"""Naked shorts add-on: a percentage of the notional of options sold without any bought.

Derive's portfolio managers ask it beside their scenarios, because the grid sees no loss in an
option far out of the money (`PMRM_2.sol` of derivexyz/v2-core).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import model_validator

from strategies.kernels.naked_shorts import naked_shorts
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class NakedShorts(AddOn):
    """Charge options sold beyond those bought of the same expiry and strike."""

    name: ClassVar[str] = "naked_shorts"
    requirement = naked_shorts
    needs: ClassVar[tuple[Need, ...]] = ("prices",)
    scale_law: ClassVar[ScaleLaw | None] = "homogeneous"
    nets: ClassVar[Netting] = "portfolio"
    caps_longs: ClassVar[bool] = True

    initial: Knob = knob(
        "0.5%",
        low=0,
        high="25%",
        unit="of notional",
        doc="initial margin of a naked short",
        stress="up",
    )
    maintenance: Knob = knob(
        "0.3%",
        low=0,
        high="25%",
        unit="of notional",
        doc="maintenance margin of a naked short",
        stress="up",
    )

    @model_validator(mode="after")
    def _initial_is_the_larger(self) -> NakedShorts:
        if self.initial < self.maintenance:
            raise ValueError(
                f"initial: {self.initial:.4g} of notional is below maintenance, "
                f"{self.maintenance:.4g}"
            )
        return self

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Look at nothing: ``(T, 0)``."""
        return np.empty((len(tape), 0))

    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Post the two rates at every row, ``(T, 2)``."""
        return np.tile([self.initial, self.maintenance], (len(signals), 1))
