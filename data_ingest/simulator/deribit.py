"""Deribit's public REST methods (`/api/v2/public`), answered from the simulated market.

Shapes, limits and error codes are the exchange's own; what differs is said in
`docs/simulator.md`. Nothing that happened after the simulator's clock is ever served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.deribit_options import OptionDesk
from data_ingest.simulator.market import STEPS_PER_DAY
from data_ingest.simulator.options import EXPIRY_HOUR, OptionListing
from data_ingest.simulator.orderbook import ladder
from data_ingest.simulator.parameters import STEP_MS

if TYPE_CHECKING:
    from data_ingest.simulator.market import AssetPath, SimulatedMarket

Params = dict[str, str]
MINUTE_MS = 60_000
MAX_BARS = 5_001
MAX_FUNDING_ROWS = 744
MAX_TRADES = 1_000
MAX_VOLATILITY_ROWS = 1_000
PERPETUAL_EXPIRY_MS = 32_503_708_800_000
PRINTS_PER_STEP = 4
RESOLUTIONS = {"5": 5, "10": 10, "15": 15, "30": 30, "60": 60, "120": 120, "180": 180, "360": 360,
               "720": 720, "1D": 1_440}
VOLATILITY_RESOLUTIONS = {"3600": 3_600_000, "43200": 43_200_000, "1D": MS_PER_DAY}


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
    """

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        self.desks = {name: OptionDesk(OptionListing(market, name)) for name in market.assets}
        self._methods: dict[str, Callable[[Params, int], Any]] = {
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
            "get_index_price": self._index_price,
            "get_delivery_prices": self._delivery_prices,
            "get_order_book": self._order_book,
            "ticker": self._ticker,
        }

    def call(self, method: str, params: Params, now_ms: int) -> Any:
        """Answer one method at one time.

        Raises
        ------
        DeribitError
            If the method, an instrument or a parameter is unknown.
        """
        if method not in self._methods:
            raise DeribitError(-32601, "Method not found")
        return self._methods[method](params, now_ms)

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
            if kind in (None, "future") and not expired:
                rows.append(self._perpetual_row(name))
            if kind in (None, "option"):
                rows.extend(self.desks[name].instruments(now_ms, expired))
        return rows

    def _perpetual_row(self, name: str) -> dict[str, Any]:
        return {
            "instrument_name": f"{name}-PERPETUAL",
            "kind": "future",
            "future_type": "reversed",
            "instrument_type": "reversed",
            "settlement_period": "perpetual",
            "base_currency": name,
            "quote_currency": "USD",
            "counter_currency": "USD",
            "settlement_currency": name,
            "contract_size": 10.0 if name == "BTC" else 1.0,
            "min_trade_amount": 10.0 if name == "BTC" else 1.0,
            "tick_size": self._market.assets[name].parameters.deribit_tick_usd,
            "maker_commission": 0.0,
            "taker_commission": 0.0005,
            "max_leverage": 50,
            "is_active": True,
            "creation_timestamp": self._market.parameters.start - 365 * MS_PER_DAY,
            "expiration_timestamp": PERPETUAL_EXPIRY_MS,
        }

    def _chart(self, params: Params, now_ms: int) -> dict[str, Any]:
        resolution = params.get("resolution", "")
        if resolution not in RESOLUTIONS:
            raise invalid("resolution", "wrong resolution")
        length_ms = RESOLUTIONS[resolution] * MINUTE_MS
        end_ms = min(now_ms, _whole(params, "end_timestamp") // length_ms * length_ms + length_ms)
        # A wider window keeps its newest bars, as the exchange does.
        oldest_ms = -(-end_ms // length_ms) * length_ms - MAX_BARS * length_ms
        start_ms = max(_whole(params, "start_timestamp"), oldest_ms)
        name, option = self._find(params)
        if option is None:
            opens, bars, cost = self._market.candles(
                name, "deribit", "trade", length_ms, start_ms, end_ms
            )
            volume = cost / bars[:, 3] if len(opens) else cost
        else:
            opens, bars, volume, cost = self.desks[name].candles(
                option, length_ms, start_ms, end_ms
            )
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
        name, option = self._find(params)
        if option is not None:
            raise invalid("instrument_name", "perpetual only")
        times, hourly = self._market.deribit_funding(name, now_ms)
        start_ms, end_ms = _whole(params, "start_timestamp"), _whole(params, "end_timestamp")
        wanted = np.flatnonzero((times >= start_ms) & (times <= end_ms))[-MAX_FUNDING_ROWS:]
        total = np.concatenate(([0.0], np.cumsum(hourly)))
        rows = []
        for row in wanted.tolist():
            at_ms = int(times[row])
            rows.append(
                {
                    "timestamp": at_ms,
                    "index_price": self._index(name, at_ms),
                    "prev_index_price": self._index(name, at_ms - MS_PER_HOUR),
                    "interest_1h": float(hourly[row]),
                    "interest_8h": float(total[row + 1] - total[max(0, row - 7)]),
                }
            )
        return rows

    def _trades_of_instrument(self, params: Params, now_ms: int) -> dict[str, Any]:
        name, option = self._find(params)
        window = _trade_window(params, now_ms)
        if option is not None:
            return self.desks[name].trades(*window, option=option)
        return self._perpetual_trades(name, *window)

    def _trades_of_currency(self, params: Params, now_ms: int) -> dict[str, Any]:
        (name,) = self._currency_names(params)
        window = _trade_window(params, now_ms)
        if params.get("kind", "option") == "option":
            return self.desks[name].trades(*window)
        return self._perpetual_trades(name, *window)

    def _perpetual_trades(
        self, name: str, start_ms: int, end_ms: int, count: int, ascending: bool
    ) -> dict[str, Any]:
        """Return prints at each candle's open, extremes and close: the tape's finest detail."""
        market, venue = self._market, self._market.assets[name].venues["deribit"]
        spacing_ms, origin = STEP_MS // PRINTS_PER_STEP, market.parameters.start
        first = max(0, -(-(start_ms - origin) // spacing_ms))
        # A step's prints appear when its candle is complete: none is known before that.
        complete = market.point(end_ms) * PRINTS_PER_STEP
        last = min(complete, (end_ms - origin) // spacing_ms + 1)
        numbers = np.arange(first, max(first, last))
        chosen = numbers[: count] if ascending else numbers[::-1][:count]
        rows = []
        for number in chosen.tolist():
            step, corner = divmod(number, PRINTS_PER_STEP)
            price = float(venue.trade[step, corner])
            rows.append(
                {
                    "trade_id": f"{number}" if name == "BTC" else f"{name}-{number}",
                    "trade_seq": number,
                    "timestamp": origin + number * spacing_ms,
                    "instrument_name": f"{name}-PERPETUAL",
                    "price": price,
                    "mark_price": float(venue.mark[step, corner]),
                    "index_price": float(market.assets[name].index[step, corner]),
                    "amount": 10.0 * round(float(venue.volume_usd[step]) / PRINTS_PER_STEP / 10.0),
                    "direction": "buy" if corner in (1, 3) else "sell",
                    "tick_direction": 0 if corner in (1, 3) else 2,
                }
            )
        return {"trades": rows, "has_more": len(numbers) > count}

    def _volatility_index(self, params: Params, now_ms: int) -> dict[str, Any]:
        (name,) = self._currency_names(params)
        length_ms = VOLATILITY_RESOLUTIONS.get(params.get("resolution", ""))
        if length_ms is None:
            raise invalid("resolution", "wrong resolution")
        end_ms = min(now_ms, _whole(params, "end_timestamp"))
        first_ms = max(_whole(params, "start_timestamp"), self._market.parameters.start)
        opens = np.arange(-(-first_ms // length_ms) * length_ms, end_ms + 1, length_ms)
        page = opens[-MAX_VOLATILITY_ROWS:]
        rows = self.desks[name].volatility_index(page, length_ms, now_ms)
        more = len(opens) > len(page)
        return {"data": rows, "continuation": int(page[0]) - length_ms if more else None}

    def _book_summary(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        (name,) = self._currency_names(params)
        kind = params.get("kind")
        rows = []
        if kind in (None, "future"):
            ticker = self._perpetual_ticker(name, now_ms)
            rows.append(
                {
                    "instrument_name": ticker["instrument_name"],
                    "base_currency": name,
                    "quote_currency": "USD",
                    "creation_timestamp": now_ms,
                    "bid_price": ticker["best_bid_price"],
                    "ask_price": ticker["best_ask_price"],
                    "mid_price": 0.5 * (ticker["best_bid_price"] + ticker["best_ask_price"]),
                    "last": ticker["last_price"],
                    **{key: ticker[key] for key in ("mark_price", "open_interest", "funding_8h",
                                                    "current_funding", "estimated_delivery_price")},
                    **ticker["stats"],
                }
            )
        if kind in (None, "option"):
            rows.extend(self.desks[name].summary(now_ms))
        return rows

    def _ticker(self, params: Params, now_ms: int) -> dict[str, Any]:
        name, option = self._find(params)
        if option is None:
            return self._perpetual_ticker(name, now_ms)
        return self.desks[name].ticker(option, now_ms)

    def _perpetual_ticker(self, name: str, now_ms: int) -> dict[str, Any]:
        path, point = self._market.assets[name], self._market.point(now_ms)
        venue, step = path.venues["deribit"], max(0, self._market.point(now_ms) - 1)
        bids, asks = self._book(path, point)
        day = slice(max(0, point - STEPS_PER_DAY), max(1, point))
        _, hourly = self._market.deribit_funding(name, now_ms)
        last, index = float(venue.trade[step, 3]), self._index(name, now_ms)
        volume_usd = float(venue.volume_usd[day].sum())
        return {
            "instrument_name": f"{name}-PERPETUAL",
            "timestamp": now_ms,
            "state": "open",
            "mark_price": float(venue.mark[step, 3]),
            "index_price": index,
            "estimated_delivery_price": index,
            "last_price": last,
            "best_bid_price": float(bids[0, 0]),
            "best_bid_amount": float(bids[0, 1]),
            "best_ask_price": float(asks[0, 0]),
            "best_ask_amount": float(asks[0, 1]),
            "open_interest": round(0.1 * float(path.open_interest_usd[point]), -1),
            "funding_8h": float(hourly[-8:].sum()),
            "current_funding": float(hourly[-1]) * 8.0 if len(hourly) else 0.0,
            "stats": {
                "high": float(venue.trade[day, 1].max()),
                "low": float(venue.trade[day, 2].min()),
                "volume": round(volume_usd / last, 6),
                "volume_usd": round(volume_usd, 2),
                "price_change": round(100.0 * (last / float(venue.trade[day, 0][0]) - 1.0), 4),
            },
        }

    def _order_book(self, params: Params, now_ms: int) -> dict[str, Any]:
        name, option = self._find(params)
        levels = int(params.get("depth", "5"))
        if option is not None:
            ticker = self.desks[name].ticker(option, now_ms)
            sides = {
                side: [[ticker[f"best_{key}_price"], ticker[f"best_{key}_amount"]]]
                if ticker[f"best_{key}_price"]
                else []
                for side, key in (("bids", "bid"), ("asks", "ask"))
            }
            return {**ticker, **sides, "change_id": now_ms}
        bids, asks = self._book(self._market.assets[name], self._market.point(now_ms))
        ticker = self._perpetual_ticker(name, now_ms)
        return {
            **ticker,
            "bids": np.round(bids[:levels], 2).tolist(),
            "asks": np.round(asks[:levels], 2).tolist(),
            "change_id": now_ms,
        }

    def _book(self, path: AssetPath, point: int) -> Any:
        venue = path.venues["deribit"]
        mid = float(venue.trade[max(0, point - 1), 3])
        return ladder(mid, float(venue.depth_usd[point]), path.parameters.deribit_tick_usd)

    def _index_price(self, params: Params, now_ms: int) -> dict[str, float]:
        price = self._index(self._index_asset(params), now_ms)
        return {"index_price": price, "estimated_delivery_price": price}

    def _delivery_prices(self, params: Params, now_ms: int) -> dict[str, Any]:
        name = self._index_asset(params)
        first_day = self._market.parameters.start // MS_PER_DAY
        last_day = (now_ms - EXPIRY_HOUR * MS_PER_HOUR) // MS_PER_DAY
        days = list(range(last_day, first_day - 1, -1))
        offset, count = int(params.get("offset", "0")), int(params.get("count", "10"))
        rows = [
            {
                "date": str(np.datetime64(day, "D")),
                "delivery_price": self.desks[name].delivery_price_usd(
                    day * MS_PER_DAY + EXPIRY_HOUR * MS_PER_HOUR
                ),
            }
            for day in days[offset : offset + min(count, MAX_TRADES)]
        ]
        return {"data": rows, "records_total": len(days)}

    def _index_asset(self, params: Params) -> str:
        name = params.get("index_name", "").removesuffix("_usd").upper()
        if name not in self._market.assets:
            raise invalid("index_name", "unknown index")
        return name

    def _index(self, name: str, at_ms: int) -> float:
        return round(float(self._market.assets[name].index_usd[self._market.point(at_ms)]), 2)

    def _currency_names(self, params: Params, required: bool = True) -> list[str]:
        wanted = params.get("currency", "" if required else "any")
        if wanted == "any" and not required:
            return list(self._market.assets)
        if wanted not in self._market.assets:
            raise invalid("currency", "invalid currency")
        return [wanted]

    def _find(self, params: Params) -> tuple[str, int | None]:
        """Return the asset and, for an option, its position in the listing."""
        wanted = params.get("instrument_name", "")
        name = wanted.split("-", 1)[0]
        if name in self._market.assets:
            if wanted == f"{name}-PERPETUAL":
                return name, None
            position = self.desks[name].listing.position.get(wanted)
            if position is not None:
                return name, position
        raise DeribitError(13020, "not_found", reason="instrument not found")


def _whole(params: Params, name: str) -> int:
    try:
        return int(params[name])
    except (KeyError, ValueError):
        raise invalid(name, "must be an integer") from None


def _trade_window(params: Params, now_ms: int) -> tuple[int, int, int, bool]:
    """Return start, end, count and whether the oldest come first."""
    start_ms = _whole(params, "start_timestamp") if "start_timestamp" in params else 0
    end_ms = _whole(params, "end_timestamp") if "end_timestamp" in params else now_ms
    count = _whole(params, "count") if "count" in params else 10
    if not 1 <= count <= MAX_TRADES:
        raise invalid("count", f"must be between 1 and {MAX_TRADES}")
    return start_ms, min(end_ms, now_ms), count, params.get("sorting") == "asc"
