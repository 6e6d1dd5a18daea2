"""Take a snapshot of public accounts and make a recorded book of it.

Hyperliquid shows anybody what an address holds. The positions become openings at the instant of
the snapshot and the collateral is as observed, unrealised profit included: a replay that opens
them at that instant's price starts from the same equity. An isolated position has collateral
of its own, so it becomes an account of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from backtest.book import CROSS, ISOLATED, OPEN, USD, AccountBook
from backtest.errors import ConfigError, DataError, nearest
from backtest.units import iso_utc
from data_ingest.clients import ExchangeClient, FeedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ACCOUNT_EXCHANGES = {"hyperliquid": "https://api.hyperliquid.xyz"}
"""Exchanges that show what an address holds, and where."""
_ATTEMPTS = 3
_SHARED_WITH_SPOT = {"unifiedAccount", "portfolioMargin"}
_HEX = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True)
class AccountSnapshot:
    """A recorded book and what it was made from.

    Parameters
    ----------
    book
        Recorded mode; one account per address and per isolated position.
    names
        The book's accounts: an address, or an address and a coin.
    aside
        Addresses that are not in the book, with the reason.
    """

    book: AccountBook
    names: tuple[str, ...]
    aside: dict[str, str]


@dataclass(frozen=True)
class _Held:
    """One account of the book: its collateral in USD and its coins by asset."""

    name: str
    scheme: int
    wallet_usd: float
    coins: dict[str, float]


def open_accounts(exchange_id: str, base_url: str | None = None) -> ExchangeClient:
    """Open an exchange that shows public accounts, or whatever speaks its protocol.

    Parameters
    ----------
    exchange_id
        ``hyperliquid``.
    base_url
        Scheme and host instead of the exchange's own; one on loopback counts as a simulator.

    Raises
    ------
    ConfigError
        If the exchange does not show accounts.
    """
    if exchange_id not in ACCOUNT_EXCHANGES:
        raise ConfigError(
            f"exchange {exchange_id!r} shows no public accounts."
            f"{nearest(exchange_id, ACCOUNT_EXCHANGES)}"
        )
    client = getattr(importlib.import_module("ccxt"), exchange_id)({"enableRateLimit": True})
    client.enableLastJsonResponse = True
    # Spot pairs and the perpetuals of other deployers have no place in these accounts.
    client.options["fetchMarkets"]["types"] = ["swap"]
    if base_url is None:
        return ExchangeClient(client, ACCOUNT_EXCHANGES[exchange_id])
    client.urls["api"] = dict.fromkeys(client.urls["api"], base_url.rstrip("/"))
    if urlsplit(base_url).hostname in {"127.0.0.1", "localhost", "::1"}:
        return ExchangeClient(client, f"exchange simulator ({exchange_id})", is_synthetic=True)
    return ExchangeClient(client, base_url)


def read_addresses(path: Path) -> tuple[str, ...]:
    """Read one address per line; empty lines and what follows ``#`` are passed over.

    Raises
    ------
    ConfigError
        If there is none, or a line is no address or says one again.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: is not a readable text file.") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        address = line.partition("#")[0].strip()
        if not address:
            continue
        if not _is_address(address):
            raise ConfigError(
                f"{path} line {number}: {address!r} is not an address; "
                "write 0x and 40 hexadecimal digits."
            )
        if address.lower() in seen:
            raise ConfigError(
                f"{path} line {number}: {address} stands in line {seen[address.lower()]} already."
            )
        seen[address.lower()] = number
    if not seen:
        raise ConfigError(f"{path}: holds no address.")
    return tuple(seen)


