"""Positions in their slots: an account holds each instrument at most once."""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.cache import compiled
from backtest.kernels.state import GROSS_STALE, LIST_STALE, NEVER, STATE


@compiled()
def find_slot(state: Any, account: int, instrument: int) -> int:
    """Return the slot in which an account holds an instrument, or -1."""
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        if state.instrument[slot] == instrument:
            return slot
    return -1


@compiled()
def entry_after(held: float, entry: float, quantity: float, unit: float) -> float:
    """Return the mean unit value at which a position was entered, after trading more of it.

    Adding moves the mean, reducing leaves it, and what goes through zero starts anew.
    """
    if held == 0.0 or held * quantity > 0.0:
        return (held * entry + quantity * unit) / (held + quantity)
    if abs(quantity) > abs(held):
        return unit
    return entry


@compiled(types.void(STATE, types.int64, types.int64, types.float64, types.float64, types.boolean))
def add_contracts(
    state: Any, account: int, instrument: int, quantity: float, unit: float, real: bool
) -> None:
    """Add contracts to a position; a position of exactly nothing gives its slot back.

    On the spare account, ``real`` is off and nobody is counted as a holder.
    """
    if real:
        state.anchor_ts[account] = NEVER
        state.counter[LIST_STALE] = 1
        state.counter[GROSS_STALE] = 1
    slot = find_slot(state, account, instrument)
    if slot < 0:
        slot = state.start[account] + state.count[account]
        state.count[account] += 1
        state.instrument[slot] = instrument
        state.quantity[slot] = quantity
        state.entry[slot] = unit
        if real:
            state.holders[instrument] += 1
        return
    state.entry[slot] = entry_after(state.quantity[slot], state.entry[slot], quantity, unit)
    state.quantity[slot] += quantity
    if state.quantity[slot] == 0.0:
        last = state.start[account] + state.count[account] - 1
        state.instrument[slot] = state.instrument[last]
        state.quantity[slot] = state.quantity[last]
        state.entry[slot] = state.entry[last]
        state.count[account] -= 1
        if real:
            state.holders[instrument] -= 1
