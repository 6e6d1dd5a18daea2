"""What a pull says of itself: how far it is, what it brought, what is missing and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from data_ingest.coverage import Shortfall, Window, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[["Advance"], None]

GIVEN_UP = ("refused", "unanswered", "not trusted")
"""Reasons that end a feed before everything was asked for."""


@dataclass(frozen=True)
class Advance:
    """How far one feed has come, for a progress bar; told before the first page and after each."""

    exchange: str
    market: str
    feed: str
    done_ms: int
    total_ms: int
    rows: int


@dataclass(frozen=True)
class PullReport:
    """What one pull brought, and what its window now lacks.

    Parameters
    ----------
    exchange, market, feed, timeframe_ms
        Which feed.
    rows_read, rows_added, rows_quarantined : int
        Rows served, rows that were new, rows put aside.
    expected : int, optional
        Rows that the window must have, by arithmetic; None where rows are events.
    stored : int
        Rows of the window that the store holds.
    shortfalls : tuple of Shortfall
        What is missing, and why.
    """

    exchange: str
    market: str
    feed: str
    rows_read: int
    rows_added: int
    rows_quarantined: int
    timeframe_ms: int = 0
    expected: int | None = None
    stored: int = 0
    shortfalls: tuple[Shortfall, ...] = ()

    @property
    def gaps(self) -> tuple[Window, ...]:
        """Windows that the exchange itself has no usable rows for."""
        served_badly = ("not served", "put aside")
        found = (one.window for one in self.shortfalls if one.reason in served_badly)
        return tuple(merge(found))

    @property
    def failure(self) -> str:
        """Why the feed was given up; empty if it was not."""
        given_up = (one.detail for one in self.shortfalls if one.reason in GIVEN_UP)
        return next(given_up, "")

    def __add__(self, other: PullReport) -> PullReport:
        """Sum two polls of the same feed."""
        return replace(
            self,
            rows_read=self.rows_read + other.rows_read,
            rows_added=self.rows_added + other.rows_added,
            rows_quarantined=self.rows_quarantined + other.rows_quarantined,
            stored=self.stored + other.stored,
            shortfalls=self.shortfalls + other.shortfalls,
        )
