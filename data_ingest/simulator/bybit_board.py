"""Bybit's present: which contract a request means, and its book, tickers and last trades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_HOUR
from data_ingest.simulator.bybit_rules import BybitError, Params, given, limit_of
from data_ingest.simulator.futures import DatedFuture

if TYPE_CHECKING:
    from data_ingest.simulator.bybit_options import BybitOptions
    from data_ingest.simulator.futures import Life
    from data_ingest.simulator.perpetual import Perpetual

FUNDING_HOURS = 8


@dataclass(frozen=True)
class Contract:
    """One perpetual or dated future: what it is called and what it settles in."""

    perpetual: Perpetual
    symbol: str
    category: str

    @property
    def life(self) -> Life | None:
        """When a dated future is listed and delivered; None for a perpetual."""
        return self.perpetual.life if isinstance(self.perpetual, DatedFuture) else None

    def size(self, usd: float, price_usd: float) -> float:
        """Return a size as this category states it: coins where linear, dollars where inverse."""
        return usd / price_usd if self.category == "linear" else usd

    def turnover(self, usd: float, price_usd: float) -> float:
        """Return a turnover: dollars where linear, coins where inverse."""
        return usd if self.category == "linear" else usd / price_usd


class BybitBoard:
    """What the exchange lists and shows of now.

    Parameters
    ----------
    contracts
        Its perpetuals by category and symbol.
    options
        Its options by asset.
    """

    def __init__(
        self, contracts: dict[tuple[str, str], Contract], options: dict[str, BybitOptions]
    ) -> None:
        self._contracts, self._options = contracts, options
        self.paths: dict[str, Callable[[Params, int], Any]] = {
            "orderbook": self._order_book,
            "recent-trade": self._recent_trades,
            "tickers": self._tickers,
        }

    def contracts(self, category: str, params: Params, now_ms: int) -> list[Contract]:
        """Return what trades in a category, or the one contract that a request names."""
        wanted = params.get("symbol")
        if wanted is not None:
            return [self.contract(params, now_ms)]
        return [
            one
            for (kind, _), one in self._contracts.items()
            if kind == category and (one.life is None or one.life.holds(now_ms))
        ]

    def contract(
        self, params: Params, now_ms: int, default_category: str | None = None
    ) -> Contract:
        """Return the perpetual or future that a request names, also if it has been delivered.

        Raises
        ------
        BybitError
            If there is none.
        """
        category = params.get("category") or default_category or given(params, "category")
        contract = self._contracts.get((category, given(params, "symbol")))
        if contract is None or (contract.life and contract.life.listed_ms > now_ms):
            raise BybitError(10001, "params error: Symbol Invalid")
        return contract

    def desk(self, params: Params) -> BybitOptions:
        """Return the options of the coin that a request names; bitcoin where it names none."""
        desk = self._options.get(params.get("baseCoin", "BTC"))
        if desk is None:
            raise BybitError(10001, "params error: baseCoin is invalid")
        return desk

    def _option(self, symbol: str) -> BybitOptions:
        desk = self._options.get(symbol.split("-", 1)[0])
        if desk is None or not desk.has(symbol):
            raise BybitError(10001, "params error: Symbol Invalid")
        return desk

    def _order_book(self, params: Params, now_ms: int) -> dict[str, Any]:
        if given(params, "category") == "option":
            return self._option(given(params, "symbol")).book(params["symbol"], now_ms)
        contract = self.contract(params, now_ms)
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
            desk = self._option(wanted) if wanted else self.desk(params)
            return {"category": category, "list": desk.trades(now_ms, limit, wanted)}
        contract = self.contract(params, now_ms)
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
            desk = self._option(wanted) if wanted else self.desk(params)
            rows = desk.tickers(now_ms)
            kept = [row for row in rows if wanted in (None, row["symbol"])]
            return {"category": category, "list": kept}
        contracts = self.contracts(category, params, now_ms)
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
