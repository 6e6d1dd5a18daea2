"""Bybit's public REST (`/v5/market`): perpetuals and their history, from the simulated market.

Lists come newest first. Where a cursor leads on, it is opaque and belongs to the same window;
where none does, a reader must move the window itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.bybit_board import FUNDING_HOURS, BybitBoard, Contract
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
from data_ingest.simulator.futures import DatedFuture, quarterlies
from data_ingest.simulator.perpetual import Perpetual

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.deribit_options import OptionDesk
    from data_ingest.simulator.market import SimulatedMarket

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


MONTHS = {3: "H", 6: "M", 9: "U", 12: "Z"}
"""Letters by which quarterly futures in coin name their month of delivery."""


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
        contracts: dict[tuple[str, str], Contract] = {}
        for name in market.assets:
            for category, quote, venue in (
                ("linear", "USDT", "bybit"),
                ("inverse", "USD", "bybit_inverse"),
            ):
                perpetual = Perpetual(market, crowd, name, venue)
                contract = Contract(perpetual, name + quote, category)
                contracts[category, contract.symbol] = contract
                for life in quarterlies(market):
                    future = DatedFuture(market, crowd, name, life)
                    month = MONTHS[life.day.month]
                    symbol = (
                        f"{name}-{life.letters}"
                        if category == "linear"
                        else f"{name}USD{month}{life.day:%y}"
                    )
                    contracts[category, symbol] = Contract(future, symbol, category)
        self._options = {name: BybitOptions(desk, market) for name, desk in desks.items()}
        self._board = BybitBoard(contracts, self._options)
        self.paths: dict[str, Callable[[Params, int], Any]] = {
            **self._board.paths,
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
            rows = [
                self._contract_row(contract)
                for contract in self._board.contracts(category, params, now_ms)
            ]
        page = rows[start : start + limit_of(params, 500, 1_000)]
        after = cursor_of(start + len(page)) if start + len(page) < len(rows) else ""
        return {"category": category, "list": page, "nextPageCursor": after}

    def _contract_row(self, contract: Contract) -> dict[str, Any]:
        asset, linear = contract.perpetual.asset, contract.category == "linear"
        step, life = "0.001" if linear else "1", contract.life
        # Dated futures in dollars are quoted and settled in USDC, perpetuals here in USDT.
        dollar = "USDT" if life is None else "USDC"
        return {
            "symbol": contract.symbol,
            "contractType": ("Linear" if linear else "Inverse")
            + ("Perpetual" if life is None else "Futures"),
            "status": "Trading",
            "baseCoin": asset,
            "quoteCoin": dollar if linear else "USD",
            "launchTime": str(contract.perpetual.listed_ms),
            "deliveryTime": str(life.expiry_ms) if life else "0",
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
            "settleCoin": dollar if linear else asset,
        }

    def _klines(self, params: Params, now_ms: int, kind: str) -> dict[str, Any]:
        contract = self._board.contract(params, now_ms, default_category="linear")
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
        contract = self._board.contract(params, now_ms)
        if contract.life is not None:
            raise BybitError(10001, "params error: Symbol Invalid")
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
        contract = self._board.contract(params, now_ms)
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
        contract = self._board.contract(params, now_ms)
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
        for contract in self._board.contracts(category, params, now_ms):
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

    def _deliveries(self, params: Params, now_ms: int) -> dict[str, Any]:
        category, start = given(params, "category"), after_cursor(params)
        rows = self._board.desk(params).deliveries(now_ms) if category == "option" else []
        rows = [row for row in rows if params.get("symbol") in (None, row["symbol"])]
        page = rows[start : start + limit_of(params, 50, 200)]
        after = cursor_of(start + len(page)) if start + len(page) < len(rows) else ""
        return {"category": category, "list": page, "nextPageCursor": after}

    def _volatility(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        if given(params, "category") != "option":
            raise BybitError(10001, "params error: Category is invalid")
        return self._board.desk(params).realised_volatility(params, now_ms)