def pull_accounts(
    client: ExchangeClient,
    addresses: Sequence[str],
    *,
    assets: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> AccountSnapshot:
    """Take a snapshot of addresses.

    Parameters
    ----------
    client
        From `open_accounts`.
    addresses
        Public addresses, each ``0x`` and 40 hexadecimal digits.
    assets
        The assets of the tape that the book is meant for, in its order; the ones that are
        held, by name, where empty. An address that holds anything else is put aside whole:
        half of a portfolio has another risk.
    progress
        Called with the number of addresses asked and how many there are.

    Returns
    -------
    AccountSnapshot
        Instruments are the linear perpetuals, named as a tape names them (``BTC-PERP``).

    Raises
    ------
    FeedError
        If the exchange does not answer.
    DataError
        If no address holds a position that fits.
    """
    client.load_markets()
    answers: list[dict[str, Any]] = []
    held: list[_Held] = []
    aside: dict[str, str] = {}
    for number, address in enumerate(addresses, start=1):
        if not _is_address(address):
            raise ConfigError(f"{address!r} is not an address; write 0x and 40 hexadecimal digits.")
        positions, state = _observe(client, address)
        if state is None:
            aside[address] = "its collateral also backs spot balances, which are not imported"
        else:
            answers.append({"user": address.lower(), "state": state})
            accounts = _accounts(address.lower(), positions, state)
            if reason := _unfit(accounts, assets):
                aside[address] = reason
            else:
                held += accounts
        if progress:
            progress(number, len(addresses))
    if not held:
        reasons = "; ".join(sorted(set(aside.values())))
        raise DataError(f"none of {len(addresses)} addresses can be imported: {reasons}.")
    used = {asset for account in held for asset in account.coins}
    known = tuple(assets) or tuple(sorted(used))
    at_ms = max(int(answer["state"]["time"]) for answer in answers)
    digest = hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()
    origin = (
        f"{len(addresses) - len(aside)} of {len(addresses)} addresses of {client.source}, "
        f"{iso_utc(at_ms)} UTC, by {client.software}, sha256 {digest}"
    )
    book = _book(held, known, tuple(a for a in known if a in used), at_ms, client, origin)
    return AccountSnapshot(book, tuple(account.name for account in held), aside)


def _is_address(text: str) -> bool:
    return len(text) == 42 and text.startswith("0x") and set(text[2:]) <= _HEX


def _observe(
    client: ExchangeClient, address: str
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Ask for positions and account value until both are of one moment; None for no value.

    A trade between the two questions would pair new positions with old collateral, so the sizes
    that come with the value have to be the same.
    """
    if _abstraction(client, address) in _SHARED_WITH_SPOT:
        return [], None
    for _ in range(_ATTEMPTS):
        positions = client.call("fetch_positions", None, {"user": address})
        state = client.call("fetch_balance", {"user": address, "enableUnifiedMargin": False})[
            "info"
        ]
        sizes = [row["position"]["szi"] for row in state["assetPositions"]]
        if sizes == [position["info"]["position"]["szi"] for position in positions]:
            return positions, state
    raise FeedError(
        f"{address} at {client.source} trades faster than it can be asked; leave it out."
    )


def _abstraction(client: ExchangeClient, address: str) -> str:
    """Ask how an address shares its collateral.

    Left to find out for itself, ccxt takes an answer that fails for the ordinary one. And it
    parses no bare word as JSON, which `ExchangeClient.call` would call an empty answer.
    """
    ccxt = importlib.import_module("ccxt")
    for attempt in range(client.attempts):
        if attempt:
            client.sleep(client.first_wait_s * 2**attempt)
        try:
            answer = client.ccxt.publicPostInfo({"type": "userAbstraction", "user": address})
        except ccxt.OperationFailed:
            continue
        if isinstance(answer, str) and answer.strip('"').isalpha():
            return answer.strip('"')
    raise FeedError(f"{client.source} does not say how {address} shares its collateral.")


def _accounts(address: str, positions: list[dict[str, Any]], state: dict[str, Any]) -> list[_Held]:
    """Split an address into its cross account and one account per isolated position."""
    crossed: dict[str, float] = {}
    isolated = []
    left_usd = float(state["marginSummary"]["accountValue"])
    for position in positions:
        asset = position["symbol"].partition("/")[0]
        coins = position["contracts"] * (1.0 if position["side"] == "long" else -1.0)
        if position["marginMode"] == "isolated":
            margin_usd = float(position["collateral"])
            left_usd -= margin_usd
            isolated.append(_Held(f"{address} {asset}", ISOLATED, margin_usd, {asset: coins}))
        else:
            crossed[asset] = coins
    cross = [_Held(address, CROSS, left_usd, crossed)] if crossed else []
    return [*cross, *isolated]


def _unfit(accounts: list[_Held], assets: Sequence[str]) -> str:
    """Say why an address cannot be in the book, or nothing."""
    if not accounts:
        return "it holds no position"
    strange = sorted({a for account in accounts for a in account.coins} - set(assets))
    if assets and strange:
        return f"it holds {', '.join(strange)}, which the book does not"
    if any(account.wallet_usd < 0.0 for account in accounts):
        return "its collateral is negative, so it is being closed already"
    return ""


def _book(
    held: list[_Held],
    assets: tuple[str, ...],
    used: tuple[str, ...],
    at_ms: int,
    client: ExchangeClient,
    origin: str,
) -> AccountBook:
    orders = [
        (row, used.index(asset), coins)
        for row, account in enumerate(held)
        for asset, coins in account.coins.items()
    ]
    account, instrument, quantity = (np.array(column) for column in zip(*orders, strict=True))
    count = len(held)
    return AccountBook(
        mode="recorded",
        assets=assets,
        symbols=tuple(f"{asset}-PERP" for asset in used),
        collateral_currency=np.full(count, USD),
        wallet=np.array([account.wallet_usd for account in held]),
        buffer=np.ones(count),
        release=np.ones(count),
        top_up_share=np.zeros(count),
        top_up_delay_ms=np.zeros(count, np.int64),
        segment=np.zeros(count, np.int64),
        segments=("observed",),
        order_ts=np.full(len(orders), at_ms),
        order_account=account,
        order_instrument=instrument,
        order_quantity=quantity,
        order_kind=np.full(len(orders), OPEN),
        order_group=np.arange(len(orders)),
        scheme=np.array([account.scheme for account in held]),
        synthetic=client.is_synthetic,
        origin=origin,
    )
