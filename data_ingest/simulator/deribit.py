"""Deribit's public REST methods (`/api/v2/public`), answered from the simulated market.

Shapes, limits and error codes are the exchange's own; what differs is said in
`docs/exchange-simulator.md`. Nothing that happened after the simulator's clock is ever served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.crowd import Crowd
from data_ingest.simulator.deribit_futures import FutureDesk
from data_ingest.simulator.deribit_options import OptionDesk
from data_ingest.simulator.deribit_perpetual import PerpetualDesk
from data_ingest.simulator.deribit_settlements import KINDS, MOST_ROWS, SettlementDesk
from data_ingest.simulator.deribit_trades import TradePage
from data_ingest.simulator.futures import quarterlies, weeklies
from data_ingest.simulator.options import EXPIRY_HOUR, OptionListing

if TYPE_CHECKING:
    from data_ingest.simulator.market import SimulatedMarket

Params = dict[str, str]
MINUTE_MS = 60_000
MAX_BARS = 5_001
MAX_TRADES = 1_000
MAX_VOLATILITY_ROWS = 1_000
RESOLUTIONS = {
    "5": 5,
    "10": 10,
    "15": 15,
    "30": 30,
    "60": 60,
    "120": 120,
    "180": 180,
    "360": 360,
    "720": 720,
    "1D": 1_440,
}
VOLATILITY_RESOLUTIONS = {
    **{str(seconds): 1_000 * seconds for seconds in (1, 60, 3_600, 43_200)},
    "1D": MS_PER_DAY,
}


class DeribitError(Exception):
    """A refusal in the exchange's own terms."""

    def __init__(self, code: int, message: str, **data: str) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


def invalid(param: str, reason: str) -> DeribitError:
    """Refuse a parameter as JSON-RPC does."""
    return DeribitError(-32602, "Invalid params", reason=reason, param=param)


