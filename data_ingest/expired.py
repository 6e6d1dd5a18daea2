"""Instruments that have expired, where an exchange no longer lists them: read off their deliveries.

Deribit lists what has expired. The others only say at what price it was delivered, and the name
that they say it under tells what it was. Its size, its tick and the day it was listed are told
nowhere, and stay unknown.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.feed import Row
    from data_ingest.store import DataStore

_DAY = {"digits": "%y%m%d", "letters": "%d%b%y"}
_NAMES = {
    # BTC-USD-240329-60000-C and BTC-USDT-240329
    "okx": re.compile(
        r"(?P<base>\w+)-(?P<quote>\w+)-(?P<digits>\d{6})(-(?P<strike>[\d.]+)-(?P<side>[CP]))?"
    ),
    # BTC-29MAR24-60000-C, BTC-29MAR24-60000-C-USDT and BTCUSDT-29MAR24
    "bybit": re.compile(
        r"(?P<base>\w+?)(?P<quote>USDT)?-(?P<letters>\d{1,2}[A-Z]{3}\d\d)"
        r"(-(?P<strike>[\d.]+)-(?P<side>[CP])(-(?P<settle>\w+))?)?"
    ),
    # BTCUSDT_240329
    "binanceusdm": re.compile(r"(?P<base>\w+?)(?P<quote>USD[TC])_(?P<digits>\d{6})"),
    "binancecoinm": re.compile(r"(?P<base>\w+?)(?P<quote>USD)_(?P<digits>\d{6})"),
}


def expired_rows(store: DataStore, exchange: str, assets: Sequence[str]) -> list[Row]:
    """Describe what was delivered and is not among the instruments that the store knows.

    Parameters
    ----------
    store : DataStore
        Its ``delivery_prices`` say what has expired.
    exchange : str
        Whose.
    assets : sequence of str
        Of which underlyings.

    Returns
    -------
    list of tuple
        Rows of ``instruments``; NULL where the terms cannot be known.
    """
    delivered = store.rows(
        "SELECT native_id, asset, max(ts_ms) FROM delivery_prices ANTI JOIN instruments "
        "USING (exchange, native_id) WHERE exchange = ? AND list_contains(?::VARCHAR[], asset) "
        "GROUP BY ALL ORDER BY ALL",
        [exchange, list(assets)],
    )
    found = (read_name(exchange, *one) for one in delivered)
    return [row for row in found if row]


def read_name(exchange: str, native_id: str, asset: str, expiry_ms: int) -> Row | None:
    """Read what an instrument was off its name; None if the name has another form."""
    match = _NAMES[exchange].fullmatch(native_id) if exchange in _NAMES else None
    if match is None:
        return None
    named = match.groupdict()
    style = "digits" if named.get("digits") else "letters"
    try:
        day = datetime.strptime(named[style], _DAY[style]).replace(tzinfo=UTC)
    except ValueError:
        return None
    quote = named.get("settle") or named.get("quote") or "USDC"
    settle = asset if quote == "USD" else quote
    strike, side = named.get("strike"), named.get("side")
    symbol = f"{asset}/{quote}:{settle}-{day:%y%m%d}" + (f"-{strike}-{side}" if side else "")
    return (
        exchange, native_id, symbol, asset, "option" if side else "future",
        "inverse" if settle == asset else "linear", None, float(strike) if strike else None,
        None if side is None else side == "C", expiry_ms, None, None, None, settle,
    )  # fmt: skip
