"""What the replay itself has scheduled, in a total order: by time, then kind, then sequence."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from backtest.venue import UNLIMITED

DEPOSIT, DEADLINE, STEP, RECHECK = range(4)
NOBODY = -1
"""Account of an event that concerns everybody."""


@dataclass(order=True, frozen=True)
class Event:
    """Something that happens to an account at a time, unless it does not apply any more."""

    at_ms: int
    kind: int
    sequence: int
    account: int = field(compare=False)


class Schedule:
    """Events that have not happened yet, at most one of each kind per account."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._last: dict[tuple[int, int], Event] = {}
        self._pushed = 0

    def push(self, at_ms: int, kind: int, account: int = NOBODY) -> None:
        """Schedule an event; one of its kind that the account still has is moved."""
        event = Event(at_ms, kind, self._pushed, account)
        self._last[kind, account] = event
        heapq.heappush(self._events, event)
        self._pushed += 1

    def pop_until(self, last_ms: int) -> Event | None:
        """Take the next event, if it is due at or before an instant."""
        while self._events and self._events[0].at_ms <= last_ms:
            event = heapq.heappop(self._events)
            if self._last.get((event.kind, event.account)) is event:
                del self._last[event.kind, event.account]
                return event
        return None

    def holds(self, kind: int, account: int = NOBODY) -> bool:
        """Whether an event of a kind is still to happen."""
        return (kind, account) in self._last


class Keepers:
    """Who carries out liquidations: not during an outage, and only so many per block."""

    def __init__(self, outages: list[tuple[int, int]], capacity: float, block_ms: int) -> None:
        self.outages, self.capacity, self.block_ms = outages, capacity, block_ms
        self.free_block = self.used = 0

    def reserve(self, at_ms: int) -> int:
        """Reserve a keeper's place and return its time: now, or the earliest after."""
        while True:
            for start, end in self.outages:
                if start <= at_ms < end:
                    at_ms = end
            if self.capacity >= UNLIMITED:
                return at_ms
            block = at_ms // self.block_ms
            if block < self.free_block:
                at_ms = self.free_block * self.block_ms
                continue
            if block > self.free_block:
                self.free_block, self.used = block, 0
            if self.used < self.capacity:
                self.used += 1
                return at_ms
            self.free_block, self.used = self.free_block + 1, 0
            at_ms = self.free_block * self.block_ms
