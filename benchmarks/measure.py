"""Time competing functions fairly: interleaved repeats, medians, results compared first."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Measurement:
    """One line of the table; ``ratio`` is ours over the rival's, larger is better.

    ``aim`` is of the ratio where there is one, else of the value; ``at_most`` tells that smaller
    is better. Without a value nothing was measured, and ``unit`` says why.
    """

    name: str
    value: float | None
    unit: str
    ratio: float | None = None
    aim: float | None = None
    at_most: bool = False


def met(line: Measurement) -> bool | None:
    """Tell whether a measurement reaches its aim; None where it has none."""
    measured = line.value if line.ratio is None else line.ratio
    if line.aim is None or measured is None:
        return None
    return measured <= line.aim if line.at_most else measured >= line.aim


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


def peak_mb() -> float:
    """Return the most memory that this process ever held, in megabytes.

    Linux counts in ``ru_maxrss`` also what the parent held when it started the process, so its
    own high-water mark is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
