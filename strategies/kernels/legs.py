"""Walking accounts' legs: what is stale among them, and asset by asset without memory for sums."""

from __future__ import annotations

import numba
import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.types import Holdings, Market

ASSETS_PER_WORD = 64
"""Assets are looked at in blocks of as many as a word has bits."""


@numba.extending.register_jitable(**INLINED)
def assets_held(market: Market, holdings: Holdings, first: int, last: int, block: int) -> np.uint64:
    """Return a word whose bit ``k`` tells whether some slots hold asset ``block + k``."""
    held = np.uint64(0)
    for slot in range(first, last):
        place = np.uint64(market.asset[np.uint64(holdings.instrument[slot])] - block)
        inside = np.uint64(place < np.uint64(ASSETS_PER_WORD))
        held |= inside << (place & np.uint64(ASSETS_PER_WORD - 1))
    return held


@numba.extending.register_jitable(**INLINED)
def net_notional_usd(
    market: Market, holdings: Holdings, first: int, last: int, asset: int, options: float
) -> float:
    """Return the net notional of an asset in some slots, in USD; options count by a factor."""
    net = 0.0
    for slot in range(first, last):
        i = np.uint64(holdings.instrument[slot])
        # Factors, for a branch on what the next leg is no processor can foresee.
        counts = options if market.kind[i] == OPTION else 1.0
        counts = counts if market.asset[i] == asset else 0.0
        net += holdings.quantity[slot] * market.notional_usd[i] * counts
    return net


@numba.extending.register_jitable(**INLINED)
def list_stale(
    scratch_tick: np.ndarray,
    now: int,
    holdings: Holdings,
    accounts: np.ndarray,
    listed: np.ndarray,
) -> int:
    """List the instruments of some accounts whose scratch row is of another tick; count them.

    They are stamped as of now: whoever asks has to fill their rows.
    """
    start, count, instrument = holdings.start, holdings.count, holdings.instrument
    stale, missing = 0, 0
    for tick in scratch_tick:
        missing += tick != now
    for account in accounts:
        if stale == missing:
            break
        first = np.uint64(start[account])
        for slot in range(first, first + np.uint64(count[account])):
            i = np.uint64(instrument[slot])
            if scratch_tick[i] != now:
                scratch_tick[i] = now
                listed[stale] = i
                stale += 1
    return stale
