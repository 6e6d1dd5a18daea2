"""An exchange in memory, in place of a ccxt client: any paging, any order, any page limit, faults.

What it serves is known exactly, so what a pull stores can be compared with it row by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ccxt

from backtest.units import MS_PER_DAY
from data_ingest.clients import ExchangeClient
from data_ingest.feed import NEWEST, OLDEST, Ask, Feed, Numbering, Paging, Row
from data_ingest.schema import CANDLES, OPTION_TRADES

SYMBOL = "BTC/USDT:USDT"
MINUTE_MS = 60_000
INSTRUMENTS = 3
LISTED_MS = 0
CALL_FAULTS = ("429", "502", "timeout", "truncated", "html", "shape")
PAGE_FAULTS = ("reversed", "twice", "stale", "empty", "stuck")
GRID_FAULTS = ("hole", "short")
EVENT_FAULTS = ("hole", "short", "other_end")


@dataclass
class FakeExchange:
    """Serves a list of ``(time, name)``, ascending, in pages.

    Parameters
    ----------
    history
        What exists.
    paging, order
        How it is served.
    limit
        Most rows of a page, whatever is asked for.
    says_more
        Whether an answer tells if there is more.
    faults
        What goes wrong, by number of the request.
    clock_ms
        Its own time.
    lost
        Names that no window is ever answered with.
    gone
        Names that are not even served by number.
    """

    history: list[tuple[int, str]]
    paging: Paging
    order: str = OLDEST
    limit: int = 5
    says_more: bool = False
    faults: dict[int, str] = field(default_factory=dict)
    clock_ms: int = 400 * MS_PER_DAY
    lost: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    requests: int = 0
    id: str = "fake"
    last_json_response: Any = None
    last_response_headers: Any = None
    page_before: Any = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def markets(self) -> dict[str, Any]:
        """One market."""
        return {SYMBOL: {"id": "BTCUSDT", "created": LISTED_MS or None}}

    def fetch_time(self) -> int:
        """Tell its time."""
        self.last_json_response = {"time": self.clock_ms}
        return self.clock_ms

    def rows(self, query: dict[str, Any]) -> Any:
        """Answer one question, or fail as the schedule says."""
        self.requests += 1
        self.asked.append(query)
        fault = self.faults.get(self.requests, "")
        if fault in ("429", "502"):
            raise ccxt.RateLimitExceeded("fake GET http://fake 429 slow down")
        if fault == "timeout":
            raise ccxt.RequestTimeout("fake GET http://fake timed out")
        if fault == "truncated":
            raise ccxt.NetworkError("fake GET http://fake IncompleteRead")
        if fault == "html":
            self.last_json_response = None
            return []
        page = self._page(query, other_end=fault == "other_end")
        sent = page
        if fault == "shape":
            sent = {"message": "try later"}  # type: ignore[assignment]
        elif fault == "reversed":
            sent = {**page, "rows": page["rows"][::-1]}
        elif fault == "twice":
            sent = {**page, "rows": page["rows"] * 2}
        elif fault == "stale" and self.page_before is not None:
            sent = self.page_before
        elif fault == "empty":
            sent = {**page, "rows": []}
        elif fault == "stuck" and page["token"] is not None:
            sent = {**page, "token": query["token"] or page["token"]}
        elif fault == "hole":
            sent = {**page, "rows": page["rows"][:1] + page["rows"][2:]}
        elif fault == "short":
            sent = {**page, "rows": page["rows"][: len(page["rows"]) // 2]}
        if fault != "stale":
            self.page_before = page
        self.last_json_response = sent
        return sent

    def by_number(self, query: dict[str, Any]) -> Any:
        """Answer for a range of one instrument's numbers."""
        self.requests += 1
        self.asked.append(query)
        found = [
            list(row) for row in self.history
            if instrument(row[1]) == query["instrument"] and row[1] not in self.gone
            and query["first"] <= number(row[1]) <= query["last"]
        ]  # fmt: skip
        self.last_json_response = {"rows": found[: query["limit"]], "more": False, "token": None}
        return self.last_json_response

    def _page(self, query: dict[str, Any], *, other_end: bool) -> dict[str, Any]:
        timed = self.paging in (Paging.WINDOW, Paging.FORWARD, Paging.BACKWARD)
        found = [
            row for row in self.history
            if row[1] not in self.lost
            and (not timed or query["start"] <= row[0] < query["end"])
        ]  # fmt: skip
        skip = int(query["token"] or query["offset"] or 0)
        limit = min(self.limit, query["limit"])
        if timed and (self.paging is Paging.BACKWARD) == other_end:
            chosen = found[:limit]
        elif timed:
            chosen = found[::-1][:limit][::-1]
        else:
            chosen = found[::-1][skip : skip + limit][::-1]
        more = skip + len(chosen) < len(found)
        rows = chosen if self.order == OLDEST else chosen[::-1]
        token = str(skip + limit) if self.paging is Paging.CONTINUATION and more else None
        return {"rows": [list(row) for row in rows], "more": more, "token": token}


def instrument(name: str) -> str:
    """Name the instrument of a trade: they take turns."""
    return f"BTC-{int(name) % INSTRUMENTS}"


def number(name: str) -> int:
    """Count a trade within its instrument."""
    return int(name) // INSTRUMENTS + 1


def fake_feed(
    exchange: FakeExchange, declared_limit: int, *, grid: bool, numbered: bool = False
) -> Feed:
    """Declare the feed of a fake exchange, as minute candles or as trades."""

    def read(answer: Any, ask: Ask) -> list[Row]:
        if grid:
            return [("fake", SYMBOL, "trade", MINUTE_MS, at, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
                    for at, _ in answer["rows"]]  # fmt: skip
        return [("fake", name, instrument(name), at, 1.0, 0.5, 1.0, 1.0, "buy",
                 number(name) if numbered else None, None)
                for at, name in answer["rows"]]  # fmt: skip

    return Feed(
        "fake",
        "trade_candles" if grid else "option_trades",
        CANDLES if grid else OPTION_TRADES,
        "rows",
        exchange.paging,
        declared_limit,
        exchange.order,
        ask=lambda a: {"start": a.start_ms, "end": a.end_ms, "limit": a.limit,
                       "token": a.token, "offset": a.offset},
        read=read,
        periods={MINUTE_MS: "1m"} if grid else None,
        per_asset=not grid,
        more=(lambda answer: bool(answer["more"])) if exchange.says_more else None,
        token=(lambda answer: answer["token"]) if exchange.paging is Paging.CONTINUATION else None,
        numbering=Numbering(
            "trade_seq", "native_id", "by_number",
            ask=lambda name, first, last: {"instrument": name, "first": first, "last": last,
                                           "limit": 3},
            page_limit=3,
        ) if numbered else None,
    )  # fmt: skip


def fake_client(exchange: FakeExchange) -> ExchangeClient:
    """Return a client that never waits."""
    return ExchangeClient(exchange, "fake", is_synthetic=True, sleep=lambda _: None)


ORDERS = (OLDEST, NEWEST)
