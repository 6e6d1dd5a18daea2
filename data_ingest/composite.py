"""An index of one's own: one price per instant out of what several exchanges traded.

At every instant a source is its last traded price. One that is older than ``max_age`` is stale
and left out; of the fresh ones, those farther than ``max_deviation`` from their median are left
out, too. What remains is joined by one of three rules that venues use:

==============  ===================================================================  ============
`trimmed_mean`  the highest and the lowest of three or more dropped, mean of the      Deribit until
                rest                                                                  2019
`mean`          mean of all                                                           Binance
`median`        the price that half of the weight lies on either side of              CME CF BRR
==============  ===================================================================  ============

A mean and a median are weighted by what each source traded in the ``weight_window`` before the
instant, or equally. With one bad source among three or more, a trimmed mean never leaves the range
of the honest ones, whatever the bad one shows and weighs; a mean may by its weight times
``max_deviation``; a median does where the bad one has half of the weight.

Sources: Deribit, "Deribit BTC index" (2018: six exchanges, the highest and lowest taken out, three
minutes without data are too old); Binance, "Price Index" (2020: weighted by volume, beyond 5 % of
the median no weight); CME CF Bitcoin Reference Rate methodology (volume-weighted median).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError, GapError
from backtest.tape import DataSource
from backtest.units import duration_text, iso_utc
from data_ingest.prices import as_of, data_source, describe_gaps, holes, last_known

if TYPE_CHECKING:
    from data_ingest.prices import AssetPrices
    from data_ingest.spec import IndexSpec, MarketSpec
    from data_ingest.store import DataStore

USED, UNSEEN, STALE, OUTLIER = range(4)
REASONS = {UNSEEN: "unseen", STALE: "stale", OUTLIER: "outlier"}
"""Why a source does not count at an instant: nothing yet, too old, too far from the others."""


@dataclass(frozen=True, eq=False)
class CompositeIndex:
    """An index of ``T`` instants from ``S`` sources.

    Parameters
    ----------
    price
        ``(T,)`` in the sources' quote currency; NaN where fewer than ``min_sources`` counted.
    fate
        ``(T, S)`` int8: `USED`, or why a source does not count.
    """

    price: np.ndarray
    fate: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """How many sources counted at each instant, ``(T,)``."""
        return np.asarray((self.fate == USED).sum(axis=1))


@dataclass(frozen=True, eq=False)
class AssetIndex:
    """The composite index of one asset on a market's clock.

    Parameters
    ----------
    price
        ``(T,)`` US dollars, holes up to ``max_gap`` held.
    composite
        As it was computed, holes and all.
    names
        Exchange and symbol of each source.
    sources
        The data inventory of what was read.
    """

    price: np.ndarray
    composite: CompositeIndex
    names: tuple[str, ...]
    sources: tuple[DataSource, ...]


def compose(
    price: np.ndarray, age_ms: np.ndarray, weight: np.ndarray, rule: IndexSpec
) -> CompositeIndex:
    """Join the prices of several sources, each instant by itself.

    Parameters
    ----------
    price
        ``(T, S)`` last traded price of every source; NaN before its first.
    age_ms
        ``(T, S)`` how old each is at the instant.
    weight
        ``(T, S)`` not negative; where all that count weigh nothing, they count alike.
    rule
        Bounds and method.

    Returns
    -------
    CompositeIndex
        The order of the sources does not matter, to the bit.
    """
    fate = np.full(price.shape, USED, dtype=np.int8)
    fate[age_ms > rule.max_age] = STALE
    fate[np.isnan(price)] = UNSEEN
    centre = _median(np.where(fate == USED, price, np.nan))[:, None]
    with np.errstate(invalid="ignore"):
        fate[(fate == USED) & (np.abs(price - centre) > rule.max_deviation * centre)] = OUTLIER
    # In ascending order of price, those left out last: then no sum depends on the sources' order.
    held = np.where(fate == USED, price, np.inf)
    held_weight = np.where(fate == USED, weight, 0.0)
    order = np.lexsort((held_weight, held), axis=1)
    held = np.take_along_axis(held, order, axis=1)
    held_weight = np.take_along_axis(held_weight, order, axis=1)
    count = (fate == USED).sum(axis=1)[:, None]
    place = np.arange(price.shape[1])
    kept = place < count
    if rule.method == "trimmed_mean":
        kept &= (count < 3) | ((place > 0) & (place < count - 1))
    share = np.where(kept, held_weight, 0.0)
    weightless = share.sum(axis=1) <= 0.0
    share[weightless] = kept[weightless]
    joined = _weighted_median if rule.method == "median" else _weighted_mean
    told = joined(np.where(kept, held, 0.0), share)
    return CompositeIndex(np.where(count[:, 0] >= rule.min_sources, told, np.nan), fate)


def _median(price: np.ndarray) -> np.ndarray:
    """Return the plain median of each row's numbers; NaN where there is none."""
    ascending = np.sort(price, axis=1)
    count = (~np.isnan(price)).sum(axis=1)
    rows = np.arange(len(price))
    lower, upper = np.maximum(count - 1, 0) // 2, count // 2
    upper = np.minimum(upper, price.shape[1] - 1)
    return np.asarray(0.5 * (ascending[rows, lower] + ascending[rows, upper]))


