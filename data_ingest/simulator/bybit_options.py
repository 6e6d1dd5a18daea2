"""Bybit's options: the contracts of Deribit, priced and settled in dollars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from data_ingest.simulator.bybit_rules import BybitError, Params, whole
from data_ingest.simulator.market import STEPS_PER_HOUR

if TYPE_CHECKING:
    from data_ingest.simulator.deribit_options import OptionDesk
    from data_ingest.simulator.market import SimulatedMarket

VOLATILITY_PERIODS = (7, 14, 21, 30, 60, 90, 180, 270)
VOLATILITY_WINDOW_MS = 30 * MS_PER_DAY
PRICE_STEP_USD = 5.0


class BybitOptions:
    """One asset's options as the exchange publishes them.

    Parameters
    ----------
    desk
        The option market.
    market
        The market, for what its index realised.
    """

    def __init__(self, desk: OptionDesk, market: SimulatedMarket) -> None:
        self._desk, self._listing, self._market = desk, desk.listing, market

    def has(self, symbol: str) -> bool:
        """Tell whether an option of this name was ever listed."""
        return symbol in self._listing.position

    def instruments(self, now_ms: int) -> list[dict[str, Any]]:
        """Return the living options."""
        listing = self._listing
        return [
            {
                "symbol": listing.names[row],
                "status": "Trading",
                "baseCoin": listing.asset,
                "quoteCoin": "USD",
                "settleCoin": "USDC",
                "optionsType": "Call" if listing.is_call[row] else "Put",
                "launchTime": str(int(listing.listed_ms[row])),
                "deliveryTime": str(int(listing.expiry_ms[row])),
                "deliveryFeeRate": "0.00015",
                "priceFilter": {
                    "minPrice": f"{PRICE_STEP_USD:g}",
                    "maxPrice": "10000000",
                    "tickSize": f"{PRICE_STEP_USD:g}",
                },
                "lotSizeFilter": {"maxOrderQty": "500", "minOrderQty": "0.01", "qtyStep": "0.01"},
            }
            for row in listing.alive(now_ms).tolist()
        ]

    def tickers(self, now_ms: int) -> list[dict[str, str]]:
        """Return the chain now: quotes, volatilities as fractions, and sensitivities."""
        rows = self._listing.alive(now_ms)
        if not len(rows):
            return []
        quotes, day = self._desk.quotes(rows, now_ms), self._desk.last_day(now_ms)
        greeks = self._desk.sensitivities(rows, quotes, now_ms)
        held, index = self._listing.open_interest(rows, now_ms), self._desk.index_usd(now_ms)
        found = []
        for place, row in enumerate(rows.tolist()):
            forward = float(quotes["forward"][place])
            bid, ask = (
                self._quoted(float(quotes[side][place]) * forward, side) for side in ("bid", "ask")
            )
            last = float(day["last"][row]) * index
            found.append(
                {
                    "symbol": self._listing.names[row],
                    "bid1Price": f"{bid:g}",
                    "bid1Size": "10" if bid else "0",
                    "bid1Iv": f"{quotes['bid_iv'][place] if bid else 0.0:.4f}",
                    "ask1Price": f"{ask:g}",
                    "ask1Size": "10",
                    "ask1Iv": f"{quotes['ask_iv'][place]:.4f}",
                    "lastPrice": f"{last:.2f}",
                    "highPrice24h": f"{float(day['high'][row]) * index:.2f}",
                    "lowPrice24h": f"{float(day['low'][row]) * index if last else 0.0:.2f}",
                    "markPrice": f"{float(quotes['mark'][place]) * forward:.8f}",
                    "indexPrice": f"{index:.2f}",
                    "markIv": f"{quotes['iv'][place]:.4f}",
                    "underlyingPrice": f"{forward:.8f}",
                    "openInterest": f"{held[place]:.2f}",
                    "turnover24h": f"{day['volume'][row] * index:.2f}",
                    "volume24h": f"{day['volume'][row]:.2f}",
                    "totalVolume": "0",
                    "totalTurnover": "0",
                    "delta": f"{greeks.delta[place]:.8f}",
                    "gamma": f"{greeks.gamma[place]:.8f}",
                    "vega": f"{greeks.vega[place]:.8f}",
                    "theta": f"{greeks.theta[place]:.8f}",
                    "predictedDeliveryPrice": "0",
                    "change24h": "0",
                }
            )
        return found

    def trades(self, now_ms: int, limit: int, wanted: str | None) -> list[dict[str, Any]]:
        """Return the newest prints, of one option or of all."""
        listing = self._listing
        prints = listing.trades(now_ms - 8 * MS_PER_DAY, now_ms)
        found = np.arange(len(prints.ts_ms))
        if wanted is not None:
            found = np.flatnonzero(prints.option == listing.position[wanted])
        newest = found[::-1][:limit]
        options = prints.option[newest]
        forward = listing.surface.forward_usd(prints.ts_ms[newest], listing.expiry_ms[options])
        return [
            {
                "execId": f"{listing.asset}-{int(prints.trade_id[at])}",
                "symbol": listing.names[prints.option[at]],
                "price": f"{prints.price_coin[at] * forward_usd:.2f}",
                "size": f"{prints.amount[at]:.2f}",
                "side": "Buy" if prints.is_buy[at] else "Sell",
                "time": str(int(prints.ts_ms[at])),
                "isBlockTrade": False,
                "mP": f"{prints.mark_coin[at] * forward_usd:.8f}",
                "iP": f"{prints.index_usd[at]:.2f}",
                "mIv": "",
                "iv": f"{prints.iv[at]:.4f}",
            }
            for at, forward_usd in zip(newest.tolist(), forward.tolist(), strict=True)
        ]

    def deliveries(self, now_ms: int) -> list[dict[str, str]]:
        """Return the delivery price of every option that has expired, newest first."""
        listing = self._listing
        expired = np.flatnonzero(
            (listing.expiry_ms <= now_ms) & (listing.expiry_ms > self._market.parameters.start)
        )
        newest = expired[np.argsort(-listing.expiry_ms[expired], kind="stable")]
        prices = {
            expiry_ms: self._desk.delivery_price_usd(expiry_ms)
            for expiry_ms in np.unique(listing.expiry_ms[expired]).tolist()
        }
        return [
            {
                "symbol": listing.names[row],
                "deliveryPrice": f"{prices[int(listing.expiry_ms[row])]:.2f}",
                "deliveryTime": str(int(listing.expiry_ms[row])),
            }
            for row in newest.tolist()
        ]

    def realised_volatility(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        """Return hourly what the index realised over some days, newest first."""
        period = whole(params, "period", VOLATILITY_PERIODS[0])
        if period not in VOLATILITY_PERIODS:
            raise BybitError(10001, "params error: period is invalid")
        last_ms = min(whole(params, "endTime", now_ms), now_ms)
        first_ms = whole(params, "startTime", last_ms - MS_PER_HOUR + 1)
        if ("startTime" in params) != ("endTime" in params):
            raise BybitError(10001, "params error: startTime and endTime go together")
        if last_ms - first_ms > VOLATILITY_WINDOW_MS:
            raise BybitError(10001, "params error: the window is longer than 30 days")
        origin = self._market.parameters.start
        index = self._market.assets[self._listing.asset].index_usd[::STEPS_PER_HOUR]
        squares = np.concatenate(([0.0], np.cumsum(np.diff(np.log(index)) ** 2)))
        hours = period * 24
        rows = []
        for hour in range(last_ms // MS_PER_HOUR, -(-first_ms // MS_PER_HOUR) - 1, -1):
            last = hour - origin // MS_PER_HOUR
            if last < hours:
                break
            variance = (squares[last] - squares[last - hours]) / hours
            value = float(np.sqrt(variance * MS_PER_YEAR / MS_PER_HOUR))
            at_ms = str(hour * MS_PER_HOUR)
            rows.append({"period": period, "value": f"{value:.8f}", "time": at_ms})
        return rows

    def book(self, symbol: str, now_ms: int) -> dict[str, Any]:
        """Return one option's best quotes as a book."""
        rows = np.array([self._listing.position[symbol]])
        quotes = self._desk.quotes(rows, now_ms)
        forward = float(quotes["forward"][0])
        bid, ask = (self._quoted(float(quotes[side][0]) * forward, side) for side in ("bid", "ask"))
        return {
            "s": symbol,
            "b": [[f"{bid:g}", "10"]] if bid else [],
            "a": [[f"{ask:g}", "10"]],
            "ts": now_ms,
            "u": now_ms,
        }

    @staticmethod
    def _quoted(usd: float, side: str) -> float:
        """Round a quote to the price step, away from the middle."""
        steps = usd / PRICE_STEP_USD
        whole_steps = np.floor(steps) if side == "bid" else max(np.ceil(steps), 1.0)
        return float(whole_steps * PRICE_STEP_USD)
