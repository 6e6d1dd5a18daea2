"""Deribit's dated futures: instrument, ticker, book and bars; they share the perpetual's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from data_ingest.simulator.deribit_perpetual import PerpetualDesk
from data_ingest.simulator.futures import DatedFuture

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.futures import Life
    from data_ingest.simulator.market import SimulatedMarket, VenuePath


class FutureDesk(PerpetualDesk):
    """One dated future as the exchange publishes it.

    Parameters
    ----------
    market
        The market.
    crowd
        Who holds it.
    asset
        The asset's name.
    life
        When it is listed and delivered.
    quarterly
        Whether it is a quarter's or a week's.
    """

    def __init__(
        self, market: SimulatedMarket, crowd: Crowd, asset: str, life: Life, *, quarterly: bool
    ) -> None:
        super().__init__(market, crowd, asset)
        self.life = life
        self.name = f"{asset}-{life.letters}"
        self._period = "month" if quarterly else "week"
        self._future = DatedFuture(market, crowd, asset, life)

    @property
    def _venue(self) -> VenuePath:
        return self._market.venue(self._asset, self._future.exchange)

    def instrument(self) -> dict[str, Any]:
        """Return the row of `get_instruments`."""
        return {
            **super().instrument(),
            "settlement_period": self._period,
            "creation_timestamp": self.life.listed_ms,
            "expiration_timestamp": self.life.expiry_ms,
        }

    def ticker(self, now_ms: int) -> dict[str, Any]:
        """Return prices and the last 24 hours now; a dated future has no funding."""
        ticker = super().ticker(now_ms)
        del ticker["funding_8h"], ticker["current_funding"]
        held = round(self._future.open_interest_usd(now_ms), -1)
        state = "open" if self.life.holds(now_ms) else "closed"
        return {**ticker, "open_interest": held, "state": state}

    def candles(
        self, length_ms: int, start_ms: int, end_ms: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return openings, bars, volume in coins and cost in USD, from listing to delivery."""
        opens, bars, cost = self._market.candles(
            self._asset,
            self._future.exchange,
            "trade",
            length_ms,
            max(start_ms, self.life.listed_ms),
            min(end_ms, self.life.expiry_ms),
        )
        return opens, bars, cost / bars[:, 3], cost
