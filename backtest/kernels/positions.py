"""Positions in their slots: an account holds each instrument at most once."""

from __future__ import annotations

from backtest.cache import compiled
from backtest.kernels.state import (
    State,
)


@compiled()
def find_slot(state: State, account: int, instrument: int) -> int:
    """Return the slot in which an account holds an instrument, or -1."""
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        if state.instrument[slot] == instrument:
            return slot
    return -1


@compiled()
def change_position(
    state: State, account: int, instrument: int, quantity: float, count_holders: bool
) -> None:
    """Add contracts to a position; a position of exactly nothing gives its slot back."""
    slot = find_slot(state, account, instrument)
    if slot < 0:
        slot = state.start[account] + state.count[account]
        state.count[account] += 1
        state.instrument[slot] = instrument
        state.quantity[slot] = quantity
        if count_holders:
            state.holders[instrument] += 1
        return
    state.quantity[slot] += quantity
    if state.quantity[slot] == 0.0:
        last = state.start[account] + state.count[account] - 1
        state.instrument[slot] = state.instrument[last]
        state.quantity[slot] = state.quantity[last]
        state.count[account] -= 1
        if count_holders:
            state.holders[instrument] -= 1
