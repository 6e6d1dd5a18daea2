"""What an exchange serves of the present only: chains, books, brackets, and its instruments.

A history of these is gathered by asking again and again; a snapshot vouches for its own instant.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from data_ingest.clients import FeedError, RefusedError
from data_ingest.coverage import LedgerKey, Shortfall, write_shortfalls
from data_ingest.expired import expired_rows
from data_ingest.feed import Ask, Feed, Row, native_name
from data_ingest.feed_table import find_feed
from data_ingest.page_writer import write_page
from data_ingest.pull_report import PullReport
from data_ingest.schema import DEPTH, INSTRUMENTS
from data_ingest.symbols import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from data_ingest.clients import ExchangeClient
    from data_ingest.store import DataStore

DEPTH_BAND = 0.01
"""Depth is what rests within this fraction of mid."""


def poll_chain(
    store: DataStore, client: ExchangeClient, assets: Sequence[str], at_ms: int
) -> PullReport:
    """Store the option chain as it is now, under the instant ``at_ms``.

    All assets of one poll share a stamp, and count as known when the last of them had been
    answered for.
    """
    feed = find_feed(client.exchange_id, "chain")
    found = [row for asset in assets for row in _ask_now(client, feed, asset, at_ms)]
    known = list(feed.table.columns).index("known_ts_ms")
    known_ms = max([at_ms, *(int(row[known]) for row in found)])
    rows = [(*row[:known], known_ms, *row[known + 1 :]) for row in found]
    return _store_poll(store, client, feed.name, feed, rows, assets, at_ms)


def poll_brackets(
    store: DataStore, client: ExchangeClient, symbols: Sequence[str], at_ms: int
) -> PullReport:
    """Store the leverage and maintenance brackets of some markets as they are now.

    No exchange serves what its brackets were, so a dated snapshot is all there ever will be.
    """
    feed = find_feed(client.exchange_id, "brackets")
    if feed.signed:
        client.sign_in()
    rows = [
        row
        for symbol in symbols
        for row in _ask_now(client, feed, symbol, at_ms, client.market(symbol))
    ]
    return _store_poll(store, client, feed.name, feed, rows, symbols, at_ms)


def _ask_now(
    client: ExchangeClient,
    feed: Feed,
    target: str,
    at_ms: int,
    market: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Ask each endpoint of a snapshot; the last answer is read together with the others."""
    ask = Ask(feed.exchange, target, "", 0, at_ms, at_ms + 1, feed.page_limit, market or {})
    questions = [(name, word(ask)) for name, word in
                 zip(feed.endpoint, feed.ask, strict=True)]  # type: ignore[arg-type]  # fmt: skip
    answers = [client.call(name, question) for name, question in questions[:-1]]
    name, question = questions[-1]
    rows: list[Row] = client.call(
        name, question, read=lambda answer: feed.read([*answers, answer], ask)
    )
    return rows


def _store_poll(
    store: DataStore,
    client: ExchangeClient,
    name: str,
    feed: Feed,
    rows: Sequence[Row],
    targets: Sequence[str],
    at_ms: int,
) -> PullReport:
    complete = {
        LedgerKey(client.exchange_id, target, name): [(at_ms, at_ms + 1)] for target in targets
    }
    label = LedgerKey(client.exchange_id, ",".join(sorted(targets)), name)
    result, aside = write_page(store, client, feed.table, label, rows, complete)
    return PullReport(client.exchange_id, label.market, name, result.read, result.added,
                      len(aside), stored=result.read)  # fmt: skip


