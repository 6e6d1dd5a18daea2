"""The option chain as sparse updates: implied volatilities and forwards at snapshot instants."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DataError, GapError
from backtest.instruments import FUTURE, OPTION
from backtest.tape import DataSource, array_digest
from backtest.units import duration_text, iso_utc
from data_ingest.prices import describe_gaps, last_known
from data_ingest.surfaces.fill import fill_volatility, with_unquoted
from data_ingest.symbols import EXCHANGES

if TYPE_CHECKING:
    from data_ingest.spec import MarketSpec, OptionsSpec
    from data_ingest.store import DataStore
    from data_ingest.symbols import DatedFuture


@dataclass(frozen=True)
class OptionChain:
    """What the tape needs of contracts that expire.

    Parameters
    ----------
    instruments : list of dict
        Rows for `InstrumentTable.from_rows`.
    vol_ts, vol_known_ts : numpy.ndarray
        ``(S,)`` snapshot instants, and when each was known.
    iv : numpy.ndarray
        ``(S, V)`` implied volatility, last known value, NaN before an option's first quote.
    forward_ratio : numpy.ndarray
        ``(S, E)`` forward over index, last known value, 1 before an expiry's first quote.
    index : numpy.ndarray
        ``(S, A)`` the chain's own index, NaN where an asset is not in the snapshot.
    notes, sources : tuple
        For the tape.
    """

    instruments: list[dict[str, Any]]
    vol_ts: np.ndarray
    vol_known_ts: np.ndarray
    iv: np.ndarray
    forward_ratio: np.ndarray
    index: np.ndarray
    notes: tuple[str, ...]
    sources: tuple[DataSource, ...]


def load_chain(store: DataStore, market: MarketSpec) -> OptionChain:
    """Read the chain of a market's window, from the last snapshot before it on.

    Raises
    ------
    DataError
        If there is no snapshot, or an option's expiry precedes its first mark.
    GapError
        If snapshots are further apart than ``max_snapshot_gap``.
    """
    options = market.options
    assert options is not None
    _stage_window(store, market, options)
    snapshots = store.columns(
        "SELECT ts_ms, max(known_ts_ms) AS known_ts_ms FROM chain_window GROUP BY ts_ms ORDER BY 1"
    )
    vol_ts = snapshots["ts_ms"]
    _refuse_gaps(store, market, options, vol_ts)
    marked = store.rows(_SELECTED, [options.min_open_interest, options.strikes[0],
                                    options.strikes[1], options.max_expiry or 2**62,
                                    list(options.extra)])  # fmt: skip
    table = with_unquoted(store, options, marked)
    if not table:
        raise DataError(
            f"no option of {', '.join(market.assets)} passes the filters of market.options; lower "
            "min_open_interest or widen strikes and max_expiry."
        )
    column = {row[0]: i for i, row in enumerate(table)}
    # A dated future has candles of its own, unless snapshots are the clock.
    futures = [] if isinstance(market.clock, int) else market.dated_futures()
    pairs = {(row[1], row[5]) for row in table} | {(f.asset, f.expiry_ms) for f in futures}
    expiries = sorted(pairs)
    expiry_column = {pair: i for i, pair in enumerate(expiries)}
    asset_column = {asset: i for i, asset in enumerate(market.assets)}
    rows = store.columns(
        "SELECT ts_ms, native_id, mark_iv FROM chain_window ORDER BY ts_ms, native_id"
    )
    kept = np.array([column.get(name, -1) for name in rows["native_id"]], dtype=np.int64)
    seen = kept >= 0
    iv = np.full((len(vol_ts), len(table)), np.nan)
    iv[np.searchsorted(vol_ts, rows["ts_ms"][seen]), kept[seen]] = rows["mark_iv"][seen]
    total = len(set(rows["native_id"]))
    note = (
        f"Option marks come from {len(vol_ts):,} snapshots, at most "
        f"{float(np.diff(vol_ts).max(initial=0)) / 3_600_000:.1f} h apart; between snapshots each "
        f"implied volatility and forward ratio holds its last known value. {len(marked):,} of "
        f"{total:,} options pass the filters{' or are named' if options.extra else ''}."
    )
    filled = fill_volatility(store, market, table, vol_ts, iv) if options.surface else None
    index = np.full((len(vol_ts), len(market.assets)), np.nan)
    ratio = np.full((len(vol_ts), len(expiries)), np.nan)
    for ts_ms, asset, expiry_ms, forward, price in store.rows(_FORWARDS):
        at = int(np.searchsorted(vol_ts, ts_ms))
        index[at, asset_column[asset]] = price
        if (asset, expiry_ms) in expiry_column:
            ratio[at, expiry_column[asset, expiry_ms]] = forward / price
    instruments = [
        {
            "symbol": name,
            "asset": asset_column[asset],
            "kind": OPTION,
            "inverse": int(settlement == "inverse"),
            "contract_size": contract_size,
            "strike": strike,
            "is_call": int(is_call),
            "listed_ms": first_ms,
            "expiry_ms": expiry_ms,
            "iv_column": column[name],
            "expiry_column": expiry_column[asset, expiry_ms],
        }
        for name, asset, strike, is_call, settlement, expiry_ms, contract_size, first_ms in table
    ]
    for future in futures:
        expiry = expiry_column[future.asset, future.expiry_ms]
        quoted = np.flatnonzero(~np.isnan(ratio[:, expiry]))
        if not len(quoted):
            raise DataError(
                f"the {options.exchange} option chain holds no forward of {future.symbol}, which "
                f"expires at {iso_utc(future.expiry_ms)} UTC."
            )
        listed_ms = int(vol_ts[quoted[0]])
        instruments.append(future_row(store, market, future, listed_ms, expiry))
    known_ts = np.maximum.accumulate(np.maximum(snapshots["known_ts_ms"], vol_ts))
    origins = store.rows(
        "SELECT DISTINCT source FROM chain_window JOIN batches USING (batch_id) ORDER BY 1"
    )
    source = DataSource(
        "option chain",
        f"{options.exchange} {', '.join(market.assets)}",
        int(vol_ts[0]),
        int(vol_ts[-1]),
        int(seen.sum()),
        array_digest([("vol_ts", vol_ts), ("iv", iv), ("forward_ratio", ratio)], *column),
        ", ".join(row[0] for row in origins),
    )
    return OptionChain(
        instruments=instruments,
        vol_ts=vol_ts,
        vol_known_ts=known_ts,
        iv=last_known(filled.iv if filled else iv),
        forward_ratio=np.nan_to_num(last_known(ratio), nan=1.0),
        index=index,
        notes=(note, filled.note) if filled else (note,),
        sources=(source,),
    )


def future_row(
    store: DataStore, market: MarketSpec, future: DatedFuture, listed_ms: int, expiry_column: int
) -> dict[str, Any]:
    """Return a dated future's row for the instrument table, by the exchange's terms if pulled."""
    sizes = EXCHANGES[market.exchange].contract_size
    settlement, expiry_ms = future.settlement, future.expiry_ms
    size = sizes.get(future.asset, sizes[""]) if settlement == "inverse" else 1.0
    if terms := store.rows(
        "SELECT settlement, contract_size, expiry_ms FROM instruments "
        # An expired future that is known by its delivery alone has no size there.
        "WHERE exchange = ? AND symbol = ? AND contract_size IS NOT NULL",
        [market.exchange, future.symbol],
    ):
        settlement, size, expiry_ms = terms[0]
    return {
        "symbol": future.name,
        "asset": market.assets.index(future.asset),
        "kind": FUTURE,
        "inverse": int(settlement == "inverse"),
        "contract_size": size,
        "listed_ms": listed_ms,
        "expiry_ms": expiry_ms,
        "expiry_column": expiry_column,
    }


_SELECTED = """
SELECT native_id, any_value(asset), any_value(strike), any_value(is_call), any_value(settlement),
       any_value(expiry_ms), any_value(contract_size), min(ts_ms)
