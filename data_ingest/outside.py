"""Outside signals and calendars of a tape, joined by when they were known and not by their date.

A T-bill rate of Monday that is published on Tuesday exists from Tuesday on; a revision of it counts
from the day it was published; a vote announced on the first for the tenth is known from the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DataError, nearest
from backtest.events import EVENT_KINDS, EventTable
from backtest.instruments import NEVER_MS
from backtest.tape import DataSource, array_digest
from backtest.units import duration_text, iso_utc
from data_ingest.prices import as_of

if TYPE_CHECKING:
    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore


def load_outside(
    store: DataStore, market: MarketSpec, known_ts: np.ndarray
) -> tuple[dict[str, Any], tuple[str, ...], tuple[DataSource, ...]]:
    """Join a market's signals and calendars onto the rows of its tape.

    Parameters
    ----------
    store : DataStore
        An open store.
    market : MarketSpec
        Names the ``signals`` and ``calendars``.
    known_ts : numpy.ndarray
        ``(T,)`` when each row is known, milliseconds UTC.

    Returns
    -------
    dict, tuple of str, tuple of DataSource
        The tape's fields, its notes, and what was read.

    Raises
    ------
    DataError
        If the store holds no such signal or calendar, or nothing of it was known in time.
    """
    told: dict[str, Any] = {}
    notes: list[str] = []
    sources: list[DataSource] = []
    if market.signals:
        columns = []
        for name in market.signals:
            values, note, source = _signal(store, name, known_ts)
            columns.append(values)
            notes.append(note)
            sources.append(source)
        told |= {"signal_names": market.signals, "signals": np.column_stack(columns)}
    if market.calendars:
        told["events"], calendar_notes, calendar_sources = _events(store, market, known_ts)
        notes += calendar_notes
        sources += calendar_sources
    return told, tuple(notes), tuple(sources)


def last_known_observation(
    at_ms: np.ndarray, known_ms: np.ndarray, values: np.ndarray, now_ms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the latest observation that is known at each instant, in its latest revision.

    Parameters
    ----------
    at_ms, known_ms, values
        ``(N,)`` what each row is about, when it was known, and what it says. One that was known
        before (a forecast) counts from the instant that it is about.
    now_ms
        ``(T,)`` ascending.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        ``(T,)`` values, and the instants they are about; NaN before the first.
    """
    counts_ms = np.maximum(at_ms, known_ms)
    order = np.lexsort((known_ms, at_ms, counts_ms))
    at_ms, counts_ms, values = at_ms[order], counts_ms[order], values[order]
    # A late revision of an old observation does not displace a newer one.
    newest = at_ms >= np.maximum.accumulate(at_ms)
    at_ms, counts_ms, values = at_ms[newest], counts_ms[newest], values[newest]
    ever = int(now_ms[-1]) - int(counts_ms[0]) if len(counts_ms) else 0
    held = as_of(counts_ms, values, now_ms, ever)
    return held, as_of(counts_ms, at_ms.astype(np.float64), now_ms, ever)


def _signal(
    store: DataStore, name: str, known_ts: np.ndarray
) -> tuple[np.ndarray, str, DataSource]:
    rows = store.columns(
        "SELECT ts_ms, known_ts_ms, value FROM signals WHERE name = ? AND known_ts_ms <= ? "
        "ORDER BY ts_ms, known_ts_ms",
        [name, int(known_ts[-1])],
    )
    if not len(rows["ts_ms"]):
        raise DataError(
            f"market.signals: the store {store.path} holds no signal {name!r} that was known by "
            f"{iso_utc(int(known_ts[-1]))} UTC.{_stored(store, 'signals', 'name', name)}"
        )
    held, about_ms = last_known_observation(
        rows["ts_ms"], rows["known_ts_ms"], rows["value"], known_ts
    )
    absent = np.isnan(held)
    note = f"{name}: an outside signal, as last known at each row"
    if absent.any():
        note += f"; not known at the first {int(absent.sum()):,} of {len(held):,} rows"
    if not absent.all():
        oldest = int(np.nanmax(known_ts - about_ms))
        note += f"; at most {duration_text(oldest // 60_000 * 60_000)} old"
    return held, note + ".", _source(store, "signals", "name", name, rows)


