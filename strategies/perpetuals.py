"""What policies for perpetuals and dated futures have in common: the options beside them.

Their kernels look at net notional per asset and pass options over, so that a rule of a venue
that lists none is not bent to fit them. Options are asked for by a part of the policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from strategies.contract import Knob, MarginPolicy, knob
from strategies.short_options import OptionsFormula, ShortOptions

if TYPE_CHECKING:
    from backtest.tape import MarketTape
    from strategies.layer import RiskLayer


class PerpetualPolicy(MarginPolicy):
    """A policy whose base kernel passes options over; its part `options` asks for them.

    A venue's tables stand in the constants. What is posted is `scale`, by which a candidate is
    stricter or laxer than the venue throughout.
    """

    scale: Knob = knob(
        1.0, low=0.1, high=10.0, unit="times", doc="what the venue's own table asks", log=True
    )
    options: OptionsFormula = ShortOptions()

    def parts(self) -> tuple[RiskLayer, ...]:
        """Return the rule for options, asked after the base."""
        return (self.options,)

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Look at nothing: ``(T, 0)``."""
        return np.empty((len(tape), 0))

    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Post the scale and the signals at every row, ``(T, 1 + F)``."""
        return np.hstack([np.full((len(signals), 1), self.scale), signals])
