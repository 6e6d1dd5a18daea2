"""How each exchange's answers become rows of the store: small pure functions, one per shape.

Every function takes an answer as ccxt parsed it from JSON and the question that it answers, and
returns rows in the order served. A shape that it does not know ends in a ``KeyError``,
``TypeError``, ``ValueError`` or ``IndexError``, upon which the question is asked again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_HOUR

if TYPE_CHECKING:
    from data_ingest.feed import Ask, Row

JITTER_MS = 60_000
"""Funding is stamped some milliseconds late; this grid takes that away."""

_PERCENT = 0.01


def number(value: Any, scale: float = 1.0) -> float | None:
    """Read a number; nothing, or an empty text, is None."""
    return None if value is None or value == "" else float(value) * scale


def _on_grid(stamp: Any) -> int:
    return (int(stamp) + JITTER_MS // 2) // JITTER_MS * JITTER_MS


def _candle(
    ask: Ask, at: Any, prices: Any, base: float | None = None, usd: float | None = None
) -> Row:
    return (ask.exchange, ask.target, ask.kind, ask.timeframe_ms, int(at),
            *map(float, prices), base, usd)  # fmt: skip


def _payment(
    ask: Ask, at: Any, rate: Any, interval_ms: int, index_price: float | None = None
) -> Row:
    return ask.exchange, ask.target, _on_grid(at), float(rate), interval_ms, index_price


# --- Deribit -----------------------------------------------------------------------------------


def deribit_candles(answer: Any, ask: Ask) -> list[Row]:
    """Read parallel arrays; ``cost`` is the turnover in US dollars, ``volume`` is in coins."""
    result = answer["result"]
    if result["status"] == "no_data":
        return []
    names = ("ticks", "open", "high", "low", "close", "volume", "cost")
    return [
        _candle(ask, at, prices, float(volume), float(cost))
        for at, *prices, volume, cost in zip(*(result[name] for name in names), strict=True)
    ]


def deribit_funding(answer: Any, ask: Ask) -> list[Row]:
    """Read hourly accruals; ``interest_8h``, which ccxt calls the rate, would be eight of them."""
    return [
        _payment(ask, row["timestamp"], row["interest_1h"], MS_PER_HOUR, float(row["index_price"]))
        for row in answer["result"]
    ]


def deribit_option_trades(answer: Any, ask: Ask) -> list[Row]:
    """Read prints with their implied volatility, place in the sequence and liquidation flag."""
    return [
        (
            ask.exchange, str(row["trade_id"]), row["instrument_name"], int(row["timestamp"]),
            float(row["price"]), number(row.get("iv"), _PERCENT), float(row["index_price"]),
            float(row["amount"]), row["direction"],
            None if row.get("trade_seq") is None else int(row["trade_seq"]),
            row.get("liquidation"),
        )
        for row in answer["result"]["trades"]
    ]  # fmt: skip


def deribit_trades(answer: Any, ask: Ask) -> list[Row]:
    """Read trades with their place in the sequence; the amount of an inverse one is US dollars."""
    return [
        (
            ask.exchange, ask.target, str(row["trade_id"]), int(row["timestamp"]),
            price := float(row["price"]),
            float(row["amount"]) / (price if ask.market["inverse"] else 1.0), row["direction"],
            row.get("liquidation"), int(row["trade_seq"]),
        )
        for row in answer["result"]["trades"]
    ]  # fmt: skip


def deribit_volatility_index(answer: Any, ask: Ask) -> list[Row]:
    """Read the volatility index, percent a year at the exchange, a fraction in the store."""
    return [
        (ask.exchange, ask.target, ask.timeframe_ms, int(at), *(float(p) * _PERCENT for p in ohlc))
        for at, *ohlc in answer["result"]["data"]
    ]


def deribit_delivery_prices(answer: Any, ask: Ask) -> list[Row]:
    """Read prices at which everything that expired on a day was delivered, at 08:00 UTC."""
    return [
        (
            ask.exchange, f"{ask.target.lower()}_usd",
            int(datetime.fromisoformat(row["date"]).replace(tzinfo=UTC).timestamp()) * 1_000
            + 8 * MS_PER_HOUR,
            ask.target, float(row["delivery_price"]),
        )
        for row in answer["result"]["data"]
    ]  # fmt: skip


def deribit_settlements(answer: Any, ask: Ask) -> list[Row]:
    """Read daily settlements, deliveries, and bankruptcies with what was socialised."""
    return [
        (
            ask.exchange, row.get("instrument_name") or f"{ask.target} all", row["type"],
            int(row["timestamp"]), ask.target, number(row.get("mark_price")),
            number(row.get("index_price")), number(row.get("position")),
            number(row.get("session_profit_loss", row.get("profit_loss"))),
            number(row.get("funding")), number(row.get("socialized")),
        )
        for row in answer["result"]["settlements"]
    ]  # fmt: skip


# --- Binance -----------------------------------------------------------------------------------


def binance_candles(answer: Any, ask: Ask) -> list[Row]:
    """Read klines; mark and index ones have no volume, though their rows have the columns."""
    if ask.kind != "trade":
        return [_candle(ask, row[0], row[1:5]) for row in answer]
    return [_candle(ask, row[0], row[1:5], float(row[5]), float(row[7])) for row in answer]


def binance_inverse_candles(answer: Any, ask: Ask) -> list[Row]:
    """Read COIN-M klines: the volume counts contracts, and the turnover is in coins."""
    if ask.kind != "trade":
        return binance_candles(answer, ask)
    size_usd = float(ask.market["contractSize"])
    return [
        _candle(ask, row[0], row[1:5], float(row[7]), float(row[5]) * size_usd) for row in answer
    ]


def binance_funding(answer: Any, ask: Ask) -> list[Row]:
    """Read payments; their interval is not in the row and is found from their spacing."""
    return [
        _payment(ask, row["fundingTime"], row["fundingRate"], 8 * MS_PER_HOUR) for row in answer
    ]


def binance_open_interest(answer: Any, ask: Ask) -> list[Row]:
    """Read open interest in coins and US dollars."""
    return [
        (ask.exchange, ask.target, ask.timeframe_ms, int(row["timestamp"]),
         float(row["sumOpenInterest"]), float(row["sumOpenInterestValue"]))
        for row in answer
    ]  # fmt: skip


def binance_inverse_open_interest(answer: Any, ask: Ask) -> list[Row]:
    """Read COIN-M open interest: contracts of so many US dollars, and its value in coins."""
    size_usd = float(ask.market["contractSize"])
    return [
        (ask.exchange, ask.target, ask.timeframe_ms, int(row["timestamp"]),
         float(row["sumOpenInterestValue"]), float(row["sumOpenInterest"]) * size_usd)
        for row in answer
    ]  # fmt: skip


def binance_ratio(answer: Any, ask: Ask) -> list[Row]:
    """Read the ratio of accounts that are long to those that are short."""
    return [
        (ask.exchange, ask.target, ask.timeframe_ms, int(row["timestamp"]),
         float(row["longShortRatio"]), float(row["longAccount"]), float(row["shortAccount"]))
        for row in answer
    ]  # fmt: skip


def binance_delivery_prices(answer: Any, ask: Ask) -> list[Row]:
    """Read the prices that a pair's dated futures were delivered at, all of them, whenever."""
    pair = f"{ask.target}{'USD' if ask.exchange == 'binancecoinm' else 'USDT'}"
    return [
        (
            ask.exchange, f"{pair}_{datetime.fromtimestamp(at_ms / 1_000, tz=UTC):%y%m%d}", at_ms,
            ask.target, float(row["deliveryPrice"]),
        )
        for row in answer
        if ask.start_ms <= (at_ms := int(row["deliveryTime"])) < ask.end_ms
    ]  # fmt: skip


