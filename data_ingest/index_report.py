"""How a composite index compares: who counted in it, and how far it is from exchanges' own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import ConfigError
from data_ingest.composite import USED, asset_index, difference, left_out
from data_ingest.prices import candle_clock, own_index
from data_ingest.symbols import EXCHANGES

if TYPE_CHECKING:
    from data_ingest.composite import AssetIndex
    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore


@dataclass(frozen=True)
class SourceRow:
    """One source of one asset: at how many instants it counted, and why not at the others."""

    source: str
    used: int
    unseen: int
    stale: int
    outlier: int


@dataclass(frozen=True)
class IndexRow:
    """One exchange's own index beside the composite; distances in basis points of the former."""

    exchange: str
    instants: int
    median_bps: float
    p99_bps: float
    largest_bps: float
    largest_at_ms: int


@dataclass(frozen=True)
class IndexReport:
    """The composite index of one asset.

    Parameters
    ----------
    asset : str
        Underlying.
    instants : int
        Rows of the clock.
    by_count : dict of int to int
        How many instants had how many sources.
    held : int
        Instants without a price of their own, which hold the last.
    sources : tuple of SourceRow
        In the config's order.
    beside : tuple of IndexRow
        Exchanges whose own index the store holds without a gap longer than ``max_gap``.
    """

    asset: str
    instants: int
    by_count: dict[int, int]
    held: int
    sources: tuple[SourceRow, ...]
    beside: tuple[IndexRow, ...]


def index_reports(store: DataStore, market: MarketSpec) -> list[IndexReport]:
    """Build the index of every asset and compare it with the exchanges' own.

    Raises
    ------
    ConfigError
        If the market names no index.
    DataError
        As `data_ingest.composite.asset_index`.
    """
    if market.index is None:
        raise ConfigError("market.index is missing; name at least two sources to build one from.")
    ts = candle_clock(market)
    return [_report(store, market, asset, ts) for asset in market.assets]


def _report(store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray) -> IndexReport:
    built = asset_index(store, market, asset, ts)
    counts, instants = np.unique(built.composite.used, return_counts=True)
    missed = left_out(built.composite, built.names)
    used = (built.composite.fate == USED).sum(axis=0)
    return IndexReport(
        asset,
        len(ts),
        dict(zip(counts.tolist(), instants.tolist(), strict=True)),
        int(np.isnan(built.composite.price).sum()),
        tuple(
            SourceRow(name, int(count), **missed[name])
            for name, count in zip(built.names, used, strict=True)
        ),
        tuple(_beside(store, market, asset, ts, built)),
    )


def _beside(
    store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray, built: AssetIndex
) -> list[IndexRow]:
    assert market.index is not None
    exchanges = dict.fromkeys((market.exchange, *(name for name, _ in market.index.of(asset))))
    rows = []
    for exchange in exchanges:
        if exchange not in EXCHANGES:  # a spot market states no index
            continue
        there = market
        if exchange != market.exchange:
            there = market.model_copy(update={"exchange": exchange, "symbols": {}})
        nothing = np.full(len(ts), np.nan)
        own, _, _ = own_index(store, there, asset, ts, nothing)
        if own is nothing:
            continue
        apart = difference(built.price, own)
        bps = (1e4 * apart.median, 1e4 * apart.p99, 1e4 * apart.largest)
        rows.append(IndexRow(exchange, len(ts), *bps, int(ts[apart.row])))
    return rows
