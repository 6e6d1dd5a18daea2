"""Deribit's inverse perpetual: instrument, ticker, book, prints, bars and hourly funding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.market import STEPS_PER_DAY
from data_ingest.simulator.orderbook import ladder
from data_ingest.simulator.parameters import STEP_MS

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.deribit_trades import TradePage
    from data_ingest.simulator.market import SimulatedMarket, VenuePath

MAX_FUNDING_ROWS = 744
PERPETUAL_EXPIRY_MS = 32_503_708_800_000
PRINTS_PER_STEP = 4
LIQUIDATED = (None, "M", "T")
"""Whose order a liquidation's was: nobody's, the maker's, the taker's."""


class PerpetualDesk:
    """One asset's perpetual as the exchange publishes it.

    Parameters
    ----------
    market
        The market.
    crowd
        Who holds it.
    asset
        The asset's name.
    """

    def __init__(self, market: SimulatedMarket, crowd: Crowd, asset: str) -> None:
        self._market, self._crowd, self._asset = market, crowd, asset
        self._path = market.assets[asset]
        self.name = f"{asset}-PERPETUAL"
        self._contract_usd = 10.0 if asset == "BTC" else 1.0

    @property
    def _venue(self) -> VenuePath:
        return self._path.venues["deribit"]

    def instrument(self) -> dict[str, Any]:
        """Return the row of `get_instruments`."""
        return {
            "instrument_name": self.name,
            "kind": "future",
            "future_type": "reversed",
            "instrument_type": "reversed",
            "settlement_period": "perpetual",
            "base_currency": self._asset,
            "quote_currency": "USD",
            "counter_currency": "USD",
            "settlement_currency": self._asset,
            "contract_size": self._contract_usd,
            "min_trade_amount": self._contract_usd,
            "tick_size": self._path.parameters.deribit_tick_usd,
            "maker_commission": 0.0,
            "taker_commission": 0.0005,
            "max_leverage": 50,
            "is_active": True,
            "creation_timestamp": self._market.parameters.start - 365 * MS_PER_DAY,
            "expiration_timestamp": PERPETUAL_EXPIRY_MS,
        }

    def ticker(self, now_ms: int) -> dict[str, Any]:
        """Return prices, funding and the last 24 hours now."""
        point = self._market.point(now_ms)
        step, day = max(0, point - 1), slice(max(0, point - STEPS_PER_DAY), max(1, point))
        bids, asks = self.book(now_ms)
        _, hourly = self._market.deribit_funding(self._asset, now_ms)
        last, index = float(self._venue.trade[step, 3]), self.index_usd(now_ms)
        volume_usd = float(self._venue.volume_usd[day].sum())
        first = float(self._venue.trade[day, 0][0])
        return {
            "instrument_name": self.name,
            "timestamp": now_ms,
            "state": "open",
            "mark_price": round(float(self._venue.mark[step, 3]), 2),
            "index_price": index,
            "estimated_delivery_price": index,
            "last_price": last,
            "best_bid_price": float(bids[0, 0]),
            "best_bid_amount": round(float(bids[0, 1]), 2),
            "best_ask_price": float(asks[0, 0]),
            "best_ask_amount": round(float(asks[0, 1]), 2),
            "open_interest": round(
                self._market.parameters.liquidity.deribit_share
                * float(self._path.open_interest_usd[point]),
                -1,
            ),
            "funding_8h": float(hourly[-8:].sum()),
            "current_funding": float(hourly[-1]) * 8.0 if len(hourly) else 0.0,
            "stats": {
                "high": float(self._venue.trade[day, 1].max()),
                "low": float(self._venue.trade[day, 2].min()),
                "volume": round(volume_usd / last, 6),
                "volume_usd": round(volume_usd, 2),
                "price_change": round(100.0 * (last / first - 1.0), 4),
            },
        }

    def summary(self, now_ms: int) -> dict[str, Any]:
        """Return the row of `get_book_summary_by_currency`."""
        ticker = self.ticker(now_ms)
        known = ("mark_price", "open_interest", "funding_8h", "current_funding")
        kept = [name for name in (*known, "estimated_delivery_price") if name in ticker]
        return {
            "instrument_name": self.name,
            "base_currency": self._asset,
            "quote_currency": "USD",
            "creation_timestamp": now_ms,
            "bid_price": ticker["best_bid_price"],
            "ask_price": ticker["best_ask_price"],
            "mid_price": 0.5 * (ticker["best_bid_price"] + ticker["best_ask_price"]),
            "last": ticker["last_price"],
            **{key: ticker[key] for key in kept},
            **ticker["stats"],
        }

    def book(self, now_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """Return bids and asks ``[levels, 2]``: price and size in USD, best first."""
        point = self._market.point(now_ms)
        mid_usd = float(self._venue.trade[max(0, point - 1), 3])
        tick_usd = self._path.parameters.deribit_tick_usd
        return ladder(mid_usd, float(self._venue.depth_usd[point]), tick_usd)

    def candles(
        self, length_ms: int, start_ms: int, end_ms: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return openings, bars, volume in coins and cost in USD."""
        opens, bars, cost = self._market.candles(
            self._asset, "deribit", "trade", length_ms, start_ms, end_ms
        )
        return opens, bars, cost / bars[:, 3], cost

    def trades(self, wanted: TradePage, now_ms: int) -> dict[str, Any]:
        """Return prints at each step's open, extremes and close, the tape's finest detail."""
        spacing_ms, origin = STEP_MS // PRINTS_PER_STEP, self._market.parameters.start
        first = max(0, -(-(wanted.start_ms - origin) // spacing_ms), wanted.first - 1)
        # A step's prints appear with its candle: its extremes are not known before.
        complete = self._market.point(now_ms) * PRINTS_PER_STEP
        last = min(complete, (wanted.end_ms - origin) // spacing_ms + 1, wanted.last)
        last = max(first, last)
        if wanted.ascending:
            page = range(first, min(last, first + wanted.count))
        else:
            page = range(last - 1, max(first, last - wanted.count) - 1, -1)
        liquidations = self._crowd.liquidations(self._asset, "deribit", PRINTS_PER_STEP)
        rows = []
        for number in page:
            step, corner = divmod(number, PRINTS_PER_STEP)
            liquidated = LIQUIDATED[liquidations[number]]
            contracts = float(self._venue.volume_usd[step]) / PRINTS_PER_STEP / self._contract_usd
            rises = corner in (1, 3)
            rows.append(
                {
                    "trade_id": f"{number}" if self._asset == "BTC" else f"{self._asset}-{number}",
                    "trade_seq": number + 1,
                    "timestamp": origin + number * spacing_ms,
                    "instrument_name": self.name,
                    "price": float(self._venue.trade[step, corner]),
                    "mark_price": round(float(self._venue.mark[step, corner]), 2),
                    "index_price": round(float(self._path.index[step, corner]), 2),
                    "amount": self._contract_usd * max(1, round(contracts)),
                    "direction": "buy" if rises else "sell",
                    "tick_direction": 0 if rises else 2,
                    **({"liquidation": liquidated} if liquidated else {}),
                }
            )
        return {"trades": rows, "has_more": last - first > wanted.count}

    def funding(self, start_ms: int, end_ms: int, now_ms: int) -> list[dict[str, Any]]:
        """Return hourly accruals of a window, the newest 744 of them."""
        times, hourly = self._market.deribit_funding(self._asset, now_ms)
        total = np.concatenate(([0.0], np.cumsum(hourly)))
        wanted = np.flatnonzero((times >= start_ms) & (times <= end_ms))[-MAX_FUNDING_ROWS:]
        return [
            {
                "timestamp": int(times[row]),
                "index_price": self.index_usd(int(times[row])),
                "prev_index_price": self.index_usd(int(times[row]) - MS_PER_HOUR),
                "interest_1h": float(hourly[row]),
                "interest_8h": float(total[row + 1] - total[max(0, row - 7)]),
            }
            for row in wanted.tolist()
        ]

    def index_usd(self, at_ms: int) -> float:
        """Return the index at a time, to the cent."""
        return round(float(self._path.index_usd[self._market.point(at_ms)]), 2)
