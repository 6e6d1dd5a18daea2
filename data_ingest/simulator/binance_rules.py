"""What Binance's two futures exchanges list, how they read parameters and how they refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from data_ingest.simulator.futures import DatedFuture, quarterlies
from data_ingest.simulator.perpetual import Perpetual

if TYPE_CHECKING:
    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.futures import Life
    from data_ingest.simulator.market import SimulatedMarket

Amount = TypeVar("Amount", float, np.ndarray)
Params = dict[str, str]
QUOTE = "USDT"
SHORT_INTERVAL_ASSET = "ETH"
"""Its USDC perpetual pays every four hours, so that a reader that takes eight for granted fails."""
CONTRACT_USD = {"BTC": 100.0}
OTHER_CONTRACT_USD = 10.0


class BinanceError(Exception):
    """A refusal in the exchange's own terms, sent with HTTP status 400 unless it says another."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True)
class Contract:
    """One perpetual or dated future: its market, names, settlement coin, and how often it pays."""

    perpetual: Perpetual
    symbol: str
    pair: str
    quote: str
    margin: str
    funding_hours: int
    contract_usd: float | None = None

    @property
    def asset(self) -> str:
        """The coin."""
        return self.perpetual.asset

    @property
    def life(self) -> Life | None:
        """When a dated future is listed and delivered; None for a perpetual."""
        return self.perpetual.life if isinstance(self.perpetual, DatedFuture) else None

    def size(self, usd: Amount, price_usd: Amount) -> Amount:
        """Return a size as the exchange states it: coins, or contracts where inverse."""
        if self.contract_usd is None:
            coins: Amount = usd / price_usd
            return coins
        contracts: Amount = np.round(usd / self.contract_usd)
        return contracts

    def turnover(self, usd: Amount, price_usd: Amount) -> Amount:
        """Return a turnover: dollars, or coins where inverse."""
        coins: Amount = usd / price_usd
        return usd if self.contract_usd is None else coins


def usd_margined(market: SimulatedMarket, crowd: Crowd) -> dict[str, Contract]:
    """Return what the USD-M exchange lists, by symbol."""
    found = {}
    for name in market.assets:
        perpetual = Perpetual(market, crowd, name, "binance")
        found[name + QUOTE] = Contract(perpetual, name + QUOTE, name + QUOTE, QUOTE, QUOTE, 8)
    if SHORT_INTERVAL_ASSET in market.assets:
        symbol = SHORT_INTERVAL_ASSET + "USDC"
        perpetual = Perpetual(market, crowd, SHORT_INTERVAL_ASSET, "binance_usdc")
        found[symbol] = Contract(perpetual, symbol, symbol, "USDC", "USDC", 4)
    return found


def coin_margined(market: SimulatedMarket, crowd: Crowd) -> dict[str, Contract]:
    """Return what the COIN-M exchange lists, by symbol."""
    found = {}
    for name in market.assets:
        perpetual = Perpetual(market, crowd, name, "binance_coinm")
        size_usd = CONTRACT_USD.get(name, OTHER_CONTRACT_USD)
        symbol, pair = f"{name}USD_PERP", f"{name}USD"
        found[symbol] = Contract(perpetual, symbol, pair, "USD", name, 8, size_usd)
    return found


def dated(market: SimulatedMarket, crowd: Crowd, *, inverse: bool) -> dict[str, Contract]:
    """Return every quarterly future that an exchange ever lists in the span, by symbol."""
    found = {}
    for name in market.assets:
        for life in quarterlies(market):
            future = DatedFuture(market, crowd, name, life)
            quote, margin = ("USD", name) if inverse else (QUOTE, QUOTE)
            size_usd = CONTRACT_USD.get(name, OTHER_CONTRACT_USD) if inverse else None
            symbol = f"{name}{quote}_{life.digits}"
            found[symbol] = Contract(future, symbol, name + quote, quote, margin, 0, size_usd)
    return found


def find(contracts: dict[str, Contract], params: Params, key: str) -> Contract:
    """Return the contract that a request names by its symbol or its pair."""
    if not params.get(key):
        raise missing(key)
    for contract in contracts.values():
        if params[key] == (contract.pair if key == "pair" else contract.symbol):
            return contract
    raise BinanceError(-1121, "Invalid symbol.")


def missing(name: str) -> BinanceError:
    """Refuse a parameter that is not there or cannot be read."""
    return BinanceError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def whole(params: Params, name: str, default: int) -> int:
    """Return a whole number, or its default."""
    try:
        return int(params.get(name, default))
    except ValueError:
        raise missing(name) from None


def limit_of(params: Params, default: int, largest: int) -> int:
    """Return the size of a page; more than the largest is refused."""
    limit = whole(params, "limit", default)
    if not 1 <= limit <= largest:
        raise BinanceError(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit
