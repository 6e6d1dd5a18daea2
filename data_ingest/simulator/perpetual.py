"""One perpetual on one venue, as any dialect asks for it: bars, prints, book, funding, crowd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.units import MS_PER_DAY
from data_ingest.simulator.market import STEPS_PER_DAY
from data_ingest.simulator.orderbook import ladder
from data_ingest.simulator.parameters import STEP_MS

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.market import SimulatedMarket

PRINTS_PER_STEP = 4
PRINT_SPACING_MS = STEP_MS // PRINTS_PER_STEP


@dataclass(frozen=True)
class Bars:
    """Candles in time order: openings, ``[n, 4]`` prices, volume in USD, whether closed."""

    opens: np.ndarray
    prices: np.ndarray
    volume_usd: np.ndarray
    closed: np.ndarray


@dataclass(frozen=True)
class Print:
    """One trade of a perpetual; its number is also its id."""

    number: int
    at_ms: int
    price_usd: float
    size_usd: float
    is_buy: bool


@dataclass(frozen=True)
class LastDay:
    """What the last 24 hours traded."""

    first: float
    high: float
    low: float
    last: float
    volume_usd: float


class Perpetual:
    """A perpetual of one asset on one venue.

    Parameters
    ----------
    market
        The market.
    crowd
        Its open interest and ratios.
    asset
        The asset's name.
    exchange
        The venue, one of `data_ingest.simulator.market.VENUE_SHARES`.
    """

    def __init__(self, market: SimulatedMarket, crowd: Crowd, asset: str, exchange: str) -> None:
        self._market, self._crowd = market, crowd
        self.asset, self.exchange = asset, exchange
        self.tick_usd = market.assets[asset].parameters.price_tick_usd

    def bars(
        self,
        kind: str,
        length_ms: int,
        first_ms: int,
        last_ms: int,
        now_ms: int,
        limit: int,
        oldest: bool = False,
        offset_ms: int = 0,
    ) -> Bars:
        """Return candles that open in ``[first_ms, last_ms]``, at most ``limit`` of them.

        Parameters
        ----------
        kind
            ``trade``, ``mark``, ``index`` or ``premium``.
        length_ms
            Length of a candle.
        first_ms, last_ms
            Window of the openings, both ends included.
        now_ms
            The clock; the candle in progress is shown as far as it is known.
        limit
            Most candles.
        oldest
            Keep the oldest of too many, instead of the newest.
        offset_ms
            How long after midnight UTC the candles are aligned.
        """
        origin = self._market.parameters.start
        known_ms = origin + self._market.point(now_ms) * STEP_MS
        last_open = _floor(min(last_ms, known_ms - 1), length_ms, offset_ms)
        first_open = -_floor(-max(first_ms, origin), length_ms, -offset_ms)
        if oldest:
            last_open = min(last_open, first_open + (limit - 1) * length_ms)
        else:
            first_open = max(first_open, last_open - (limit - 1) * length_ms)
        end_ms = min(known_ms, last_open + length_ms)
        opens, prices, volume_usd = self._market.candles(
            self.asset, self.exchange, kind, length_ms, first_open, max(end_ms, origin), offset_ms
        )
        return Bars(opens, prices, volume_usd, opens + length_ms <= now_ms)

    def prints(self, first: int, last: int) -> list[Print]:
        """Return the prints numbered ``first`` up to, not including, ``last``."""
        venue, origin = self._market.venue(self.asset, self.exchange), self._market.parameters.start
        rows = []
        for number in range(max(first, 0), last):
            step, corner = divmod(number, PRINTS_PER_STEP)
            rows.append(
                Print(
                    number,
                    origin + number * PRINT_SPACING_MS,
                    float(venue.trade[step, corner]),
                    float(venue.volume_usd[step]) / PRINTS_PER_STEP,
                    corner in (1, 3),
                )
            )
        return rows

    def prints_until(self, at_ms: int) -> int:
        """Return how many prints were made before a time; they come with their candle."""
        return self._market.point(at_ms) * PRINTS_PER_STEP

    def first_print_from(self, at_ms: int) -> int:
        """Return the number of the first print at or after a time."""
        return max(0, -(-(at_ms - self._market.parameters.start) // PRINT_SPACING_MS))

    def funding(self, hours: int, end_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """Return times and rates of the payments made by ``end_ms``."""
        return self._market.funding(self.asset, self.exchange, hours, end_ms)

    def book(self, now_ms: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return bids and asks ``[levels, 2]``: price and size in USD, best first."""
        point = self._market.point(now_ms)
        depth_usd = float(self._market.venue(self.asset, self.exchange).depth_usd[point])
        bids, asks = ladder(self.last_usd(now_ms), depth_usd, self.tick_usd)
        return bids[:levels], asks[:levels]

    def last_usd(self, at_ms: int) -> float:
        """Return the last traded price."""
        point = self._market.point(at_ms)
        return float(self._market.venue(self.asset, self.exchange).trade[max(0, point - 1), 3])

    def mark_usd(self, at_ms: int) -> float:
        """Return the mark price, to the cent."""
        point = self._market.point(at_ms)
        mark = self._market.venue(self.asset, self.exchange).mark
        return round(float(mark[point - 1, 3]) if point else float(mark[0, 0]), 2)

    def index_usd(self, at_ms: int) -> float:
        """Return the index, to the cent."""
        point = self._market.point(at_ms)
        return round(float(self._market.assets[self.asset].index_usd[point]), 2)

    def last_day(self, now_ms: int) -> LastDay:
        """Summarise the last 24 hours."""
        point = self._market.point(now_ms)
        day = slice(max(0, point - STEPS_PER_DAY), max(1, point))
        venue = self._market.venue(self.asset, self.exchange)
        bars = venue.trade[day]
        return LastDay(
            float(bars[0, 0]),
            float(bars[:, 1].max()),
            float(bars[:, 2].min()),
            float(bars[-1, 3]),
            float(venue.volume_usd[day].sum()),
        )

    def open_interest_usd(self, at_ms: int) -> float:
        """Return what is open on the venue."""
        path = self._crowd.open_interest_usd(self.asset, self.exchange)
        return float(path[self._market.point(at_ms)])

    def long_share(self, at_ms: int, who: str = "accounts") -> float:
        """Return the share of accounts that are long."""
        path = self._crowd.long_share(self.asset, self.exchange, who)
        return float(path[self._market.point(at_ms)])

    def marks_of(self, length_ms: int, first_ms: int, last_ms: int, offset_ms: int = 0) -> range:
        """Return the instants of a regular statistic in ``[first_ms, last_ms]``."""
        first_ms = max(first_ms, self._market.parameters.start)
        return range(-_floor(-first_ms, length_ms, -offset_ms), last_ms + 1, length_ms)

    @property
    def listed_ms(self) -> int:
        """When the contract was listed: a year before the span."""
        return self._market.parameters.start - 365 * MS_PER_DAY


def _floor(at_ms: int, length_ms: int, offset_ms: int) -> int:
    """Return the last instant of a raster at or before a time."""
    return (at_ms - offset_ms) // length_ms * length_ms + offset_ms
