"""Small files in the layouts of vendors, with numbers of our own."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from pathlib import Path
from typing import Any

from data_ingest.formats import load_format
from data_ingest.recorded import ImportReport, import_recorded
from data_ingest.store import DataStore

DAY_MS = 1_704_067_200_000  # 2024-01-01 00:00 UTC
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
TICKER_HEADER = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,"
    "predicted_funding_rate,open_interest,last_price,index_price,mark_price"
)
OPTIONS_HEADER = (
    "exchange,symbol,timestamp,local_timestamp,type,strike_price,expiration,open_interest,"
    "last_price,bid_price,bid_amount,bid_iv,ask_price,ask_amount,ask_iv,mark_price,mark_iv,"
    "underlying_index,underlying_price,delta,gamma,vega,theta,rho"
)
TRADES_HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"


def text_of(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def write_csv(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(*lines))
    return path


def write_gz(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text_of(*lines).encode()))
    return path


def write_zip(path: Path, *lines: str, check_sum: bool = True) -> Path:
    """Write an archive of one CSV of its own name, and its check sum beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".csv").name, text_of(*lines))
    if check_sum:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(path.name + ".CHECKSUM").write_text(f"{digest}  {path.name}\n")
    return path


def kline(index: int, scale: int = 1, step_ms: int = HOUR_MS) -> str:
    """One bar; the time in milliseconds times ``scale``."""
    opened = (DAY_MS + index * step_ms) * scale
    closed = opened + step_ms * scale - 1
    return f"{opened},100.5,102,99.5,{100 + index % 3},10,{closed},1005,7,4,402,0"


def load(
    store: DataStore, folder: Path, name: str, exchange: str | None = None, **changes: Any
) -> list[ImportReport]:
    mapping = load_format(name, exchange, changes.pop("markets", None))
    return import_recorded(store, mapping, folder, **changes)
