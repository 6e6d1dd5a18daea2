"""OKX's public REST (`/api/v5`): swaps and their history, answered from the simulated market.

Every list comes newest first. ``after`` asks for what is older than a mark and ``before`` for
what is newer, both without the mark itself; with ``before`` alone the page holds the *newest*
rows after it, not the next ones, which is how a naive reader loses the oldest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.futures import DatedFuture, quarterlies, weeklies
from data_ingest.simulator.okx_board import OkxBoard
from data_ingest.simulator.okx_options import OkxOptions
from data_ingest.simulator.okx_rules import OkxError, Params, Swap, given, limit_of, window_of
from data_ingest.simulator.perpetual import Perpetual

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.deribit_options import OptionDesk
    from data_ingest.simulator.market import SimulatedMarket

KEPT_CANDLES = 1_440
"""Rows of `market/candles` and of the statistics; older ones are in the history paths only."""
FUNDING_HOURS = 8
FUNDING_KEPT_MS = 92 * MS_PER_DAY
BARS_MS = {
    "5m": (300_000, 0),
    "15m": (900_000, 0),
    "30m": (1_800_000, 0),
    "1H": (MS_PER_HOUR, 0),
    "2H": (2 * MS_PER_HOUR, 0),
    "4H": (4 * MS_PER_HOUR, 0),
    # Long bars count from midnight in Hong Kong, unless they are asked for in UTC.
    "6H": (6 * MS_PER_HOUR, 4 * MS_PER_HOUR),
    "12H": (12 * MS_PER_HOUR, 4 * MS_PER_HOUR),
    "1D": (MS_PER_DAY, 16 * MS_PER_HOUR),
    "6Hutc": (6 * MS_PER_HOUR, 0),
    "12Hutc": (12 * MS_PER_HOUR, 0),
    "1Dutc": (MS_PER_DAY, 0),
}
"""Length of each bar, and how long after midnight UTC the first one of a day opens."""
TIER_CONTRACTS = (
    (2_500, 100.0, 0.004),
    (10_000, 75.0, 0.005),
    (30_000, 50.0, 0.01),
    (100_000, 20.0, 0.025),
    (300_000, 10.0, 0.05),
    (1_000_000, 4.0, 0.125),
)
"""Largest size, leverage and maintenance rate of each tier, in contracts of 0.01 bitcoin."""


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
        self._futures: dict[str, Swap] = {}
        for name in market.assets:
            linear = Perpetual(market, crowd, name, "okx")
            inverse = Perpetual(market, crowd, name, "okx_inverse")
            coins, usd = (0.01, 100.0) if name == "BTC" else (0.1, 10.0)
            for swap in (
                Swap(linear, f"{name}-USDT-SWAP", f"{name}-USDT", "USDT", coins, name),
                Swap(inverse, f"{name}-USD-SWAP", f"{name}-USD", name, usd, "USD"),
            ):
                self.swaps[swap.inst_id] = swap
                for life in (*quarterlies(market), *weeklies(market)):
                    future = replace(
                        swap,
                        perpetual=DatedFuture(market, crowd, name, life),
                        inst_id=f"{swap.family}-{life.digits}",
                    )
                    self._futures[future.inst_id] = future
        self._options = {name: OkxOptions(desk) for name, desk in desks.items()}
        self._board = OkxBoard(self.swaps, self._futures, self._options)
        self.paths: dict[str, Callable[[Params, int], list[Any]]] = {
            **self._board.paths,
            "public/time": lambda _params, now_ms: [{"ts": str(now_ms)}],
            "public/instruments": self._instruments,
            "public/funding-rate": self._funding_now,
            "public/funding-rate-history": self._funding_history,
            "public/open-interest": self._open_interest,
            "public/position-tiers": self._position_tiers,
            "public/opt-summary": self._option_summary,
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
        kind = given(params, "instType")
        if kind == "OPTION":
            family = params.get("uly") or params.get("instFamily") or ""
            if not family:
                raise OkxError("50014", "Parameter uly or instFamily can not be empty", 400)
            desk = self._options.get(family.removesuffix("-USD"))
            return desk.instruments(now_ms) if desk else []
        if kind not in ("SPOT", "MARGIN", "SWAP", "FUTURES"):
            raise OkxError("51000", "Parameter instType error", 400)
        wanted = params.get("instId")
        swaps = self._board.listed(kind, now_ms)
        return [self._swap_row(swap) for swap in swaps if wanted in (None, swap.inst_id)]

    def _swap_row(self, swap: Swap) -> dict[str, Any]:
        return {
            "instType": swap.kind,
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
            "expTime": str(swap.life.expiry_ms) if swap.life else "",
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
        if params.get("bar") not in BARS_MS:
            raise OkxError("51000", "Parameter bar error", 400)
        length_ms, offset_ms = BARS_MS[params["bar"]]
        wanted = given(params, "instId")
        if kind == "index":
            wanted += "-SWAP"
        swap = self._board.contract(wanted, now_ms)
        first_ms, last_ms = window_of(params, "before", "after")
        if kept is not None:
            first_ms = max(first_ms, now_ms - kept * length_ms + 1)
        limit = limit_of(params, page)
        bars = swap.perpetual.bars(
            kind, length_ms, first_ms, last_ms, now_ms, limit, offset_ms=offset_ms
        )
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
        swap = self._board.swap(given(params, "instId"))
        first_ms, last_ms = window_of(params, "before", "after")
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
        return found[::-1][: limit_of(params, 100)]

    def _funding_now(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = given(params, "instId")
        interval_ms = FUNDING_HOURS * MS_PER_HOUR
        next_ms = (now_ms // interval_ms + 1) * interval_ms
        rows = []
        for swap in self.swaps.values() if wanted == "ANY" else [self._board.swap(wanted)]:
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
        if given(params, "instType") == "OPTION":
            return self._board.family(params).open_interest(now_ms)
        swaps = self.swaps.values()
        wanted, family = params.get("instId"), params.get("uly") or params.get("instFamily")
        return [
            {"instType": "SWAP", "instId": swap.inst_id, "ts": str(now_ms),
             **dict(zip(("oi", "oiCcy", "oiUsd"), self._held(swap, now_ms), strict=True))}
            for swap in swaps
            if wanted in (None, swap.inst_id) and family in (None, swap.family)
        ]  # fmt: skip

    def _open_interest_history(self, params: Params, now_ms: int) -> list[list[str]]:
        swap = self._board.swap(given(params, "instId"))
        instants = self._statistics(params, now_ms, swap)
        return [[str(at_ms), *self._held(swap, at_ms)] for at_ms in instants]

    def _ratio_history(self, params: Params, now_ms: int, who: str) -> list[list[str]]:
        swap = self._board.swap(given(params, "instId"))
        rows = []
        for at_ms in self._statistics(params, now_ms, swap):
            share = swap.perpetual.long_share(at_ms, who)
            rows.append([str(at_ms), f"{share / (1.0 - share):.10f}"])
        return rows

    def _statistics(self, params: Params, now_ms: int, swap: Swap) -> list[int]:
        """Return the instants of one page of a trading statistic, newest first."""
        if params.get("period", "5m") not in BARS_MS:
            raise OkxError("51000", "Parameter period error", 400)
        length_ms, offset_ms = BARS_MS[params.get("period", "5m")]
        first_ms, last_ms = window_of(params, "begin", "end")
        oldest_ms = now_ms - KEPT_CANDLES * length_ms + 1
        instants = swap.perpetual.marks_of(
            length_ms, max(first_ms, oldest_ms), min(last_ms, now_ms), offset_ms
        )
        return list(instants)[::-1][: limit_of(params, 100)]

    def _held(self, swap: Swap, at_ms: int) -> tuple[str, str, str]:
        usd, price = swap.perpetual.open_interest_usd(at_ms), swap.perpetual.mark_usd(at_ms)
        return f"{swap.contracts(usd, price):.2f}", f"{usd / price:.4f}", f"{usd:.2f}"

    def _position_tiers(self, params: Params, _now_ms: int) -> list[dict[str, str]]:
        if given(params, "instType") != "SWAP":
            raise OkxError("51000", "Parameter instType error", 400)
        given(params, "tdMode")
        family = params.get("instFamily") or params.get("uly") or ""
        swap = self._board.swap(f"{family}-SWAP")
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

    def _option_summary(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        return self._board.family(params).summary(now_ms, params.get("expTime", ""))

    def _deliveries(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        kind = given(params, "instType")
        if kind not in ("FUTURES", "OPTION"):
            raise OkxError("51000", "Parameter instType error", 400)
        desk = self._board.family(params)
        if kind == "FUTURES":
            return []
        window = window_of(params, "before", "after")
        return desk.deliveries(window, now_ms, limit_of(params, 100))
