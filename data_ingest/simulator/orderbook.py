"""An order book whose resting size within one percent of mid is the market's depth."""

from __future__ import annotations

import numpy as np

LEVELS_PER_PERCENT = 450
LEVELS = 2 * LEVELS_PER_PERCENT
STEEPNESS = 1.2
"""Cumulative size grows with distance to this power: books are thinnest at the touch."""


def ladder(mid_usd: float, depth_usd: float, tick_usd: float) -> tuple[np.ndarray, np.ndarray]:
    """Build both sides of a book, best level first.

    Parameters
    ----------
    mid_usd
        Middle price.
    depth_usd
        Resting size within 1 % of mid on each side, USD.
    tick_usd
        Price step.

    Returns
    -------
    tuple of numpy.ndarray
        Bids and asks ``[levels, 2]``: price and size in USD, reaching to 2 % from mid. Levels
        that fall on one tick are merged.
    """
    edges = np.arange(LEVELS + 1) / LEVELS_PER_PERCENT
    sizes = depth_usd * np.diff(edges**STEEPNESS)
    # Size sits in the middle of its band, so the first percent holds exactly `depth_usd`.
    distance = 0.01 * 0.5 * (edges[:-1] + edges[1:])
    return (
        _merge(np.floor(mid_usd * (1 - distance) / tick_usd), sizes, tick_usd)[::-1],
        _merge(np.ceil(mid_usd * (1 + distance) / tick_usd), sizes, tick_usd),
    )


def _merge(ticks: np.ndarray, sizes: np.ndarray, tick_usd: float) -> np.ndarray:
    levels, where = np.unique(ticks, return_inverse=True)
    return np.column_stack((levels * tick_usd, np.bincount(where, weights=sizes)))
