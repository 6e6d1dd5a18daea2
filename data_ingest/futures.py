"""Dated futures from their own candles: a forward over the index, held between its closes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError, GapError
from backtest.units import duration_text, iso_utc
from data_ingest.chain import OptionChain, future_row
from data_ingest.prices import as_of, describe_gaps, holes, last_known, load_bars

if TYPE_CHECKING:
    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore
    from data_ingest.symbols import DatedFuture


def load_futures(
    store: DataStore,
    market: MarketSpec,
    ts: np.ndarray,
    known_ts: np.ndarray,
    index: np.ndarray,
    chain: OptionChain | None,
) -> OptionChain:
    """Add a market's dated futures to its option chain, or make a chain of them alone.

    Between two closes of a future its forward moves with the index. Beside options it is
    renewed at the chain's snapshots only, because a snapshot renews every contract.

    Parameters
    ----------
    store, market
        Where from, and what.
    ts, known_ts, index
        ``(T,)``, ``(T,)`` and ``(T, A)``: the tape's rows.
    chain
        The options, if there are any.

    Raises
    ------
    DataError
        If a future has no candle before it expires.
    GapError
        If its candles have a hole longer than ``max_gap`` between the first one and expiry.
    """
    if chain is None:
        none = np.empty((len(ts), 0))
        chain = OptionChain([], ts, known_ts, none, none, index, (), ())
    for future in market.dated_futures():
        ratio, listed_ms, chain = _forward_ratio(store, market, future, ts, index, chain)
        held = as_of(known_ts, ratio, chain.vol_known_ts, 2**62)
        row = future_row(store, market, future, listed_ms, chain.forward_ratio.shape[1])
        chain = replace(
            chain,
            instruments=[*chain.instruments, row],
            forward_ratio=np.column_stack((chain.forward_ratio, np.nan_to_num(held, nan=1.0))),
        )
    return chain


def _forward_ratio(
    store: DataStore,
    market: MarketSpec,
    future: DatedFuture,
    ts: np.ndarray,
    index: np.ndarray,
    chain: OptionChain,
) -> tuple[np.ndarray, int, OptionChain]:
    """Return close over index at each row, the first close, and the chain with its source."""
    assert isinstance(market.clock, int)
    bars = load_bars(store, market, future.symbol, "trade", ts)
    close = bars.fields["close"]
    alive = np.flatnonzero(~np.isnan(close) & (ts <= future.expiry_ms))
    if not len(alive):
        raise DataError(
            f"the store {store.path} holds no candle of {future.symbol} before it expires, "
            f"{iso_utc(future.expiry_ms)} UTC."
        )
    first = int(alive[0])
    last = int(np.searchsorted(ts, future.expiry_ms, side="right"))
    life = slice(first, last)
    if gaps := holes(np.isnan(close[life]), ts[life] - market.clock, market.clock, market.max_gap):
        raise GapError(
            f"{market.exchange} {future.symbol} trade candles have {describe_gaps(gaps)} longer "
            f"than {duration_text(market.max_gap)} between listing and expiry."
        )
    ratio = close / index[:, market.assets.index(future.asset)]
    ratio[last:] = np.nan
    note = f"{future.asset}: {future.name} is priced by its trade close, over the index."
    sources = () if bars.source is None else (bars.source,)
    told = replace(chain, notes=(*chain.notes, note), sources=(*chain.sources, *sources))
    return last_known(ratio), int(ts[first]), told
