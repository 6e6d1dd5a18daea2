"""Walking an account's legs asset by asset, without memory to keep a sum per asset in."""

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
