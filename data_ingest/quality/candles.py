"""What is odd about bars: holes, jumps, prices that stand still, series that contradict others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from backtest.units import duration_text, iso_utc
from data_ingest.coverage import LedgerKey, merge, runs, subtract
from data_ingest.quality.bounds import (
    EQUAL_SHARE,
    FARTHEST_MARK,
    JUMP_DEVIATIONS,
    LOOK_BACK,
    SAME_PRICE,
    SAME_VOLUME,
    SMALLEST_JUMP,
    SMALLEST_WICK,
    STALE_BARS,
    STALE_MS,
    WICK_RANGES,
)
from data_ingest.quality.places import Series, Stretch, counted, stretches, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from data_ingest.quality.findings import Finding
    from data_ingest.store import DataStore

_RENEWED_EVERY = 50
_FEWEST_BARS = 100
_MAD_TO_DEVIATION = 1.4826
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class CandleKey:
    """One series of bars."""

    exchange: str
    symbol: str
    kind: str
    timeframe_ms: int

    @property
    def series(self) -> Series:
        """What its findings are about."""
        feed = f"{self.kind} candles {duration_text(self.timeframe_ms)}"
        return Series(feed, self.exchange, self.symbol)


@dataclass(frozen=True)
class Bars:
    """A series with its arrays, ascending in time, absent values NaN."""

    key: CandleKey
    open_ms: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume_base: np.ndarray

    @property
    def step_ms(self) -> int:
        """Length of a bar."""
        return self.key.timeframe_ms

    def at(self, stretch: Stretch) -> str:
        """Say when the worst bar of a stretch opened."""
        return f"{iso_utc(int(self.open_ms[stretch.worst]))} UTC"


def candle_keys(store: DataStore) -> list[CandleKey]:
    """List the stored series."""
    return [
        CandleKey(*row)
        for row in store.rows(
            "SELECT DISTINCT exchange, symbol, kind, timeframe_ms FROM candles ORDER BY ALL"
        )
    ]


def load_bars(store: DataStore, key: CandleKey) -> Bars:
    """Read one series."""
    arrays = store.columns(
        "SELECT open_ms, open, high, low, close, volume_base FROM candles WHERE exchange = ? "
        "AND symbol = ? AND kind = ? AND timeframe_ms = ? ORDER BY open_ms",
        [key.exchange, key.symbol, key.kind, key.timeframe_ms],
    )
    return Bars(key, **arrays)


def candle_findings(store: DataStore, key: CandleKey) -> Iterator[Finding]:
    """Judge one series by itself and against the ledger."""
    bars = load_bars(store, key)
    ledger = LedgerKey(key.exchange, key.symbol, f"{key.kind}_candles", key.timeframe_ms)
    yield from grid_findings(store, key.series, [ledger], bars.open_ms)
    yield from _jumps(bars)
    yield from _wicks(bars)
    yield from _stale(bars)
    if key.kind == "trade":
        yield from _volumes(bars)


def grid_findings(
    store: DataStore, series: Series, ledgers: Sequence[LedgerKey], open_ms: np.ndarray
) -> Iterator[Finding]:
    """Find missing bars, and whether the ledger knows that they are missing.

    Parameters
    ----------
    store, series, ledgers
        Whose, what, and its keys in the ledger.
    open_ms : numpy.ndarray
        ``(n,)`` ascending.
    """
    step = ledgers[0].timeframe_ms
    before = np.flatnonzero(np.diff(open_ms) > step)
    holes = [(int(open_ms[at]) + step, int(open_ms[at + 1])) for at in before]
    lost = [
        Stretch(start, end, (end - start) // step, 0, float(end - start)) for start, end in holes
    ]
    yield from told(
        series, "gap", lost,
        lambda each: f"{counted(each.rows, 'bar')} missing, {each.length} from "
        f"{iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip
    stored = runs(open_ms, step, step)
    covered = [window for ledger in ledgers for window in store.covered(ledger)]
    claimed = [part for window in merge(covered) for part in subtract(window, stored)]
    # Only whole bars can be missing.
    for start, end in claimed:
        if end // step <= -(-start // step):
            continue
        yield series.finding(
            "false_coverage", start, end, (end - start) // step,
            f"The ledger calls {iso_utc(start)} to {iso_utc(end)} UTC complete, where "
            f"{(end - start) // step:,} bars are missing.",
        )  # fmt: skip


def trailing_median(values: np.ndarray) -> np.ndarray:
    """Return the median of the ``LOOK_BACK`` values before each, renewed every few bars.

    Parameters
    ----------
    values : numpy.ndarray
        ``(n,)``.

    Returns
    -------
    numpy.ndarray
        ``(n,)``; NaN where fewer than a hundred values went before.
    """
    median = np.full(len(values), np.nan)
    if len(values) <= _FEWEST_BARS:
        return median
    early = min(LOOK_BACK, len(values))
    for end in range(_FEWEST_BARS, early, _RENEWED_EVERY):
        median[end : end + _RENEWED_EVERY] = np.median(values[:end])
    if len(values) > LOOK_BACK:
        windows = np.lib.stride_tricks.sliding_window_view(values[:-1], LOOK_BACK)[::_RENEWED_EVERY]
        renewed = np.repeat(np.median(windows, axis=1), _RENEWED_EVERY)
        median[LOOK_BACK:] = renewed[: len(values) - LOOK_BACK]
    return median


def _log_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the logarithm of a ratio; 0 where a price is none, which is a row rule's to find."""
    good = (above > 0) & (below > 0)
    return np.log(np.where(good, above, 1.0) / np.where(good, below, 1.0))


