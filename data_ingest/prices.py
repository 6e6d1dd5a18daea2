"""Prices on one clock: bars, funding and depth of each asset, joined causally.

Every value of a row was observed at or before the row's end. A hole up to ``max_gap`` holds
the last known close; a longer one is refused with the list of holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError, GapError
from backtest.tape import DataSource, array_digest
from backtest.units import MS_PER_DAY, duration_text, iso_utc
from data_ingest.coverage import LedgerKey, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.spec import DepthSpec, MarketSpec
    from data_ingest.store import DataStore

GAPS_NAMED = 10
DEPTH_MEDIAN_DAYS = 7
_BAR_FIELDS = ("high", "low", "close", "volume_usd")


@dataclass(frozen=True)
class AssetPrices:
    """One asset's columns of the tape, each of shape ``(T,)``, with notes and sources."""

    index: np.ndarray
    mark: np.ndarray
    high: np.ndarray
    low: np.ndarray
    funding: np.ndarray
    volume_usd: np.ndarray
    depth_usd: np.ndarray
    notes: tuple[str, ...]
    sources: tuple[DataSource, ...]
    index_note: str = ""


@dataclass(frozen=True)
class Bars:
    """Bars on a full grid of ``(T,)``; the arrays are NaN where the store has no whole bar."""

    fields: dict[str, np.ndarray]
    gaps: list[Window]
    source: DataSource | None


