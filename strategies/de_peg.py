"""De-peg add-on: more initial margin while the settlement coin trades below its peg.

A venue that counts its stable coin as dollars owes what the coin has lost on every position it
guarantees. Derive asks ``factor * (threshold - price)`` of the notional of perpetuals and of
options sold (`StandardManager.sol` of derivexyz/v2-core).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from strategies.kernels.open_exposure import de_peg
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class DePeg(AddOn):
    """Charge open positions for what a stable coin, an asset of the tape, is below its peg."""

    name: ClassVar[str] = "de_peg"
    requirement = de_peg
    needs: ClassVar[tuple[Need, ...]] = ("prices",)
    scale_law: ClassVar[ScaleLaw | None] = "homogeneous"
    nets: ClassVar[Netting] = "portfolio"
    caps_longs: ClassVar[bool] = True

    stable: str = Field(
        "USDC", description="asset whose index is watched; a market without it is at its peg"
    )
    threshold: Knob = knob(
        0.99, low=0.5, high=1.0, unit="USD", doc="price that asks nothing", stress="up"
    )
    factor: Knob = knob(
        2.0,
        low=0,
        high=20,
        unit="of notional",
        doc="charge for each dollar below the threshold",
        stress="up",
    )
    maintenance_share: Knob = knob(
        0,
        low=0,
        high="100%",
        unit="of the charge",
        doc="that maintenance margin asks too",
        stress="up",
    )

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the stable coin's price, ``(T, 1)``."""
        if self.stable not in tape.assets:
            return np.ones((len(tape), 1))
        return tape.index[:, [tape.assets.index(self.stable)]]

    def parameters(self, price: np.ndarray) -> np.ndarray:
        """Post the rate of notional, then what the law needs beside it, ``(T, 5)``."""
        rate = self.factor * np.maximum(self.threshold - price, 0.0)
        rest = np.tile([0.0, 0.0, self.maintenance_share, 0.0], (len(price), 1))
        return np.hstack([rate, rest])