def _jumps(bars: Bars) -> Iterator[Finding]:
    if len(bars.close) < _FEWEST_BARS:
        return
    moves = _log_ratio(bars.close[1:], bars.close[:-1])
    # A move over a hole is no move of one bar.
    moves[np.diff(bars.open_ms) != bars.step_ms] = 0.0
    deviation = _MAD_TO_DEVIATION * trailing_median(np.abs(moves))
    bound = np.maximum(JUMP_DEVIATIONS * deviation, SMALLEST_JUMP)
    size = np.append(0.0, np.abs(moves) / bound)
    yield from told(
        bars.key.series, "jump", stretches(size > 1.0, bars.open_ms, bars.step_ms, size),
        lambda each: f"The close moved {_percent(np.expm1(moves[each.worst - 1]))} to "
        f"{bars.close[each.worst]:g} USD in the bar of {bars.at(each)}; the bound was "
        f"{_percent(bound[each.worst - 1], sign='')}.",
    )  # fmt: skip


def _wicks(bars: Bars) -> Iterator[Finding]:
    spans = _log_ratio(bars.high, bars.low)
    bound = np.maximum(WICK_RANGES * trailing_median(spans), SMALLEST_WICK)
    size = np.nan_to_num(spans / bound)
    yield from told(
        bars.key.series, "wick", stretches(size > 1.0, bars.open_ms, bars.step_ms, size),
        lambda each: f"From {bars.low[each.worst]:g} to {bars.high[each.worst]:g} USD, "
        f"{_percent(np.expm1(spans[each.worst]), sign='')}, in the bar of {bars.at(each)}; "
        f"the bound was {_percent(bound[each.worst], sign='')}.",
    )  # fmt: skip


