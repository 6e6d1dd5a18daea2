"""What the replay itself has scheduled: a heap of payments, deadlines, steps and re-checks.

There is at most one event of each kind per account, so the heap holds event numbers,
``kind * accounts + account``, and knows where each of them stands; scheduling one again moves
it. The order is (time, kind, sequence): a total order, so a replay is deterministic.
"""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.cache import compiled
from backtest.kernels.state import EVENTS, SEQUENCE, STATE

DEPOSIT, DEADLINE, STEP, RECHECK = range(4)
KINDS = 3
"""Kinds of which each account has one; a re-check is of everybody."""


@compiled(inline="always")
def _before(state: Any, accounts: int, left: int, right: int) -> bool:
    if state.event_time[left] != state.event_time[right]:
        return state.event_time[left] < state.event_time[right]
    if left // accounts != right // accounts:
        return left // accounts < right // accounts
    return state.event_sequence[left] < state.event_sequence[right]


@compiled()
def _rise(state: Any, place: int) -> None:
    accounts = state.deposit_ts.shape[0]
    heap, where = state.event_heap, state.event_place
    event = heap[place]
    while place > 0:
        above = (place - 1) // 2
        if not _before(state, accounts, event, heap[above]):
            break
        heap[place] = heap[above]
        where[heap[place]] = place
        place = above
    heap[place] = event
    where[event] = place


@compiled(types.void(STATE, types.int64))
def _sink(state: Any, place: int) -> None:
    accounts = state.deposit_ts.shape[0]
    heap, where = state.event_heap, state.event_place
    count = state.counter[EVENTS]
    event = heap[place]
    while True:
        below = 2 * place + 1
        if below >= count:
            break
        if below + 1 < count and _before(state, accounts, heap[below + 1], heap[below]):
            below += 1
        if not _before(state, accounts, heap[below], event):
            break
        heap[place] = heap[below]
        where[heap[place]] = place
        place = below
    heap[place] = event
    where[event] = place


@compiled(types.void(STATE, types.int64, types.int64, types.int64))
def schedule(state: Any, kind: int, account: int, time_ms: int) -> None:
    """Schedule an event of an account, or move it to another time."""
    event = kind * state.deposit_ts.shape[0] + account
    state.event_time[event] = time_ms
    state.event_sequence[event] = state.counter[SEQUENCE]
    state.counter[SEQUENCE] += 1
    place = state.event_place[event]
    if place < 0:
        place = state.counter[EVENTS]
        state.counter[EVENTS] += 1
        state.event_heap[place] = event
        state.event_place[event] = place
        _rise(state, place)
    else:
        _rise(state, place)
        _sink(state, state.event_place[event])


@compiled()
def is_scheduled(state: Any, kind: int, account: int) -> bool:
    """Return whether an event of an account is in the queue."""
    return state.event_place[kind * state.deposit_ts.shape[0] + account] >= 0


@compiled()
def take_next(state: Any) -> int:
    """Take the earliest event out of the queue; the queue must hold one."""
    event = state.event_heap[0]
    state.event_place[event] = -1
    state.counter[EVENTS] -= 1
    last = state.counter[EVENTS]
    if last > 0:
        state.event_heap[0] = state.event_heap[last]
        state.event_place[state.event_heap[0]] = 0
        _sink(state, 0)
    return event
