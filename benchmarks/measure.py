"""Time competing functions fairly: interleaved repeats, medians, results compared first."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median processor seconds of each function, which all run in one thread.

    Parameters
    ----------
    runs
        Functions by name; each runs once to warm up, then all take turns, so that a slow
        minute of the machine falls on all of them.
    repeats
        Rounds.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            begin = time.thread_time()
            run()
            seconds[name].append(time.thread_time() - begin)
    return {name: statistics.median(times) for name, times in seconds.items()}
