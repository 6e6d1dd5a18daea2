"""Bybit's public REST (`/v5/market`): perpetuals and their history, from the simulated market.

Lists come newest first. Where a cursor leads on, it is opaque and belongs to the same window;
where none does, a reader must move the window itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.bybit_options import BybitOptions
from data_ingest.simulator.bybit_rules import (
    FAR_MS,
    BybitError,
    Params,
    after_cursor,
    cursor_of,
    given,
    limit_of,
    whole,
)
from data_ingest.simulator.perpetual import Perpetual

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.deribit_options import OptionDesk
    from data_ingest.simulator.market import SimulatedMarket

FUNDING_HOURS = 8
INTERVALS_MS = {
    **{str(minutes): minutes * 60_000 for minutes in (5, 15, 30, 60, 120, 240, 360, 720)},
    "D": MS_PER_DAY,
}
PERIODS_MS = {
    "5min": 300_000,
    "15min": 900_000,
    "30min": 1_800_000,
    "1h": MS_PER_HOUR,
    "4h": 4 * MS_PER_HOUR,
    "1d": MS_PER_DAY,
}
TIERS_USD = (
    (2_000_000, 100.0, 0.005),
    (10_000_000, 50.0, 0.01),
    (30_000_000, 25.0, 0.02),
    (60_000_000, 12.5, 0.04),
    (120_000_000, 8.0, 0.0625),
    (300_000_000, 4.0, 0.125),
)
"""Largest value, leverage and maintenance rate of each tier."""


@dataclass(frozen=True)
class Contract:
    """One perpetual: what it is called and what it settles in."""

    perpetual: Perpetual
    symbol: str
    category: str

    def size(self, usd: float, price_usd: float) -> float:
        """Return a size as this category states it: coins where linear, dollars where inverse."""
        return usd / price_usd if self.category == "linear" else usd

    def turnover(self, usd: float, price_usd: float) -> float:
        """Return a turnover: dollars where linear, coins where inverse."""
        return usd if self.category == "linear" else usd / price_usd


class BybitApi:
    """The exchange's public paths over one market.

    Parameters
    ----------
    market
        What the exchange trades.
    crowd
        Who holds it.
    desks
        The option market of each asset.
    """

    def __init__(self, market: SimulatedMarket, crowd: Crowd, desks: dict[str, OptionDesk]) -> None:
        self._contracts: dict[tuple[str, str], Contract] = {}
        for name in market.assets:
            for category, quote, venue in (
                ("linear", "USDT", "bybit"),
                ("inverse", "USD", "bybit_inverse"),
            ):
                perpetual = Perpetual(market, crowd, name, venue)
                contract = Contract(perpetual, name + quote, category)
                self._contracts[category, contract.symbol] = contract
        self._options = {name: BybitOptions(desk, market) for name, desk in desks.items()}
        self.paths: dict[str, Callable[[Params, int], Any]] = {
            "time": lambda _params, now_ms: {
                "timeSecond": str(now_ms // 1_000),
                "timeNano": str(now_ms * 1_000_000),
            },
            "instruments-info": self._instruments,
            "kline": lambda params, now_ms: self._klines(params, now_ms, "trade"),
            "mark-price-kline": lambda params, now_ms: self._klines(params, now_ms, "mark"),
            "index-price-kline": lambda params, now_ms: self._klines(params, now_ms, "index"),
            "premium-index-price-kline": lambda params, now_ms: self._klines(
                params, now_ms, "premium"
            ),
            "funding/history": self._funding,
            "open-interest": self._open_interest,
            "account-ratio": self._account_ratio,
            "risk-limit": self._risk_limit,
            "orderbook": self._order_book,
            "recent-trade": self._recent_trades,
            "tickers": self._tickers,
            "delivery-price": self._deliveries,
            "historical-volatility": self._volatility,
        }

    def call(self, path: str, params: Params, now_ms: int) -> Any:
        """Answer one path at one time.

        Raises
        ------
        BybitError
            If the path, the symbol or a parameter is unknown.
        """
        if path not in self.paths:
            raise BybitError(10001, "Request path not found", 404)
        return self.paths[path](params, now_ms)

    def _instruments(self, params: Params, now_ms: int) -> dict[str, Any]:
        category, start = given(params, "category"), after_cursor(params)
        rows: list[dict[str, Any]] = []
        if category == "option":
            # A coin without options has an empty list, as ether's neighbours do.
            desk = self._options.get(params.get("baseCoin", "BTC"))
            rows = desk.instruments(now_ms) if desk else []
        elif category not in ("linear", "inverse", "spot"):
            raise BybitError(10001, "params error: Category is invalid")
        elif params.get("status", "Trading") == "Trading":
            rows = [self._contract_row(contract) for contract in self._of(category, params)]
        page = rows[start : start + limit_of(params, 500, 1_000)]
        after = cursor_of(start + len(page)) if start + len(page) < len(rows) else ""
        return {"category": category, "list": page, "nextPageCursor": after}

    def _contract_row(self, contract: Contract) -> dict[str, Any]:
        asset, linear = contract.perpetual.asset, contract.category == "linear"
        step = "0.001" if linear else "1"
        return {
            "symbol": contract.symbol,
            "contractType": "LinearPerpetual" if linear else "InversePerpetual",
            "status": "Trading",
            "baseCoin": asset,
            "quoteCoin": contract.symbol.removeprefix(asset),
            "launchTime": str(contract.perpetual.listed_ms),
            "deliveryTime": "0",
            "deliveryFeeRate": "",
            "priceScale": "2",
            "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
            "priceFilter": {
                "minPrice": f"{contract.perpetual.tick_usd:g}",
                "maxPrice": "1999999.80",
                "tickSize": f"{contract.perpetual.tick_usd:g}",
            },
            "lotSizeFilter": {
                "maxOrderQty": "1190.000" if linear else "25000000",
                "minOrderQty": step,
                "qtyStep": step,
                "postOnlyMaxOrderQty": "1190.000" if linear else "25000000",
            },
            "unifiedMarginTrade": True,
            "fundingInterval": FUNDING_HOURS * 60,
            "settleCoin": "USDT" if linear else asset,
        }

    def _klines(self, params: Params, now_ms: int, kind: str) -> dict[str, Any]:
        contract = self._contract(params, default_category="linear")
        length_ms = INTERVALS_MS.get(given(params, "interval"))
        if length_ms is None:
            raise BybitError(10001, "Invalid period!")
        bars = contract.perpetual.bars(
            kind,
            length_ms,
            whole(params, "start", 0),
            whole(params, "end", FAR_MS),
            now_ms,
            limit_of(params, 200, 1_000),
            # A start without an end is read forward, any other window from its end.
            oldest="start" in params and "end" not in params,
        )
        decimals = 6 if kind == "premium" else 2
        rows = []
        for place, opened in enumerate(bars.opens.tolist()):
            row = [str(opened), *(f"{p:.{decimals}f}" for p in bars.prices[place].tolist())]
            if kind == "trade":
                usd, close = float(bars.volume_usd[place]), float(bars.prices[place, 3])
                row += [f"{contract.size(usd, close):.3f}", f"{contract.turnover(usd, close):.4f}"]
            rows.append(row)
        return {"symbol": contract.symbol, "category": contract.category, "list": rows[::-1]}

    def _funding(self, params: Params, now_ms: int) -> dict[str, Any]:
        contract = self._contract(params)
        if "startTime" in params and "endTime" not in params:
            raise BybitError(10001, "params error: startTime requires endTime")
        first_ms, last_ms = whole(params, "startTime", 0), whole(params, "endTime", FAR_MS)
        times, rates = contract.perpetual.funding(FUNDING_HOURS, now_ms)
        rows = [
            {
                "symbol": contract.symbol,
                "fundingRate": f"{rate:.8f}",
                "fundingRateTimestamp": str(at_ms),
            }
            for at_ms, rate in zip(times.tolist(), rates.tolist(), strict=True)
            if first_ms <= at_ms <= last_ms
        ]
        page = rows[::-1][: limit_of(params, 200, 200)]
        return {"category": contract.category, "list": page}

    def _open_interest(self, params: Params, now_ms: int) -> dict[str, Any]:
        contract = self._contract(params)
        instants, cursor = self._statistics(params, now_ms, contract, "intervalTime", 200)
        rows = []
        for at_ms in instants:
            usd, price = (
                contract.perpetual.open_interest_usd(at_ms),
                contract.perpetual.mark_usd(at_ms),
            )
            size = contract.size(usd, price)
            rows.append({"openInterest": f"{size:.8f}", "timestamp": str(at_ms)})
        return {
            "symbol": contract.symbol,
            "category": contract.category,
            "list": rows,
            "nextPageCursor": cursor,
        }

    def _account_ratio(self, params: Params, now_ms: int) -> dict[str, Any]:
        contract = self._contract(params)
        instants, cursor = self._statistics(params, now_ms, contract, "period", 500)
        rows = []
        for at_ms in instants:
            share = round(contract.perpetual.long_share(at_ms), 4)
            rows.append(
                {
                    "symbol": contract.symbol,
                    "buyRatio": f"{share:.4f}",
                    "sellRatio": f"{1.0 - share:.4f}",
                    "timestamp": str(at_ms),
                }
            )
        return {"list": rows, "nextPageCursor": cursor}

    @staticmethod
    def _statistics(
        params: Params, now_ms: int, contract: Contract, period: str, most: int
    ) -> tuple[list[int], str]:
        """Return the instants of one page, newest first, and where the next one begins.

        Without an end a page is the newest one: a start alone is not heeded.
        """
        length_ms = PERIODS_MS.get(given(params, period))
        if length_ms is None:
            raise BybitError(10001, f"params error: {period} is invalid")
        first_ms = whole(params, "startTime", 0) if "endTime" in params else 0
        last_ms = min(whole(params, "endTime", FAR_MS), now_ms)
        before_ms = after_cursor(params)
        if before_ms:
            last_ms = min(last_ms, before_ms - 1)
        instants = contract.perpetual.marks_of(length_ms, first_ms, last_ms)
        page = list(instants)[::-1][: limit_of(params, 50, most)]
        return page, cursor_of(page[-1]) if len(page) < len(instants) else ""

    def _risk_limit(self, params: Params, now_ms: int) -> dict[str, Any]:
        category = given(params, "category")
        rows = []
        for contract in self._of(category, params):
            # Inverse tiers are in coins, at a price that does not change with the day.
            unit = 1.0 if category == "linear" else contract.perpetual.index_usd(0)
            floor, deduction, last_rate = 0.0, 0.0, 0.0
            for tier, (usd, leverage, rate) in enumerate(TIERS_USD, start=1):
                # What makes the requirement continuous where a tier begins.
                deduction += floor * (rate - last_rate)
                rows.append(
                    {
                        "id": tier,
                        "symbol": contract.symbol,
                        "riskLimitValue": f"{usd / unit:.0f}",
                        "maintenanceMargin": f"{rate:g}",
                        "initialMargin": f"{1.0 / leverage:g}",
                        "isLowestRisk": int(tier == 1),
                        "maxLeverage": f"{leverage:.2f}",
                        "mmDeduction": f"{deduction:.4f}" if tier > 1 else "",
                    }
                )
                floor, last_rate = round(usd / unit), rate
        return {"category": category, "list": rows, "nextPageCursor": ""}

    def _order_book(self, params: Params, now_ms: int) -> dict[str, Any]:
        if given(params, "category") == "option":
            return self._desk_of(given(params, "symbol")).book(params["symbol"], now_ms)
        contract = self._contract(params)
        bids, asks = (
            [
                [f"{price:.2f}", f"{max(contract.size(usd, price), 0.001):.3f}"]
                for price, usd in side.tolist()
            ]
            for side in contract.perpetual.book(now_ms, limit_of(params, 25, 500))
        )
        return {"s": contract.symbol, "b": bids, "a": asks, "ts": now_ms, "u": now_ms}

    def _recent_trades(self, params: Params, now_ms: int) -> dict[str, Any]:
        category = given(params, "category")
        if category == "option":
            limit = limit_of(params, 500, 1_000)
            wanted = params.get("symbol")
            desk = self._desk_of(wanted) if wanted else self._desk(params)
            return {"category": category, "list": desk.trades(now_ms, limit, wanted)}
        contract = self._contract(params)
        last = contract.perpetual.prints_until(now_ms)
        rows = [
            {
                "execId": f"{contract.symbol}-{made.number}",
                "symbol": contract.symbol,
                "price": f"{made.price_usd:.2f}",
                "size": f"{contract.size(made.size_usd, made.price_usd):.3f}",
                "side": "Buy" if made.is_buy else "Sell",
                "time": str(made.at_ms),
                "isBlockTrade": False,
            }
            for made in contract.perpetual.prints(last - limit_of(params, 500, 1_000), last)
        ]
        return {"category": category, "list": rows[::-1]}

    def _tickers(self, params: Params, now_ms: int) -> dict[str, Any]:
        category = given(params, "category")
        if category == "option":
            wanted = params.get("symbol")
            desk = self._desk_of(wanted) if wanted else self._desk(params)
            rows = desk.tickers(now_ms)
            kept = [row for row in rows if wanted in (None, row["symbol"])]
            return {"category": category, "list": kept}
        contracts = self._of(category, params)
        return {"category": category, "list": [self._ticker(one, now_ms) for one in contracts]}

    def _ticker(self, contract: Contract, now_ms: int) -> dict[str, str]:
        perpetual = contract.perpetual
        day, (bids, asks) = perpetual.last_day(now_ms), perpetual.book(now_ms, 1)
        _, rates = perpetual.funding(FUNDING_HOURS, now_ms)
        interval_ms = FUNDING_HOURS * MS_PER_HOUR
        mark, held_usd = perpetual.mark_usd(now_ms), perpetual.open_interest_usd(now_ms)
        return {
            "symbol": contract.symbol,
            "lastPrice": f"{day.last:.2f}",
            "indexPrice": f"{perpetual.index_usd(now_ms):.2f}",
            "markPrice": f"{mark:.2f}",
            "prevPrice24h": f"{day.first:.2f}",
            "price24hPcnt": f"{day.last / day.first - 1.0:.6f}",
            "highPrice24h": f"{day.high:.2f}",
            "lowPrice24h": f"{day.low:.2f}",
            "openInterest": f"{contract.size(held_usd, mark):.3f}",
            "openInterestValue": f"{contract.turnover(held_usd, mark):.4f}",
            "turnover24h": f"{contract.turnover(day.volume_usd, day.last):.4f}",
            "volume24h": f"{contract.size(day.volume_usd, day.last):.3f}",
            "fundingRate": f"{rates[-1] if len(rates) else 0.0:.8f}",
            "nextFundingTime": str((now_ms // interval_ms + 1) * interval_ms),
            "deliveryTime": "0",
            "bid1Price": f"{bids[0, 0]:.2f}",
            "bid1Size": f"{contract.size(bids[0, 1], bids[0, 0]):.3f}",
            "ask1Price": f"{asks[0, 0]:.2f}",
            "ask1Size": f"{contract.size(asks[0, 1], asks[0, 0]):.3f}",
        }

    def _deliveries(self, params: Params, now_ms: int) -> dict[str, Any]:
        category, start = given(params, "category"), after_cursor(params)
        rows = self._desk(params).deliveries(now_ms) if category == "option" else []
        rows = [row for row in rows if params.get("symbol") in (None, row["symbol"])]
        page = rows[start : start + limit_of(params, 50, 200)]
        after = cursor_of(start + len(page)) if start + len(page) < len(rows) else ""
        return {"category": category, "list": page, "nextPageCursor": after}

    def _volatility(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        if given(params, "category") != "option":
            raise BybitError(10001, "params error: Category is invalid")
        return self._desk(params).realised_volatility(params, now_ms)

    def _of(self, category: str, params: Params) -> list[Contract]:
        wanted = params.get("symbol")
        if wanted is not None:
            return [self._contract(params)]
        return [one for (kind, _), one in self._contracts.items() if kind == category]

    def _contract(self, params: Params, default_category: str | None = None) -> Contract:
        category = params.get("category") or default_category or given(params, "category")
        contract = self._contracts.get((category, given(params, "symbol")))
        if contract is None:
            raise BybitError(10001, "params error: Symbol Invalid")
        return contract

    def _desk(self, params: Params) -> BybitOptions:
        desk = self._options.get(params.get("baseCoin", "BTC"))
        if desk is None:
            raise BybitError(10001, "params error: baseCoin is invalid")
        return desk

    def _desk_of(self, symbol: str) -> BybitOptions:
        desk = self._options.get(symbol.split("-", 1)[0])
        if desk is None or not desk.has(symbol):
            raise BybitError(10001, "params error: Symbol Invalid")
        return desk