def poll_depth(store: DataStore, client: ExchangeClient, symbol: str, at_ms: int) -> PullReport:
    """Store what rests within 1 % of mid on each side of the book now, in US dollars.

    A book that ends inside the band at the exchange's largest size is stored as far as it
    goes: a lower bound, as on Binance, whose thousand levels of BTC span about 0.1 %.
    """
    market = client.market(symbol)
    convention = EXCHANGES[client.exchange_id]
    for levels in convention.book_levels:
        book = client.call("fetch_order_book", symbol, levels)
        if not book["bids"] or not book["asks"]:
            raise FeedError(f"{client.exchange_id}: the book of {symbol} has an empty side.")
        mid = (book["bids"][0][0] + book["asks"][0][0]) / 2
        reached = min(1 - book["bids"][-1][0] / mid, book["asks"][-1][0] / mid - 1)
        if reached >= DEPTH_BAND or max(len(book["bids"]), len(book["asks"])) < levels:
            break
    # An inverse contract is worth US dollars whatever the price, a linear one coins.
    size = float(market["contractSize"]) if convention.book_unit == "contracts" else 1.0
    in_usd = bool(market["inverse"])
    bid_usd, ask_usd = (
        sum(
            amount * size if in_usd else price * amount * size
            for price, amount, *_ in book[side]
            if abs(price / mid - 1) <= DEPTH_BAND
        )
        for side in ("bids", "asks")
    )
    key = LedgerKey(client.exchange_id, symbol, "depth")
    row: Row = (client.exchange_id, symbol, at_ms, mid, float(bid_usd), float(ask_usd))
    result, aside = write_page(store, client, DEPTH, key, [row], {key: [(at_ms, at_ms + 1)]})
    return PullReport(key.exchange, symbol, key.feed, result.read, result.added, len(aside),
                      stored=result.read)  # fmt: skip


def take_or_note(
    store: DataStore,
    keys: Sequence[LedgerKey],
    take: Callable[[int], PullReport],
    at_ms: int,
) -> PullReport:
    """Take one snapshot; one that cannot be had is gone for good, and is noted as such."""
    window = (at_ms, at_ms + 1)
    found: tuple[Shortfall, ...] = ()
    try:
        report = take(at_ms)
    except FeedError as error:
        reason = "refused" if isinstance(error, RefusedError) else "unanswered"
        found = (Shortfall(*window, reason, str(error)),)
        name = ",".join(sorted(key.market for key in keys))
        report = PullReport(keys[0].exchange, name, keys[0].feed, 0, 0, 0, shortfalls=found)
    with store.transaction() as cursor:
        for key in keys:
            write_shortfalls(cursor, key, window, found, time.time_ns() // 1_000_000)
    return report


def pull_instruments(store: DataStore, client: ExchangeClient, assets: Sequence[str]) -> PullReport:
    """Pull the instruments of some assets; on Deribit, expired ones too.

    The other exchanges list only what is alive. What they listed at an earlier pull stays, and
    what the stored delivery prices name beside it is added, as far as its name tells what it was.
    """
    client.load_markets()
    markets = {market["id"]: market for market in client.ccxt.markets.values()}
    if client.exchange_id == "deribit":
        for asset in assets:
            of = {"currency": asset}
            queries = [{**of, "kind": kind, "expired": True} for kind in ("future", "option")]
            for query in (*queries, {**of, "kind": "option"}):
                markets |= {m["id"]: m for m in client.call("fetch_markets", query)}
    rows = [
        row
        for _, market in sorted(markets.items())
        if market["base"] in assets and (row := _instrument_row(client.exchange_id, market))
    ]
    label = LedgerKey(client.exchange_id, ",".join(sorted(assets)), "instruments")
    result, aside = write_page(store, client, INSTRUMENTS, label, rows, {})
    gone = expired_rows(store, client.exchange_id, assets)
    added = write_page(store, client, INSTRUMENTS, label, gone, {})[0].added if gone else 0
    return PullReport(client.exchange_id, label.market, label.feed, result.read + len(gone),
                      result.added + added, len(aside), stored=result.read + len(gone))  # fmt: skip


def _instrument_row(exchange: str, market: dict[str, Any]) -> Row | None:
    kind = {"swap": "perp", "future": "future", "option": "option"}.get(market["type"])
    # A combo's unified symbol is its id; it is a bundle of instruments, not one.
    if kind is None or market["settle"] is None or market["symbol"] == market["id"]:
        return None
    call = {"call": True, "put": False}.get(market["optionType"] or "")
    # OKX: a contract is ctVal x ctMult coins, and ccxt's contract size is ctVal alone.
    multiplier = float(market["info"].get("ctMult") or 1.0)
    return (
        exchange, native_name(market), market["symbol"], market["base"], kind,
        "inverse" if market["inverse"] else "linear", float(market["contractSize"]) * multiplier,
        market["strike"], call, None if kind == "perp" else market["expiry"], market["created"],
        market["precision"]["price"], multiplier, market["settle"],
    )  # fmt: skip