class DeribitApi:
    """The exchange's public methods over one market.

    Parameters
    ----------
    market
        What the exchange trades.
    crowd
        Who holds it.
    desks
        The option market of each asset, where another exchange lists the same options.
    trades_kept_ms
        How long trades are served: a day on the trading host, for ever on the archive.
    archive
        Be the archive host, which has no volatility index.
    """

    def __init__(
        self,
        market: SimulatedMarket,
        crowd: Crowd | None = None,
        desks: dict[str, OptionDesk] | None = None,
        trades_kept_ms: int | None = None,
        archive: bool = False,
    ) -> None:
        crowd = crowd or Crowd(market)
        self._trades_kept_ms = trades_kept_ms
        self._market = market
        self._perpetuals = {name: PerpetualDesk(market, crowd, name) for name in market.assets}
        self._futures = {
            desk.name: desk
            for name in market.assets
            for lives, quarterly in ((quarterlies(market), True), (weeklies(market), False))
            for desk in (
                FutureDesk(market, crowd, name, life, quarterly=quarterly) for life in lives
            )
        }
        self._options = desks or {
            name: OptionDesk(OptionListing(market, name)) for name in market.assets
        }
        self._settlements = {
            name: SettlementDesk(market, crowd, desk) for name, desk in self._options.items()
        }
        self.methods: dict[str, Callable[[Params, int], Any]] = {
            "get_time": lambda _params, now_ms: now_ms,
            "get_currencies": self._currencies,
            "get_instruments": self._instruments,
            "get_tradingview_chart_data": self._chart,
            "get_funding_rate_history": self._funding,
            "get_last_trades_by_instrument": self._trades_of_instrument,
            "get_last_trades_by_instrument_and_time": self._trades_of_instrument,
            "get_last_trades_by_currency": self._trades_of_currency,
            "get_last_trades_by_currency_and_time": self._trades_of_currency,
            "get_volatility_index_data": self._volatility_index,
            "get_book_summary_by_currency": self._book_summary,
            "get_book_summary_by_instrument": self._book_summary_of_instrument,
            "get_index_price": self._index_price,
            "get_delivery_prices": self._delivery_prices,
            "get_last_settlements_by_currency": self._settlements_of_currency,
            "get_last_settlements_by_instrument": self._settlements_of_instrument,
            "get_order_book": self._order_book,
            "ticker": self._ticker,
        }
        if archive:
            del self.methods["get_volatility_index_data"]

    def call(self, method: str, params: Params, now_ms: int) -> Any:
        """Answer one method at one time.

        Raises
        ------
        DeribitError
            If the method, an instrument or a parameter is unknown.
        """
        if method not in self.methods:
            raise DeribitError(-32601, "Method not found")
        return self.methods[method](params, now_ms)

    def _currencies(self, _params: Params, _now_ms: int) -> list[dict[str, Any]]:
        long_names = {"BTC": "Bitcoin", "ETH": "Ethereum"}
        return [
            {
                "currency": name,
                "currency_long": long_names.get(name, name),
                "coin_type": name,
                "network_currency": name,
                "network_fee": 0.0001,
                "withdrawal_fee": 0.0001,
                "min_withdrawal_fee": 0.0001,
                "min_confirmations": 1,
                "fee_precision": 4,
                "withdrawal_priorities": [],
                "in_cross_collateral_pool": False,
                "apr": 0.0,
            }
            for name in self._market.assets
        ]

    def _instruments(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        kind, expired = params.get("kind"), params.get("expired", "false") == "true"
        rows = []
        for name in self._currency_names(params, required=False):
            if kind in (None, "future"):
                rows.extend([] if expired else [self._perpetuals[name].instrument()])
                rows.extend(
                    {**future.instrument(), "is_active": not expired}
                    for future in self._listed(name, now_ms)
                    if (future.life.expiry_ms <= now_ms) == expired
                )
            if kind in (None, "option"):
                rows.extend(self._options[name].instruments(now_ms, expired))
        return rows

    def _chart(self, params: Params, now_ms: int) -> dict[str, Any]:
        resolution = params.get("resolution", "")
        if resolution not in RESOLUTIONS:
            raise invalid("resolution", "wrong resolution")
        length_ms = RESOLUTIONS[resolution] * MINUTE_MS
        end_ms = min(now_ms, _whole(params, "end_timestamp") // length_ms * length_ms + length_ms)
        # A wider window keeps its newest bars, as the exchange does.
        oldest_ms = -(-end_ms // length_ms) * length_ms - MAX_BARS * length_ms
        start_ms = max(_whole(params, "start_timestamp"), oldest_ms)
        name, option = self._find(params, now_ms)
        if option is None:
            bars_of = self._contract(params).candles(length_ms, start_ms, end_ms)
        else:
            bars_of = self._options[name].candles(option, length_ms, start_ms, end_ms)
        opens, bars, volume, cost = bars_of
        if not len(opens):
            empty: dict[str, Any] = {
                key: [] for key in ("ticks", "open", "high", "low", "close", "volume", "cost")
            }
            return {**empty, "status": "no_data"}
        columns = np.round(bars, 6).T.tolist()
        return {
            "ticks": opens.tolist(),
            **dict(zip(("open", "high", "low", "close"), columns, strict=True)),
            "volume": np.round(volume, 6).tolist(),
            "cost": np.round(cost, 2).tolist(),
            "status": "ok",
        }

    def _funding(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        name, option = self._find(params, now_ms)
        if option is not None or params["instrument_name"] in self._futures:
            raise invalid("instrument_name", "perpetual only")
        start_ms, end_ms = _whole(params, "start_timestamp"), _whole(params, "end_timestamp")
        return self._perpetuals[name].funding(start_ms, end_ms, now_ms)

    def _trades_of_instrument(self, params: Params, now_ms: int) -> dict[str, Any]:
        name, option = self._find(params, now_ms)
        page = _trade_page(params, now_ms, self._trades_kept_ms)
        if params["instrument_name"] in self._futures:
            raise invalid("instrument_name", "no trades of dated futures")
        if option is not None:
            return self._options[name].trades(page, option=option)
        return self._perpetuals[name].trades(page, now_ms)

    def _trades_of_currency(self, params: Params, now_ms: int) -> dict[str, Any]:
        (name,) = self._currency_names(params)
        page = _trade_page(params, now_ms, self._trades_kept_ms)
        if params.get("kind", "option") == "option":
            return self._options[name].trades(page)
        return self._perpetuals[name].trades(page, now_ms)

    def _volatility_index(self, params: Params, now_ms: int) -> dict[str, Any]:
        (name,) = self._currency_names(params)
        length_ms = VOLATILITY_RESOLUTIONS.get(params.get("resolution", ""))
        if length_ms is None:
            raise invalid("resolution", "wrong resolution")
        end_ms = min(now_ms, _whole(params, "end_timestamp"))
        first_ms = max(_whole(params, "start_timestamp"), self._market.parameters.start)
        opens = np.arange(-(-first_ms // length_ms) * length_ms, end_ms + 1, length_ms)
        page = opens[-MAX_VOLATILITY_ROWS:]
        rows = self._options[name].volatility_index(page, length_ms, now_ms)
        more = len(opens) > len(page)
        return {"data": rows, "continuation": int(page[0]) - length_ms if more else None}

    def _book_summary(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        (name,) = self._currency_names(params)
        kind = params.get("kind")
        rows = []
        if kind in (None, "future"):
            rows.append(self._perpetuals[name].summary(now_ms))
            alive = [one for one in self._listed(name, now_ms) if one.life.holds(now_ms)]
            rows.extend(one.summary(now_ms) for one in alive)
        if kind in (None, "option"):
            rows.extend(self._options[name].summary(now_ms))
        return rows

    def _book_summary_of_instrument(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        name, option = self._find(params, now_ms)
        if option is None:
            return [self._contract(params).summary(now_ms)]
        wanted = params["instrument_name"]
        rows = self._options[name].summary(now_ms)
        return [row for row in rows if row["instrument_name"] == wanted]

    def _ticker(self, params: Params, now_ms: int) -> dict[str, Any]:
        name, option = self._find(params, now_ms)
        if option is None:
            return self._contract(params).ticker(now_ms)
        return self._options[name].ticker(option, now_ms)

    def _order_book(self, params: Params, now_ms: int) -> dict[str, Any]:
        name, option = self._find(params, now_ms)
        levels = _whole(params, "depth", 5)
        if option is not None:
            ticker = self._options[name].ticker(option, now_ms)
            sides = {
                side: [[ticker[f"best_{key}_price"], ticker[f"best_{key}_amount"]]]
                if ticker[f"best_{key}_price"]
                else []
                for side, key in (("bids", "bid"), ("asks", "ask"))
            }
            return {**ticker, **sides, "change_id": now_ms}
        contract = self._contract(params)
        bids, asks = contract.book(now_ms)
        return {
            **contract.ticker(now_ms),
            "bids": np.round(bids[:levels], 2).tolist(),
            "asks": np.round(asks[:levels], 2).tolist(),
            "change_id": now_ms,
        }

    def _index_price(self, params: Params, now_ms: int) -> dict[str, float]:
        price = self._perpetuals[self._index_asset(params)].index_usd(now_ms)
        return {"index_price": price, "estimated_delivery_price": price}

    def _delivery_prices(self, params: Params, now_ms: int) -> dict[str, Any]:
        name = self._index_asset(params)
        first_day = self._market.parameters.start // MS_PER_DAY
        last_day = (now_ms - EXPIRY_HOUR * MS_PER_HOUR) // MS_PER_DAY
        days = list(range(last_day, first_day - 1, -1))
        offset = _whole(params, "offset", 0)
        count = _whole(params, "count", 10)
        rows = [
            {
                "date": str(np.datetime64(day, "D")),
                "delivery_price": self._options[name].delivery_price_usd(
                    day * MS_PER_DAY + EXPIRY_HOUR * MS_PER_HOUR
                ),
            }
            for day in days[offset : offset + min(count, MAX_TRADES)]
        ]
        return {"data": rows, "records_total": len(days)}

    def _settlements_of_currency(self, params: Params, now_ms: int) -> dict[str, Any]:
        (name,) = self._currency_names(params)
        return self._settlement_page(name, None, params, now_ms)

    def _settlements_of_instrument(self, params: Params, now_ms: int) -> dict[str, Any]:
        name, _ = self._find(params, now_ms)
        return self._settlement_page(name, params["instrument_name"], params, now_ms)

    def _settlement_page(
        self, name: str, instrument: str | None, params: Params, now_ms: int
    ) -> dict[str, Any]:
        kind = params.get("type")
        if kind is not None and kind not in KINDS:
            raise invalid("type", f"must be one of {', '.join(KINDS)}")
        count = _whole(params, "count", 20)
        if not 1 <= count <= MOST_ROWS:
            raise invalid("count", f"must be between 1 and {MOST_ROWS}")
        # Despite its name, this is where a search backwards begins.
        latest_ms = min(now_ms, _whole(params, "search_start_timestamp", now_ms))
        skip = _whole(params, "continuation", 0)
        return self._settlements[name].page(latest_ms, kind, instrument, skip, count)

    def _index_asset(self, params: Params) -> str:
        name = params.get("index_name", "").removesuffix("_usd").upper()
        if name not in self._market.assets:
            raise invalid("index_name", "unknown index")
        return name

    def _currency_names(self, params: Params, required: bool = True) -> list[str]:
        wanted = params.get("currency", "" if required else "any")
        if wanted == "any" and not required:
            return list(self._market.assets)
        if wanted not in self._market.assets:
            raise invalid("currency", "invalid currency")
        return [wanted]

    def _listed(self, asset: str, now_ms: int) -> list[FutureDesk]:
        """Return an asset's dated futures that have been listed by now."""
        return [
            future
            for future in self._futures.values()
            if future.name.startswith(f"{asset}-") and future.life.listed_ms <= now_ms
        ]

    def _contract(self, params: Params) -> PerpetualDesk:
        """Return the perpetual or dated future that a request names, once `_find` knows it."""
        wanted = params["instrument_name"]
        return self._futures.get(wanted) or self._perpetuals[wanted.split("-", 1)[0]]

    def _find(self, params: Params, now_ms: int) -> tuple[str, int | None]:
        """Return the asset and, for an option, its position in the listing."""
        wanted = params.get("instrument_name", "")
        name = wanted.split("-", 1)[0]
        if name in self._market.assets:
            future = self._futures.get(wanted)
            if wanted == f"{name}-PERPETUAL" or (future and future.life.listed_ms <= now_ms):
                return name, None
            position = self._options[name].listing.position.get(wanted)
            if position is not None:
                return name, position
        raise DeribitError(13020, "not_found", reason="instrument not found")


def _whole(params: Params, name: str, default: int | None = None) -> int:
    if name not in params and default is not None:
        return default
    try:
        return int(params[name])
    except (KeyError, ValueError):
        raise invalid(name, "must be an integer") from None


def _trade_page(params: Params, now_ms: int, kept_ms: int | None) -> TradePage:
    start_ms = _whole(params, "start_timestamp", 0)
    if kept_ms is not None:
        # What is older is not refused: it is not there, and nothing says so.
        start_ms = max(start_ms, now_ms - kept_ms)
    end_ms = _whole(params, "end_timestamp", now_ms)
    count = _whole(params, "count", 10)
    if not 1 <= count <= MAX_TRADES:
        raise invalid("count", f"must be between 1 and {MAX_TRADES}")
    ascending = params.get("sorting") == "asc"
    numbers = _whole(params, "start_seq", 0), _whole(params, "end_seq", 2**62)
    return TradePage(start_ms, min(end_ms, now_ms), count, ascending, *numbers)
