"""What is odd about option trades: no volatility, expired options, numbers left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.units import iso_utc
from data_ingest.quality.bounds import HIGHEST_TRADE_IV
from data_ingest.quality.places import Series, counted
from data_ingest.surfaces.terms import named_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_ingest.quality.findings import Finding
    from data_ingest.store import DataStore

_TRADES_OF = "FROM option_trades WHERE exchange = ? AND split_part(native_id, '-', 1) = ?"


def option_trade_findings(store: DataStore, exchange: str, asset: str) -> Iterator[Finding]:
    """Judge the trades of one asset's options."""
    series = Series("option trades", exchange, asset)
    yield from _without_volatility(store, series)
    yield from _against_terms(store, series)
    yield from _left_out(store, series)


def _without_volatility(store: DataStore, series: Series) -> Iterator[Finding]:
    for bad, what in (
        ("iv IS NULL", "no volatility"),
        ("iv = 0", "a volatility of 0 %"),
        (f"iv >= {HIGHEST_TRADE_IV}", "a volatility of 500 %"),
    ):
        rows, first, last = store.rows(
            f"SELECT count(*), min(ts_ms), max(ts_ms) {_TRADES_OF} AND {bad}",
            [series.exchange, series.market],
        )[0]
        if rows:
            yield series.finding(
                "trade_without_iv", first, last + 1, rows,
                f"{counted(rows, 'trade')} with {what}, the first at {iso_utc(first)} UTC.",
            )  # fmt: skip


def _against_terms(store: DataStore, series: Series) -> Iterator[Finding]:
    """Compare each option's last trade with its expiry, listed or read from its name."""
    listed = dict(
        store.rows(
            "SELECT native_id, expiry_ms FROM instruments WHERE exchange = ? AND kind = 'option'",
            [series.exchange],
        )
    )
    for name, first, last, rows in store.rows(
        f"SELECT native_id, min(ts_ms), max(ts_ms), count(*) {_TRADES_OF} GROUP BY 1 ORDER BY 1",
        [series.exchange, series.market],
    ):
        expiry = listed.get(name)
        if expiry is None:
            try:
                expiry = named_terms(name)[3]
            except ValueError:
                yield series.finding(
                    "terms_unknown", first, last + 1, rows,
                    f"{counted(rows, 'trade')} of {name}, whose terms neither list nor name "
                    "tells.",
                )  # fmt: skip
                continue
        if last >= expiry:
            yield series.finding(
                "trade_after_expiry", expiry, last + 1, 0,
                f"{name} traded at {iso_utc(last)} UTC and expired at {iso_utc(expiry)}.",
            )  # fmt: skip


def _left_out(store: DataStore, series: Series) -> Iterator[Finding]:
    missing, options, first, last = store.rows(
        f"SELECT sum(missing), count(*), min(first_ms), max(last_ms) FROM (SELECT native_id, "
        f"max(trade_seq) - min(trade_seq) + 1 - count(DISTINCT trade_seq) AS missing, "
        f"min(ts_ms) AS first_ms, max(ts_ms) AS last_ms {_TRADES_OF} AND trade_seq IS NOT NULL "
        "GROUP BY native_id) WHERE missing > 0",
        [series.exchange, series.market],
    )[0]
    if options:
        yield series.finding(
            "trade_missing", first, last + 1, missing,
            f"{counted(int(missing), 'number')} missing from the sequences of "
            f"{counted(options, 'option')}.",
        )  # fmt: skip