FROM chain_window
GROUP BY native_id
HAVING bool_or(coalesce(open_interest, 0) >= ? AND strike BETWEEN ? * index_price AND
               ? * index_price AND expiry_ms - ts_ms <= ?)
       OR list_contains(?, native_id)
ORDER BY any_value(asset), any_value(expiry_ms), any_value(strike), native_id
"""

# One index per asset and snapshot: a run of some minutes stamps each option with its own, and
# the median is the one that does not depend on which option was asked last.
_FORWARDS = """
SELECT ts_ms, asset, expiry_ms, median(forward_price),
       any_value(asset_index)
FROM chain_window
JOIN (SELECT ts_ms, asset, median(index_price) AS asset_index FROM chain_window GROUP BY ALL)
USING (ts_ms, asset)
GROUP BY ts_ms, asset, expiry_ms
"""


def _stage_window(store: DataStore, market: MarketSpec, options: OptionsSpec) -> None:
    """Stage the chain rows of the window, and of the last snapshot before it if still fresh."""
    store.connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE chain_window AS
        SELECT chain.*, asset, strike, is_call, settlement, expiry_ms, contract_size
        FROM chain JOIN instruments USING (exchange, native_id)
        WHERE exchange = ? AND kind = 'option' AND list_contains(?, asset) AND ts_ms <= ?
          AND ts_ms >= (
            SELECT coalesce(max(ts_ms), ?) FROM chain
            WHERE exchange = ? AND ts_ms <= ? AND ts_ms >= ?)
        """,
        [options.exchange, list(market.assets), market.end, market.start, options.exchange,
         market.start, market.start - options.max_snapshot_gap],
    )  # fmt: skip
    orphans = store.rows(
        "SELECT min(native_id), count(DISTINCT native_id) FROM chain ANTI JOIN "
        "(FROM instruments WHERE contract_size IS NOT NULL) USING (exchange, native_id) "
        "WHERE exchange = ? AND ts_ms BETWEEN ? AND ?",
        [options.exchange, market.start, market.end],
    )
    if orphans and orphans[0][1]:
        raise DataError(
            f"the store {store.path} has marks of {orphans[0][0]} but not its terms "
            f"({orphans[0][1]:,} such options); pull the instruments of {options.exchange}."
        )


def _refuse_gaps(
    store: DataStore, market: MarketSpec, options: OptionsSpec, vol_ts: np.ndarray
) -> None:
    if len(vol_ts) == 0:
        raise DataError(
            f"the store {store.path} holds no option chain of {options.exchange} "
            f"{', '.join(market.assets)} from {iso_utc(market.start)} to {iso_utc(market.end)} UTC."
        )
    edges = np.concatenate(([min(market.start, vol_ts[0])], vol_ts, [max(market.end, vol_ts[-1])]))
    gaps = [(int(a), int(b)) for a, b in pairwise(edges) if b - a > options.max_snapshot_gap]
    if gaps:
        raise GapError(
            f"the {options.exchange} option chain has {describe_gaps(gaps)} longer than "
            f"{duration_text(options.max_snapshot_gap)} between snapshots."
        )
