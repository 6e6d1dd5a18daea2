"""What a market's crowd holds: open interest, which way accounts lean, who is liquidated.

These series were added after the prices. Each draws from its own named stream of the seed, so
that no price moved when they came.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from backtest.seeds import stream
from backtest.units import MS_PER_DAY
from data_ingest.simulator.market import EXCHANGES, STEPS_PER_DAY
from data_ingest.simulator.processes import mean_reverting, trailing_return

if TYPE_CHECKING:
    from data_ingest.simulator.market import SimulatedMarket

OPEN_INTEREST_DEVIATION = 0.05
OPEN_INTEREST_HALF_LIFE_DAYS = 3.0
LEAN_DEVIATION = 0.15
LEAN_HALF_LIFE_DAYS = 2.0
LEAN_PER_DAILY_RETURN = -1.5
"""Small accounts buy what has fallen and sell what has risen."""
CALM_LEAN = 0.15
LIQUIDATION_SHARE = 0.0005
"""Share of prints that close a liquidated position while the market is calm."""
LIQUIDATION_PER_SQUARED_RETURN = 1_000.0
"""Share added per squared return of a step: 10 % of prints where the price runs one percent."""


class Crowd:
    """Positions of all accounts together, asset by asset and venue by venue.

    Parameters
    ----------
    market
        The market they trade.
    """

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        self.open_interest_usd = lru_cache(maxsize=None)(self._draw_open_interest)
        self.long_share = lru_cache(maxsize=None)(self._draw_long_share)
        self.liquidations = lru_cache(maxsize=None)(self._draw_liquidations)

    def _draw_open_interest(self, asset: str, exchange: str) -> np.ndarray:
        """Return a venue's open interest at every point, USD."""
        whole = self._market.assets[asset].open_interest_usd
        share = self._market.share(exchange)
        if exchange in EXCHANGES:
            # The venues that were here first publish the market's own path, without noise.
            return np.asarray(share * whole)
        noise = mean_reverting(
            self._market.parameters,
            f"{exchange}/{asset}/open-interest",
            len(whole),
            OPEN_INTEREST_HALF_LIFE_DAYS * MS_PER_DAY,
            OPEN_INTEREST_DEVIATION,
        )
        return np.asarray(share * whole * np.exp(noise))

    def _draw_long_share(self, asset: str, exchange: str, who: str) -> np.ndarray:
        """Return the share of accounts (or of their positions) that are long at every point."""
        index = np.log(self._market.assets[asset].index_usd)
        lean = mean_reverting(
            self._market.parameters,
            f"{exchange}/{asset}/long-short/{who}",
            len(index),
            LEAN_HALF_LIFE_DAYS * MS_PER_DAY,
            LEAN_DEVIATION,
        )
        lean = CALM_LEAN + lean + LEAN_PER_DAILY_RETURN * trailing_return(index, STEPS_PER_DAY)
        return np.asarray(1.0 / (1.0 + np.exp(-lean)))

    def _draw_liquidations(self, asset: str, exchange: str, prints_per_step: int) -> np.ndarray:
        """Return, for every print, ``0`` or which side was liquidated: ``1`` maker, ``2`` taker.

        A liquidation takes from the book far more often than it rests in it, and comes when the
        price runs.
        """
        bars = self._market.venue(asset, exchange).trade
        run = np.log(bars[:, 3] / bars[:, 0])
        share = np.minimum(0.3, LIQUIDATION_SHARE + LIQUIDATION_PER_SQUARED_RETURN * run**2)
        random = stream(self._market.parameters.seed, exchange, asset, "liquidations")
        draws = random.random((len(bars), prints_per_step))
        hit = draws < share[:, None]
        return np.where(hit, np.where(draws < 0.1 * share[:, None], 1, 2), 0).ravel()
