"""The interval of every funding payment, found from the spacing of what was paid.

Exchanges change a market's interval (8, 4, 2, 1 h) and do not write it into the row. A single
step that is longer than its two equal neighbours is no change of interval: a payment is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.units import MS_PER_HOUR

if TYPE_CHECKING:
    from data_ingest.coverage import Window
    from data_ingest.store import DataStore

LONGEST_MS = 8 * MS_PER_HOUR


def payment_times(store: DataStore, exchange: str, symbol: str) -> np.ndarray:
    """Return the instants of a market's stored payments, ascending."""
    times: np.ndarray = store.columns(
        "SELECT ts_ms FROM funding WHERE exchange = ? AND symbol = ? ORDER BY 1",
        [exchange, symbol],
    )["ts_ms"]
    return times


def missing_payments(times_ms: np.ndarray) -> list[Window]:
    """Return the windows in which a payment must have been: lone long steps."""
    steps = np.diff(times_ms)
    if len(steps) < 3:
        return []
    before, step, after = steps[:-2], steps[1:-1], steps[2:]
    lone = np.flatnonzero((before == after) & (step > before) & (step % before == 0)) + 1
    return [(int(times_ms[at] + steps[at - 1]), int(times_ms[at + 1])) for at in lone]


def intervals(times_ms: np.ndarray) -> np.ndarray:
    """Return the interval that each payment was for: the step that led to it.

    After a hole, and at the first payment, it is the step that follows.
    """
    steps = np.diff(times_ms)
    if len(steps) == 0:
        return np.full(len(times_ms), LONGEST_MS, dtype=np.int64)
    found = np.concatenate((steps[:1], steps)).astype(np.int64)
    holes = found > LONGEST_MS
    for _, end_ms in missing_payments(times_ms):
        holes[np.searchsorted(times_ms, end_ms)] = True
    follows = np.append(found[1:], LONGEST_MS)
    found[holes] = np.minimum(follows[holes], LONGEST_MS)
    return found


def record_intervals(store: DataStore, exchange: str, symbol: str) -> None:
    """Write each stored payment's interval; what is right already is not touched."""
    times = payment_times(store, exchange, symbol)
    if len(times) == 0:
        return
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE funding SET interval_ms = found.interval_ms FROM (SELECT "
            "unnest(?::BIGINT[]) AS ts_ms, unnest(?::BIGINT[]) AS interval_ms) AS found "
            "WHERE funding.exchange = ? AND funding.symbol = ? AND funding.ts_ms = found.ts_ms "
            "AND funding.interval_ms IS DISTINCT FROM found.interval_ms",
            [times.tolist(), intervals(times).tolist(), exchange, symbol],
        )
