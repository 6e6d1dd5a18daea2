"""Deribit's option rows: instruments, chain summary, ticker, prints, bars and volatility index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_YEAR
from data_ingest.simulator.options import option_tick
from data_ingest.simulator.parameters import STEP_MS
from data_ingest.simulator.surface import black_76_coin

if TYPE_CHECKING:
    from data_ingest.simulator.deribit_trades import TradePage
    from data_ingest.simulator.options import OptionListing
    from data_ingest.simulator.surface import Greeks


SETTLEMENT_STEPS = 6
"""The delivery price is the index averaged over the last thirty minutes."""
VOLATILITY_INDEX_YEARS = 30 / 365


class OptionDesk:
    """One asset's option market as the exchange publishes it.

    Parameters
    ----------
    listing
        The asset's options and prints.
    """

    def __init__(self, listing: OptionListing) -> None:
        self.listing = listing
        self._surface = listing.surface
        self._path = listing.market.assets[listing.asset]

    def instruments(self, now_ms: int, expired: bool) -> list[dict[str, Any]]:
        """Return the options listed by ``now_ms``: those alive, or those that have expired."""
        listing, asset = self.listing, self.listing.asset
        rows = np.flatnonzero(listing.expiry_ms <= now_ms) if expired else listing.alive(now_ms)
        return [
            {
                "instrument_name": listing.names[row],
                "kind": "option",
                "instrument_type": "reversed",
                "option_type": "call" if listing.is_call[row] else "put",
                "strike": float(listing.strike[row]),
                "settlement_period": "week",
                "base_currency": asset,
                "quote_currency": asset,
                "counter_currency": "USD",
                "settlement_currency": asset,
                "contract_size": 1.0,
                "min_trade_amount": 0.1 if asset == "BTC" else 1.0,
                "tick_size": 0.0001,
                "tick_size_steps": [{"above_price": 0.005, "tick_size": 0.0005}],
                "maker_commission": 0.0003,
                "taker_commission": 0.0003,
                "is_active": not expired,
                "creation_timestamp": int(listing.listed_ms[row]),
                "expiration_timestamp": int(listing.expiry_ms[row]),
            }
            for row in rows.tolist()
        ]

    def summary(self, now_ms: int) -> list[dict[str, Any]]:
        """Return the chain now, one row per living option."""
        listing, asset = self.listing, self.listing.asset
        rows = listing.alive(now_ms)
        if not len(rows):
            return []
        quotes = self.quotes(rows, now_ms)
        day = self.last_day(now_ms)
        index = self.index_usd(now_ms)
        interest = listing.open_interest(rows, now_ms)
        columns = zip(
            rows.tolist(),
            np.round(quotes["forward"], 4).tolist(),
            quotes["mark"].tolist(),
            np.round(100 * quotes["iv"], 2).tolist(),
            quotes["bid"].tolist(),
            quotes["ask"].tolist(),
            interest.tolist(),
            np.round(day["volume"][rows], 1).tolist(),
            np.round(day["volume_usd"][rows], 2).tolist(),
            day["last"][rows].tolist(),
            day["low"][rows].tolist(),
            day["high"][rows].tolist(),
            strict=True,
        )
        return [
            {
                "instrument_name": listing.names[row],
                "base_currency": asset,
                "quote_currency": asset,
                "creation_timestamp": now_ms,
                "underlying_index": "SYN." + listing.names[row].rsplit("-", 2)[0],
                "underlying_price": forward,
                "estimated_delivery_price": index,
                "interest_rate": 0.0,
                "mark_price": mark,
                "mark_iv": iv,
                "bid_price": bid or None,
                "ask_price": ask,
                "mid_price": round(0.5 * (bid + ask), 6) if bid else None,
                "open_interest": held,
                "volume": volume,
                "volume_usd": paid,
                "last": last or None,
                "low": low if last else None,
                "high": high or None,
                "price_change": None,
            }
            for row, forward, mark, iv, bid, ask, held, volume, paid, last, low, high in columns
        ]

    def ticker(self, option: int, now_ms: int) -> dict[str, Any]:
        """Return one option's quotes and sensitivities now."""
        listing, rows = self.listing, np.array([option])
        quotes, day = self.quotes(rows, now_ms), self.last_day(now_ms)
        greeks = self.sensitivities(rows, quotes, now_ms)
        alive = listing.listed_ms[option] <= now_ms < listing.expiry_ms[option]
        index = self.index_usd(now_ms)
        return {
            "instrument_name": listing.names[option],
            "timestamp": now_ms,
            "state": "open" if alive else "closed",
            "underlying_index": "SYN." + listing.names[option].rsplit("-", 2)[0],
            "underlying_price": round(float(quotes["forward"][0]), 4),
            "index_price": index,
            "estimated_delivery_price": index,
            "interest_rate": 0.0,
            "mark_price": float(quotes["mark"][0]),
            "mark_iv": round(100 * float(quotes["iv"][0]), 2),
            "bid_iv": round(100 * float(quotes["bid_iv"][0]), 2),
            "ask_iv": round(100 * float(quotes["ask_iv"][0]), 2),
            "best_bid_price": float(quotes["bid"][0]),
            "best_ask_price": float(quotes["ask"][0]),
            "best_bid_amount": 10.0,
            "best_ask_amount": 10.0,
            "last_price": float(day["last"][option]) or None,
            "open_interest": float(listing.open_interest(rows, now_ms)[0]),
            "greeks": {
                "delta": round(float(greeks.delta[0]), 5),
                "gamma": round(float(greeks.gamma[0]), 8),
                "vega": round(float(greeks.vega[0]), 5),
                "theta": round(float(greeks.theta[0]), 5),
                "rho": 0.0,
            },
            "stats": {
                "volume": round(float(day["volume"][option]), 1),
                "volume_usd": round(float(day["volume_usd"][option]), 2),
                "high": float(day["high"][option]) or None,
                "low": float(day["low"][option]) if day["last"][option] else None,
                "price_change": None,
            },
        }

    def trades(self, wanted: TradePage, option: int | None = None) -> dict[str, Any]:
        """Return a page of prints, oldest or newest first, of one option or of all."""
        listing = self.listing
        start_ms, end_ms = wanted.start_ms, wanted.end_ms
        if option is not None:
            start_ms = max(start_ms, int(listing.listed_ms[option]))
            end_ms = min(end_ms, int(listing.expiry_ms[option]))
        prints = listing.trades(start_ms, end_ms)
        if option is not None:
            prints = prints.where(prints.option == option)
            number = listing.numbers(prints)
            prints = prints.where((number >= wanted.first) & (number <= wanted.last))
        found = np.arange(len(prints.ts_ms))
        page = found[: wanted.count] if wanted.ascending else found[::-1][: wanted.count]
        number = listing.numbers(prints.where(page))
        rows = [
            {
                "trade_id": f"{listing.asset}-{prints.trade_id[at]}",
                "trade_seq": int(place),
                "timestamp": int(prints.ts_ms[at]),
                "instrument_name": listing.names[prints.option[at]],
                "price": float(prints.price_coin[at]),
                "mark_price": float(prints.mark_coin[at]),
                "iv": round(100 * float(prints.iv[at]), 2),
                "index_price": float(prints.index_usd[at]),
                "amount": float(prints.amount[at]),
                "contracts": float(prints.amount[at]),
                "direction": "buy" if prints.is_buy[at] else "sell",
                "tick_direction": 0 if prints.is_buy[at] else 2,
            }
            for at, place in zip(page.tolist(), number.tolist(), strict=True)
        ]
        return {"trades": rows, "has_more": len(found) > wanted.count}

    def candles(
        self, option: int, length_ms: int, start_ms: int, end_ms: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return bars of an option's mark price: openings, bars, volume in coins, cost in USD."""
        listing = self.listing
        first_ms = max(start_ms, int(listing.listed_ms[option]), listing.market.parameters.start)
        first_ms = -(-first_ms // length_ms) * length_ms
        last_ms = min(end_ms, int(listing.expiry_ms[option])) // STEP_MS * STEP_MS
        if first_ms >= last_ms:
            return np.empty(0, np.int64), np.empty((0, 4)), np.empty(0), np.empty(0)
        points_ms = np.arange(first_ms, last_ms + 1, STEP_MS, dtype=np.int64)
        _, mark = self._surface.mark(
            points_ms, listing.expiry_ms[option], listing.strike[option], listing.is_call[option]
        )
        opens = np.arange(first_ms, last_ms, length_ms, dtype=np.int64)
        edges = (opens - first_ms) // STEP_MS
        closes = np.append(edges[1:], len(points_ms) - 1)
        high = np.maximum.reduceat(np.maximum(mark[:-1], mark[1:]), edges)
        low = np.minimum.reduceat(np.minimum(mark[:-1], mark[1:]), edges)
        prints = listing.trades(first_ms, last_ms - 1)
        mine = prints.option == option
        bar = (prints.ts_ms[mine] - first_ms) // length_ms
        coins = prints.amount[mine]
        volume = np.bincount(bar, weights=coins, minlength=len(opens))
        usd = coins * prints.price_coin[mine] * prints.index_usd[mine]
        cost = np.bincount(bar, weights=usd, minlength=len(opens))
        bars = np.column_stack((mark[edges], high, low, mark[closes]))
        return opens, bars, volume, cost

    def volatility_index(self, opens: np.ndarray, length_ms: int, now_ms: int) -> list[list[float]]:
        """Return bars of the 30-day at-the-money volatility in percent."""
        rows = []
        for open_ms in opens.tolist():
            last_ms = min(open_ms + length_ms, now_ms)
            points_ms = np.arange(open_ms, last_ms + 1, min(STEP_MS, length_ms), dtype=np.int64)
            years = np.full(len(points_ms), VOLATILITY_INDEX_YEARS)
            total = self._surface.atm_variance(points_ms, years)
            path = np.round(100 * np.sqrt(total / VOLATILITY_INDEX_YEARS), 2)
            rows.append(
                [open_ms, float(path[0]), float(path.max()), float(path.min()), float(path[-1])]
            )
        return rows

    def delivery_price_usd(self, expiry_ms: int) -> float:
        """Return the index averaged over the thirty minutes before an expiry."""
        point = self.listing.market.point(expiry_ms)
        window = self._path.index_usd[max(0, point - SETTLEMENT_STEPS) : point + 1]
        return round(float(window.mean()), 2)

    def quotes(self, rows: np.ndarray, now_ms: int) -> dict[str, np.ndarray]:
        """Return forward, volatilities and prices in coin of the options at ``rows``."""
        listing = self.listing
        expiry_ms, strike = listing.expiry_ms[rows], listing.strike[rows]
        is_call = listing.is_call[rows]
        forward = self._surface.forward_usd(now_ms, expiry_ms)
        iv, mark = self._surface.mark(now_ms, expiry_ms, strike, is_call)
        half = self._surface.half_spread(now_ms, expiry_ms, strike)
        root_years = np.sqrt(np.maximum(expiry_ms - now_ms, 0) / MS_PER_YEAR)
        bid_iv, ask_iv = np.maximum(iv - half, 0.0), iv + half
        bid = black_76_coin(forward, strike, bid_iv * root_years, is_call)
        ask = black_76_coin(forward, strike, ask_iv * root_years, is_call)
        bid_tick, ask_tick = option_tick(bid), option_tick(ask)
        return {
            "forward": forward,
            "iv": iv,
            "mark": mark,
            "bid_iv": bid_iv,
            "ask_iv": ask_iv,
            "bid": np.round(np.floor(bid / bid_tick) * bid_tick, 4),
            "ask": np.round(np.maximum(np.ceil(ask / ask_tick), 1.0) * ask_tick, 4),
        }

    def last_day(self, now_ms: int) -> dict[str, np.ndarray]:
        """Summarise the prints of the last 24 hours, one value per option ever listed."""
        prints = self.listing.trades(now_ms - MS_PER_DAY, now_ms)
        count = len(self.listing.names)
        last, high, low = np.zeros(count), np.zeros(count), np.full(count, np.inf)
        last[prints.option] = prints.price_coin
        np.maximum.at(high, prints.option, prints.price_coin)
        np.minimum.at(low, prints.option, prints.price_coin)
        usd = prints.amount * prints.price_coin * prints.index_usd
        return {
            "last": last,
            "high": high,
            "low": low,
            "volume": np.bincount(prints.option, weights=prints.amount, minlength=count),
            "volume_usd": np.bincount(prints.option, weights=usd, minlength=count),
        }

    def sensitivities(self, rows: np.ndarray, quotes: dict[str, np.ndarray], now_ms: int) -> Greeks:
        """Return what the options at ``rows`` are sensitive to, USD."""
        years = np.maximum(self.listing.expiry_ms[rows] - now_ms, 0) / MS_PER_YEAR
        return self._surface.greeks(
            quotes["forward"],
            self.listing.strike[rows],
            quotes["iv"],
            years,
            self.listing.is_call[rows],
        )

    def index_usd(self, now_ms: int) -> float:
        """Return the index now, to the cent."""
        return round(float(self._path.index_usd[self.listing.market.point(now_ms)]), 2)
