"""Event add-on: more margin around what a calendar announces, as an expiry, an upgrade or a vote.

Venues raise margin ahead of dates on which prices are known to jump, and lower it afterwards. What
is net of an asset that an event concerns is charged at a rate, from some time before the event
until some time after it; the law is `strategies.kernels.event_charge`'s. Only what had been
announced by a row counts there: an event that is put off moves its window from then on, and one
announced late has no time before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, field_validator

from backtest.errors import nearest
from backtest.events import EVENT_KINDS, no_events
from backtest.settings import TIME
from backtest.units import MS_PER_DAY
from strategies.kernels.event_charge import event_charge
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.tape import MarketTape


class EventWindow(AddOn):
    """Charge net notional of an asset while an announced event that concerns it is near."""

    name: ClassVar[str] = "event_window"
    requirement = event_charge
    needs: ClassVar[tuple[Need, ...]] = ("prices", "calendars")
    scale_law: ClassVar[ScaleLaw | None] = "homogeneous"
    nets: ClassVar[Netting] = "portfolio"

    calendars: tuple[str, ...] = Field(
        (), description="those of market.calendars that are meant; all where none is named"
    )
    kinds: tuple[str, ...] = Field(
        (), description="kinds of events that are meant; all where none is named"
    )
    before: Knob = knob("1d", low="0s", high="30d", unit=TIME, doc="ahead of an event", stress="up")
    after: Knob = knob("4h", low="0s", high="30d", unit=TIME, doc="after an event", stress="up")
    charge: Knob = knob(
        "2%", low=0, high="100%", unit="of notional", doc="rate inside the window", stress="up"
    )

    maintenance_share: Knob = knob(
        "50%",
        low=0,
        high="100%",
        unit="of the charge",
        doc="that maintenance margin asks too",
        stress="up",
    )

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            if kind not in EVENT_KINDS:
                raise ValueError(f"there is no kind of event {kind!r}.{nearest(kind, EVENT_KINDS)}")
        return kinds

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Tell which assets have an event near, ``(T, A)``: 1 inside a window, else 0."""
        inside = near_event(tape, self.before, self.after, self.calendars, self.kinds)
        return inside.astype(np.float64)

    def parameters(self, inside: np.ndarray) -> np.ndarray:
        """Post the rate of every asset, ``(T, A)``."""
        return self.charge * inside

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return the share of the charge that maintenance margin asks."""
        return np.array([self.maintenance_share])


def near_event(
    tape: MarketTape,
    before_ms: float,
    after_ms: float,
    calendars: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> np.ndarray:
    """Tell where an announced event is near.

    Parameters
    ----------
    tape
        One without a calendar has no events.
    before_ms, after_ms
        Rows from ``before_ms`` ahead of an event to ``after_ms`` after it are near.
    calendars, kinds
        Those that are meant; all where none is named.

    Returns
    -------
    numpy.ndarray
        ``(T, A)`` bool.

    Raises
    ------
    DataError
        If the tape lacks a calendar that is named, or there is no such kind.
    """
    inside = np.zeros(tape.index.shape, dtype=np.bool_)
    for rows, at_ms, concerned in _announced(tape, calendars, kinds):
        ts = tape.ts[rows]
        near = (ts >= at_ms - before_ms) & (ts <= at_ms + after_ms)
        inside[rows] |= near[:, None] & concerned
    return inside


def days_to_event(
    tape: MarketTape, calendars: Sequence[str] = (), kinds: Sequence[str] = ()
) -> np.ndarray:
    """Return how far away the next announced event is, ``(T, A)`` days; infinite without one.

    Parameters
    ----------
    tape, calendars, kinds
        As for `near_event`.
    """
    days = np.full(tape.index.shape, np.inf)
    for rows, at_ms, concerned in _announced(tape, calendars, kinds):
        ahead = (at_ms - tape.ts[rows]) / MS_PER_DAY
        next_one = np.where(concerned & (ahead >= 0.0)[:, None], ahead[:, None], np.inf)
        days[rows] = np.minimum(days[rows], next_one)
    return days


def _announced(
    tape: MarketTape, calendars: Sequence[str], kinds: Sequence[str]
) -> list[tuple[slice, int, np.ndarray]]:
    held = tape.events if tape.events is not None else no_events(len(tape.assets))
    return list(held.in_force(tape.known_ts, calendars, kinds))
