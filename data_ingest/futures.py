"""Dated futures from their own candles: a forward over the index, held between its closes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError, GapError
from backtest.units import duration_text, iso_utc
from data_ingest.chain import OptionChain, future_row
from data_ingest.prices import describe_gaps, holes, last_known, load_bars

if TYPE_CHECKING:
    from backtest.tape import DataSource
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
    row = np.searchsorted(ts, chain.vol_ts, side="right") - 1
    seen = row >= 0
    rows, columns = list(chain.instruments), [chain.forward_ratio]
    notes, sources = list(chain.notes), list(chain.sources)
    for future in market.dated_futures():
        close, source = _closes(store, market, future, ts)
        ratio = last_known(close / index[:, market.assets.index(future.asset)])
        listed_ms = int(ts[np.flatnonzero(~np.isnan(close))[0]])
        place = chain.forward_ratio.shape[1] + len(columns) - 1
        rows.append(future_row(store, market, future, listed_ms, place))
        columns.append(np.nan_to_num(np.where(seen, ratio[row], np.nan), nan=1.0))
        notes.append(f"{future.asset}: {future.name} is priced by its trade close.")
        sources.append(source)
    return replace(
        chain,
        instruments=rows,
        vol_known_ts=np.maximum(chain.vol_known_ts, np.where(seen, known_ts[row], 0)),
        forward_ratio=np.column_stack(columns),
        notes=tuple(notes),
        sources=tuple(sources),
    )


def _closes(
    store: DataStore, market: MarketSpec, future: DatedFuture, ts: np.ndarray
) -> tuple[np.ndarray, DataSource]:
    """Return the trade closes up to expiry, NaN where there is none, and their source."""
    assert isinstance(market.clock, int)
    bars = load_bars(store, market, future.symbol, "trade", ts)
    close = bars.fields["close"]
    first = int(np.argmin(np.isnan(close)))
    last = int(np.searchsorted(ts, future.expiry_ms, side="right"))
    if first >= last or bars.source is None:
        raise DataError(
            f"the store {store.path} holds no candle of {market.exchange} {future.symbol} before "
            f"it expires, {iso_utc(future.expiry_ms)} UTC."
        )
    life = slice(first, last)
    if gaps := holes(np.isnan(close[life]), ts[life] - market.clock, market.clock, market.max_gap):
        raise GapError(
            f"{market.exchange} {future.symbol} trade candles have {describe_gaps(gaps)} longer "
            f"than {duration_text(market.max_gap)} between listing and expiry."
        )
    close[last:] = np.nan
    return close, bars.source
