"""Our own windowed pager: explicit windows, a completeness check, and the coverage ledger.

ccxt's ``paginate`` loses rows without an error on both exchanges, so it is never used. A pull
asks the ledger what is missing, walks it in windows that fit one request, and stores each
window's rows together with the coverage they prove. Killed anywhere, it resumes there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_ingest.coverage import LedgerKey, Window, merge, runs, subtract
from data_ingest.quality import bad_rows, put_aside
from data_ingest.schema import CANDLES, FUNDING
from data_ingest.store import Batch, DataStore, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from data_ingest.clients import ExchangeClient
    from data_ingest.schema import FeedTable

Row = tuple[Any, ...]

INCOMPLETE_RETRIES = 2
"""How often a window with missing rows is asked for again before the gap is believed."""


@dataclass(frozen=True)
class Page:
    """One window's rows, in the order of the table's columns, and what they make complete."""

    rows: list[Row]
    complete: list[Window]


@dataclass(frozen=True)
class PullReport:
    """What one pull brought; ``gaps`` are windows that the exchange itself has no rows for."""

    exchange: str
    market: str
    feed: str
    rows_read: int
    rows_added: int
    rows_quarantined: int
    gaps: tuple[Window, ...]

    def __add__(self, other: PullReport) -> PullReport:
        """Sum two reports of the same feed."""
        return replace(
            self,
            rows_read=self.rows_read + other.rows_read,
            rows_added=self.rows_added + other.rows_added,
            rows_quarantined=self.rows_quarantined + other.rows_quarantined,
            gaps=self.gaps + other.gaps,
        )


def pull_windows(
    store: DataStore,
    client: ExchangeClient,
    table: FeedTable,
    key: LedgerKey,
    window: Window,
    step_ms: int,
    fetch: Callable[[Window], Page],
) -> PullReport:
    """Fetch what the ledger lacks of a window and store it piece by piece.

    Parameters
    ----------
    store : DataStore
        Where rows and coverage go.
    client : ExchangeClient
        For provenance.
    table : FeedTable
        Whose rows ``fetch`` returns.
    key : LedgerKey
        What the coverage is kept for.
    window : (int, int)
        Half-open, milliseconds UTC.
    step_ms : int
        Longest window that one fetch can answer in full.
    fetch : callable
        Asks the exchange for one window.
    """
    read = added = quarantined = 0
    for start, end in store.missing(key, window):
        for piece in split(start, end, step_ms):
            page = fetch(piece)
            for _ in range(INCOMPLETE_RETRIES):
                if page.complete == [piece]:
                    break
                page = fetch(piece)
            result, aside = write_page(store, client, table, key, page.rows, {key: page.complete})
            read, added = read + result.read, added + result.added
            quarantined += aside
    gaps = tuple(store.missing(key, window))
    return PullReport(key.exchange, key.market, key.feed, read, added, quarantined, gaps)


def write_page(
    store: DataStore,
    client: ExchangeClient,
    table: FeedTable,
    label: LedgerKey,
    rows: Sequence[Row],
    complete: Mapping[LedgerKey, Sequence[Window]],
) -> tuple[WriteResult, int]:
    """Store pulled rows with their provenance; rows that break a rule are quarantined.

    Returns
    -------
    (WriteResult, int)
        What was stored, and how many rows were put aside.
    """
    batch = Batch(label, client.source, None, client.software, client.is_synthetic)
    with store.transaction() as cursor:
        # Whole columns as lists: some fifteen times faster than rows one by one.
        columns = [list(column) for column in zip(*rows, strict=True)]
        columns = columns or [[] for _ in table.columns]
        unnested = ", ".join(
            f"unnest(?::{kind}[]) AS {name}" for name, kind in table.columns.items()
        )
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE raw_rows AS SELECT row_number() OVER () AS row_number, * "
            f"FROM (SELECT {unnested})",
            columns,
        )
        cursor.execute("CREATE OR REPLACE TEMP TABLE staged AS SELECT * FROM raw_rows")
        refused = bad_rows(cursor, table, "staged")
        if refused:
            put_aside(cursor, table, client.source, refused, "raw_rows", "staged")
            complete = _without(complete, table, [rows[row.row_number - 1] for row in refused])
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE accepted AS SELECT DISTINCT ON ({', '.join(table.key)}) "
            "* EXCLUDE (row_number) FROM staged ORDER BY row_number"
        )
        result = store.upsert(
            cursor, table, "accepted", batch, complete, "replace", quarantined=len(refused)
        )
    return result, len(refused)


def _without(
    complete: Mapping[LedgerKey, Sequence[Window]], table: FeedTable, refused: Sequence[Row]
) -> dict[LedgerKey, list[Window]]:
    """Take the instants of refused bars and payments out of what counts as complete."""
    if table not in (CANDLES, FUNDING):
        return {key: list(windows) for key, windows in complete.items()}
    at = list(table.columns).index("open_ms" if table is CANDLES else "ts_ms")
    holes = merge((int(row[at]), int(row[at]) + 1) for row in refused if row[at] is not None)
    return {
        key: [part for window in windows for part in subtract(window, holes)]
        for key, windows in complete.items()
    }


def split(start_ms: int, end_ms: int, step_ms: int) -> list[Window]:
    """Cut ``[start_ms, end_ms)`` into windows of at most ``step_ms``."""
    return [(a, min(a + step_ms, end_ms)) for a in range(start_ms, end_ms, step_ms)]


def complete_parts(times_ms: Sequence[int], window: Window, step_ms: int) -> list[Window]:
    """Return the parts of a window over which rows come at least every ``step_ms``.

    The window's start may lie up to one step before its first row, since a grid need not
    begin where a window does.
    """
    times = np.array(sorted(set(times_ms)), dtype=np.int64)
    parts = runs(times, step_ms, step_ms)
    if parts and parts[0][0] - window[0] < step_ms:
        parts[0] = (window[0], parts[0][1])
    clipped = [(max(a, window[0]), min(b, window[1])) for a, b in parts]
    return [(a, b) for a, b in clipped if a < b]
