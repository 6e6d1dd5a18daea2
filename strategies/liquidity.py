"""Liquidity add-on: the margin pays for the slippage of closing the position.

The square-root law of market impact against the depth of the book, as clearing houses charge
close-out cost beside the risk of the price (CME SPAN 2, liquidity). The law is
`strategies.kernels.liquidity`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from strategies.kernels.liquidity import liquidity
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Liquidity(AddOn):
    """Charge net delta for what closing it against the book would cost."""

    name: ClassVar[str] = "liquidity"
    requirement = liquidity
    needs: ClassVar[tuple[Need, ...]] = ("prices", "depth")
    scale_law: ClassVar[ScaleLaw | None] = "superlinear"
    nets: ClassVar[Netting] = "portfolio"

    cost: Knob = knob(
        "1%",
        low=0,
        high="50%",
        unit="of notional",
        doc="slippage of closing all of the depth",
        stress="up",
    )
    least_depth: Knob = knob(
        1e5,
        low=1,
        high=1e10,
        unit="USD",
        doc="depth is taken to be at least this much",
        log=True,
        stress="down",
    )

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the depth within 1 % of mid, ``(T, A)`` USD."""
        return tape.depth_usd

    def parameters(self, depth_usd: np.ndarray) -> np.ndarray:
        """Post the cost, then the depth of every asset, ``(T, 1 + A)``."""
        cost = np.full((len(depth_usd), 1), self.cost)
        return np.hstack([cost, np.maximum(depth_usd, self.least_depth)])