def _events(
    store: DataStore, market: MarketSpec, known_ts: np.ndarray
) -> tuple[EventTable, list[str], list[DataSource]]:
    notes, sources, chosen = [], [], []
    for place, calendar in enumerate(market.calendars):
        rows = store.columns(
            "SELECT event_id, known_ts_ms, ts_ms, kind, assets, cancelled FROM events "
            "WHERE calendar = ? AND known_ts_ms <= ? ORDER BY known_ts_ms, event_id",
            [calendar, int(known_ts[-1])],
        )
        count = len(rows["event_id"])
        if not count:
            raise DataError(
                f"market.calendars: the store {store.path} holds no calendar {calendar!r} of "
                f"which anything was known by {iso_utc(int(known_ts[-1]))} UTC."
                f"{_stored(store, 'events', 'calendar', calendar)}"
            )
        sources.append(_source(store, "events", "calendar", calendar, rows))
        events = len(set(rows["event_id"].tolist()))
        note = f"{calendar}: {count:,} announcements of {events:,} events"
        unheard = sum(not any(_concerned(text, market.assets)) for text in rows["assets"])
        if unheard:
            note += f", {unheard:,} of which concern no asset of the tape"
        notes.append(note + ".")
        chosen += [(place, *row) for row in zip(*rows.values(), strict=True)]
    # By when they were known: a number then says nothing of what is announced later.
    chosen.sort(key=lambda row: (int(row[2]), row[0], row[1]))
    numbers: dict[tuple[int, str], int] = {}
    for place, event_id, *_ in chosen:
        numbers.setdefault((place, event_id), len(numbers))
    table = EventTable(
        calendars=market.calendars,
        calendar=np.array([row[0] for row in chosen]),
        event=np.array([numbers[row[0], row[1]] for row in chosen]),
        kind=np.array([EVENT_KINDS.index(row[4]) for row in chosen]),
        at_ms=np.array([NEVER_MS if row[6] else int(row[3]) for row in chosen]),
        known_ms=np.array([int(row[2]) for row in chosen]),
        concerns=np.array([_concerned(row[5], market.assets) for row in chosen]),
    )
    return table, notes, sources


def _concerned(named: str | None, assets: tuple[str, ...]) -> list[bool]:
    """Read ``BTC ETH`` or ``BTC, ETH``; an event that names no asset concerns them all."""
    names = (named or "").replace(",", " ").split()
    return [not names or asset in names for asset in assets]


def _stored(store: DataStore, table: str, column: str, wanted: str) -> str:
    names = [row[0] for row in store.rows(f"SELECT DISTINCT {column} FROM {table} ORDER BY 1")]
    return nearest(wanted, names) if names else " None was imported."


def _source(
    store: DataStore, table: str, column: str, name: str, rows: dict[str, np.ndarray]
) -> DataSource:
    origins = store.rows(
        f"SELECT DISTINCT source FROM batches WHERE batch_id IN (SELECT batch_id FROM {table} "
        f"WHERE {column} = ?) ORDER BY 1",
        [name],
    )
    texts = {key: "\n".join(map(str, held)) for key, held in rows.items() if held.dtype == object}
    arrays = [(key, held) for key, held in rows.items() if key not in texts]
    digest = array_digest(arrays, name, table, *texts.values())
    known_ms = rows["known_ts_ms"]
    return DataSource(
        table, name, int(known_ms.min()), int(known_ms.max()), len(known_ms), digest,
        ", ".join(row[0] for row in origins),
    )  # fmt: skip
