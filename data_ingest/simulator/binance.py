"""Binance's public REST of both futures exchanges, `/fapi/v1` (USD-M) and `/dapi/v1` (COIN-M)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.binance_rules import (
    BinanceError,
    Contract,
    Params,
    coin_margined,
    dated,
    find,
    limit_of,
    usd_margined,
    whole,
)
from data_ingest.simulator.crowd import Crowd
from data_ingest.simulator.futures import DatedFuture

if TYPE_CHECKING:
    from data_ingest.simulator.market import SimulatedMarket

PERPETUAL_EXPIRY_MS = 4_133_404_800_000
LONGEST_INVERSE_WINDOW_MS = 200 * MS_PER_DAY
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


class BinanceApi:
    """One of the exchange's two public paths over one market.

    Parameters
    ----------
    market
        What the exchange trades.
    crowd
        Who holds it.
    inverse
        COIN-M instead of USD-M.
    """

    def __init__(
        self, market: SimulatedMarket, crowd: Crowd | None = None, inverse: bool = False
    ) -> None:
        self._market, self._inverse = market, inverse
        listed = coin_margined if inverse else usd_margined
        crowd = crowd or Crowd(market)
        self.contracts = listed(market, crowd)
        self._futures = dated(market, crowd, inverse=inverse)
        self.paths: dict[str, Callable[[Params, int], Any]] = {
            "time": lambda _params, now_ms: {"serverTime": now_ms},
            "ping": lambda _params, _now_ms: {},
            "exchangeInfo": self._exchange_info,
            "klines": lambda params, now_ms: self._klines(params, now_ms, "trade"),
            "markPriceKlines": lambda params, now_ms: self._klines(params, now_ms, "mark"),
            "indexPriceKlines": lambda params, now_ms: self._klines(params, now_ms, "index"),
            "premiumIndexKlines": lambda params, now_ms: self._klines(params, now_ms, "premium"),
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
            root = "/dapi/v1" if self._inverse else "/fapi/v1"
            raise BinanceError(-5000, f"Path {root}/{path}, Method GET is invalid")
        return self.paths[path](params, now_ms)

    def deliveries(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        """Return what a pair's dated futures were delivered at, newest first."""
        pair = params.get("pair", "")
        gone = [
            one.perpetual
            for one in self._futures.values()
            if one.pair == pair and isinstance(one.perpetual, DatedFuture)
        ]
        return [
            {
                "deliveryTime": future.life.expiry_ms,
                "deliveryPrice": future.delivery_price_usd(),
            }
            for future in sorted(gone, key=lambda future: -future.life.expiry_ms)
            if future.life.expiry_ms <= now_ms
        ]

    def _known(self, now_ms: int) -> dict[str, Contract]:
        """Return the perpetuals and every dated future ever listed by now; bars outlive it."""
        listed = {
            symbol: one
            for symbol, one in self._futures.items()
            if one.life and one.life.listed_ms <= now_ms
        }
        return {**self.contracts, **listed}

    def _exchange_info(self, _params: Params, now_ms: int) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "futuresType": "COIN_MARGINED" if self._inverse else "U_MARGINED",
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": 2400,
                }
            ],
            "exchangeFilters": [],
            "assets": [
                {"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"}
                for asset in dict.fromkeys(one.margin for one in self.contracts.values())
            ],
            "symbols": [
                self._symbol_row(contract, now_ms)
                for contract in self._known(now_ms).values()
                # What was delivered stays on the list for a day.
                if contract.life is None or contract.life.expiry_ms > now_ms - MS_PER_DAY
            ],
        }

    def _symbol_row(self, contract: Contract, now_ms: int) -> dict[str, Any]:
        tick, life = contract.perpetual.tick_usd, contract.life
        status, kind = "TRADING", "PERPETUAL"
        if life is not None:
            later = any(
                one.life is not None
                and one.pair == contract.pair
                and now_ms < one.life.expiry_ms < life.expiry_ms
                for one in self._futures.values()
            )
            kind = "NEXT_QUARTER" if later else "CURRENT_QUARTER"
            status = status if life.holds(now_ms) else "SETTLING"
        own = (
            {"status": status}
            if contract.contract_usd is None
            else {"contractStatus": status, "contractSize": int(contract.contract_usd)}
        )
        step = "1" if self._inverse else "0.001"
        return {
            "symbol": contract.symbol,
            "pair": contract.pair,
            "contractType": kind,
            "deliveryDate": life.expiry_ms if life else PERPETUAL_EXPIRY_MS,
            "onboardDate": contract.perpetual.listed_ms,
            **own,
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": contract.asset,
            "quoteAsset": contract.quote,
            "marginAsset": contract.margin,
            "pricePrecision": 2,
            "quantityPrecision": 0 if self._inverse else 3,
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
                    "minQty": step,
                    "maxQty": "1000",
                    "stepSize": step,
                },
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": step,
                    "maxQty": "120",
                    "stepSize": step,
                },
                {"filterType": "MIN_NOTIONAL", "notional": "100"},
            ],
            "orderTypes": ["LIMIT", "MARKET", "STOP"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        }

    def _klines(self, params: Params, now_ms: int, kind: str) -> list[list[Any]]:
        contract = find(self._known(now_ms), params, "pair" if kind == "index" else "symbol")
        length_ms = INTERVALS_MS.get(params.get("interval", ""))
        if length_ms is None:
            raise BinanceError(-1120, "Invalid interval.")
        limit = limit_of(params, 500, 1_500)
        end_ms = whole(params, "endTime", now_ms)
        start_ms = whole(params, "startTime", 0)
        if "startTime" in params and start_ms > whole(params, "endTime", start_ms):
            raise BinanceError(-1023, "Start time is greater than end time.")
        if self._inverse:
            start_ms, end_ms = _inverse_window(params, start_ms, end_ms)
        # A candle belongs to the window by its opening; it is shown as far as `now` knows it.
        bars = contract.perpetual.bars(
            kind, length_ms, start_ms, end_ms, now_ms, limit, oldest="startTime" in params
        )
        traded = kind == "trade"
        usd = bars.volume_usd if traded else np.zeros(len(bars.opens))
        close = bars.prices[:, 3] if traded else np.ones(len(bars.opens))
        columns = zip(
            bars.opens.tolist(),
            bars.prices.tolist(),
            usd.tolist(),
            contract.size(usd, close).tolist(),
            contract.turnover(usd, close).tolist(),
            strict=True,
        )
        decimals = 8 if kind == "premium" else 2
        rows = []
        for opened, bar, paid, size, quote in columns:
            rows.append(
                [
                    opened,
                    *(f"{price:.{decimals}f}" for price in bar),
                    f"{size:.3f}",
                    opened + length_ms - 1,
                    f"{quote:.2f}",
                    int(paid / 4_000.0) if traded else length_ms // 1_000,
                    f"{0.5 * size:.3f}",
                    f"{0.5 * quote:.2f}",
                    "0",
                ]
            )
        return rows

    def _funding(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        limit = limit_of(params, 100, 1_000)
        start_ms, end_ms = whole(params, "startTime", 0), whole(params, "endTime", now_ms)
        rows: list[dict[str, Any]] = []
        for contract in self._asked(params):
            times, rates = contract.perpetual.funding(contract.funding_hours, now_ms)
            # Real funding times are late by a few milliseconds; a reader must round them.
            stamps = times + (times // MS_PER_HOUR * 7) % 5
            wanted = np.flatnonzero((stamps >= start_ms) & (stamps <= min(end_ms, now_ms)))
            wanted = wanted[:limit] if "startTime" in params else wanted[-limit:]
            rows.extend(
                {
                    "symbol": contract.symbol,
                    "fundingTime": int(stamps[row]),
                    "fundingRate": f"{rates[row]:.8f}",
                    "markPrice": f"{contract.perpetual.mark_usd(int(times[row])):.8f}",
                }
                for row in wanted.tolist()
            )
        return rows

    def _funding_info(self, _params: Params, _now_ms: int) -> list[dict[str, Any]]:
        cap = self._market.parameters.liquidity.funding_cap
        return [
            {
                "symbol": contract.symbol,
                "adjustedFundingRateCap": f"{cap:.8f}",
                "adjustedFundingRateFloor": f"{-cap:.8f}",
                "fundingIntervalHours": contract.funding_hours,
                "disclaimer": False,
            }
            for contract in self.contracts.values()
        ]

    def _premium_index(self, params: Params, now_ms: int) -> Any:
        rows = []
        for contract in self._asked(params):
            interval_ms = contract.funding_hours * MS_PER_HOUR
            _, rates = contract.perpetual.funding(contract.funding_hours, now_ms)
            index = self._market.assets[contract.asset].index_usd[self._market.point(now_ms)]
            rows.append(
                {
                    "symbol": contract.symbol,
                    "markPrice": f"{contract.perpetual.mark_usd(now_ms):.8f}",
                    "indexPrice": f"{index:.8f}",
                    "estimatedSettlePrice": f"{index:.8f}",
                    "lastFundingRate": f"{rates[-1] if len(rates) else 0.0:.8f}",
                    "interestRate": f"{self._market.parameters.liquidity.funding_interest:.8f}",
                    "nextFundingTime": (now_ms // interval_ms + 1) * interval_ms,
                    "time": now_ms,
                }
            )
        return self._one_or_all(params, rows)

    def _open_interest(self, params: Params, now_ms: int) -> dict[str, Any]:
        contract = find(self._known(now_ms), params, "symbol")
        usd = contract.perpetual.open_interest_usd(now_ms)
        size = contract.size(usd, contract.perpetual.mark_usd(now_ms))
        kind = "PERPETUAL" if contract.life is None else "CURRENT_QUARTER"
        own = {"pair": contract.pair, "contractType": kind} if self._inverse else {}
        return {"symbol": contract.symbol, **own, "openInterest": f"{size:.3f}", "time": now_ms}

    def _depth(self, params: Params, now_ms: int) -> dict[str, Any]:
        contract = find(self._known(now_ms), params, "symbol")
        limit = whole(params, "limit", 500)
        if limit not in BOOK_LIMITS:
            raise BinanceError(-4021, f"{limit} is not valid depth limit")
        bids, asks = (
            [[f"{price:.2f}", f"{contract.size(usd, price):.3f}"] for price, usd in side.tolist()]
            for side in contract.perpetual.book(now_ms, limit)
        )
        own = {"symbol": contract.symbol, "pair": contract.pair} if self._inverse else {}
        return {**own, "lastUpdateId": now_ms, "E": now_ms, "T": now_ms, "bids": bids, "asks": asks}

    def _ticker(self, params: Params, now_ms: int) -> Any:
        trades = max(1, self._market.point(now_ms))
        rows = []
        for contract in self._asked(params):
            day = contract.perpetual.last_day(now_ms)
            size = contract.size(day.volume_usd, day.last)
            quote = contract.turnover(day.volume_usd, day.last)
            rows.append(
                {
                    "symbol": contract.symbol,
                    "priceChange": f"{day.last - day.first:.2f}",
                    "priceChangePercent": f"{100.0 * (day.last / day.first - 1.0):.3f}",
                    "weightedAveragePrice": f"{day.last:.2f}",
                    "lastPrice": f"{day.last:.2f}",
                    "lastQty": "0.001",
                    "openPrice": f"{day.first:.2f}",
                    "highPrice": f"{day.high:.2f}",
                    "lowPrice": f"{day.low:.2f}",
                    "volume": f"{size:.3f}",
                    ("baseVolume" if self._inverse else "quoteVolume"): f"{quote:.2f}",
                    "openTime": now_ms - MS_PER_DAY,
                    "closeTime": now_ms,
                    "firstId": 1,
                    "lastId": trades,
                    "count": trades,
                }
            )
        return self._one_or_all(params, rows)

    def _asked(self, params: Params) -> list[Contract]:
        if "symbol" in params:
            return [find(self.contracts, params, "symbol")]
        return list(self.contracts.values())

    def _one_or_all(self, params: Params, rows: list[dict[str, Any]]) -> Any:
        # COIN-M answers a list even where one symbol is asked for.
        return rows[0] if "symbol" in params and not self._inverse else rows


def _inverse_window(params: Params, start_ms: int, end_ms: int) -> tuple[int, int]:
    """Return the window that COIN-M serves: no more than 200 days, from the side that is given."""
    if "startTime" not in params:
        return end_ms - LONGEST_INVERSE_WINDOW_MS, end_ms
    if "endTime" not in params:
        return start_ms, start_ms + LONGEST_INVERSE_WINDOW_MS
    if end_ms - start_ms > LONGEST_INVERSE_WINDOW_MS:
        raise BinanceError(-1127, "More than 4800 hours between startTime and endTime.")
    return start_ms, end_ms
