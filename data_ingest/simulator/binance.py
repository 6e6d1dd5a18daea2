"""Binance USD-M futures' public REST paths (`/fapi/v1`), answered from the simulated market."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.market import STEPS_PER_DAY
from data_ingest.simulator.orderbook import ladder

if TYPE_CHECKING:
    from data_ingest.simulator.market import SimulatedMarket

Params = dict[str, str]
QUOTE = "USDT"
PERPETUAL_EXPIRY_MS = 4_133_404_800_000
INTERVALS_MS = {
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": MS_PER_HOUR,
    "2h": 2 * MS_PER_HOUR,
    "4h": 4 * MS_PER_HOUR,
    "6h": 6 * MS_PER_HOUR,
    "8h": 8 * MS_PER_HOUR,
    "12h": 12 * MS_PER_HOUR,
    "1d": MS_PER_DAY,
}
BOOK_LIMITS = (5, 10, 20, 50, 100, 500, 1000)


class BinanceError(Exception):
    """A refusal in the exchange's own terms, sent with HTTP status 400."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class BinanceApi:
    """The exchange's public paths over one market.

    Parameters
    ----------
    market
        What the exchange trades.
    """

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        self.paths: dict[str, Callable[[Params, int], Any]] = {
            "time": lambda _params, now_ms: {"serverTime": now_ms},
            "ping": lambda _params, _now_ms: {},
            "exchangeInfo": self._exchange_info,
            "klines": lambda params, now_ms: self._klines(params, now_ms, "trade"),
            "markPriceKlines": lambda params, now_ms: self._klines(params, now_ms, "mark"),
            "indexPriceKlines": lambda params, now_ms: self._klines(params, now_ms, "index"),
            "fundingRate": self._funding,
            "fundingInfo": self._funding_info,
            "premiumIndex": self._premium_index,
            "openInterest": self._open_interest,
            "depth": self._depth,
            "ticker/24hr": self._ticker,
        }

    def call(self, path: str, params: Params, now_ms: int) -> Any:
        """Answer one path at one time.

        Raises
        ------
        BinanceError
            If the path, the symbol or a parameter is unknown.
        """
        if path not in self.paths:
            raise BinanceError(-5000, f"Path /fapi/v1/{path}, Method GET is invalid")
        return self.paths[path](params, now_ms)

    def _exchange_info(self, _params: Params, now_ms: int) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": 2400,
                }
            ],
            "exchangeFilters": [],
            "assets": [{"asset": QUOTE, "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [self._symbol_row(name) for name in self._market.assets],
        }

    def _symbol_row(self, name: str) -> dict[str, Any]:
        tick = self._market.assets[name].parameters.price_tick_usd
        return {
            "symbol": name + QUOTE,
            "pair": name + QUOTE,
            "contractType": "PERPETUAL",
            "deliveryDate": PERPETUAL_EXPIRY_MS,
            "onboardDate": self._market.parameters.start - 365 * MS_PER_DAY,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": name,
            "quoteAsset": QUOTE,
            "marginAsset": QUOTE,
            "pricePrecision": 2,
            "quantityPrecision": 3,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": ["PoW"],
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": f"{tick:g}",
                    "maxPrice": "4529764",
                    "tickSize": f"{tick:g}",
                },
                {
                    "filterType": "LOT_SIZE",
                    "minQty": "0.001",
                    "maxQty": "1000",
                    "stepSize": "0.001",
                },
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": "0.001",
                    "maxQty": "120",
                    "stepSize": "0.001",
                },
                {"filterType": "MIN_NOTIONAL", "notional": "100"},
            ],
            "orderTypes": ["LIMIT", "MARKET", "STOP"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        }

    def _klines(self, params: Params, now_ms: int, kind: str) -> list[list[Any]]:
        name = self._asset(params, "pair" if kind == "index" else "symbol")
        length_ms = INTERVALS_MS.get(params.get("interval", ""))
        if length_ms is None:
            raise BinanceError(-1120, "Invalid interval.")
        limit = _limit(params, 500, 1_500)
        end_ms = min(now_ms, _whole(params, "endTime", now_ms))
        # A candle belongs to the window by its opening; it is shown as far as `now` knows it.
        known_ms = min(now_ms, end_ms // length_ms * length_ms + length_ms)
        newest_first_ms = (-(-known_ms // length_ms) - limit) * length_ms
        start_ms = _whole(params, "startTime", newest_first_ms)
        if "startTime" in params and start_ms > _whole(params, "endTime", start_ms):
            raise BinanceError(-1023, "Start time is greater than end time.")
        window_end_ms = (-(-start_ms // length_ms) + limit) * length_ms
        opens, bars, volume_usd = self._market.candles(
            name, "binance", kind, length_ms, start_ms, min(known_ms, window_end_ms)
        )
        traded = kind == "trade"
        rows = []
        for open_ms, bar, usd in zip(
            opens.tolist(), bars.tolist(), volume_usd.tolist(), strict=True
        ):
            coins = usd / bar[3] if traded else 0.0
            quote = usd if traded else 0.0
            rows.append(
                [
                    open_ms,
                    *(f"{price:.2f}" for price in bar),
                    f"{coins:.3f}",
                    open_ms + length_ms - 1,
                    f"{quote:.2f}",
                    int(usd / 4_000.0) if traded else length_ms // 1_000,
                    f"{0.5 * coins:.3f}",
                    f"{0.5 * quote:.2f}",
                    "0",
                ]
            )
        return rows

    def _funding(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        names = [self._asset(params, "symbol")] if "symbol" in params else self._market.assets
        limit = _limit(params, 100, 1_000)
        start_ms, end_ms = _whole(params, "startTime", 0), _whole(params, "endTime", now_ms)
        rows: list[dict[str, Any]] = []
        for name in names:
            times, rates = self._market.binance_funding(name, now_ms)
            # Real funding times are late by a few milliseconds; a reader must round them.
            stamps = times + (times // MS_PER_HOUR * 7) % 5
            wanted = np.flatnonzero((stamps >= start_ms) & (stamps <= min(end_ms, now_ms)))
            wanted = wanted[:limit] if "startTime" in params else wanted[-limit:]
            rows.extend(
                {
                    "symbol": name + QUOTE,
                    "fundingTime": int(stamps[row]),
                    "fundingRate": f"{rates[row]:.8f}",
                    "markPrice": f"{self._mark(name, int(times[row])):.8f}",
                }
                for row in wanted.tolist()
            )
        return rows

    def _funding_info(self, _params: Params, _now_ms: int) -> list[dict[str, Any]]:
        cap = self._market.parameters.liquidity.funding_cap
        return [
            {
                "symbol": name + QUOTE,
                "adjustedFundingRateCap": f"{cap:.8f}",
                "adjustedFundingRateFloor": f"{-cap:.8f}",
                "fundingIntervalHours": 8,
                "disclaimer": False,
            }
            for name in self._market.assets
        ]

    def _premium_index(self, params: Params, now_ms: int) -> Any:
        names = [self._asset(params, "symbol")] if "symbol" in params else self._market.assets
        next_ms = (now_ms // (8 * MS_PER_HOUR) + 1) * 8 * MS_PER_HOUR
        rows = []
        for name in names:
            _, rates = self._market.binance_funding(name, now_ms)
            index = self._market.assets[name].index_usd[self._market.point(now_ms)]
            rows.append(
                {
                    "symbol": name + QUOTE,
                    "markPrice": f"{self._mark(name, now_ms):.8f}",
                    "indexPrice": f"{index:.8f}",
                    "estimatedSettlePrice": f"{index:.8f}",
                    "lastFundingRate": f"{rates[-1] if len(rates) else 0.0:.8f}",
                    "interestRate": f"{self._market.parameters.liquidity.funding_interest:.8f}",
                    "nextFundingTime": next_ms,
                    "time": now_ms,
                }
            )
        return rows[0] if "symbol" in params else rows

    def _open_interest(self, params: Params, now_ms: int) -> dict[str, Any]:
        name = self._asset(params, "symbol")
        usd = self._market.assets[name].open_interest_usd[self._market.point(now_ms)]
        coins = usd / self._mark(name, now_ms)
        return {"symbol": name + QUOTE, "openInterest": f"{coins:.3f}", "time": now_ms}

    def _depth(self, params: Params, now_ms: int) -> dict[str, Any]:
        name = self._asset(params, "symbol")
        limit = _whole(params, "limit", 500)
        if limit not in BOOK_LIMITS:
            raise BinanceError(-4021, f"{limit} is not valid depth limit")
        path, point = self._market.assets[name], self._market.point(now_ms)
        venue = path.venues["binance"]
        mid = float(venue.trade[max(0, point - 1), 3])
        sides = ladder(mid, float(venue.depth_usd[point]), path.parameters.price_tick_usd)
        bids, asks = (
            [[f"{price:.2f}", f"{usd / price:.3f}"] for price, usd in side[:limit].tolist()]
            for side in sides
        )
        return {"lastUpdateId": now_ms, "E": now_ms, "T": now_ms, "bids": bids, "asks": asks}

    def _ticker(self, params: Params, now_ms: int) -> Any:
        names = [self._asset(params, "symbol")] if "symbol" in params else self._market.assets
        point = self._market.point(now_ms)
        day = slice(max(0, point - STEPS_PER_DAY), max(1, point))
        rows = []
        for name in names:
            venue = self._market.assets[name].venues["binance"]
            bars, usd = venue.trade[day], float(venue.volume_usd[day].sum())
            first, last = float(bars[0, 0]), float(bars[-1, 3])
            coins = usd / last
            rows.append(
                {
                    "symbol": name + QUOTE,
                    "priceChange": f"{last - first:.2f}",
                    "priceChangePercent": f"{100.0 * (last / first - 1.0):.3f}",
                    "weightedAveragePrice": f"{last:.2f}",
                    "lastPrice": f"{last:.2f}",
                    "lastQty": "0.001",
                    "openPrice": f"{first:.2f}",
                    "highPrice": f"{bars[:, 1].max():.2f}",
                    "lowPrice": f"{bars[:, 2].min():.2f}",
                    "volume": f"{coins:.3f}",
                    "quoteVolume": f"{usd:.2f}",
                    "openTime": now_ms - MS_PER_DAY,
                    "closeTime": now_ms,
                    "firstId": 1,
                    "lastId": max(1, point),
                    "count": max(1, point),
                }
            )
        return rows[0] if "symbol" in params else rows

    def _mark(self, name: str, at_ms: int) -> float:
        point = self._market.point(at_ms)
        mark = self._market.assets[name].venues["binance"].mark
        return float(mark[point - 1, 3]) if point else float(mark[0, 0])

    def _asset(self, params: Params, key: str) -> str:
        if not params.get(key):
            raise BinanceError(
                -1102, f"Mandatory parameter '{key}' was not sent, was empty/null, or malformed."
            )
        name = params[key].removesuffix(QUOTE)
        if name not in self._market.assets or params[key] != name + QUOTE:
            raise BinanceError(-1121, "Invalid symbol.")
        return name


def _whole(params: Params, name: str, default: int) -> int:
    try:
        return int(params.get(name, default))
    except ValueError:
        raise BinanceError(
            -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        ) from None


def _limit(params: Params, default: int, largest: int) -> int:
    limit = _whole(params, "limit", default)
    if not 1 <= limit <= largest:
        raise BinanceError(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit
