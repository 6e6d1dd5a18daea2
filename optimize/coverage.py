"""What a window without a single event still allows."""

from __future__ import annotations

import math


def zero_event_upper_bound(trials: int, level: float = 0.95) -> float:
    """Return the share that ``trials`` without one event still allow, one-sided and exact.

    The share ``p`` at which ``trials`` independent trials show no event with probability
    ``1 - level``: ``1 - (1 - level) ** (1 / trials)``.

    Raises
    ------
    ValueError
        If there were no trials.
    """
    if trials <= 0:
        raise ValueError(f"{trials} trials bound nothing; there must be at least one")
    return float(-math.expm1(math.log1p(-level) / trials))
