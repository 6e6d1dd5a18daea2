"""Announced events: votes, upgrades, listings, expiries; each dated by when it was announced.

What will happen is known before it happens, and may be put off or called off later. Each row of
the table is one announcement; of those of one event the latest one prevails from the instant at
which it was known, and nobody sees it before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DataError, nearest
from backtest.instruments import NEVER_MS
from backtest.units import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVENT_KINDS = (
    "governance_vote",
    "upgrade",
    "listing",
    "delisting",
    "expiry",
    "macro",
    "other",
)
"""What an event can be."""

_COLUMNS: dict[str, Any] = {
    "calendar": np.int64,
    "event": np.int64,
    "kind": np.int64,
    "at_ms": np.int64,
    "known_ms": np.int64,
}


@dataclass(frozen=True, eq=False)
class EventTable:
    """Announcements in the order in which they were known; ``N`` rows, ``A`` assets.

    Parameters
    ----------
    calendars
        Names of the calendars.
    calendar
        ``(N,)`` which of them.
    event
        ``(N,)`` announcements of one event share a number.
    kind
        ``(N,)`` place in `EVENT_KINDS`.
    at_ms
        ``(N,)`` when it happens, milliseconds UTC; ``NEVER_MS`` where it is called off.
    known_ms
        ``(N,)`` when that could be known, ascending.
    concerns
        ``(N, A)`` whether it concerns an asset.
    """

    calendars: tuple[str, ...]
    calendar: np.ndarray
    event: np.ndarray
    kind: np.ndarray
    at_ms: np.ndarray
    known_ms: np.ndarray
    concerns: np.ndarray

    def __post_init__(self) -> None:
        """Freeze the arrays and refuse a table that contradicts itself."""
        rows = len(self.known_ms)
        for name, dtype in {**_COLUMNS, "concerns": np.bool_}.items():
            column = np.array(getattr(self, name), dtype=dtype, order="C")
            if column.shape[:1] != (rows,) or column.ndim != 1 + (name == "concerns"):
                raise DataError(f"event column {name} has shape {column.shape} for {rows} rows.")
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        for i in np.flatnonzero(np.diff(self.known_ms) < 0)[:1]:
            raise DataError(
                f"the announcement of {iso_utc(int(self.known_ms[i + 1]))} UTC was known before "
                "the one before it."
            )
        for name, count in (("calendar", len(self.calendars)), ("kind", len(EVENT_KINDS))):
            place = getattr(self, name)
            for i in np.flatnonzero((place < 0) | (place >= count))[:1]:
                raise DataError(f"event column {name} is {place[i]}, of {count}.")

    def __len__(self) -> int:
        """Count the announcements."""
        return len(self.known_ms)

    def arrays(self) -> list[tuple[str, np.ndarray]]:
        """List name and array of each column, in declaration order."""
        return [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "calendars"]

    def upto(self, now_ms: int) -> EventTable:
        """Return what had been announced by an instant."""
        rows = int(np.searchsorted(self.known_ms, now_ms, side="right"))
        return EventTable(self.calendars, *(array[:rows] for _, array in self.arrays()))

    def in_force(
        self, known_ts: np.ndarray, calendars: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> Iterator[tuple[slice, int, np.ndarray]]:
        """Say between which rows of a tape each announcement is the latest of its event.

        Parameters
        ----------
        known_ts
            ``(T,)`` the tape's, ascending.
        calendars, kinds
            Those that are meant; all where none is named.

        Yields
        ------
        (slice, int, numpy.ndarray)
            Rows, when the event happens (milliseconds UTC), and ``(A,)`` whom it concerns.
            Announcements that call an event off, or are known at no row, are left out.

        Raises
        ------
        DataError
            If a calendar or a kind is not known.
        """
        for what, named, known in (
            ("calendar", calendars, self.calendars),
            ("kind of event", kinds, EVENT_KINDS),
        ):
            for name in named:
                if name not in known:
                    near = nearest(name, known) or " Add it to market.calendars."
                    raise DataError(f"the tape carries no {what} {name!r}.{near}")
        first = np.searchsorted(known_ts, self.known_ms, side="left")
        until: dict[int, int] = {}
        rows: list[tuple[slice, int, np.ndarray]] = []
        for i in range(len(self) - 1, -1, -1):
            number = int(self.event[i])
            stop = until.get(number, len(known_ts))
            until[number] = int(first[i])
            if (
                first[i] < stop
                and self.at_ms[i] < NEVER_MS
                and (not calendars or self.calendars[self.calendar[i]] in calendars)
                and (not kinds or EVENT_KINDS[self.kind[i]] in kinds)
            ):
                rows.append((slice(int(first[i]), stop), int(self.at_ms[i]), self.concerns[i]))
        yield from reversed(rows)


def no_events(assets: int) -> EventTable:
    """Return the table of a market without a calendar."""
    none = np.empty(0, dtype=np.int64)
    return EventTable((), none, none, none, none, none, np.empty((0, assets), dtype=np.bool_))
