"""Who carries out a liquidation, when, and whether anybody wants to."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.state import BLOCK_USED, FREE_BLOCK
from backtest.venue import UNLIMITED


@compiled()
def _end_of_outage(venue: Any, time_ms: int) -> int:
    start, end = venue.outage_start_ms, venue.outage_end_ms
    for k in range(start.shape[0]):
        if start[k] <= time_ms < end[k]:
            time_ms = end[k]
    return time_ms


@compiled()
def keeper_time(world: Any, time_ms: int) -> int:
    """Reserve the first instant from a time on at which a keeper is free; return it.

    A block of time holds a limited number of liquidations; nobody works in an outage.
    """
    venue, counter = world.venue, world.state.counter
    if venue.keeper_capacity >= UNLIMITED:
        return _end_of_outage(venue, time_ms)
    length = int(venue.keeper_block_ms)
    while True:
        time_ms = _end_of_outage(venue, time_ms)
        block = time_ms // length
        if block < counter[FREE_BLOCK]:
            time_ms = counter[FREE_BLOCK] * length
            continue
        if block > counter[FREE_BLOCK]:
            counter[FREE_BLOCK] = block
            counter[BLOCK_USED] = 0
        if counter[BLOCK_USED] >= venue.keeper_capacity:
            counter[FREE_BLOCK] += 1
            counter[BLOCK_USED] = 0
            time_ms = counter[FREE_BLOCK] * length
            continue
        counter[BLOCK_USED] += 1
        return time_ms
