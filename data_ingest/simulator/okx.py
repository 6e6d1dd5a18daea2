"""OKX's public REST (`/api/v5`): swaps and their history, answered from the simulated market.

Every list comes newest first. ``after`` asks for what is older than a mark and ``before`` for
what is newer, both without the mark itself; with ``before`` alone the page holds the *newest*
rows after it, not the next ones, which is how a naive reader loses the oldest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.okx_options import OkxOptions
from data_ingest.simulator.perpetual import Perpetual

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.deribit_options import OptionDesk
    from data_ingest.simulator.market import SimulatedMarket

Params = dict[str, str]
FAR_MS = 1 << 62
KEPT_CANDLES = 1_440
"""Rows of `market/candles` and of the statistics; older ones are in the history paths only."""
FUNDING_HOURS = 8
FUNDING_KEPT_MS = 92 * MS_PER_DAY
TRADES_KEPT_MS = 92 * MS_PER_DAY
BARS_MS = {
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1H": MS_PER_HOUR,
    "2H": 2 * MS_PER_HOUR,
    "4H": 4 * MS_PER_HOUR,
    "6Hutc": 6 * MS_PER_HOUR,
    "12Hutc": 12 * MS_PER_HOUR,
    "1Dutc": MS_PER_DAY,
}
PERIODS_MS = {**BARS_MS, "6H": 6 * MS_PER_HOUR, "12H": 12 * MS_PER_HOUR, "1D": MS_PER_DAY}
TIER_CONTRACTS = (
    (2_500, 100.0, 0.004),
    (10_000, 75.0, 0.005),
    (30_000, 50.0, 0.01),
    (100_000, 20.0, 0.025),
    (300_000, 10.0, 0.05),
    (1_000_000, 4.0, 0.125),
)
"""Largest size, leverage and maintenance rate of each tier, in contracts of 0.01 bitcoin."""

_NO_INSTRUMENT = "Instrument ID, Instrument ID code, or Spread ID doesn't exist."


class OkxError(Exception):
    """A refusal in the exchange's own terms."""

    def __init__(self, code: str, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True)
class Swap:
    """One swap: its market and what a contract is."""

    perpetual: Perpetual
    inst_id: str
    family: str
    settled_in: str
    contract_value: float
    value_in: str

    @property
    def is_linear(self) -> bool:
        """Whether it settles in dollars."""
        return self.settled_in == "USDT"

    def contracts(self, usd: float, price_usd: float) -> float:
        """Return how many contracts a size in dollars is."""
        coins_or_usd = usd / price_usd if self.is_linear else usd
        return round(coins_or_usd / self.contract_value, 2)


