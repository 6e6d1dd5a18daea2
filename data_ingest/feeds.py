"""The feeds of Deribit and Binance USD-M, pulled through ccxt into the store.

Each function knows one feed's endpoint and its traps; paging, retries, quality and coverage
are shared. Where ccxt's unified answer loses a field (quote turnover, implied volatility, the
hourly funding accrual), the raw answer is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backtest.errors import DataError
from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.clients import FeedError
from data_ingest.coverage import LedgerKey, Window
from data_ingest.pager import Page, PullReport, Row, complete_parts, pull_windows, write_page
from data_ingest.schema import CANDLES, CHAIN, DEPTH, FUNDING, INSTRUMENTS, OPTION_TRADES
from data_ingest.symbols import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.clients import ExchangeClient
    from data_ingest.store import DataStore

_TIMEFRAMES = {60_000: "1m", 300_000: "5m", 900_000: "15m", MS_PER_HOUR: "1h",
               4 * MS_PER_HOUR: "4h", MS_PER_DAY: "1d"}  # fmt: skip
_JITTER_MS = 60_000
_TRADES_PER_PAGE = 1000
_PERCENT = 0.01
DEPTH_BAND = 0.01
"""Depth is what rests within this fraction of mid."""


def pull_candles(
    store: DataStore,
    client: ExchangeClient,
    symbol: str,
    kind: str,
    timeframe_ms: int,
    window: Window,
) -> PullReport:
    """Pull trade, mark or index candles of one market.

    Parameters
    ----------
    store : DataStore
        An open store.
    client : ExchangeClient
        The exchange.
    symbol : str
        Unified symbol.
    kind : {"trade", "mark", "index"}
        Which price; Deribit has trade candles only.
    timeframe_ms : int
        Bar length.
    window : (int, int)
        Bars that open in this half-open window.
    """
    convention = EXCHANGES[client.exchange_id]
    if kind not in convention.candle_kinds:
        raise DataError(f"{client.exchange_id} has no {kind} candles; it has "
                        f"{', '.join(convention.candle_kinds)}.")  # fmt: skip
    if timeframe_ms not in _TIMEFRAMES:
        raise DataError(f"a timeframe of {timeframe_ms} ms is not pulled; valid: "
                        f"{', '.join(_TIMEFRAMES.values())}.")  # fmt: skip
    client.load_markets()
    timeframe = _TIMEFRAMES[timeframe_ms]

    def fetch(piece: Window) -> Page:
        start, end = piece
        price = {} if kind == "trade" else {"price": kind}
        candles = client.call(
            "fetch_ohlcv", symbol, timeframe, start, (end - start) // timeframe_ms + 1,
            {"until": end - 1, **price},
        )  # fmt: skip
        turnover = _turnover_usd(client) if kind == "trade" else {}
        rows: list[Row] = [
            (client.exchange_id, symbol, kind, timeframe_ms, at, *prices,
             volume if kind == "trade" else None, turnover.get(at))
            for at, *prices, volume in candles
            if start <= at < end
        ]  # fmt: skip
        return Page(rows, complete_parts([row[4] for row in rows], piece, timeframe_ms))

    key = LedgerKey(client.exchange_id, symbol, f"{kind}_candles", timeframe_ms)
    aligned = (window[0] // timeframe_ms * timeframe_ms, window[1])
    step_ms = convention.candles_per_page * timeframe_ms
    return pull_windows(store, client, CANDLES, key, aligned, step_ms, fetch)


def _turnover_usd(client: ExchangeClient) -> dict[int, float]:
    """Read quote turnover per bar from the raw answer; the unified candle drops it."""
    raw = client.ccxt.last_json_response
    if client.exchange_id == "deribit":
        result = raw["result"]
        return dict(zip(result["ticks"], map(float, result["cost"]), strict=True))
    return {int(row[0]): float(row[7]) for row in raw}


def pull_funding(
    store: DataStore, client: ExchangeClient, symbol: str, window: Window
) -> PullReport:
    """Pull the funding history of one perpetual.

    Deribit accrues continuously and reports hourly rows; ``rate`` is their one-hour accrual,
    not the eight-hour figure that ccxt's unified ``fundingRate`` carries. Binance stamps
    payments with milliseconds of jitter, which is rounded away.
    """
    client.load_markets()
    convention = EXCHANGES[client.exchange_id]
    interval_ms = convention.funding_interval_ms
    hourly = client.exchange_id == "deribit"

    def fetch(piece: Window) -> Page:
        start, end = piece
        # Every payment whose rounded stamp lies in the window, wherever its jitter put it.
        first, last = start - _JITTER_MS // 2, end - 1 + _JITTER_MS // 2
        answers = client.call("fetch_funding_rate_history", symbol, first, 1000, {"until": last})
        rows: list[Row] = []
        for answer in answers:
            at = (int(answer["timestamp"]) + _JITTER_MS // 2) // _JITTER_MS * _JITTER_MS
            if not start <= at < end:
                continue
            rate = float(answer["info"]["interest_1h"] if hourly else answer["fundingRate"])
            index = float(answer["info"]["index_price"]) if hourly else None
            rows.append((client.exchange_id, symbol, at, rate, interval_ms, index))
        return Page(rows, complete_parts([row[2] for row in rows], piece, interval_ms))

    key = LedgerKey(client.exchange_id, symbol, "funding")
    step_ms = convention.hours_per_funding_page * MS_PER_HOUR
    return pull_windows(store, client, FUNDING, key, window, step_ms, fetch)


def pull_instruments(store: DataStore, client: ExchangeClient, assets: Sequence[str]) -> PullReport:
    """Pull the instruments of some assets; on Deribit, expired options too."""
    client.load_markets()
    markets = {market["id"]: market for market in client.ccxt.markets.values()}
    if client.exchange_id == "deribit":
        for asset in assets:
            expired = {"currency": asset, "kind": "option", "expired": True}
            live = {"currency": asset, "kind": "option"}
            for query in (expired, live):
                markets |= {m["id"]: m for m in client.call("fetch_markets", query)}
    rows = [
        row
        for _, market in sorted(markets.items())
        if market["base"] in assets and (row := _instrument_row(client.exchange_id, market))
    ]
    label = LedgerKey(client.exchange_id, ",".join(sorted(assets)), "instruments")
    result, aside = write_page(store, client, INSTRUMENTS, label, rows, {})
    return PullReport(client.exchange_id, label.market, label.feed, result.read, result.added,
                      aside, ())  # fmt: skip


def _instrument_row(exchange: str, market: dict[str, Any]) -> Row | None:
    kind = {"swap": "perp", "future": "future", "option": "option"}.get(market["type"])
    # A combo's unified symbol is its id; it is a bundle of instruments, not one.
    if kind is None or market["settle"] is None or market["symbol"] == market["id"]:
        return None
    call = {"call": True, "put": False}.get(market["optionType"] or "")
    return (
        exchange, market["id"], market["symbol"], market["base"], kind,
        "inverse" if market["inverse"] else "linear", float(market["contractSize"]),
        market["strike"], call, None if kind == "perp" else market["expiry"], market["created"],
    )  # fmt: skip


def pull_option_trades(
    store: DataStore, client: ExchangeClient, asset: str, window: Window
) -> PullReport:
    """Pull every option trade of an asset on Deribit, with its implied volatility.

    Pages by time, asking again for the last page's final millisecond, since several trades may
    share it; the trade id removes the repeats.
    """
    _only_deribit(client, "option trades")

    def fetch(piece: Window) -> Page:
        start, end = piece
        rows: dict[str, Row] = {}
        while True:
            answer = client.call(
                "public_get_get_last_trades_by_currency_and_time",
                {"currency": asset, "kind": "option", "start_timestamp": start,
                 "end_timestamp": end - 1, "count": _TRADES_PER_PAGE, "sorting": "asc"},
            )  # fmt: skip
            result = _result(client, answer)
            trades = result["trades"]
            rows |= {str(trade["trade_id"]): _trade_row(client, trade) for trade in trades}
            if not result["has_more"]:
                return Page(list(rows.values()), [piece])
            last = int(trades[-1]["timestamp"]) if trades else start
            if last == start and len(trades) >= _TRADES_PER_PAGE:
                raise FeedError(f"{client.exchange_id}: more than {_TRADES_PER_PAGE} option "
                                f"trades share millisecond {last}.")  # fmt: skip
            if last == start:
                raise FeedError(f"{client.exchange_id}: option trades after {last} do not advance.")
            start = last

    key = LedgerKey(client.exchange_id, asset, "option_trades")
    return pull_windows(store, client, OPTION_TRADES, key, window, MS_PER_DAY, fetch)


def _trade_row(client: ExchangeClient, trade: dict[str, Any]) -> Row:
    return (
        client.exchange_id, str(trade["trade_id"]), trade["instrument_name"],
        int(trade["timestamp"]), float(trade["price"]), _number(trade.get("iv"), _PERCENT),
        float(trade["index_price"]), float(trade["amount"]), trade["direction"],
    )  # fmt: skip


def poll_chain(
    store: DataStore, client: ExchangeClient, assets: Sequence[str], at_ms: int
) -> PullReport:
    """Store the option chain as it is now, under the instant ``at_ms``.

    The exchange serves only the present, so a history is gathered by polling. All assets of
    one poll share a stamp, and count as known when the last of them had been answered for.
    """
    _only_deribit(client, "an option chain")
    summaries: list[dict[str, Any]] = []
    for asset in assets:
        answer = client.call(
            "public_get_get_book_summary_by_currency", {"currency": asset, "kind": "option"}
        )
        summaries += _result(client, answer)
    known_ms = max([at_ms, *(int(row["creation_timestamp"]) for row in summaries)])
    rows: list[Row] = [
        (
            client.exchange_id, row["instrument_name"], at_ms, known_ms,
            _number(row["mark_price"]), _number(row["mark_iv"], _PERCENT),
            _number(row["bid_price"]), _number(row["ask_price"]), _number(row["underlying_price"]),
            # Deribit's estimated delivery price is the index, until the last half hour.
            _number(row["estimated_delivery_price"]),
            _number(row["open_interest"]), _number(row["volume"]),
        )
        for row in summaries
        if "underlying_price" in row
    ]  # fmt: skip
    keys = [LedgerKey(client.exchange_id, asset, "chain") for asset in assets]
    label = LedgerKey(client.exchange_id, ",".join(sorted(assets)), "chain")
    complete = {key: [(at_ms, at_ms + 1)] for key in keys}
    result, aside = write_page(store, client, CHAIN, label, rows, complete)
    return PullReport(client.exchange_id, label.market, label.feed, result.read, result.added,
                      aside, ())  # fmt: skip


def poll_depth(store: DataStore, client: ExchangeClient, symbol: str, at_ms: int) -> PullReport:
    """Store what rests within 1 % of mid on each side of the book now, in US dollars.

    A book that ends inside the band at the exchange's largest size is stored as far as it
    goes: a lower bound, as on Binance, whose thousand levels of BTC span about 0.1 %.
    """
    client.load_markets()
    for levels in EXCHANGES[client.exchange_id].book_levels:
        book = client.call("fetch_order_book", symbol, levels)
        if not book["bids"] or not book["asks"]:
            raise FeedError(f"{client.exchange_id}: the book of {symbol} has an empty side.")
        mid = (book["bids"][0][0] + book["asks"][0][0]) / 2
        reached = min(1 - book["bids"][-1][0] / mid, book["asks"][-1][0] / mid - 1)
        if reached >= DEPTH_BAND or max(len(book["bids"]), len(book["asks"])) < levels:
            break
    # Deribit counts an inverse perpetual's order in US dollars, Binance in coins.
    in_usd = bool(client.ccxt.market(symbol)["inverse"])
    bid_usd, ask_usd = (
        sum(
            amount if in_usd else price * amount
            for price, amount, *_ in book[side]
            if abs(price / mid - 1) <= DEPTH_BAND
        )
        for side in ("bids", "asks")
    )
    key = LedgerKey(client.exchange_id, symbol, "depth")
    row: Row = (client.exchange_id, symbol, at_ms, mid, float(bid_usd), float(ask_usd))
    result, aside = write_page(store, client, DEPTH, key, [row], {key: [(at_ms, at_ms + 1)]})
    return PullReport(key.exchange, symbol, key.feed, result.read, result.added, aside, ())


def _only_deribit(client: ExchangeClient, what: str) -> None:
    if client.exchange_id != "deribit":
        raise DataError(f"{client.exchange_id} has no feed of {what}; deribit has.")


def _result(client: ExchangeClient, answer: Any) -> Any:
    """Unwrap a raw JSON-RPC answer; ccxt hands a malformed one through as it is."""
    if not isinstance(answer, dict) or answer.get("result") is None:
        raise FeedError(f"{client.exchange_id} at {client.source} answered without a result.")
    return answer["result"]


def _number(value: Any, scale: float = 1.0) -> float | None:
    return None if value is None else float(value) * scale