def _stale(bars: Bars) -> Iterator[Finding]:
    still = np.zeros(len(bars.close), bool)
    still[1:] = bars.close[1:] == bars.close[:-1]
    still &= (bars.high == bars.low) & (bars.close == bars.open)
    trade = bars.key.kind == "trade"
    if trade:
        still &= bars.volume_base > 0
    fewest = max(STALE_BARS, -(-STALE_MS // bars.step_ms))
    runs = [each for each in stretches(still, bars.open_ms, bars.step_ms) if each.rows >= fewest]
    yield from told(
        bars.key.series, "stale_price" if trade else "stale_mark", runs,
        lambda each: f"{counted(each.rows, 'bar')} at {bars.close[each.worst]:g} USD from "
        f"{iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip


def _volumes(bars: Bars) -> Iterator[Finding]:
    series, step = bars.key.series, bars.step_ms
    yield from told(
        series, "no_trades", stretches(bars.volume_base == 0, bars.open_ms, step),
        lambda each: f"{counted(each.rows, 'bar')} without volume, {each.length} from "
        f"{iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip
    absent = np.isnan(bars.volume_base)
    if absent.any():
        rows = int(absent.sum())
        at = bars.open_ms[absent]
        yield series.finding(
            "no_volume", at[0], at[-1] + step, rows,
            f"{rows:,} of {len(absent):,} bars have no volume.",
        )  # fmt: skip


def _percent(value: float, sign: str = "+") -> str:
    return f"{100 * value:{sign}.2f} %"


def market_findings(store: DataStore, keys: list[CandleKey]) -> Iterator[Finding]:
    """Hold the series of one market against one another.

    Parameters
    ----------
    store : DataStore
        Where they are.
    keys : list of CandleKey
        Of one exchange and symbol.
    """
    yield from _spans(store, keys)
    for fine, coarse in combinations(sorted(keys, key=lambda key: key.timeframe_ms), 2):
        if fine.kind == coarse.kind and coarse.timeframe_ms % fine.timeframe_ms == 0:
            yield from _timeframes(store, fine, coarse)
    for key in keys:
        if key.kind != "trade":
            trades = [
                other for other in keys
                if other.kind == "trade" and key.timeframe_ms % other.timeframe_ms == 0
            ]  # fmt: skip
            if trades:
                yield from _against_trades(
                    store, key, max(trades, key=lambda other: other.timeframe_ms)
                )


_JOINED = """
WITH joined AS (
    SELECT open_ms // {coarse} * {coarse} AS open_ms, arg_min(open, candles.open_ms) AS open,
           max(high) AS high, min(low) AS low, arg_max(close, candles.open_ms) AS close,
           sum(volume_base) AS volume_base
    FROM candles WHERE exchange = ? AND symbol = ? AND kind = ? AND timeframe_ms = {fine}
    GROUP BY ALL HAVING count(*) = {bars})
SELECT stored.open_ms AS open_ms, joined.open AS joined_open, joined.high AS joined_high,
       joined.low AS joined_low, joined.close AS joined_close,
       joined.volume_base AS joined_volume_base, stored.open AS open, stored.high AS high,
       stored.low AS low, stored.close AS close, stored.volume_base AS volume_base
FROM candles stored JOIN joined USING (open_ms)
WHERE stored.exchange = ? AND stored.symbol = ? AND stored.kind = ?
  AND stored.timeframe_ms = {coarse}
ORDER BY 1
"""


def _joined(store: DataStore, fine: CandleKey, coarse: CandleKey) -> dict[str, np.ndarray]:
    sql = _JOINED.format(
        fine=fine.timeframe_ms, coarse=coarse.timeframe_ms,
        bars=coarse.timeframe_ms // fine.timeframe_ms,
    )  # fmt: skip
    return store.columns(
        sql,
        [fine.exchange, fine.symbol, fine.kind, coarse.exchange, coarse.symbol, coarse.kind],
    )


def _timeframes(store: DataStore, fine: CandleKey, coarse: CandleKey) -> Iterator[Finding]:
    both = _joined(store, fine, coarse)
    if not len(both["open_ms"]):
        return
    apart = np.stack([np.abs(both[f"joined_{name}"] / both[name] - 1.0) for name in _PRICES])
    with np.errstate(divide="ignore", invalid="ignore"):
        volumes = np.abs(both["joined_volume_base"] / both["volume_base"] - 1.0)
    same = both["joined_volume_base"] == both["volume_base"]
    volumes = np.where(same, 0.0, np.nan_to_num(volumes, nan=0.0, posinf=1.0))
    size = np.maximum(apart.max(axis=0) / SAME_PRICE, volumes / SAME_VOLUME)

    def tell(each: Stretch) -> str:
        place = each.worst
        name = _PRICES[int(np.argmax(apart[:, place]))]
        if apart[:, place].max() <= SAME_PRICE:
            name = "volume_base"
        return (
            f"{duration_text(fine.timeframe_ms)} bars joined give {name} "
            f"{both[f'joined_{name}'][place]:g}, the {duration_text(coarse.timeframe_ms)} bar of "
            f"{iso_utc(int(both['open_ms'][place]))} UTC has {both[name][place]:g}; "
            f"{len(size):,} bars compared."
        )

    found = stretches(size > 1.0, both["open_ms"], coarse.timeframe_ms, size)
    yield from told(coarse.series, "timeframes_disagree", found, tell)


def _against_trades(store: DataStore, key: CandleKey, trades: CandleKey) -> Iterator[Finding]:
    both = _joined(store, trades, key)
    total = len(both["open_ms"])
    if not total:
        return
    equal = (both["joined_high"] == both["high"]) & (both["joined_low"] == both["low"])
    if equal.mean() > EQUAL_SHARE:
        yield key.series.finding(
            "mark_is_trade", both["open_ms"][0], both["open_ms"][-1] + key.timeframe_ms,
            int(equal.sum()),
            f"High and low of {int(equal.sum()):,} of {total:,} bars equal those of trades.",
        )  # fmt: skip
    apart = both["close"] / both["joined_close"] - 1.0
    size = np.abs(apart)
    yield from told(
        key.series, "mark_off_trade",
        stretches(size > FARTHEST_MARK, both["open_ms"], key.timeframe_ms, size),
        lambda each: f"The {key.kind} closes {_percent(apart[each.worst])} from the trades, at "
        f"{both['close'][each.worst]:g} USD, in the bar of "
        f"{iso_utc(int(both['open_ms'][each.worst]))} UTC.",
    )  # fmt: skip


def _spans(store: DataStore, keys: list[CandleKey]) -> Iterator[Finding]:
    spans = {
        key: store.rows(
            "SELECT min(open_ms), max(open_ms) + timeframe_ms FROM candles WHERE exchange = ? AND "
            "symbol = ? AND kind = ? AND timeframe_ms = ? GROUP BY timeframe_ms",
            [key.exchange, key.symbol, key.kind, key.timeframe_ms],
        )[0]
        for key in keys
    }
    longest = max(spans, key=lambda key: spans[key][1] - spans[key][0])
    for key, (start, end) in spans.items():
        for what, at, other in (
            ("begin", start, spans[longest][0]),
            ("end", end, spans[longest][1]),
        ):
            if abs(at - other) >= max(key.timeframe_ms, longest.timeframe_ms):
                yield key.series.finding(
                    "spans_differ", min(at, other), max(at, other), 0,
                    f"{key.series.feed.capitalize()} {what} at {iso_utc(at)} UTC, "
                    f"{longest.series.feed} at {iso_utc(other)}.",
                )  # fmt: skip
