"""OKX's present: books, tickers and trades, of swaps and of options."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY
from data_ingest.simulator.okx_rules import (
    NO_INSTRUMENT,
    OkxError,
    Params,
    Swap,
    given,
    limit_of,
    whole,
    window_of,
)

if TYPE_CHECKING:
    from data_ingest.simulator.okx_options import OkxOptions

TRADES_KEPT_MS = 92 * MS_PER_DAY


class OkxBoard:
    """What the exchange shows of now, and the trades that led there.

    Parameters
    ----------
    swaps
        Its swaps by instrument.
    options
        Its options by asset.
    """

    def __init__(
        self, swaps: dict[str, Swap], futures: dict[str, Swap], options: dict[str, OkxOptions]
    ) -> None:
        self._swaps, self._futures, self._options = swaps, futures, options
        self.paths: dict[str, Callable[[Params, int], list[Any]]] = {
            "public/mark-price": self._mark_price,
            "public/option-trades": self._option_trades,
            "market/trades": self._trades,
            "market/history-trades": self._history_trades,
            "market/books": lambda params, now_ms: self._books(params, now_ms, 400),
            "market/books-full": lambda params, now_ms: self._books(params, now_ms, 5_000),
            "market/ticker": self._ticker,
            "market/tickers": self._tickers,
        }

    def swap(self, wanted: str) -> Swap:
        """Return the swap of a name.

        Raises
        ------
        OkxError
            If there is none.
        """
        if wanted not in self._swaps:
            raise OkxError("51001", NO_INSTRUMENT)
        return self._swaps[wanted]

    def contract(self, wanted: str, now_ms: int) -> Swap:
        """Return the swap of a name, or the dated future if it is listed now.

        Raises
        ------
        OkxError
            If there is none.
        """
        future = self._futures.get(wanted)
        return future if future and future.trades_at(now_ms) else self.swap(wanted)

    def listed(self, kind: str, now_ms: int) -> list[Swap]:
        """Return what is listed now of a kind, SWAP or FUTURES."""
        known = (*self._swaps.values(), *self._futures.values())
        return [one for one in known if one.kind == kind and one.trades_at(now_ms)]

    def family(self, params: Params) -> OkxOptions:
        """Return the options that a request names by their underlying.

        Raises
        ------
        OkxError
            If it names none.
        """
        family = params.get("uly") or params.get("instFamily") or ""
        if not family:
            raise OkxError("50014", "Parameter uly or instFamily can not be empty", 400)
        desk = self._options.get(family.removesuffix("-USD"))
        if desk is None or not family.endswith("-USD"):
            raise OkxError("51000", "Parameter instFamily error", 400)
        return desk

    def _option(self, wanted: str) -> OkxOptions:
        desk = self._options.get(wanted.split("-", 1)[0])
        if desk is None or wanted not in desk.position:
            raise OkxError("51001", NO_INSTRUMENT)
        return desk

    def _option_trades(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = params.get("instId")
        if wanted:
            return self._option(wanted).trades(now_ms, wanted)
        return self.family(params).trades(now_ms)

    def _mark_price(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = params.get("instId")
        if params.get("instType") == "OPTION":
            marks = self.family(params).marks(now_ms)
            return [row for row in marks if wanted in (None, row["instId"])]
        return [
            {
                "instType": swap.kind,
                "instId": swap.inst_id,
                "markPx": f"{swap.perpetual.mark_usd(now_ms):.2f}",
                "ts": str(now_ms),
            }
            for swap in self.listed(params.get("instType", "SWAP"), now_ms)
            if wanted in (None, swap.inst_id)
        ]

    def _trades(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        swap = self.contract(given(params, "instId"), now_ms)
        last = swap.perpetual.prints_until(now_ms)
        return self._prints(swap, last - limit_of(params, 500), last)

    def _history_trades(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        swap = self.contract(given(params, "instId"), now_ms)
        by_id = params.get("type", "1") == "1"
        first_mark, last_mark = window_of(params, "before", "after")
        oldest = swap.perpetual.first_print_from(now_ms - TRADES_KEPT_MS)
        last = swap.perpetual.prints_until(now_ms)
        if by_id:
            first, last = max(oldest, first_mark - 1), min(last, last_mark)
        else:
            first = max(oldest, swap.perpetual.first_print_from(first_mark))
            last = min(last, swap.perpetual.first_print_from(min(last_mark, now_ms) + 1))
        return self._prints(swap, max(first, last - limit_of(params, 100)), last)

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
        wanted = given(params, "instId")
        levels = whole(params, "sz", 1)
        if not 1 <= levels <= most:
            raise OkxError("51000", "Parameter sz error", 400)
        if wanted.endswith(("-C", "-P")):
            return [self._option(wanted).book(wanted, now_ms)]
        swap = self.contract(wanted, now_ms)
        bids, asks = (
            [
                [f"{price:.2f}", f"{max(swap.contracts(usd, price), 0.01):.2f}", "0", "1"]
                for price, usd in side.tolist()
            ]
            for side in swap.perpetual.book(now_ms, levels)
        )
        return [{"asks": asks, "bids": bids, "ts": str(now_ms), "seqId": now_ms}]

    def _ticker(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        wanted = given(params, "instId")
        if not wanted.endswith(("-C", "-P")):
            return [self._ticker_row(self.contract(wanted, now_ms), now_ms)]
        desk = self._option(wanted)
        return [row for row in desk.tickers(now_ms) if row["instId"] == wanted]

    def _tickers(self, params: Params, now_ms: int) -> list[dict[str, str]]:
        kind = given(params, "instType")
        if kind == "OPTION":
            return self.family(params).tickers(now_ms)
        return [self._ticker_row(swap, now_ms) for swap in self.listed(kind, now_ms)]

    def _ticker_row(self, swap: Swap, now_ms: int) -> dict[str, str]:
        day, (bids, asks) = swap.perpetual.last_day(now_ms), swap.perpetual.book(now_ms, 1)
        return {
            "instType": swap.kind,
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
