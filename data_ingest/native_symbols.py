"""What an exchange calls its markets, and what the size of an order counts there."""

from __future__ import annotations

import re

from backtest.errors import DataError, nearest
from data_ingest.symbols import EXCHANGES

_SPOT = (r"(?P<base>[A-Z0-9]+?)[-_/]?(?P<quote>USDT|USDC|FDUSD|BUSD|TUSD|USD|EUR|BTC|ETH|BNB)",
         "{base}/{quote}")  # fmt: skip
_PATTERNS = {
    "binance": (_SPOT,),
    "bitfinex": (_SPOT,),
    "bitstamp": (_SPOT,),
    "coinbase": (_SPOT,),
    "gemini": (_SPOT,),
    "kraken": (_SPOT,),
    "poloniex": (_SPOT,),
    "binanceusdm": (
        (r"(?P<base>[A-Z0-9]+?)(?P<quote>USDT|USDC|BUSD)", "{base}/{quote}:{quote}"),
        (r"(?P<base>[A-Z0-9]+?)(?P<quote>USDT|USDC|BUSD)_(?P<day>\d{6})",
         "{base}/{quote}:{quote}-{day}"),
    ),
    "binancecoinm": (
        (r"(?P<base>[A-Z0-9]+?)USD(_PERP)?", "{base}/USD:{base}"),
        (r"(?P<base>[A-Z0-9]+?)USD_(?P<day>\d{6})", "{base}/USD:{base}-{day}"),
    ),
    "bybit": (
        (r"(?P<base>[A-Z0-9]+?)USDT", "{base}/USDT:USDT"),
        (r"(?P<base>[A-Z0-9]+?)PERP", "{base}/USDC:USDC"),
        (r"(?P<base>[A-Z0-9]+?)USD", "{base}/USD:{base}"),
    ),
    "deribit": (
        (r"(?P<base>[A-Z]+)-PERPETUAL", "{base}/USD:{base}"),
        (r"(?P<base>[A-Z]+)_USDC-PERPETUAL", "{base}/USDC:USDC"),
    ),
    "hyperliquid": ((r"(?P<base>[A-Za-z0-9]+)", "{base}/USDC:USDC"),),
    "okx": (
        (r"(?P<base>[A-Z0-9]+)-USD-SWAP", "{base}/USD:{base}"),
        (r"(?P<base>[A-Z0-9]+)-(?P<quote>USDT|USDC)-SWAP", "{base}/{quote}:{quote}"),
        (r"(?P<base>[A-Z0-9]+)-(?P<quote>USDT|USDC|USD)", "{base}/{quote}"),
    ),
}  # fmt: skip


def unified_symbol(exchange: str, native: str) -> str:
    """Return the symbol under which a market of an exchange is stored.

    Parameters
    ----------
    exchange : str
        As the store names it.
    native : str
        The market's name at the exchange, for example ``BTCUSDT``.

    Raises
    ------
    DataError
        If the exchange's names are not known here, or this is none of them.
    """
    if exchange not in _PATTERNS:
        raise DataError(
            f"how {exchange!r} names its markets is not known; write --market {native}=SYMBOL, "
            f"or a mapping with markets.{nearest(exchange, _PATTERNS)}"
        )
    for pattern, symbol in _PATTERNS[exchange]:
        if match := re.fullmatch(pattern, native):
            return symbol.format_map(match.groupdict())
    raise DataError(
        f"{native!r} is not a name that {exchange} gives to a market; write --market "
        f"{native}=SYMBOL, or a mapping with markets."
    )


def coins_sql(exchange: str, symbol: str, amount: str, price: str) -> str:
    """Write how many coins an amount is, in lots of a market: coins, contracts or US dollars.

    Parameters
    ----------
    exchange, symbol : str
        The market.
    amount, price : str
        SQL expressions.

    Raises
    ------
    DataError
        If the size of its contracts is not known here.
    """
    convention = EXCHANGES.get(exchange)
    if convention is None or ":" not in symbol or convention.book_unit == "coins":
        return amount
    base = symbol.split("/")[0]
    inverse = symbol.split(":")[1].split("-")[0] == base
    if convention.book_unit == "settlement":
        return f"{amount} / nullif({price}, 0)" if inverse else amount
    if inverse != (convention.settlement == "inverse"):
        raise DataError(
            f"the size of a contract of {symbol} on {exchange} is not known; write a mapping of "
            "your own with an amount in coins."
        )
    size = convention.contract_size.get(base, convention.contract_size[""])
    return f"{amount} * {size} / nullif({price}, 0)" if inverse else f"{amount} * {size}"
