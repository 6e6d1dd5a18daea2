"""Oracle confidence add-on: more initial margin for what rests on a price in doubt.

Derive asks ``(1 - confidence) * factor`` of the notional of perpetuals, options sold and coins
while the least confidence of the feeds that price them is below a threshold (`StandardManager.sol`,
`PMRM_2.sol` of derivexyz/v2-core).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from strategies.kernels.open_exposure import oracle_confidence
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class OracleConfidence(AddOn):
    """Charge open positions for how little their oracles are sure, below a threshold."""

    name: ClassVar[str] = "oracle_confidence"
    requirement = oracle_confidence
    needs: ClassVar[tuple[Need, ...]] = ("prices", "coins", "confidence")
    scale_law: ClassVar[ScaleLaw | None] = "homogeneous"
    nets: ClassVar[Netting] = "portfolio"
    caps_longs: ClassVar[bool] = True

    threshold: Knob = knob(
        "55%",
        low=0,
        high="100%",
        unit="of certainty",
        doc="confidence that asks nothing",
        stress="up",
    )
    factor: Knob = knob(
        1.0, low=0, high=10, unit="of notional", doc="charge where confidence is zero", stress="up"
    )
    maintenance_share: Knob = knob(
        0,
        low=0,
        high="100%",
        unit="of the charge",
        doc="that maintenance margin asks too",
        stress="up",
    )
    coins: bool = Field(True, description="coins that serve as collateral are charged too")

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Look at nothing, ``(T, 0)``: kernels see every feed's confidence themselves."""
        return np.empty((len(tape), 0))

    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Post the law's five numbers at every row, ``(T, 5)``."""
        row = [0.0, self.threshold, self.factor, self.maintenance_share, float(self.coins)]
        return np.tile(row, (len(signals), 1))