def candle_clock(market: MarketSpec) -> np.ndarray:
    """Return the end of each bar that opens in the market's window, shape ``(T,)``."""
    assert isinstance(market.clock, int)
    first = -(-market.start // market.clock) * market.clock
    return np.arange(first, market.end, market.clock, dtype=np.int64) + market.clock


def candle_prices(store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray) -> AssetPrices:
    """Join one asset's candles, funding and depth onto the clock.

    Raises
    ------
    GapError
        If the trade candles have a hole longer than ``max_gap``, or start late.
    """
    symbol = market.symbol(asset)
    trade = load_bars(store, market, symbol, "trade", ts)
    if trade.gaps:
        raise GapError(
            f"{market.exchange} {symbol} trade candles have {describe_gaps(trade.gaps)} longer "
            f"than {duration_text(market.max_gap)} in {_span(ts, market)}."
        )
    notes = _held_note(asset, "trade", trade)
    sources = [trade.source]
    volume_usd = np.nan_to_num(trade.fields["volume_usd"])
    bars = _filled(trade.fields)

    marks = load_bars(store, market, symbol, "mark", ts)
    if marks.source is not None and not marks.gaps:
        bars = _filled(marks.fields)
        notes += _held_note(asset, "mark", marks)
        sources.append(marks.source)
    else:
        notes.append(f"{asset}: mark is the trade close, for want of gapless mark candles.")
    index, index_source, index_note = own_index(store, market, asset, ts, bars["close"])
    sources.append(index_source)
    funding, funding_source, funding_note = funding_accrual(store, market, asset, ts)
    sources.append(funding_source)
    depth_usd, depth_source, depth_note = _depth(store, market, asset, ts, volume_usd)
    sources.append(depth_source)
    notes += [note for note in (funding_note, depth_note) if note]
    return AssetPrices(
        index=index,
        mark=bars["close"],
        high=np.maximum(bars["high"], bars["close"]),
        low=np.minimum(bars["low"], bars["close"]),
        funding=funding,
        volume_usd=volume_usd,
        depth_usd=depth_usd,
        notes=tuple(notes),
        sources=tuple(source for source in sources if source is not None),
        index_note=index_note,
    )


def load_bars(store: DataStore, market: MarketSpec, symbol: str, kind: str, ts: np.ndarray) -> Bars:
    """Read the candles of one kind, joining finer ones into bars of the clock."""
    clock = market.clock
    assert isinstance(clock, int)
    first_open, last_open = int(ts[0]) - clock, int(ts[-1]) - clock
    where = (
        "exchange = ? AND symbol = ? AND kind = ? AND open_ms >= ? AND open_ms < ?"
        f" AND timeframe_ms <= {clock} AND {clock} % timeframe_ms = 0"
    )
    parameters = [market.exchange, symbol, kind, first_open, last_open + clock]
    timeframes = store.rows(
        f"SELECT timeframe_ms FROM candles WHERE {where} GROUP BY timeframe_ms "
        "ORDER BY count(*) * timeframe_ms DESC, timeframe_ms DESC LIMIT 1",
        parameters,
    )
    fields = {name: np.full(len(ts), np.nan) for name in _BAR_FIELDS}
    if not timeframes:
        if kind == "trade":
            raise DataError(
                f"the store {store.path} holds no {kind} candles of {market.exchange} {symbol} in "
                f"{_span(ts, market)} that fit a clock of {duration_text(clock)}."
            )
        return Bars(fields, [], None)
    timeframe = int(timeframes[0][0])
    rows_of = f"FROM candles WHERE {where} AND timeframe_ms = {timeframe}"
    if timeframe == clock:
        read = f"SELECT open_ms AS bar_ms, high, low, close, volume_usd {rows_of} ORDER BY open_ms"
    else:
        # A bar of the clock exists only where every finer bar of it does.
        read = (
            f"SELECT open_ms // {clock} * {clock} AS bar_ms, max(high) AS high, min(low) AS low, "
            f"arg_max(close, open_ms) AS close, sum(volume_usd) AS volume_usd {rows_of} "
            f"GROUP BY bar_ms HAVING count(*) = {clock // timeframe} ORDER BY bar_ms"
        )
    bars = store.columns(read, parameters)
    rows = (bars["bar_ms"] - first_open) // clock
    for name in _BAR_FIELDS:
        fields[name][rows] = bars[name]
    gaps = holes(np.isnan(fields["close"]), ts - clock, clock, market.max_gap)
    source = data_source(
        store, f"{kind} candles {duration_text(timeframe)}", market.exchange, symbol, "candles",
        f"kind = '{kind}' AND timeframe_ms = {timeframe} AND open_ms", bars["bar_ms"],
        [("close", bars["close"]), ("high", bars["high"]), ("low", bars["low"])],
    )  # fmt: skip
    return Bars(fields, gaps, source)


def holes(absent: np.ndarray, opens: np.ndarray, step: int, max_gap: int) -> list[Window]:
    """List runs of absent bars that are longer than allowed; a late start always is."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], absent, [False])).astype(np.int8)))
    runs = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [
        (int(opens[a]), int(opens[b - 1]) + step)
        for a, b in runs
        if (b - a) * step > max_gap or a == 0
    ]


def _filled(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hold the last close through holes: nothing was seen to trade, so nothing moved."""
    close = last_known(fields["close"])
    return {
        name: np.where(np.isnan(fields[name]), close, fields[name])
        for name in ("high", "low", "close")
    }


def _held_note(asset: str, kind: str, bars: Bars) -> list[str]:
    absent = np.isnan(bars.fields["close"])
    if not absent.any():
        return []
    return [
        f"{asset}: {int(absent.sum()):,} of {len(absent):,} {kind} bars were missing and hold the "
        "last close."
    ]


def last_known(values: np.ndarray) -> np.ndarray:
    """Carry the last finite value forward along the first axis; NaN until there is one."""
    rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    seen = np.maximum.accumulate(np.where(np.isnan(values), -1, rows), axis=0)
    carried = np.take_along_axis(values, np.maximum(seen, 0), axis=0)
    return np.where(seen < 0, np.nan, carried)


def as_of(at_ms: np.ndarray, values: np.ndarray, ts: np.ndarray, max_age_ms: int) -> np.ndarray:
    """Return the last value observed at or before each instant; NaN where none is fresh enough."""
    if len(at_ms) == 0:
        return np.full(len(ts), np.nan)
    found = np.searchsorted(at_ms, ts, side="right") - 1
    fresh = (found >= 0) & (ts - at_ms[np.maximum(found, 0)] <= max_age_ms)
    return np.where(fresh, values[np.maximum(found, 0)], np.nan)


def own_index(
    store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray, mark: np.ndarray
) -> tuple[np.ndarray, DataSource | None, str]:
    """Return the exchange's own index, or ``mark`` itself where none is recorded, and a note."""
    symbol = market.symbol(asset)
    bars = load_bars(store, market, symbol, "index", ts)
    if bars.source is not None and not bars.gaps:
        note = " ".join(_held_note(asset, "index", bars))
        return _filled(bars.fields)["close"], bars.source, note
    paid = store.columns(
        "SELECT ts_ms, index_price FROM funding WHERE exchange = ? AND symbol = ? "
        "AND index_price IS NOT NULL AND ts_ms <= ? ORDER BY ts_ms",
        [market.exchange, symbol, int(ts[-1])],
    )
    index = as_of(paid["ts_ms"], paid["index_price"], ts, market.max_gap)
    if not np.isnan(index).any():
        return index, None, f"{asset}: index is the index price of the funding history."
    return mark, None, f"{asset}: index is the mark, for want of gapless index candles."


def funding_accrual(
    store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray
) -> tuple[np.ndarray, DataSource | None, str]:
    """Sum the funding rates paid in each ``(ts[t-1], ts[t]]``; zero, and a note, where unknown."""
    symbol = market.symbol(asset)
    before = int(ts[0]) - (market.clock if isinstance(market.clock, int) else 0)
    paid = store.columns(
        "SELECT ts_ms, rate FROM funding WHERE exchange = ? AND symbol = ? AND ts_ms > ? "
        "AND ts_ms <= ? ORDER BY ts_ms",
        [market.exchange, symbol, before, int(ts[-1])],
    )
    accrual = np.zeros(len(ts))
    np.add.at(accrual, np.searchsorted(ts, paid["ts_ms"], side="left"), paid["rate"])
    # A payment at ts belongs to the bar that ends there, so the window is shifted by 1 ms.
    unknown = store.missing(
        LedgerKey(market.exchange, symbol, "funding"), (before + 1, int(ts[-1]) + 1)
    )
    note = ""
    if unknown:
        share = sum(b - a for a, b in unknown) / (int(ts[-1]) - before or 1)
        longest = max(unknown, key=lambda window: window[1] - window[0])
        stretches = "1 stretch" if len(unknown) == 1 else f"{len(unknown)} stretches"
        note = (
            f"{asset}: funding is unknown in {stretches}, {share:.1%} of the window (the longest "
            f"from {iso_utc(longest[0] - 1)} to {iso_utc(min(longest[1], int(ts[-1])))} UTC), and "
            "held at zero."
        )
    source = None
    if len(paid["ts_ms"]):
        source = data_source(
            store, "funding", market.exchange, symbol, "funding", "ts_ms", paid["ts_ms"],
            [("rate", paid["rate"])],
        )  # fmt: skip
    return accrual, source, note


def _depth(
    store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray, volume_usd: np.ndarray
) -> tuple[np.ndarray, DataSource | None, str]:
    depth: DepthSpec = market.depth
    if depth.usd is not None:
        return constant_depth(market, asset, len(ts))
    if depth.share_of_volume is not None:
        assert isinstance(market.clock, int)
        note = (
            f"{asset}: depth is modelled as {depth.share_of_volume:.2%} of the "
            f"{DEPTH_MEDIAN_DAYS}-day median of one-day volume."
        )
        share = depth.share_of_volume
        return modelled_depth(volume_usd, MS_PER_DAY // market.clock, share), None, note
    return recorded_depth(store, market, asset, ts)


def constant_depth(
    market: MarketSpec, asset: str, rows: int
) -> tuple[np.ndarray, DataSource | None, str]:
    """Return the depth that the config assumes."""
    assert market.depth.usd is not None
    usd = market.depth.usd[asset]
    return np.full(rows, usd), None, f"{asset}: depth is assumed constant at {usd:,.0f} USD."


def modelled_depth(volume_usd: np.ndarray, bars_per_day: int, share: float) -> np.ndarray:
    """Return ``share`` of the trailing median of rolling one-day volume.

    Causal: row ``t`` uses rows up to ``t``. Before a full day has passed, the mean bar so far
    stands for the missing ones.
    """
    import pandas as pd

    daily = pd.Series(volume_usd).rolling(bars_per_day, min_periods=1).mean() * bars_per_day
    median = daily.rolling(DEPTH_MEDIAN_DAYS * bars_per_day, min_periods=1).median()
    return np.array(median, dtype=np.float64) * share


def recorded_depth(
    store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray
) -> tuple[np.ndarray, DataSource | None, str]:
    """Return the thinner side of the last polled book.

    Raises
    ------
    GapError
        If some row has no book younger than ``max_age``.
    """
    symbol = market.symbol(asset)
    books = store.columns(
        "SELECT ts_ms, least(bid_depth_usd, ask_depth_usd) AS usd FROM depth WHERE exchange = ? "
        "AND symbol = ? AND ts_ms <= ? ORDER BY ts_ms",
        [market.exchange, symbol, int(ts[-1])],
    )
    usd = as_of(books["ts_ms"], books["usd"], ts, market.depth.max_age)
    stale = np.flatnonzero(np.isnan(usd))
    if len(stale):
        raise GapError(
            f"{market.exchange} {symbol} has no polled book within "
            f"{duration_text(market.depth.max_age)} before {iso_utc(int(ts[stale[0]]))} UTC "
            f"({len(stale):,} such rows); poll more often, or set depth.share_of_volume."
        )
    source = data_source(
        store, "depth", market.exchange, symbol, "depth", "ts_ms", books["ts_ms"],
        [("usd", books["usd"])],
    )  # fmt: skip
    return usd, source, ""


def data_source(
    store: DataStore,
    feed: str,
    exchange: str,
    symbol: str,
    table: str,
    time_sql: str,
    times: np.ndarray,
    arrays: Sequence[tuple[str, np.ndarray]],
) -> DataSource:
    """Describe what was read of a feed: span, rows, digest, and the batches it came by."""
    start, end = int(times[0]), int(times[-1])
    origins = store.rows(
        f"SELECT DISTINCT source FROM batches WHERE batch_id IN (SELECT batch_id FROM {table} "
        f"WHERE exchange = ? AND symbol = ? AND {time_sql} BETWEEN ? AND ?) ORDER BY 1",
        [exchange, symbol, start, end],
    )
    digest = array_digest([("time_ms", times), *arrays], exchange, symbol, feed)
    origin = ", ".join(row[0] for row in origins)
    return DataSource(feed, f"{exchange} {symbol}", start, end, len(times), digest, origin)


def describe_gaps(gaps: Sequence[Window]) -> str:
    """Name up to ten gaps with their length: ``2 gaps (2024-01-01 00:00 for 5h, ...)``."""
    named = ", ".join(f"{iso_utc(a)} for {duration_text(b - a)}" for a, b in gaps[:GAPS_NAMED])
    more = f" and {len(gaps) - GAPS_NAMED} more" if len(gaps) > GAPS_NAMED else ""
    return f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''} ({named}{more})"


def _span(ts: np.ndarray, market: MarketSpec) -> str:
    assert isinstance(market.clock, int)
    return f"{iso_utc(int(ts[0]) - market.clock)} to {iso_utc(int(ts[-1]))} UTC"
