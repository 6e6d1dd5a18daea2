"""From the store to a market tape: every feed of a market joined onto one clock, causally."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DataError
from backtest.instruments import InstrumentTable
from backtest.tape import MarketTape
from data_ingest.chain import OptionChain, load_chain
from data_ingest.composite import with_composite_index
from data_ingest.futures import load_futures
from data_ingest.outside import load_outside
from data_ingest.prices import (
    AssetPrices,
    candle_clock,
    candle_prices,
    constant_depth,
    funding_accrual,
    recorded_depth,
)
from data_ingest.store import StoreError
from data_ingest.symbols import EXCHANGES

if TYPE_CHECKING:
    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore

_COLUMNS = ("index", "mark", "high", "low", "funding", "volume_usd", "depth_usd")


def build_tape(store: DataStore, market: MarketSpec) -> MarketTape:
    """Build the tape of a market from what the store holds.

    Row ``t`` describes the bar that ended at ``ts[t]``; it is known ``feed_delay`` later.
    Values are joined backward in time only. What had to be assumed is said in ``tape.notes``.

    Parameters
    ----------
    store : DataStore
        An open store, read-only is enough.
    market : MarketSpec
        What to build.

    Returns
    -------
    MarketTape
        With digest, notes and data sources.

    Raises
    ------
    GapError
        For a hole longer than the configured bound; lists the first ten.
    DataError
        If the store is empty or lacks a feed that has no substitute.
    """
    if store.is_empty():
        raise StoreError(f"the store {store.path} is empty; import or pull data first.")
    chain = load_chain(store, market) if market.options else None
    if chain and not isinstance(market.clock, int):
        ts, known_ts, prices = _snapshot_rows(store, market, chain)
    else:
        ts = candle_clock(market)
        known_ts = ts + market.feed_delay
        prices = [candle_prices(store, market, asset, ts) for asset in market.assets]
        if market.index:
            prices = [
                with_composite_index(store, market, asset, ts, own)
                for asset, own in zip(market.assets, prices, strict=True)
            ]
    columns: dict[str, Any] = {
        name: np.column_stack([getattr(price, name) for price in prices]) for name in _COLUMNS
    }
    notes = _grouped([n for price in prices for n in (price.index_note, *price.notes) if n])
    sources = tuple(source for price in prices for source in price.sources)
    instruments = _perpetuals(store, market)
    options: dict[str, Any] = {}
    if market.futures and isinstance(market.clock, int):
        chain = load_futures(store, market, ts, known_ts, columns["index"], chain)
    if chain:
        instruments += chain.instruments
        notes, sources = notes + chain.notes, sources + chain.sources
        options = {
            "vol_ts": chain.vol_ts,
            "vol_known_ts": chain.vol_known_ts,
            "iv": chain.iv,
            "forward_ratio": chain.forward_ratio,
        }
    outside, outside_notes, outside_sources = load_outside(store, market, known_ts)
    return MarketTape(
        assets=market.assets,
        instruments=InstrumentTable.from_rows(instruments),
        ts=ts,
        known_ts=known_ts,
        **columns,
        **options,
        **outside,
        notes=notes + outside_notes,
        sources=sources + outside_sources,
        intrabar=market.intrabar,
        synthetic=bool(store.rows("SELECT 1 FROM batches WHERE is_synthetic LIMIT 1")),
    )


def _grouped(notes: list[str]) -> tuple[str, ...]:
    """Say once what holds for several assets alike: ``BTC, ETH: index is the mark``."""
    assets: dict[str, list[str]] = {}
    for note in notes:
        asset, _, text = note.partition(": ")
        assets.setdefault(text, []).append(asset)
    return tuple(f"{', '.join(named)}: {text}" for text, named in assets.items())


def _snapshot_rows(
    store: DataStore, market: MarketSpec, chain: OptionChain
) -> tuple[np.ndarray, np.ndarray, list[AssetPrices]]:
    """Make each snapshot that has every asset a row, priced by the chain's own index."""
    whole = ~np.isnan(chain.index).any(axis=1) & (chain.vol_ts >= market.start)
    if not whole.any():
        raise DataError(f"no snapshot in the window holds all of {', '.join(market.assets)}.")
    ts = chain.vol_ts[whole]
    known_ts = chain.vol_known_ts[whole] + market.feed_delay
    prices = []
    for column, asset in enumerate(market.assets):
        index = np.ascontiguousarray(chain.index[whole, column])
        funding, funding_source, funding_note = funding_accrual(store, market, asset, ts)
        depth = constant_depth(market, asset, len(ts)) if market.depth.usd is not None else (
            recorded_depth(store, market, asset, ts))  # fmt: skip
        note = (
            f"{asset}: index and perpetual mark are the option chain's index at each snapshot; "
            "moves between snapshots and traded volume are not recorded."
        )
        prices.append(
            AssetPrices(
                index=index,
                mark=index,
                high=index,
                low=index,
                funding=funding,
                volume_usd=np.zeros(len(ts)),
                depth_usd=depth[0],
                notes=tuple(filter(None, (note, funding_note, depth[2]))),
                sources=tuple(s for s in (funding_source, depth[1]) if s is not None),
            )
        )
    return ts, known_ts, prices


def _perpetuals(store: DataStore, market: MarketSpec) -> list[dict[str, Any]]:
    """List one perpetual per asset, by the exchange's own terms where they were pulled."""
    convention = EXCHANGES[market.exchange]
    rows = []
    for column, asset in enumerate(market.assets):
        settlement = convention.settlement
        size = convention.contract_size.get(asset, convention.contract_size[""])
        if terms := store.rows(
            "SELECT settlement, contract_size FROM instruments WHERE exchange = ? AND symbol = ?",
            [market.exchange, market.symbol(asset)],
        ):
            settlement, size = terms[0]
        if market.settlement not in ("exchange", settlement):
            settlement, size = market.settlement, 1.0
        rows.append(
            {
                "symbol": f"{asset}-PERP",
                "asset": column,
                "inverse": int(settlement == "inverse"),
                "contract_size": size,
            }
        )
    return rows