# --- OKX ---------------------------------------------------------------------------------------


def okx_candles(answer: Any, ask: Ask) -> list[Row]:
    """Read closed candles; the last column says whether a candle is over."""
    closed = [row for row in answer["data"] if row[-1] == "1"]
    if ask.kind != "trade":
        return [_candle(ask, row[0], row[1:5]) for row in closed]
    return [_candle(ask, row[0], row[1:5], float(row[6]), float(row[7])) for row in closed]


def okx_funding(answer: Any, ask: Ask) -> list[Row]:
    """Read what was paid, ``realizedRate``; ``fundingRate`` was the forecast of it."""
    return [
        _payment(
            ask, row["fundingTime"], row.get("realizedRate") or row["fundingRate"], 8 * MS_PER_HOUR
        )
        for row in answer["data"]
    ]


def okx_open_interest(answer: Any, ask: Ask) -> list[Row]:
    """Read open interest: time, contracts, coins, US dollars."""
    return [
        (ask.exchange, ask.target, ask.timeframe_ms, int(row[0]), float(row[2]), float(row[3]))
        for row in answer["data"]
    ]


def okx_ratio(answer: Any, ask: Ask) -> list[Row]:
    """Read the ratio of accounts; the shares follow from it and are not served."""
    return [
        (ask.exchange, ask.target, ask.timeframe_ms, int(row[0]), float(row[1]), None, None)
        for row in answer["data"]
    ]


