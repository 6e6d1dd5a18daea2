"""A simulated market as recorded files without a fault, to plant faults in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.mapping import ImportMapping
from data_ingest.recorded import import_recorded
from data_ingest.simulator import MarketParameters, SimulatedMarket
from data_ingest.simulator.options import OptionListing
from data_ingest.store import DataStore

BTC = "BTC/USDT:USDT"
MINUTE_MS = 60_000
CHAIN_DAYS = 9
Frames = dict[str, pd.DataFrame]

_PRICES = {name: name for name in ("open", "high", "low", "close")}
_BAR = {"column": "ts_utc_ms", "means": "bar_open"}
_INSTANT = {"column": "ts_utc_ms", "means": "instant"}


def _candles(name: str, kind: str, timeframe: str) -> dict[str, Any]:
    volume = {"volume_base": "volume"} if kind == "trade" else {}
    return {
        "feed": "candles", "kind": kind, "path": f"{name}.parquet", "markets": {"BTCUSDT": BTC},
        "timeframe": timeframe, "time": _BAR, "columns": _PRICES | volume,
    }  # fmt: skip


PERPETUAL = {
    "name": "perpetual",
    "exchange": "binanceusdm",
    "files": [
        _candles("trade_1h", "trade", "1h"),
        _candles("trade_5m", "trade", "5min"),
        _candles("mark_1h", "mark", "1h"),
        {
            "feed": "funding", "path": "funding.parquet", "markets": {"BTCUSDT": BTC},
            "interval": "8h", "time": _INSTANT, "columns": {"rate": "rate"},
        },
    ],
}  # fmt: skip
OPTIONS = {
    "name": "options",
    "exchange": "deribit",
    "files": [
        {
            "feed": "chain", "path": "chain.parquet", "time": _INSTANT,
            "columns": {
                name: name for name in (
                    "native_id", "asset", "strike", "option_type", "expiry", "mark_coin",
                    "mark_iv", "bid_coin", "ask_coin", "forward_price", "index_price",
                    "open_interest", "volume_24h",
                )
            },
        },
        {
            "feed": "option_trades", "path": "option_trades.parquet", "time": _INSTANT,
            "columns": {
                name: name for name in (
                    "trade_id", "native_id", "price_coin", "iv", "index_price", "amount", "side",
                )
            },
        },
    ],
}  # fmt: skip


@cache
def _clean() -> Frames:
    market = SimulatedMarket(
        MarketParameters(start="2024-01-01", end="2024-02-10", crises={"count": 0}, seed=3)
    )
    start, end = market.parameters.start, market.parameters.end
    frames = {}
    for name, kind, step in (
        ("trade_1h", "trade", MS_PER_HOUR),
        ("trade_5m", "trade", 5 * MINUTE_MS),
        ("mark_1h", "mark", MS_PER_HOUR),
    ):
        opens, rows, volume_usd = market.candles("BTC", "binance", kind, step, start, end)
        frames[name] = pd.DataFrame({"ts_utc_ms": opens})
        frames[name][list(_PRICES)] = rows
        frames[name]["volume"] = volume_usd / rows[:, 3]
    # Coins do not add up if each bar divides by its own close; the hours' are the sums.
    fine = frames["trade_5m"]
    frames["trade_1h"]["volume"] = (
        fine.groupby(fine["ts_utc_ms"] // MS_PER_HOUR)["volume"].sum().to_numpy()
    )
    times, rates = market.binance_funding("BTC", end)
    # The payment at the first bar's opening, so that funding is known over all bars.
    frames["funding"] = pd.DataFrame(
        {"ts_utc_ms": np.append(start, times), "rate": np.append(rates[0], rates)}
    )
    listing = OptionListing(market, "BTC")
    frames["chain"] = pd.concat(
        [_snapshot(listing, start + hours * MS_PER_HOUR) for hours in range(0, CHAIN_DAYS * 24, 6)],
        ignore_index=True,
    )
    trades = listing.trades(start, start + 2 * MS_PER_DAY)
    frames["option_trades"] = pd.DataFrame(
        {
            "ts_utc_ms": trades.ts_ms,
            "trade_id": trades.trade_id,
            "native_id": [listing.names[option] for option in trades.option],
            "price_coin": trades.price_coin,
            "iv": trades.iv,
            "index_price": trades.index_usd,
            "amount": trades.amount,
            "side": np.where(trades.is_buy, "buy", "sell"),
        }
    )
    return frames


def _snapshot(listing: OptionListing, at_ms: int) -> pd.DataFrame:
    alive = listing.alive(at_ms)
    # Two expiries of some weeks are a chain; every one the exchange lists would be slow.
    expiries = np.unique(listing.expiry_ms[alive])
    chosen = expiries[expiries > at_ms + 14 * MS_PER_DAY][:2]
    alive = alive[np.isin(listing.expiry_ms[alive], chosen)]
    strike, is_call = listing.strike[alive], listing.is_call[alive]
    expiry = listing.expiry_ms[alive]
    volatility, mark = listing.surface.mark(at_ms, expiry, strike, is_call)
    return pd.DataFrame(
        {
            "ts_utc_ms": at_ms,
            "native_id": [listing.names[option] for option in alive],
            "asset": "BTC",
            "strike": strike,
            "option_type": np.where(is_call, "call", "put"),
            "expiry": expiry,
            "mark_coin": mark,
            "mark_iv": volatility,
            "bid_coin": mark * 0.98 + 1e-6,
            "ask_coin": mark * 1.02 + 1e-4,
            "forward_price": listing.surface.forward_usd(at_ms, expiry),
            "index_price": float(listing.surface.spot_usd(at_ms)),
            "open_interest": listing.open_interest(alive, at_ms) + 0.1 * (at_ms // MS_PER_HOUR % 7),
            "volume_24h": 1.0,
        }
    )


def clean_frames() -> Frames:
    """Return the files, yours to change."""
    return {name: frame.copy() for name, frame in _clean().items()}


def import_frames(store: DataStore, frames: Frames, folder: Path) -> None:
    """Write the files and import them."""
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet")
    for mapping in (PERPETUAL, OPTIONS):
        import_recorded(store, ImportMapping.model_validate(mapping), folder, quarantine=True)