class OkxApi:
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
        self.swaps: dict[str, Swap] = {}
        for name in market.assets:
            linear = Perpetual(market, crowd, name, "okx")
            inverse = Perpetual(market, crowd, name, "okx_inverse")
            coins, usd = (0.01, 100.0) if name == "BTC" else (0.1, 10.0)
            for swap in (
                Swap(linear, f"{name}-USDT-SWAP", f"{name}-USDT", "USDT", coins, name),
                Swap(inverse, f"{name}-USD-SWAP", f"{name}-USD", name, usd, "USD"),
            ):
                self.swaps[swap.inst_id] = swap
        self._options = {name: OkxOptions(desk) for name, desk in desks.items()}
        self.paths: dict[str, Callable[[Params, int], list[Any]]] = {
            "public/time": lambda _params, now_ms: [{"ts": str(now_ms)}],
            "public/instruments": self._instruments,
            "public/funding-rate": self._funding_now,
            "public/funding-rate-history": self._funding_history,
            "public/open-interest": self._open_interest,
            "public/mark-price": self._mark_price,
            "public/position-tiers": self._position_tiers,
            "public/opt-summary": self._option_summary,
            "public/option-trades": self._option_trades,
            "public/delivery-exercise-history": self._deliveries,
            "market/candles": lambda p, now: self._candles(p, now, "trade", 300, KEPT_CANDLES),
            "market/history-candles": lambda p, now: self._candles(p, now, "trade", 300),
            "market/mark-price-candles": lambda p, now: self._candles(
                p, now, "mark", 100, KEPT_CANDLES
            ),
            "market/history-mark-price-candles": lambda p, now: self._candles(p, now, "mark", 100),
            "market/index-candles": lambda p, now: self._candles(
                p, now, "index", 100, KEPT_CANDLES
            ),
            "market/history-index-candles": lambda p, now: self._candles(p, now, "index", 100),
            "market/trades": self._trades,
            "market/history-trades": self._history_trades,
            "market/books": lambda params, now_ms: self._books(params, now_ms, 400),
            "market/books-full": lambda params, now_ms: self._books(params, now_ms, 5_000),
            "market/ticker": self._ticker,
            "market/tickers": self._tickers,
            "rubik/stat/contracts/open-interest-history": self._open_interest_history,
            "rubik/stat/contracts/long-short-account-ratio-contract": lambda params, now_ms: (
                self._ratio_history(params, now_ms, "accounts")
            ),
            "rubik/stat/contracts/long-short-position-ratio-contract-top-trader": (
                lambda params, now_ms: self._ratio_history(params, now_ms, "top-positions")
            ),
        }

    def call(self, path: str, params: Params, now_ms: int) -> list[Any]:
        """Answer one path at one time.

        Raises
        ------
        OkxError
            If the path, the instrument or a parameter is unknown.
        """
        if path not in self.paths:
            raise OkxError("404", "Not Found", 404)
        return self.paths[path](params, now_ms)

    def _instruments(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        kind = _given(params, "instType")
        if kind == "OPTION":
            family = params.get("uly") or params.get("instFamily") or ""
            if not family:
                raise OkxError("50014", "Parameter uly or instFamily can not be empty", 400)
            desk = self._options.get(family.removesuffix("-USD"))
            return desk.instruments(now_ms) if desk else []
        if kind not in ("SPOT", "MARGIN", "SWAP", "FUTURES"):
            raise OkxError("51000", "Parameter instType error", 400)
        wanted = params.get("instId")
        swaps = self.swaps.values() if kind == "SWAP" else ()
        return [self._swap_row(swap) for swap in swaps if wanted in (None, swap.inst_id)]

    def _swap_row(self, swap: Swap) -> dict[str, Any]:
        return {
            "instType": "SWAP",
            "instId": swap.inst_id,
            "instFamily": swap.family,
            "uly": swap.family,
            "alias": "",
            "baseCcy": "",
            "quoteCcy": "",
            "settleCcy": swap.settled_in,
            "category": "1",
            "ctType": "linear" if swap.is_linear else "inverse",
            "ctVal": f"{swap.contract_value:g}",
            "ctMult": "1",
            "ctValCcy": swap.value_in,
            "expTime": "",
            "listTime": str(swap.perpetual.listed_ms),
            "lever": "100",
            "lotSz": "0.01",
            "minSz": "0.01",
            "maxLmtSz": "100000000",
            "maxMktSz": "85000",
            "optType": "",
            "stk": "",
            "state": "live",
            "tickSz": f"{swap.perpetual.tick_usd:g}",
            "ruleType": "normal",
        }

    def _candles(
        self, params: Params, now_ms: int, kind: str, page: int, kept: int | None = None
    ) -> list[list[str]]:
        length_ms = BARS_MS.get(params.get("bar", ""))
        if length_ms is None:
            raise OkxError("51000", "Parameter bar error", 400)
        wanted = _given(params, "instId")
        if kind == "index":
            wanted += "-SWAP"
        swap = self._swap(wanted)
        first_ms, last_ms = _window(params, "before", "after")
        if kept is not None:
            first_ms = max(first_ms, now_ms // length_ms * length_ms - (kept - 1) * length_ms)
        bars = swap.perpetual.bars(kind, length_ms, first_ms, last_ms, now_ms, _limit(params, page))
        rows = []
        for place, opened in enumerate(bars.opens.tolist()):
            prices = [f"{price:.2f}" for price in bars.prices[place].tolist()]
            confirm = "1" if bars.closed[place] else "0"
            if kind == "trade":
                usd, close = float(bars.volume_usd[place]), float(bars.prices[place, 3])
                sizes = [f"{swap.contracts(usd, close):.2f}", f"{usd / close:.4f}", f"{usd:.2f}"]
                rows.append([str(opened), *prices, *sizes, confirm])
            else:
                rows.append([str(opened), *prices, confirm])
        return rows[::-1]

    def _funding_history(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        swap = self._swap(_given(params, "instId"))
        first_ms, last_ms = _window(params, "before", "after")
        first_ms = max(first_ms, now_ms - FUNDING_KEPT_MS)
        times, rates = swap.perpetual.funding(FUNDING_HOURS, now_ms)
        found = [
            {
                "instType": "SWAP",
                "instId": swap.inst_id,
                "fundingRate": f"{rate:.10f}",
                "realizedRate": f"{rate:.10f}",
                "fundingTime": str(at_ms),
                "formulaType": "withRate",
                "method": "current_period",
            }
            for at_ms, rate in zip(times.tolist(), rates.tolist(), strict=True)
            if first_ms <= at_ms <= last_ms
        ]
        return found[::-1][: _limit(params, 100)]

    def _funding_now(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = _given(params, "instId")
        interval_ms = FUNDING_HOURS * MS_PER_HOUR
        next_ms = (now_ms // interval_ms + 1) * interval_ms
        rows = []
        for swap in self.swaps.values() if wanted == "ANY" else [self._swap(wanted)]:
            _, rates = swap.perpetual.funding(FUNDING_HOURS, now_ms)
            rate = f"{rates[-1] if len(rates) else 0.0:.10f}"
            rows.append(
                {
                    "instType": "SWAP",
                    "instId": swap.inst_id,
                    "method": "current_period",
                    "formulaType": "withRate",
                    "fundingRate": rate,
                    "fundingTime": str(next_ms),
                    "nextFundingRate": "",
                    "nextFundingTime": str(next_ms + interval_ms),
                    "settFundingRate": rate,
                    "settState": "settled",
                    "ts": str(now_ms),
                }
            )
        return rows

    def _open_interest(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        if _given(params, "instType") == "OPTION":
            return self._desk(params).open_interest(now_ms)
        swaps = self.swaps.values()
        wanted, family = params.get("instId"), params.get("uly") or params.get("instFamily")
        return [
            {"instType": "SWAP", "instId": swap.inst_id, "ts": str(now_ms),
             **dict(zip(("oi", "oiCcy", "oiUsd"), self._held(swap, now_ms), strict=True))}
            for swap in swaps
            if wanted in (None, swap.inst_id) and family in (None, swap.family)
        ]  # fmt: skip

    def _open_interest_history(self, params: Params, now_ms: int) -> list[list[str]]:
        swap = self._swap(_given(params, "instId"))
        instants = self._statistics(params, now_ms, swap)
        return [[str(at_ms), *self._held(swap, at_ms)] for at_ms in instants]

    def _ratio_history(self, params: Params, now_ms: int, who: str) -> list[list[str]]:
        swap = self._swap(_given(params, "instId"))
        rows = []
        for at_ms in self._statistics(params, now_ms, swap):
            share = swap.perpetual.long_share(at_ms, who)
            rows.append([str(at_ms), f"{share / (1.0 - share):.10f}"])
        return rows

    def _statistics(self, params: Params, now_ms: int, swap: Swap) -> list[int]:
        """Return the instants of one page of a trading statistic, newest first."""
        length_ms = PERIODS_MS.get(params.get("period", "5m"))
        if length_ms is None:
            raise OkxError("51000", "Parameter period error", 400)
        first_ms, last_ms = _window(params, "begin", "end")
        oldest_ms = now_ms // length_ms * length_ms - (KEPT_CANDLES - 1) * length_ms
        instants = swap.perpetual.marks_of(
            length_ms, max(first_ms, oldest_ms), min(last_ms, now_ms)
        )
        return list(instants)[::-1][: _limit(params, 100)]

    def _held(self, swap: Swap, at_ms: int) -> tuple[str, str, str]:
        usd, price = swap.perpetual.open_interest_usd(at_ms), swap.perpetual.mark_usd(at_ms)
        return f"{swap.contracts(usd, price):.2f}", f"{usd / price:.4f}", f"{usd:.2f}"

    def _mark_price(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = params.get("instId")
        return [
            {
                "instType": "SWAP",
                "instId": swap.inst_id,
                "markPx": f"{swap.perpetual.mark_usd(now_ms):.2f}",
                "ts": str(now_ms),
            }
            for swap in self.swaps.values()
            if wanted in (None, swap.inst_id)
        ]

    def _position_tiers(self, params: Params, _now_ms: int) -> list[dict[str, str]]:
        if _given(params, "instType") != "SWAP":
            raise OkxError("51000", "Parameter instType error", 400)
        _given(params, "tdMode")
        family = params.get("instFamily") or params.get("uly") or ""
        swap = self._swap(f"{family}-SWAP")
        # Tiers are of one notional size whatever a contract is worth.
        scale = 1 if swap.is_linear else 5
        rows, floor = [], 0
        for tier, (size, leverage, rate) in enumerate(TIER_CONTRACTS, start=1):
            rows.append(
                {
                    "instType": "SWAP",
                    "instFamily": family,
                    "uly": family,
                    "instId": "",
                    "tier": str(tier),
                    "minSz": str(floor),
                    "maxSz": str(size * scale),
                    "mmr": f"{rate:g}",
                    "imr": f"{1.0 / leverage:.4g}",
                    "maxLever": f"{leverage:g}",
                    "optMgnFactor": "0",
                    "quoteMaxLoan": "",
                    "baseMaxLoan": "",
                }
            )
            floor = size * scale + 1
        return rows

    def _trades(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        swap = self._swap(_given(params, "instId"))
        last = swap.perpetual.prints_until(now_ms)
        return self._prints(swap, last - _limit(params, 500), last)

    def _history_trades(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        swap = self._swap(_given(params, "instId"))
        by_id = params.get("type", "1") == "1"
        first_mark, last_mark = _window(params, "before", "after")
        oldest = swap.perpetual.first_print_from(now_ms - TRADES_KEPT_MS)
        last = swap.perpetual.prints_until(now_ms)
        if by_id:
            first, last = max(oldest, first_mark - 1), min(last, last_mark)
        else:
            first = max(oldest, swap.perpetual.first_print_from(first_mark))
            last = min(last, swap.perpetual.first_print_from(min(last_mark, now_ms) + 1))
        return self._prints(swap, max(first, last - _limit(params, 100)), last)

    def _prints(self, swap: Swap, first: int, last: int) -> list[dict[str, str]]:
        return [
            {
                "instId": swap.inst_id,
                "tradeId": str(made.number + 1),
                "px": f"{made.price_usd:.2f}",
                "sz": f"{swap.contracts(made.size_usd, made.price_usd):.2f}",
                "side": "buy" if made.is_buy else "sell",
                "ts": str(made.at_ms),
            }
            for made in reversed(swap.perpetual.prints(first, last))
        ]

    def _books(self, params: Params, now_ms: int, most: int) -> list[dict[str, Any]]:
        wanted = _given(params, "instId")
        levels = _whole(params, "sz", 1)
        if not 1 <= levels <= most:
            raise OkxError("51000", "Parameter sz error", 400)
        if wanted not in self.swaps:
            return [desk.book(wanted, now_ms) for desk in [self._desk_of(wanted)]]
        swap = self.swaps[wanted]
        bids, asks = (
            [
                [f"{price:.2f}", f"{max(swap.contracts(usd, price), 0.01):.2f}", "0", "1"]
                for price, usd in side.tolist()
            ]
            for side in swap.perpetual.book(now_ms, levels)
        )
        return [{"asks": asks, "bids": bids, "ts": str(now_ms), "seqId": now_ms}]

    def _ticker(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = _given(params, "instId")
        if wanted in self.swaps:
            return [self._ticker_row(self.swaps[wanted], now_ms)]
        desk = self._desk_of(wanted)
        return [row for row in desk.tickers(now_ms) if row["instId"] == wanted]

    def _tickers(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        kind = _given(params, "instType")
        if kind == "OPTION":
            return self._desk(params).tickers(now_ms)
        swaps = self.swaps.values() if kind == "SWAP" else ()
        return [self._ticker_row(swap, now_ms) for swap in swaps]

    def _ticker_row(self, swap: Swap, now_ms: int) -> dict[str, str]:
        day, (bids, asks) = swap.perpetual.last_day(now_ms), swap.perpetual.book(now_ms, 1)
        return {
            "instType": "SWAP",
            "instId": swap.inst_id,
            "last": f"{day.last:.2f}",
            "lastSz": "1",
            "askPx": f"{asks[0, 0]:.2f}",
            "askSz": f"{swap.contracts(asks[0, 1], asks[0, 0]):.2f}",
            "bidPx": f"{bids[0, 0]:.2f}",
            "bidSz": f"{swap.contracts(bids[0, 1], bids[0, 0]):.2f}",
            "open24h": f"{day.first:.2f}",
            "high24h": f"{day.high:.2f}",
            "low24h": f"{day.low:.2f}",
            "volCcy24h": f"{day.volume_usd / day.last:.4f}",
            "vol24h": f"{swap.contracts(day.volume_usd, day.last):.2f}",
            "ts": str(now_ms),
        }

    def _option_summary(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        return self._desk(params).summary(now_ms, params.get("expTime", ""))

    def _option_trades(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = params.get("instId")
        if wanted:
            return self._desk_of(wanted).trades(now_ms, wanted)
        return self._desk(params).trades(now_ms)

    def _deliveries(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        kind = _given(params, "instType")
        if kind not in ("FUTURES", "OPTION"):
            raise OkxError("51000", "Parameter instType error", 400)
        desk = self._desk(params)
        if kind == "FUTURES":
            return []
        window = _window(params, "before", "after")
        return desk.deliveries(window, now_ms, _limit(params, 100))

    def _swap(self, wanted: str) -> Swap:
        if wanted not in self.swaps:
            raise OkxError("51001", _NO_INSTRUMENT)
        return self.swaps[wanted]

    def _desk(self, params: Params) -> OkxOptions:
        family = params.get("uly") or params.get("instFamily") or ""
        if not family:
            raise OkxError("50014", "Parameter uly or instFamily can not be empty", 400)
        desk = self._options.get(family.removesuffix("-USD"))
        if desk is None or not family.endswith("-USD"):
            raise OkxError("51000", "Parameter instFamily error", 400)
        return desk

    def _desk_of(self, wanted: str) -> OkxOptions:
        desk = self._options.get(wanted.split("-", 1)[0])
        if desk is None or wanted not in desk.position:
            raise OkxError("51001", _NO_INSTRUMENT)
        return desk


def _given(params: Params, name: str) -> str:
    if not params.get(name):
        raise OkxError("50014", f"Parameter {name} can not be empty", 400)
    return params[name]


def _whole(params: Params, name: str, default: int) -> int:
    try:
        return int(params.get(name) or default)
    except ValueError:
        raise OkxError("51000", f"Parameter {name} error", 400) from None


def _limit(params: Params, most: int) -> int:
    limit = _whole(params, "limit", min(100, most))
    if limit < 1:
        raise OkxError("51000", "Parameter limit error", 400)
    return min(limit, most)


def _window(params: Params, newer_than: str, older_than: str) -> tuple[int, int]:
    """Return the first and last mark asked for, both included."""
    return _whole(params, newer_than, -1) + 1, _whole(params, older_than, FAR_MS) - 1