def okx_trades(answer: Any, ask: Ask) -> list[Row]:
    """Read trades, whose sizes are contracts: of coins, or of US dollars where inverse."""
    size, inverse = float(ask.market["contractSize"]), ask.market["inverse"]
    return [
        (
            ask.exchange, ask.target, str(row["tradeId"]), int(row["ts"]),
            price := float(row["px"]), float(row["sz"]) * size / (price if inverse else 1.0),
            row["side"], None, None,
        )
        for row in answer["data"]
    ]  # fmt: skip


def okx_delivery_prices(answer: Any, ask: Ask) -> list[Row]:
    """Read the price that each contract was delivered or exercised at."""
    return [
        (ask.exchange, str(detail["insId"]), int(row["ts"]), ask.target, float(detail["px"]))
        for row in answer["data"]
        for detail in row["details"]
    ]


# --- Bybit -------------------------------------------------------------------------------------


def bybit_candles(answer: Any, ask: Ask) -> list[Row]:
    """Read klines; an inverse market counts its volume in US dollars and its turnover in coins."""
    rows = answer["result"]["list"]
    if ask.kind != "trade":
        return [_candle(ask, row[0], row[1:5]) for row in rows]
    base, usd = (6, 5) if ask.market["inverse"] else (5, 6)
    return [_candle(ask, row[0], row[1:5], float(row[base]), float(row[usd])) for row in rows]


def bybit_funding(answer: Any, ask: Ask) -> list[Row]:
    """Read payments; the interval is found from their spacing, since it has changed over time."""
    return [
        _payment(ask, row["fundingRateTimestamp"], row["fundingRate"], 8 * MS_PER_HOUR)
        for row in answer["result"]["list"]
    ]


def bybit_open_interest(answer: Any, ask: Ask) -> list[Row]:
    """Read open interest: coins of a linear market, US dollars of an inverse one."""
    inverse = ask.market["inverse"]
    rows = []
    for row in answer["result"]["list"]:
        amount = float(row["openInterest"])
        sizes = (None, amount) if inverse else (amount, None)
        rows.append((ask.exchange, ask.target, ask.timeframe_ms, int(row["timestamp"]), *sizes))
    return rows


def bybit_ratio(answer: Any, ask: Ask) -> list[Row]:
    """Read the shares of accounts; their ratio follows."""
    return [
        (ask.exchange, ask.target, ask.timeframe_ms, int(row["timestamp"]),
         float(row["buyRatio"]) / float(row["sellRatio"]), float(row["buyRatio"]),
         float(row["sellRatio"]))
        for row in answer["result"]["list"]
    ]  # fmt: skip


def bybit_delivery_prices(answer: Any, ask: Ask) -> list[Row]:
    """Read the price that each contract was delivered at."""
    return [
        (ask.exchange, row["symbol"], int(row["deliveryTime"]), ask.target,
         float(row["deliveryPrice"]))
        for row in answer["result"]["list"]
    ]  # fmt: skip


# --- Hyperliquid -------------------------------------------------------------------------------


def hyperliquid_candles(answer: Any, ask: Ask) -> list[Row]:
    """Read candles; the turnover is not served and is the volume at the close."""
    return [
        _candle(ask, row["t"], (row["o"], row["h"], row["l"], row["c"]), float(row["v"]),
                float(row["v"]) * float(row["c"]))
        for row in answer
    ]  # fmt: skip


def hyperliquid_funding(answer: Any, ask: Ask) -> list[Row]:
    """Read hourly payments."""
    return [_payment(ask, row["time"], row["fundingRate"], MS_PER_HOUR) for row in answer]


# --- What the present looks like ---------------------------------------------------------------


def deribit_chain(answers: Any, ask: Ask) -> list[Row]:
    """Read book summaries; the estimated delivery price is the index until the last half hour."""
    rows = [row for row in answers[0]["result"] if "underlying_price" in row]
    known_ms = max((int(row["creation_timestamp"]) for row in rows), default=0)
    return [
        (
            ask.exchange, row["instrument_name"], ask.start_ms, known_ms,
            number(row["mark_price"]), number(row["mark_iv"], _PERCENT),
            number(row["bid_price"]), number(row["ask_price"]), number(row["underlying_price"]),
            number(row["estimated_delivery_price"]),
            number(row["open_interest"]), number(row["volume"]),
        )
        for row in rows
    ]  # fmt: skip


def okx_chain(answers: Any, ask: Ask) -> list[Row]:
    """Join volatilities, marks, quotes, open interest and the index, asked for one by one."""
    summaries, marks, quotes, interest, index = (answer["data"] for answer in answers)
    mark = {row["instId"]: row for row in marks}
    quote = {row["instId"]: row for row in quotes}
    held = {row["instId"]: row for row in interest}
    index_price = float(index[0][4])
    known_ms = max((int(row["ts"]) for row in summaries), default=0)
    rows = []
    for row in summaries:
        name = row["instId"]
        asked = quote.get(name, {})
        rows.append(
            (
                ask.exchange, name, ask.start_ms, known_ms, number(mark[name]["markPx"]),
                number(row["markVol"]), number(asked.get("bidPx")), number(asked.get("askPx")),
                number(row["fwdPx"]), index_price, number(held.get(name, {}).get("oiCcy")),
                number(asked.get("volCcy24h")),
            )
        )  # fmt: skip
    return rows