def _weighted_mean(price: np.ndarray, share: np.ndarray) -> np.ndarray:
    total = share.sum(axis=1)
    mean = (price * share).sum(axis=1) / np.where(total > 0.0, total, 1.0)
    # Rounding alone could push the mean of equal prices off them.
    low = np.where(share > 0.0, price, np.inf).min(axis=1)
    high = np.where(share > 0.0, price, -np.inf).max(axis=1)
    return np.asarray(np.where(total > 0.0, np.clip(mean, low, high), np.nan))


def _weighted_median(price: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the price at which half of the weight is reached; the midpoint where it is exact."""
    total = share.sum(axis=1)
    reached = np.cumsum(share, axis=1)
    half = 0.5 * total[:, None]
    rows = np.arange(len(price))
    lower = np.argmax((reached >= half) & (share > 0.0), axis=1)
    upper = np.argmax((reached > half) & (share > 0.0), axis=1)
    middle = 0.5 * (price[rows, lower] + price[rows, upper])
    return np.asarray(np.where(total > 0.0, middle, np.nan))


def asset_index(store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray) -> AssetIndex:
    """Build the composite index of an asset from stored trade candles.

    Row ``t`` reads bars that ended at or before ``ts[t]``.

    Parameters
    ----------
    store : DataStore
        An open store.
    market : MarketSpec
        With an ``index``.
    asset : str
        One of the market's.
    ts : numpy.ndarray
        ``(T,)`` ends of the clock's bars, milliseconds UTC.

    Raises
    ------
    DataError
        If the store holds nothing of a source, or a source's volume is needed and not recorded.
    GapError
        If for longer than ``max_gap`` too few sources count.
    """
    rule = market.index
    assert rule is not None
    assert isinstance(market.clock, int)
    pairs = rule.of(asset)
    prices, ages, weights, sources = zip(
        *(_read(store, market, rule, pair, ts) for pair in pairs), strict=True
    )
    composite = compose(
        np.column_stack(prices), np.column_stack(ages), np.column_stack(weights), rule
    )
    absent = np.isnan(composite.price)
    names = tuple(f"{exchange} {symbol}" for exchange, symbol in pairs)
    if gaps := holes(absent, ts - market.clock, market.clock, market.max_gap):
        raise GapError(
            f"the {asset} index of {', '.join(names)} has {describe_gaps(gaps)} longer than "
            f"{duration_text(market.max_gap)} in which fewer than {rule.min_sources} sources "
            f"count ({_told(composite, names) or 'none was left out'})."
        )
    return AssetIndex(last_known(composite.price), composite, names, sources)


def _read(
    store: DataStore, market: MarketSpec, rule: IndexSpec, pair: tuple[str, str], ts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, DataSource]:
    """Return last price, its age and the trailing volume of one source, each ``(T,)``."""
    exchange, symbol = pair
    clock = market.clock
    assert isinstance(clock, int)
    lead_in_ms = max(rule.max_age, rule.weight_window)
    where = (
        "exchange = ? AND symbol = ? AND kind = 'trade' AND open_ms + timeframe_ms > ? "
        f"AND open_ms + timeframe_ms <= ? AND timeframe_ms <= {clock}"
    )
    span = [exchange, symbol, int(ts[0]) - clock - lead_in_ms, int(ts[-1])]
    # The same choice as for the market's own bars: what covers most, then the longest.
    frames = store.rows(
        f"SELECT timeframe_ms FROM candles WHERE {where} GROUP BY timeframe_ms "
        "ORDER BY count(*) * timeframe_ms DESC, timeframe_ms DESC LIMIT 1",
        span,
    )
    if not frames:
        raise DataError(
            f"market.index: the store {store.path} holds no trade candles of {exchange} {symbol} "
            f"from {iso_utc(int(ts[0]) - clock)} to {iso_utc(int(ts[-1]))} UTC that fit a clock "
            f"of {duration_text(clock)}; pull or import them, or leave the source out."
        )
    frame = int(frames[0][0])
    bars = store.columns(
        f"SELECT open_ms + timeframe_ms AS end_ms, open_ms, close, volume_usd FROM candles "
        f"WHERE {where} AND timeframe_ms = {frame} ORDER BY end_ms",
        span,
    )
    # A bar without volume repeats an older price; where volume is not recorded, each is a trade.
    traded = ~(bars["volume_usd"] == 0.0)
    seen_ms, ever = bars["end_ms"][traded], int(ts[-1])
    price = as_of(seen_ms, bars["close"][traded], ts, ever)
    age_ms = ts - as_of(seen_ms, seen_ms.astype(np.float64), ts, ever)
    source = data_source(
        store, f"index source: trade candles {duration_text(frame)}", exchange, symbol, "candles",
        f"kind = 'trade' AND timeframe_ms = {frame} AND open_ms", bars["open_ms"],
        [("close", bars["close"]), ("volume_usd", bars["volume_usd"])],
    )  # fmt: skip
    if rule.weights == "equal":
        return price, age_ms, np.ones(len(ts)), source
    if np.isnan(bars["volume_usd"]).all():
        raise DataError(
            f"market.index.weights: {exchange} {symbol} has no recorded volume; write weights: "
            "equal."
        )
    total = np.concatenate(([0.0], np.cumsum(np.nan_to_num(bars["volume_usd"]))))
    first = np.searchsorted(bars["end_ms"], ts - rule.weight_window, side="right")
    last = np.searchsorted(bars["end_ms"], ts, side="right")
    return price, age_ms, np.maximum(total[last] - total[first], 0.0), source


def left_out(composite: CompositeIndex, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Count, for each source, the instants at which it was left out, by reason."""
    return {
        name: {word: int((composite.fate[:, s] == code).sum()) for code, word in REASONS.items()}
        for s, name in enumerate(names)
    }


def _told(composite: CompositeIndex, names: tuple[str, ...]) -> str:
    """Write who was left out how often, and why."""
    return ", ".join(
        f"{name} {word} at {count:,}"
        for name, counts in left_out(composite, names).items()
        for word, count in counts.items()
        if count
    )


def with_composite_index(
    store: DataStore, market: MarketSpec, asset: str, ts: np.ndarray, own: AssetPrices
) -> AssetPrices:
    """Put the composite index in the place of the exchange's own, and note how far apart they are.

    Parameters
    ----------
    store, market, asset, ts
        As for `asset_index`.
    own : AssetPrices
        As joined from the exchange's own candles.
    """
    assert market.index is not None
    built = asset_index(store, market, asset, ts)
    note = f"{asset}: {_index_note(built, market.index)}"
    if own.index is own.mark:  # nothing better was recorded of the exchange itself
        note += f" {market.exchange} has no recorded index of its own to compare with."
    else:
        apart = difference(built.price, own.index)
        note += (
            f" It is {apart.median * 1e4:.2f} bp from {market.exchange}'s own index at the median "
            f"and at most {apart.largest * 1e4:,.1f} bp, at {iso_utc(int(ts[apart.row]))} UTC."
        )
    sources = (*own.sources, *built.sources)
    return replace(own, index=built.price, index_note=note, sources=sources)


@dataclass(frozen=True)
class Difference:
    """How far two indices are apart, as fractions of the second, and the row where it is most."""

    median: float
    p99: float
    largest: float
    row: int


def difference(price: np.ndarray, other: np.ndarray) -> Difference:
    """Compare two indices of shape ``(T,)`` where both are known; at least one row is."""
    apart = np.abs(price / other - 1.0)
    row = int(np.nanargmax(apart))
    return Difference(
        float(np.nanmedian(apart)), float(np.nanquantile(apart, 0.99)), float(apart[row]), row
    )


def _index_note(built: AssetIndex, rule: IndexSpec) -> str:
    """Tell who counted how often, who was left out, how many rows are held."""
    used = built.composite.used
    rows = len(used)
    shares = ", ".join(
        f"{count} at {np.mean(used == count):.1%}" for count in sorted(set(used.tolist()))[::-1]
    )
    note = (
        f"index is built from {', '.join(built.names)} ({rule.method.replace('_', ' ')}, weights: "
        f"{rule.weights}); of {rows:,} instants, sources counted: {shares}"
    )
    if told := _told(built.composite, built.names):
        note += f"; left out: {told}"
    if held := int(np.isnan(built.composite.price).sum()):
        note += f"; {held:,} hold the last value"
    quotes = sorted({name.split("/")[1].split(":")[0] for name in built.names if "/" in name})
    if len(quotes) > 1:
        note += f"; {' and '.join(quotes)} are taken one for one"
    return note + "."
