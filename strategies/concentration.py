"""Concentration add-on: more margin for who holds too large a share of a market."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from strategies.kernels.concentration import concentration
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Concentration(AddOn):
    """Charge net notional beyond a share of the venue's open interest in the asset."""

    name: ClassVar[str] = "concentration"
    requirement = concentration
    needs: ClassVar[tuple[Need, ...]] = ("prices", "open interest")
    scale_law: ClassVar[ScaleLaw | None] = "superlinear"
    nets: ClassVar[Netting] = "portfolio"

    share_of_open_interest: Knob = knob(
        "10%",
        low="0.1%",
        high="100%",
        unit="of open interest",
        doc="free of charge",
        log=True,
        stress="down",
    )
    charge: Knob = knob(
        "10%",
        low=0,
        high="100%",
        unit="of notional",
        doc="rate on what lies beyond the share",
        stress="up",
    )
    least_open_interest: Knob = knob(
        1e6,
        low=0,
        high=1e10,
        unit="USD",
        doc="open interest is taken to be at least this much",
        stress="down",
    )

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Look at nothing: ``(T, 0)``."""
        return np.empty((len(tape), 0))

    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Post the three knobs at every row, ``(T, 3)``."""
        row = [self.share_of_open_interest, self.charge, self.least_open_interest]
        return np.tile(row, (len(signals), 1))
