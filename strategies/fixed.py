"""Fixed margin: one rate of notional, the same in calm and in storm.

What most venues post: a leverage limit per market, tightened for large positions by brackets
(the tables of Binance, Bybit, Hyperliquid; the liquidity tiers of dYdX).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from backtest.errors import PolicyError
from backtest.units import Fraction
from strategies.contract import Knob, knob
from strategies.rates import RatePolicy
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Fixed(RatePolicy):
    """A rate of notional that does not move, with an own rate for an asset where given."""

    name: ClassVar[str] = "fixed"
    generation: ClassVar[str] = "brackets"
    source: ClassVar[str] = "leverage tables of Binance, Bybit, Hyperliquid; tiers of dYdX"

    rate: Knob = knob(
        "5%",
        low="0.1%",
        high="100%",
        unit="of notional",
        doc="initial margin",
        log=True,
        stress="up",
    )
    rates: dict[str, Fraction] = Field({}, description="own rate of an asset, by name")

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the rate of each asset at every row, ``(T, A)``; prices are not looked at."""
        row = per_asset(self.rates, self.rate, tape.assets, "rates")
        for asset, rate in zip(tape.assets, row, strict=True):
            if not 0.0 < rate <= 1.0:
                raise PolicyError(f"rates.{asset}: {rate:g} is not between 0 and 1 of notional.")
        return np.tile(row, (len(tape), 1))

    def parameters(self, rates: np.ndarray) -> np.ndarray:
        """Post the rates, ``(T, A)``."""
        return rates
