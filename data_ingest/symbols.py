"""How each exchange names its markets, and what its perpetuals settle in by convention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from backtest.units import MS_PER_HOUR

FUTURES_EXPIRE_MS = 8 * MS_PER_HOUR
"""Time of day, UTC, at which the exchanges settle their dated futures and options."""


@dataclass(frozen=True)
class ExchangeConvention:
    """One exchange's habits.

    Parameters
    ----------
    home : str
        Address written into provenance.
    perpetual : str
        Symbol of the perpetual, with ``{asset}`` for its asset.
    settlement : {"linear", "inverse"}
        How that perpetual settles.
    contract_size : dict of str to float
        Per asset; the entry ``""`` is for all others. Coins, or US dollars where inverse.
    book_levels : tuple of int
        Order-book sizes to ask for, the next where one does not reach 1 % from mid.
    book_unit : {"coins", "contracts", "settlement"}
        What an order's size counts: coins; contracts; or coins for linear and US dollars for
        inverse markets.
    market_kinds : tuple of str
        Kinds of markets that ccxt should list, in its own words; empty where it lists no spot.
    """

    home: str
    perpetual: str
    settlement: str
    contract_size: dict[str, float]
    book_levels: tuple[int, ...]
    book_unit: str = "coins"
    market_kinds: tuple[str, ...] = ()


EXCHANGES = {
    "binanceusdm": ExchangeConvention(
        home="https://fapi.binance.com",
        perpetual="{asset}/USDT:USDT",
        settlement="linear",
        contract_size={"": 1.0},
        book_levels=(500, 1000),
    ),
    "binancecoinm": ExchangeConvention(
        home="https://dapi.binance.com",
        perpetual="{asset}/USD:{asset}",
        settlement="inverse",
        contract_size={"BTC": 100.0, "": 10.0},
        book_levels=(500, 1000),
        book_unit="contracts",
    ),
    "bybit": ExchangeConvention(
        home="https://api.bybit.com",
        perpetual="{asset}/USDT:USDT",
        settlement="linear",
        contract_size={"": 1.0},
        book_levels=(200, 500),
        book_unit="settlement",
        market_kinds=("linear", "inverse", "option"),
    ),
    "deribit": ExchangeConvention(
        home="https://www.deribit.com",
        perpetual="{asset}/USD:{asset}",
        settlement="inverse",
        contract_size={"BTC": 10.0, "": 1.0},
        book_levels=(1000, 10_000),
        book_unit="settlement",
    ),
    "hyperliquid": ExchangeConvention(
        home="https://api.hyperliquid.xyz",
        perpetual="{asset}/USDC:USDC",
        settlement="linear",
        contract_size={"": 1.0},
        book_levels=(20,),
        market_kinds=("swap",),
    ),
    "okx": ExchangeConvention(
        home="https://www.okx.com",
        perpetual="{asset}/USDT:USDT",
        settlement="linear",
        contract_size={"BTC": 0.01, "ETH": 0.1, "": 1.0},
        book_levels=(400,),
        book_unit="contracts",
        market_kinds=("swap", "future", "option"),
    ),
}


@dataclass(frozen=True)
class DatedFuture:
    """What the unified symbol of a dated future says.

    Parameters
    ----------
    symbol : str
        For example ``BTC/USDT:USDT-240628``.
    asset : str
        Its underlying.
    settlement : {"linear", "inverse"}
        Inverse where it settles in the underlying itself.
    expiry_ms : int
        Milliseconds UTC.
    """

    symbol: str
    asset: str
    settlement: str
    expiry_ms: int

    @property
    def name(self) -> str:
        """Its name in a tape, for example ``BTC-28JUN24``."""
        day = datetime.fromtimestamp(self.expiry_ms / 1_000, tz=UTC)
        return f"{self.asset}-{day.day}{day:%b%y}".upper()


def parse_future(symbol: str) -> DatedFuture:
    """Read the unified symbol of a dated future.

    Raises
    ------
    ValueError
        If it is not one.
    """
    match = re.fullmatch(r"(\w+)/\w+:(\w+)-(\d{6})", symbol)
    try:
        day = datetime.strptime(match[3], "%y%m%d").replace(tzinfo=UTC) if match else None
    except ValueError:
        day = None
    if match is None or day is None:
        raise ValueError(
            f"{symbol!r} is not the symbol of a dated future; write one such as "
            "BTC/USDT:USDT-240628"
        )
    settlement = "inverse" if match[1] == match[2] else "linear"
    expiry_ms = int(day.timestamp()) * 1_000 + FUTURES_EXPIRE_MS
    return DatedFuture(symbol, match[1], settlement, expiry_ms)


def native_future(exchange: str, future: DatedFuture) -> str:
    """Return an exchange's own name of a dated future, which it may no longer list.

    Parameters
    ----------
    exchange : str
        One of `EXCHANGES`.
    future : DatedFuture
        From `parse_future`.
    """
    asset, (_, quote, _) = future.asset, re.split("[/:]", future.symbol)
    day = datetime.fromtimestamp(future.expiry_ms / 1_000, tz=UTC)
    digits, letters = f"{day:%y%m%d}", f"{day.day}{day:%b%y}".upper()
    if exchange == "okx":
        return f"{asset}-{quote}-{digits}"
    if exchange.startswith("binance"):
        return f"{asset}{quote}_{digits}"
    if exchange == "bybit" and future.settlement == "inverse":
        return f"{asset}USD{'FGHJKMNQUVXZ'[day.month - 1]}{day:%y}"
    coin = {"deribit": {"USD": ""}, "bybit": {"USDC": ""}}.get(exchange, {}).get(quote, quote)
    between = "_" if coin and exchange == "deribit" else ""
    return f"{asset}{between}{coin}-{letters}"


def perpetual_symbol(exchange: str, asset: str) -> str:
    """Return the unified symbol of an asset's perpetual on an exchange."""
    return EXCHANGES[exchange].perpetual.format(asset=asset)
