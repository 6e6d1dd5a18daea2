"""Deribit's settlements: perpetuals each morning, options when they expire, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.options import EXPIRY_HOUR

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.deribit_options import OptionDesk
    from data_ingest.simulator.market import SimulatedMarket

KINDS = ("settlement", "delivery", "bankruptcy")
MOST_ROWS = 1_000


class SettlementDesk:
    """Everything that one asset's instruments settled.

    Parameters
    ----------
    market
        The market.
    crowd
        Who holds its perpetual.
    desk
        Its options.
    """

    def __init__(self, market: SimulatedMarket, crowd: Crowd, desk: OptionDesk) -> None:
        self._market, self._crowd, self._desk = market, crowd, desk
        self._asset = desk.listing.asset
        self.perpetual = f"{self._asset}-PERPETUAL"

    def page(
        self, latest_ms: int, kind: str | None, instrument: str | None, skip: int, count: int
    ) -> dict[str, Any]:
        """Return a page of settlements.

        Parameters
        ----------
        latest_ms
            The newest instant; nothing later is served, everything earlier is.
        kind
            One of ``settlement``, ``delivery`` and ``bankruptcy``; all where None.
        instrument
            Only this one.
        skip, count
            Rows to pass over and to return.
        """
        events = self._events(latest_ms, kind, instrument)
        accruals = self._market.deribit_funding(self._asset, latest_ms)
        page = [
            self._perpetual_row(at_ms, accruals) if option < 0 else self._option_row(at_ms, option)
            for at_ms, option in events[skip : skip + count]
        ]
        more = skip + len(page) < len(events)
        return {"settlements": page, "continuation": str(skip + len(page)) if more else None}

    def _events(
        self, latest_ms: int, kind: str | None, instrument: str | None
    ) -> list[tuple[int, int]]:
        """Return time and option of every event, newest first; option -1 is the perpetual."""
        listing, first_ms = self._desk.listing, self._market.parameters.start
        events: list[tuple[int, int]] = []
        if kind in (None, "settlement") and instrument in (None, self.perpetual):
            morning_ms = EXPIRY_HOUR * MS_PER_HOUR
            events += [
                (at_ms, -1) for at_ms in range(first_ms + morning_ms, latest_ms + 1, MS_PER_DAY)
            ]
        if kind in (None, "delivery") and instrument != self.perpetual:
            expired = (listing.expiry_ms <= latest_ms) & (listing.expiry_ms > first_ms)
            if instrument is not None:
                expired &= np.arange(len(listing.names)) == listing.position[instrument]
            rows = np.flatnonzero(expired)
            events += zip(listing.expiry_ms[rows].tolist(), rows.tolist(), strict=True)
        # Insurance never failed here: there is no bankruptcy to tell of.
        return sorted(events, reverse=True)

    def _option_row(self, at_ms: int, option: int) -> dict[str, Any]:
        listing = self._desk.listing
        index = self._desk.delivery_price_usd(at_ms)
        gain = (index - float(listing.strike[option])) * (1 if listing.is_call[option] else -1)
        payoff = round(max(gain, 0.0) / index, 6)
        # The open interest of the last hour is what is delivered.
        rows = np.array([option])
        held = float(listing.open_interest(rows, at_ms - MS_PER_HOUR)[0])
        return {
            "type": "delivery",
            "timestamp": at_ms,
            "instrument_name": listing.names[option],
            "index_price": index,
            "mark_price": payoff,
            "position": held,
            "profit_loss": round(held * payoff, 8),
            "session_profit_loss": round(held * payoff, 8),
        }

    def _perpetual_row(self, at_ms: int, accruals: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
        point = self._market.point(at_ms)
        venue = self._market.venue(self._asset, "deribit")
        index = round(float(self._market.assets[self._asset].index_usd[point]), 2)
        mark = round(float(venue.mark[max(0, point - 1), 3]), 2)
        held_usd = float(self._crowd.open_interest_usd(self._asset, "deribit")[point])
        times, hourly = accruals
        session = float(hourly[(times > at_ms - MS_PER_DAY) & (times <= at_ms)].sum())
        return {
            "type": "settlement",
            "timestamp": at_ms,
            "instrument_name": self.perpetual,
            "index_price": index,
            "mark_price": mark,
            "position": round(held_usd, -1),
            "funding": round(session * held_usd / index, 8),
            "profit_loss": 0.0,
            "session_profit_loss": 0.0,
        }
