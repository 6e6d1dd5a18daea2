"""Dated futures: when they are listed, and their market, which is spot times carry until expiry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backtest.units import MS_PER_DAY
from data_ingest.simulator.market import future_venue
from data_ingest.simulator.options import FRIDAY, expiry_of, last_friday
from data_ingest.simulator.perpetual import Bars, Perpetual

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.market import SimulatedMarket

QUARTERS = (3, 6, 9, 12)
WEEKS_AHEAD = 2
OPEN_INTEREST_SHARE = 0.1
SETTLEMENT_STEPS = 6
"""The delivery price is the index averaged over the last thirty minutes."""


@dataclass(frozen=True)
class Life:
    """When a future is listed and when it is delivered."""

    listed_ms: int
    expiry_ms: int

    def holds(self, at_ms: int) -> bool:
        """Whether it trades at a time."""
        return self.listed_ms <= at_ms < self.expiry_ms

    @property
    def day(self) -> datetime:
        """Its day of delivery."""
        return datetime.fromtimestamp(self.expiry_ms / 1_000, tz=UTC)

    @property
    def digits(self) -> str:
        """Its day as Binance and OKX write it, ``240329``."""
        return f"{self.day:%y%m%d}"

    @property
    def letters(self) -> str:
        """Its day as Deribit and Bybit write it, ``29MAR24``."""
        return f"{self.day.day}{self.day:%b%y}".upper()


def quarterlies(market: SimulatedMarket) -> list[Life]:
    """List the quarterly futures of a span: two at a time, each from the last but one's expiry."""
    span = market.parameters
    first, last = (datetime.fromtimestamp(ms / 1_000, tz=UTC) for ms in (span.start, span.end))
    expiries = [
        expiry_of(last_friday(year, month))
        for year in range(first.year - 1, last.year + 2)
        for month in QUARTERS
    ]
    lives = [Life(*pair) for pair in zip(expiries, expiries[2:], strict=False)]
    return [life for life in lives if life.expiry_ms > span.start and life.listed_ms < span.end]


def weeklies(market: SimulatedMarket) -> list[Life]:
    """List the futures of the next two Fridays that are not quarterly."""
    span = market.parameters
    taken = {life.expiry_ms for life in quarterlies(market)}
    day = datetime.fromtimestamp(span.start / 1_000, tz=UTC).date()
    day += timedelta(days=(FRIDAY - day.weekday()) % 7)
    found = []
    while (expiry_ms := expiry_of(day)) < span.end + 7 * WEEKS_AHEAD * MS_PER_DAY:
        listed_ms = expiry_ms - 7 * WEEKS_AHEAD * MS_PER_DAY
        if expiry_ms not in taken and expiry_ms > span.start:
            found.append(Life(listed_ms, expiry_ms))
        day += timedelta(days=7)
    return found


class DatedFuture(Perpetual):
    """A dated future: one market on every exchange, at the options' forward.

    Parameters
    ----------
    market
        The market.
    crowd
        Its open interest and ratios.
    asset
        The asset's name.
    life
        When it is listed and delivered.
    """

    def __init__(self, market: SimulatedMarket, crowd: Crowd, asset: str, life: Life) -> None:
        super().__init__(market, crowd, asset, future_venue(life.expiry_ms))
        self.life = life

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
        """Return candles from its listing to its delivery; see `Perpetual.bars`."""
        life = self.life
        bars = super().bars(
            kind,
            length_ms,
            max(first_ms, life.listed_ms),
            min(last_ms, life.expiry_ms - 1),
            min(now_ms, life.expiry_ms),
            limit,
            oldest,
            offset_ms,
        )
        return replace(bars, closed=bars.opens + length_ms <= now_ms)

    def open_interest_usd(self, at_ms: int) -> float:
        """Return what is open, a tenth of Binance's perpetual until it is delivered."""
        path = self._market.assets[self.asset].open_interest_usd
        alive = self.life.holds(at_ms)
        return OPEN_INTEREST_SHARE * float(path[self._market.point(at_ms)]) if alive else 0.0

    def delivery_price_usd(self) -> float:
        """Return the index averaged over the thirty minutes before delivery."""
        point = self._market.point(self.life.expiry_ms)
        path = self._market.assets[self.asset].index_usd
        return round(float(path[max(0, point - SETTLEMENT_STEPS) : point + 1].mean()), 2)

    @property
    def listed_ms(self) -> int:
        """When it was listed."""
        return self.life.listed_ms
