"""What the store itself says is amiss: rows put aside, windows not had, rows that break a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.units import duration_text, iso_utc
from data_ingest.coverage import LedgerKey
from data_ingest.quality.boundary import broken_rows
from data_ingest.quality.candles import grid_findings
from data_ingest.quality.places import Series, Stretch, told
from data_ingest.quality.row_rules import ROW_RULES
from data_ingest.schema import LONG_SHORT_RATIO, OPEN_INTEREST, VOLATILITY_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_ingest.quality.findings import Finding
    from data_ingest.schema import FeedTable
    from data_ingest.store import DataStore

_ROWS_NAMED = 5


def table_findings(store: DataStore, table: FeedTable) -> Iterator[Finding]:
    """Judge every stored row of a table by today's row rules."""
    cursor = store.connection
    cursor.execute(
        f"CREATE OR REPLACE TEMP VIEW numbered AS SELECT rowid AS row_number, * FROM {table.name}"
    )
    broken = broken_rows(cursor, ROW_RULES[table.name], "numbered")
    for each in broken[:_ROWS_NAMED]:
        key = store.rows(
            f"SELECT {', '.join(table.key)} FROM numbered WHERE row_number = ?", [each.row_number]
        )[0]
        values = dict(zip(table.key, key, strict=True))
        at = values.get(table.time) or 0
        series = Series(table.name, str(values["exchange"]), _market(values))
        place = ", ".join(f"{name} {value}" for name, value in values.items())
        yield series.finding("stored_row", at, at + 1, 1, f"{each.reason} ({place}).")
    if (more := len(broken) - _ROWS_NAMED) > 0:
        yield Series(table.name, "all", "all").finding(
            "stored_row", 0, 0, more, f"{more:,} stored rows more break a rule."
        )


_ON_A_GRID = (
    (VOLATILITY_INDEX, "asset", ("dvol", "volatility_index")),
    (OPEN_INTEREST, "symbol", ("open_interest",)),
    (LONG_SHORT_RATIO, "symbol", ("long_short_ratio",)),
)
"""Feeds beside candles that have a row at every step: table, its market, names in the ledger."""


def _market(key: dict[str, str]) -> str:
    """Name the market of a row: its symbol, its asset, or the asset in its option's name."""
    if "symbol" in key:
        return str(key["symbol"])
    return str(key.get("asset") or str(key.get("native_id") or "all").partition("-")[0])


def steady_feed_findings(store: DataStore) -> Iterator[Finding]:
    """Find missing rows of volatility indices, open interest and long/short ratios."""
    for table, market, names in _ON_A_GRID:
        for exchange, name, timeframe in store.rows(
            f"SELECT DISTINCT exchange, {market}, timeframe_ms FROM {table.name} "
            "WHERE timeframe_ms > 0 ORDER BY ALL"
        ):
            times = store.columns(
                f"SELECT {table.time} AS at_ms FROM {table.name} WHERE exchange = ? "
                f"AND {market} = ? AND timeframe_ms = ? ORDER BY 1",
                [exchange, name, timeframe],
            )["at_ms"]
            feed = f"{table.name.replace('_', ' ')} {duration_text(timeframe)}"
            ledgers = [LedgerKey(exchange, name, each, timeframe) for each in names]
            yield from grid_findings(store, Series(feed, exchange, name), ledgers, times)


def chain_terms_findings(store: DataStore) -> Iterator[Finding]:
    """Find marks of options whose terms are unknown."""
    for exchange, rows, options, name, first, last in store.rows(
        "SELECT exchange, count(*), count(DISTINCT native_id), min(native_id), min(ts_ms), "
        "max(ts_ms) FROM chain ANTI JOIN instruments USING (exchange, native_id) GROUP BY 1 "
        "ORDER BY 1"
    ):
        yield Series("chain", exchange, "all").finding(
            "terms_unknown", first, last + 1, rows,
            f"{rows:,} marks of {options:,} options without terms, {name} among them.",
        )  # fmt: skip


def quarantine_findings(store: DataStore) -> Iterator[Finding]:
    """Count what was put aside, by feed, source and reason."""
    for feed, source, reason, rows, first in store.rows(
        # Numbers differ from row to row, the words do not.
        "SELECT feed, source, min(reason), count(*), min(row_number) FROM quarantine "
        "GROUP BY feed, source, regexp_replace(reason, '[-+0-9.e]+', '#', 'g') ORDER BY ALL"
    ):
        yield Series(feed, "all", "all").finding(
            "quarantined", 0, 0, rows,
            f"{source}: {rows:,} rows put aside, the first is row {first}: {reason}.",
        )  # fmt: skip


def shortfall_findings(store: DataStore) -> Iterator[Finding]:
    """Tell what pulls could not have, one finding per feed, market and reason."""
    rows = store.columns(
        "SELECT exchange, market, feed, timeframe_ms, start_ms, end_ms, reason, detail "
        "FROM shortfalls ORDER BY ALL"
    )
    groups: dict[tuple[str, ...], list[Stretch]] = {}
    for at in range(len(rows["detail"])):
        key = tuple(str(rows[name][at]) for name in ("exchange", "market", "feed", "reason"))
        start, end = int(rows["start_ms"][at]), int(rows["end_ms"][at])
        groups.setdefault(key, []).append(Stretch(start, end, 0, at, float(end - start)))
    for (exchange, market, feed, _), found in groups.items():
        yield from told(
            Series(feed, exchange, market), "shortfall", found,
            lambda each: f"{rows['reason'][each.worst].capitalize()}, {each.length} from "
            f"{iso_utc(each.start_ms)} UTC: {rows['detail'][each.worst]}",
        )  # fmt: skip


def data_state(store: DataStore) -> str:
    """Return a short digest of every batch stored so far: which data a verification saw."""
    import hashlib

    batches = store.rows(
        "SELECT batch_id, source, source_sha256, rows_added, rows_replaced FROM batches ORDER BY 1"
    )
    return hashlib.sha256(repr(batches).encode()).hexdigest()[:16]