def bybit_chain(answers: Any, ask: Ask) -> list[Row]:
    """Read tickers, whose prices are in US dollars: over the index they are coins, as elsewhere."""
    known_ms = int(answers[0]["time"])
    rows = []
    for row in answers[0]["result"]["list"]:
        index = float(row["indexPrice"])
        bid, offered = float(row["bid1Price"]), float(row["ask1Price"])
        rows.append(
            (
                ask.exchange, row["symbol"], ask.start_ms, known_ms,
                float(row["markPrice"]) / index, float(row["markIv"]),
                # Bybit writes 0 for a side on which nobody quotes.
                bid / index if bid else None, offered / index if offered else None,
                float(row["underlyingPrice"]), index, number(row["openInterest"]),
                number(row["volume24h"]),
            )
        )  # fmt: skip
    return rows


def _bracket(
    ask: Ask,
    tier: int,
    unit: str,
    lower: float,
    upper: float | None,
    initial: float,
    maintenance: float,
    leverage: float,
    deduction: float | None,
) -> Row:
    return (ask.exchange, ask.native, ask.start_ms, tier, unit, lower, upper, initial, maintenance,
            leverage, deduction)  # fmt: skip


def okx_brackets(answers: Any, ask: Ask) -> list[Row]:
    """Read position tiers, whose bounds count contracts, whatever ccxt calls them."""
    return [
        _bracket(ask, int(row["tier"]), "contracts", float(row["minSz"]), number(row["maxSz"]),
                 float(row["imr"]), float(row["mmr"]), float(row["maxLever"]), None)
        for row in answers[0]["data"]
    ]  # fmt: skip


def bybit_brackets(answers: Any, ask: Ask) -> list[Row]:
    """Read the risk limits: notional in the quote coin, or in coins of an inverse market."""
    unit = "coins" if ask.market["inverse"] else "quote"
    rows: list[Row] = []
    lower = 0.0
    limits = sorted(answers[0]["result"]["list"], key=lambda row: float(row["riskLimitValue"]))
    for tier, row in enumerate(limits, start=1):
        upper = float(row["riskLimitValue"])
        rows.append(
            _bracket(ask, tier, unit, lower, upper, float(row["initialMargin"]),
                     float(row["maintenanceMargin"]), float(row["maxLeverage"]),
                     number(row.get("mmDeduction")) or 0.0)
        )  # fmt: skip
        lower = upper
    return rows


def hyperliquid_brackets(answers: Any, ask: Ask) -> list[Row]:
    """Read the margin table of a coin: maintenance is half of the initial margin of a tier."""
    listed = next(row for row in answers[0]["universe"] if row["name"] == ask.native)
    tables = {int(key): table["marginTiers"] for key, table in answers[0].get("marginTables", [])}
    plain = [{"lowerBound": "0", "maxLeverage": listed["maxLeverage"]}]
    # A table number below 50 is itself the leverage of a single tier, and is not listed.
    tiers = tables.get(int(listed.get("marginTableId", 0)), plain)
    rows: list[Row] = []
    deduction, before = 0.0, 0.0
    for place, tier in enumerate(tiers, start=1):
        lower, leverage = float(tier["lowerBound"]), float(tier["maxLeverage"])
        upper = float(tiers[place]["lowerBound"]) if place < len(tiers) else None
        rate = 0.5 / leverage
        deduction += lower * (rate - before)
        before = rate
        rows.append(
            _bracket(ask, place, "quote", lower, upper, 1 / leverage, rate, leverage, deduction)
        )
    return rows


def binance_brackets(answers: Any, ask: Ask) -> list[Row]:
    """Read leverage brackets; COIN-M bounds them in coins, USD-M in the quote coin."""
    listed = next(row for row in answers[0] if row["symbol"] == ask.native)
    names = ("qtyFloor", "qtyCap") if ask.market["inverse"] else ("notionalFloor", "notionalCap")
    return [
        _bracket(ask, int(row["bracket"]), "coins" if ask.market["inverse"] else "quote",
                 float(row[names[0]]), float(row[names[1]]), 1 / float(row["initialLeverage"]),
                 float(row["maintMarginRatio"]), float(row["initialLeverage"]), float(row["cum"]))
        for row in listed["brackets"]
    ]  # fmt: skip
