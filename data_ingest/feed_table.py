"""Every feed of every exchange, one declaration each: where it is asked for, and what to beware of.

The downloader reads this table and knows no exchange. A declaration says which endpoint, how
its pages follow one another, how many rows a page has and in which order, how a question is
worded, and how its answer is read. ``trap`` is what loses or bends data there without an error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backtest.errors import DataError
from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest import feed_rows as rows
from data_ingest.feed import NEWEST, OLDEST, Feed, Numbering, Paging
from data_ingest.schema import (
    BRACKETS,
    CANDLES,
    CHAIN,
    DELIVERY_PRICES,
    FUNDING,
    LONG_SHORT_RATIO,
    OPEN_INTEREST,
    OPTION_TRADES,
    SETTLEMENTS,
    TRADES,
    VOLATILITY_INDEX,
)

if TYPE_CHECKING:
    from data_ingest.feed import Ask
    from data_ingest.schema import FeedTable


MINUTE_MS = 60_000
_MINUTES = {n * MINUTE_MS: f"{n}m" for n in (1, 5, 15)}
_HOURS = {n * MS_PER_HOUR: f"{n}h" for n in (1, 4)}
_PERIODS = {**_MINUTES, **_HOURS, MS_PER_DAY: "1d"}
_OKX_BARS = {**_MINUTES, **{n * MS_PER_HOUR: f"{n}H" for n in (1, 4)}, MS_PER_DAY: "1Dutc"}
_BYBIT_BARS = {n * MINUTE_MS: str(n) for n in (1, 5, 15, 60, 240)} | {MS_PER_DAY: "D"}
_DERIBIT_BARS = {n * MINUTE_MS: str(n) for n in (1, 5, 15, 60)} | {MS_PER_DAY: "1D"}
_DVOL_BARS = {1_000 * n: str(n) for n in (1, 60, 3_600, 43_200)} | {MS_PER_DAY: "1D"}
_STATISTICS = {n: word for n, word in _PERIODS.items() if n > MINUTE_MS}
_PRICES = ("trade", "mark", "index")
_DERIBIT_NUMBERING = Numbering(
    "trade_seq", "native_id", "public_get_get_last_trades_by_instrument",
    ask=lambda name, first, last: {"instrument_name": name, "start_seq": first, "end_seq": last,
                                   "count": 1000, "sorting": "asc"},
    page_limit=1000,
)  # fmt: skip


def _deribit() -> list[Feed]:
    get = "public_get_get_"
    return [
        Feed(
            "deribit", "trade_candles", CANDLES, f"{get}tradingview_chart_data",
            Paging.WINDOW, 5000, OLDEST,
            ask=lambda a: {"instrument_name": a.native, "resolution": _DERIBIT_BARS[a.timeframe_ms],
                           "start_timestamp": a.start_ms, "end_timestamp": a.last_ms},
            read=rows.deribit_candles,
            periods=_DERIBIT_BARS,
            trap="of a window with more than 5,001 bars the newest come, and no word of the rest; "
                 "so every page of ccxt's pagination, which never moves the end, is the same one",
        ),
        Feed(
            "deribit", "funding", FUNDING, f"{get}funding_rate_history",
            Paging.WINDOW, 720, OLDEST,
            ask=lambda a: {"instrument_name": a.native, "start_timestamp": a.start_ms - MINUTE_MS,
                           "end_timestamp": a.last_ms + MINUTE_MS},
            read=rows.deribit_funding,
            step_ms=MS_PER_HOUR,
            accrual="interest_1h",
            trap="ccxt's fundingRate is interest_8h, eight hours of accrual on an hourly row; and "
                 "of a window over 744 hours the newest come",
        ),
        Feed(
            "deribit", "option_trades", OPTION_TRADES, f"{get}last_trades_by_currency_and_time",
            Paging.FORWARD, 1000, OLDEST,
            ask=lambda a: {"currency": a.target, "kind": "option", "start_timestamp": a.start_ms,
                           "end_timestamp": a.last_ms, "count": a.limit, "sorting": "asc"},
            read=rows.deribit_option_trades,
            per_asset=True,
            longest_window_ms=MS_PER_DAY,
            more=lambda answer: bool(answer["result"]["has_more"]),
            numbering=_DERIBIT_NUMBERING,
            archived=True,
            trap="the trading host answers a question older than a day with an empty list; several "
                 "trades share a millisecond; ccxt's cost of an option is wrong and it drops iv",
        ),
        Feed(
            "deribit", "trades", TRADES, f"{get}last_trades_by_instrument_and_time",
            Paging.FORWARD, 1000, OLDEST,
            ask=lambda a: {"instrument_name": a.native, "start_timestamp": a.start_ms,
                           "end_timestamp": a.last_ms, "count": a.limit, "sorting": "asc"},
            read=rows.deribit_trades,
            longest_window_ms=MS_PER_DAY,
            more=lambda answer: bool(answer["result"]["has_more"]),
            numbering=replace(_DERIBIT_NUMBERING, instrument="symbol"),
            archived=True,
            trap="the trading host forgets within a day, without an error; ccxt asks newest first, "
                 "and drops the liquidation flag from its unified trade",
        ),
        Feed(
            "deribit", "dvol", VOLATILITY_INDEX, f"{get}volatility_index_data",
            Paging.BACKWARD, 1000, OLDEST,
            ask=lambda a: {"currency": a.target, "start_timestamp": a.start_ms,
                           "end_timestamp": a.last_ms, "resolution": _DVOL_BARS[a.timeframe_ms]},
            read=rows.deribit_volatility_index,
            periods=_DVOL_BARS,
            per_asset=True,
            more=lambda answer: answer["result"].get("continuation") is not None,
            trap="served by the trading host only, the archive refuses it; the newest page comes "
                 "first although its rows ascend",
        ),
        Feed(
            "deribit", "delivery_prices", DELIVERY_PRICES, f"{get}delivery_prices",
            Paging.OFFSET, 1000, NEWEST,
            ask=lambda a: {"index_name": f"{a.target.lower()}_usd", "offset": a.offset,
                           "count": a.limit},
            read=rows.deribit_delivery_prices,
            step_ms=MS_PER_DAY,
            per_asset=True,
            trap="takes no time at all; a new day moves every row one place on",
        ),
        Feed(
            "deribit", "settlements", SETTLEMENTS, f"{get}last_settlements_by_currency",
            Paging.CONTINUATION, 1000, NEWEST,
            ask=lambda a: {"currency": a.target, "count": a.limit,
                           **({"continuation": a.token} if a.token else
                              {"search_start_timestamp": a.last_ms})},
            read=rows.deribit_settlements,
            token=lambda answer: answer["result"].get("continuation"),
            per_asset=True,
            trap="search_start_timestamp is where the search starts, backwards: an upper bound; a "
                 "continuation of 'none' is the end",
        ),
        Feed(
            "deribit", "chain", CHAIN, (f"{get}book_summary_by_currency",),
            Paging.NOW, 100_000, OLDEST,
            ask=(lambda a: {"currency": a.target, "kind": "option"},),
            read=rows.deribit_chain,
            per_asset=True,
            trap="ccxt's option chain has neither implied volatility nor time",
        ),
    ]  # fmt: skip


def _binance(exchange: str, api: str) -> list[Feed]:
    """List the feeds of USD-M (``fapi``) or COIN-M (``dapi``), which differ in units."""
    inverse = api == "dapi"
    get, data = f"{api}public_get_", f"{api}data_get_"

    def candles(kind: str, endpoint: str, limit_ms: int | None = None) -> Feed:
        name = "pair" if kind == "index" else "symbol"
        return Feed(
            exchange, f"{kind}_candles", CANDLES, f"{get}{endpoint}",
            Paging.WINDOW, 1000, OLDEST,
            ask=lambda a: {name: a.info["pair"] if kind == "index" else a.native,
                           "interval": _PERIODS[a.timeframe_ms], "startTime": a.start_ms,
                           "endTime": a.last_ms, "limit": a.limit},
            read=rows.binance_inverse_candles if inverse else rows.binance_candles,
            periods=_PERIODS,
            longest_window_ms=limit_ms,
            trap="ccxt's pagination without an end starts ten pages before now and returns "
                 "nothing older, without an error"
                 + ("; 200 days a question" if limit_ms else ""),
        )  # fmt: skip

    def named(a: Ask) -> dict[str, Any]:
        # COIN-M statistics are kept by pair and kind of contract.
        return {"pair": a.info["pair"]} if inverse else {"symbol": a.native}

    def statistic(name: str, table: FeedTable, endpoint: str, read: Any) -> Feed:
        extra = {"contractType": "PERPETUAL"} if inverse and table is OPEN_INTEREST else {}
        return Feed(
            exchange, name, table, f"{data}{endpoint}",
            Paging.WINDOW, 500, OLDEST,
            ask=lambda a: {**named(a), **extra, "period": _STATISTICS[a.timeframe_ms],
                           "startTime": a.start_ms, "endTime": a.last_ms, "limit": a.limit},
            read=read,
            periods=_STATISTICS,
            kept_ms=30 * MS_PER_DAY,
            trap="thirty days are kept; an older start is refused",
        )  # fmt: skip

    return [
        candles("trade", "klines", 200 * MS_PER_DAY if inverse else None),
        candles("mark", "markpriceklines", 200 * MS_PER_DAY if inverse else None),
        candles("index", "indexpriceklines", 200 * MS_PER_DAY if inverse else None),
        Feed(
            exchange, "funding", FUNDING, f"{get}fundingrate",
            Paging.FORWARD, 1000, OLDEST,
            # Every payment whose rounded stamp lies in the window, wherever its jitter put it.
            ask=lambda a: {"symbol": a.native, "startTime": a.start_ms - MINUTE_MS // 2,
                           "endTime": a.last_ms + MINUTE_MS // 2, "limit": a.limit},
            read=rows.binance_funding,
            step_ms=8 * MS_PER_HOUR,
            steps_vary=True,
            accrual="fundingRate",
            trap="stamped milliseconds late; the interval (1, 2, 4 or 8 h) is not in the row and "
                 "changes: ccxt's pagination counts on 8 h and leaves a hole in a 4 h history",
        ),
        statistic("open_interest", OPEN_INTEREST, "openinteresthist",
                  rows.binance_inverse_open_interest if inverse else rows.binance_open_interest),
        statistic("long_short_ratio", LONG_SHORT_RATIO, "globallongshortaccountratio",
                  rows.binance_ratio),
        Feed(
            exchange, "delivery_prices", DELIVERY_PRICES, f"{data}delivery_price",
            # Every row that there is comes at once, so rows of the store count nothing.
            Paging.BACKWARD, 100_000, NEWEST,
            ask=lambda a: {"pair": f"{a.target}{'USD' if inverse else 'USDT'}"},
            read=rows.binance_delivery_prices,
            per_asset=True,
            trap="takes no time and names no contract, only when it was delivered",
        ),
        Feed(
            exchange, "brackets", BRACKETS,
            (f"{api}private{'v2' if inverse else ''}_get_leveragebracket",),
            Paging.NOW, 100_000, OLDEST,
            ask=(lambda a: {"symbol": a.native},),
            read=rows.binance_brackets,
            signed=True,
            trap="no history is served, so only what was asked for in time is ever known",
        ),
    ]  # fmt: skip


def _okx() -> list[Feed]:
    get, family = "public_get_", {"instType": "OPTION"}

    def candles(kind: str, endpoint: str, page: int) -> Feed:
        return Feed(
            "okx", f"{kind}_candles", CANDLES, f"{get}market_{endpoint}",
            Paging.WINDOW, page, NEWEST,
            # Both bounds are exclusive, and named for the order of the rows: newest first.
            ask=lambda a: {"instId": a.info["uly"] if kind == "index" else a.native,
                           "bar": _OKX_BARS[a.timeframe_ms], "after": a.end_ms,
                           "before": a.start_ms - 1, "limit": a.limit},
            read=rows.okx_candles,
            periods=_OKX_BARS,
            trap="`after` means older than and `before` newer than, both exclusive; a day begins "
                 "at 16:00 UTC unless the bar says utc; the last column is 0 for an open bar",
        )  # fmt: skip

    def statistic(name: str, table: FeedTable, endpoint: str, read: Any) -> Feed:
        periods = {300_000: "5m", MS_PER_HOUR: "1H", MS_PER_DAY: "1Dutc"}
        return Feed(
            "okx", name, table, f"{get}rubik_stat_contracts_{endpoint}",
            Paging.BACKWARD, 100, NEWEST,
            ask=lambda a: {"instId": a.native, "period": periods[a.timeframe_ms],
                           "begin": a.start_ms - 1, "end": a.end_ms, "limit": a.limit},
            read=read,
            periods=periods,
            kept_rows=1440,
            trap="1,440 rows of a period are kept; the bounds are exclusive",
        )  # fmt: skip

    return [
        candles("trade", "history_candles", 300),
        candles("mark", "history_mark_price_candles", 100),
        candles("index", "history_index_candles", 100),
        Feed(
            "okx", "funding", FUNDING, f"{get}public_funding_rate_history",
            Paging.BACKWARD, 100, NEWEST,
            ask=lambda a: {"instId": a.native, "after": a.end_ms, "before": a.start_ms - 1,
                           "limit": a.limit},
            read=rows.okx_funding,
            step_ms=8 * MS_PER_HOUR,
            steps_vary=True,
            kept_ms=92 * MS_PER_DAY,
            accrual="realizedRate",
            trap="ccxt sends only the older bound, upon which the newest 100 come and the oldest "
                 "are passed over; about three months are kept",
        ),
        statistic("open_interest", OPEN_INTEREST, "open_interest_history", rows.okx_open_interest),
        statistic("long_short_ratio", LONG_SHORT_RATIO, "long_short_account_ratio_contract",
                  rows.okx_ratio),
        Feed(
            "okx", "trades", TRADES, f"{get}market_history_trades",
            Paging.BACKWARD, 100, NEWEST,
            ask=lambda a: {"instId": a.native, "type": 2, "after": a.end_ms,
                           "before": a.start_ms - 1, "limit": a.limit},
            read=rows.okx_trades,
            kept_ms=92 * MS_PER_DAY,
            trap="pages by trade id unless type=2 says by time; ccxt heeds no start; three months "
                 "are kept, and a page of 100 makes a busy day long",
        ),
        Feed(
            "okx", "delivery_prices", DELIVERY_PRICES, f"{get}public_delivery_exercise_history",
            # A row of an answer holds a whole day's contracts, so rows of the store count nothing.
            Paging.BACKWARD, 100_000, NEWEST,
            ask=lambda a: {**family, "instFamily": f"{a.target}-USD", "after": a.end_ms,
                           "before": a.start_ms - 1, "limit": 100},
            read=rows.okx_delivery_prices,
            per_asset=True,
            kept_ms=90 * MS_PER_DAY,
            trap="three months are kept",
        ),
        Feed(
            "okx", "chain", CHAIN,
            (f"{get}public_opt_summary", f"{get}public_mark_price", f"{get}market_tickers",
             f"{get}public_open_interest", f"{get}market_index_candles"),
            Paging.NOW, 100_000, OLDEST,
            ask=(lambda a: {"instFamily": f"{a.target}-USD"},
                 *(lambda a: {**family, "instFamily": f"{a.target}-USD"},) * 3,
                 lambda a: {"instId": f"{a.target}-USD", "bar": "5m", "limit": 1}),
            read=rows.okx_chain,
            per_asset=True,
            trap="volatilities, marks, quotes and the index are five questions, some milliseconds "
                 "apart; a contract is ctVal x ctMult coins, and ccxt forgets ctMult",
        ),
        Feed(
            "okx", "brackets", BRACKETS, (f"{get}public_position_tiers",),
            Paging.NOW, 100_000, OLDEST,
            ask=(lambda a: {"instType": a.info["instType"], "tdMode": "cross",
                            "instFamily": a.info["instFamily"]},),
            read=rows.okx_brackets,
            trap="maxSz counts contracts; ccxt calls it a notional in US dollars",
        ),
    ]  # fmt: skip


def _bybit() -> list[Feed]:
    get = "public_get_v5_market_"

    def category(a: Ask) -> dict[str, Any]:
        return {"category": "inverse" if a.market["inverse"] else "linear", "symbol": a.native}

    def candles(kind: str, endpoint: str) -> Feed:
        return Feed(
            "bybit", f"{kind}_candles", CANDLES, f"{get}{endpoint}",
            Paging.WINDOW, 1000, NEWEST,
            ask=lambda a: {**category(a), "interval": _BYBIT_BARS[a.timeframe_ms],
                           "start": a.start_ms, "end": a.last_ms, "limit": a.limit},
            read=rows.bybit_candles,
            periods=_BYBIT_BARS,
            trap="newest first; ccxt sends an end only if asked to, and then the newest come",
        )  # fmt: skip

    def statistic(name: str, table: FeedTable, endpoint: str, period: str, read: Any) -> Feed:
        words = {
            300_000: "5min",
            900_000: "15min",
            MS_PER_HOUR: "1h",
            4 * MS_PER_HOUR: "4h",
            MS_PER_DAY: "1d",
        }
        return Feed(
            "bybit", name, table, f"{get}{endpoint}",
            Paging.BACKWARD, 200 if table is OPEN_INTEREST else 500, NEWEST,
            ask=lambda a: {**category(a), period: words[a.timeframe_ms], "startTime": a.start_ms,
                           "endTime": a.last_ms, "limit": a.limit},
            read=read,
            periods=words,
            trap="counts coins of a linear market and US dollars of an inverse one"
            if table is OPEN_INTEREST else "shares of accounts, not of positions",
        )  # fmt: skip

    return [
        candles("trade", "kline"),
        candles("mark", "mark_price_kline"),
        candles("index", "index_price_kline"),
        Feed(
            "bybit", "funding", FUNDING, f"{get}funding_history",
            Paging.BACKWARD, 200, NEWEST,
            ask=lambda a: {**category(a), "startTime": a.start_ms, "endTime": a.last_ms,
                           "limit": a.limit},
            read=rows.bybit_funding,
            step_ms=8 * MS_PER_HOUR,
            steps_vary=True,
            accrual="fundingRate",
            trap="a start alone is refused; ccxt finds the end from today's interval, which "
                 "leaves holes where the interval was another",
        ),
        statistic("open_interest", OPEN_INTEREST, "open_interest", "intervalTime",
                  rows.bybit_open_interest),
        statistic("long_short_ratio", LONG_SHORT_RATIO, "account_ratio", "period",
                  rows.bybit_ratio),
        Feed(
            "bybit", "delivery_prices", DELIVERY_PRICES, f"{get}delivery_price",
            Paging.CONTINUATION, 200, NEWEST,
            ask=lambda a: {"category": "option", "baseCoin": a.target, "limit": a.limit,
                           **({"cursor": a.token} if a.token else {})},
            read=rows.bybit_delivery_prices,
            token=lambda answer: answer["result"].get("nextPageCursor") or None,
            per_asset=True,
            trap="takes no time, only a cursor, newest first",
        ),
        Feed(
            "bybit", "chain", CHAIN, (f"{get}tickers",),
            Paging.NOW, 100_000, OLDEST,
            ask=(lambda a: {"category": "option", "baseCoin": a.target},),
            read=rows.bybit_chain,
            per_asset=True,
            trap="prices are in US dollars, not in coins, and 0 where nobody quotes",
        ),
        Feed(
            "bybit", "brackets", BRACKETS, (f"{get}risk_limit",),
            Paging.NOW, 100_000, OLDEST,
            ask=(category,),
            read=rows.bybit_brackets,
            trap="the deduction, mmDeduction, is in the raw answer only",
        ),
    ]  # fmt: skip


def _hyperliquid() -> list[Feed]:
    info = "public_post_info"
    return [
        Feed(
            "hyperliquid", "trade_candles", CANDLES, info,
            Paging.WINDOW, 5000, OLDEST,
            ask=lambda a: {"type": "candleSnapshot",
                           "req": {"coin": a.native, "startTime": a.start_ms,
                                   "interval": _PERIODS[a.timeframe_ms], "endTime": a.last_ms}},
            read=rows.hyperliquid_candles,
            periods=_PERIODS,
            kept_rows=5000,
            trap="only the newest 5,000 candles of a length are kept, and older ones are an empty "
                 "list; there are no mark or index candles",
        ),
        Feed(
            "hyperliquid", "funding", FUNDING, info,
            Paging.FORWARD, 500, OLDEST,
            ask=lambda a: {"type": "fundingHistory", "coin": a.native,
                           "startTime": a.start_ms - MINUTE_MS // 2,
                           "endTime": a.last_ms + MINUTE_MS // 2},
            read=rows.hyperliquid_funding,
            step_ms=MS_PER_HOUR,
            accrual="fundingRate",
            trap="500 rows a page, oldest first, without a word of the rest",
        ),
        Feed(
            "hyperliquid", "brackets", BRACKETS, (info,),
            Paging.NOW, 100_000, OLDEST,
            ask=(lambda _: {"type": "meta"},),
            read=rows.hyperliquid_brackets,
            trap="tiers stand in a table that the coin names by number; a number below 50 is "
                 "itself the leverage of a single tier",
        ),
    ]  # fmt: skip


FEEDS = {
    (feed.exchange, feed.name): feed
    for feed in (
        *_deribit(),
        *_binance("binanceusdm", "fapi"),
        *_binance("binancecoinm", "dapi"),
        *_okx(),
        *_bybit(),
        *_hyperliquid(),
    )
}

PULLED_ANYWAY = {"trade_candles", "mark_candles", "index_candles", "funding", "chain",
                 "option_trades"}  # fmt: skip
"""Feeds that a market's tape is built from, or that its options ask for."""


def find_feed(exchange: str, name: str) -> Feed:
    """Return a feed's declaration.

    Raises
    ------
    DataError
        If the exchange has no such feed; names those that do.
    """
    if feed := FEEDS.get((exchange, name)):
        return feed
    spoken = name.replace("_", " ")
    having = sorted(other for other, known in FEEDS if known == name)
    raise DataError(
        f"{exchange} has no {spoken}; "
        + (f"{', '.join(having)} {'has' if len(having) == 1 else 'have'}." if having else
           f"its feeds are {', '.join(known for other, known in FEEDS if other == exchange)}.")
    )  # fmt: skip


def candle_kinds(exchange: str) -> tuple[str, ...]:
    """Return the prices that an exchange has candles of."""
    return tuple(kind for kind in _PRICES if (exchange, f"{kind}_candles") in FEEDS)
