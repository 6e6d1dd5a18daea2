"""What is odd about funding: payments that are missing, intervals that change, rates too large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.units import duration_text, iso_utc
from data_ingest.coverage import LedgerKey
from data_ingest.funding_intervals import LONGEST_MS, intervals, missing_payments
from data_ingest.quality.bounds import LARGEST_RATE, UNKNOWN_SHARE
from data_ingest.quality.places import Series, Stretch, counted, stretches, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_ingest.quality.findings import Finding
    from data_ingest.store import DataStore

_CHANGES_NAMED = 6


def funding_findings(store: DataStore, exchange: str, symbol: str) -> Iterator[Finding]:
    """Judge the payments of one market."""
    series = Series("funding", exchange, symbol)
    paid = store.columns(
        "SELECT ts_ms, rate FROM funding WHERE exchange = ? AND symbol = ? ORDER BY ts_ms",
        [exchange, symbol],
    )
    times, rates = paid["ts_ms"], paid["rate"]
    if len(times):
        yield from _gaps(series, times)
        yield from _interval(series, times)
        size = np.abs(rates)
        yield from told(
            series, "funding_extreme",
            stretches(size > LARGEST_RATE, times, LONGEST_MS, size),
            lambda each: f"Longs pay {100 * rates[each.worst]:+.3f} % at "
            f"{iso_utc(int(times[each.worst]))} UTC.",
        )  # fmt: skip
    yield from _unknown(store, series)


def _gaps(series: Series, times: np.ndarray) -> Iterator[Finding]:
    steps = np.diff(times)
    holes = {(int(times[at]), int(times[at + 1])) for at in np.flatnonzero(steps > LONGEST_MS)}
    spacing = dict(zip(times.tolist(), intervals(times).tolist(), strict=True))
    lone = {(int(start), int(end)) for start, end in missing_payments(times)}
    windows = {(a + min(spacing[a], LONGEST_MS), b) for a, b in holes} | lone
    found = [
        Stretch(a, b, max(1, (b - a) // min(spacing[b], LONGEST_MS)), 0, float(b - a))
        for a, b in sorted(windows)
    ]
    yield from told(
        series, "funding_gap", found,
        lambda each: f"{counted(each.rows, 'payment')} missing from {iso_utc(each.start_ms)} to "
        f"{iso_utc(each.end_ms)} UTC.",
    )  # fmt: skip


def _interval(series: Series, times: np.ndarray) -> Iterator[Finding]:
    lengths = intervals(times)
    at = np.flatnonzero(np.diff(lengths)) + 1
    if not len(at):
        return
    named = ", ".join(
        f"{duration_text(int(lengths[place]))} from {iso_utc(int(times[place]))[:10]}"
        for place in at[:_CHANGES_NAMED]
    )
    more = f" and {len(at) - _CHANGES_NAMED} more" if len(at) > _CHANGES_NAMED else ""
    yield series.finding(
        "funding_interval", times[at[0]], times[at[-1]] + 1, len(at),
        f"{duration_text(int(lengths[0]))} at first, then {named}{more}.",
    )  # fmt: skip


def _unknown(store: DataStore, series: Series) -> Iterator[Finding]:
    (span,) = store.rows(
        "SELECT min(open_ms), max(open_ms + timeframe_ms) FROM candles WHERE exchange = ? "
        "AND symbol = ? AND kind = 'trade'",
        [series.exchange, series.market],
    )
    # Only a perpetual pays funding: its symbol names what it settles in, and no date.
    if span[0] is None or ":" not in series.market or "-" in series.market:
        return
    unknown = store.missing(LedgerKey(series.exchange, series.market, "funding"), span)
    lost = sum(end - start for start, end in unknown)
    if lost > UNKNOWN_SHARE * (span[1] - span[0]):
        yield series.finding(
            "funding_unknown", unknown[0][0], unknown[-1][1], 0,
            f"Funding is unknown in {lost / (span[1] - span[0]):.0%} of the span of the trade "
            f"candles, in {counted(len(unknown), 'stretch', 'es')}.",
        )  # fmt: skip
