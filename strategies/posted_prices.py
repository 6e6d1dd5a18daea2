"""Prices that venues keep beside the oracle's, so that a short spike lends nobody anything.

Health counts what is held at the lower, and what is owed at the higher, of the oracle's price
and one of these. All are causal: row ``t`` reads rows ``<= t``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import BeforeValidator

from backtest.kernels.black76 import STRICT
from backtest.settings import TIME
from backtest.units import MS_PER_HOUR
from strategies.choice import Choice, read_choice
from strategies.knobs import Knob, knob

if TYPE_CHECKING:
    from backtest.tape import MarketTape

DELAYS = 24
"""Hourly prices that a stable price remembers."""
LONGEST_STEP_MS = 600_000
"""A stable price follows as if it were updated at least so often."""


class Oracle(Choice):
    """The index itself: no second price."""

    name: ClassVar[str] = "oracle"

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return the index, ``(T, A)``, USD."""
        return tape.index


class Average(Choice):
    """A moving average in which an older average fades over its window (Drift's five minutes).

    After ``dt``: ``(old * max(window - dt, 0) + price * min(dt, window)) / window``.
    """

    name: ClassVar[str] = "average"

    window: Knob = knob("5min", low="1s", high="7d", unit=TIME, doc="over which it averages")

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return the average of the index, ``(T, A)``, USD."""
        return np.asarray(_average(tape.ts, tape.index, self.window))


class Stable(Choice):
    """A price that follows the oracle at a limited speed, slower far from a day ago (Mango v4).

    A *delay price* is the oracle's hourly average of a day ago, moved by at most
    ``delay_growth`` from one hour to the next. The stable price moves towards the oracle by at
    most ``growth`` a second times the square of its ratio to the delay price, or of the inverse,
    whichever is below one. Between rows the oracle is taken to stand at the row before.
    """

    name: ClassVar[str] = "stable"

    growth: Knob = knob(
        "0.03%", low="0.0001%", high="10%", unit="of price", doc="fastest move in a second"
    )
    delay_growth: Knob = knob(
        "6%", low="0.1%", high="100%", unit="of price", doc="fastest move of the delay in an hour"
    )

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return the stable price, ``(T, A)``, USD."""
        return np.asarray(_stable(tape.ts, tape.index, self.growth, self.delay_growth))


POSTED_PRICES: tuple[type[Any], ...] = (Oracle, Average, Stable)
PostedPrice = Annotated[
    Oracle | Average | Stable, BeforeValidator(read_choice("posted price", POSTED_PRICES))
]
"""The field type of a policy's ``posted_price``."""


@numba.njit(**STRICT)
def _average(ts: np.ndarray, index: np.ndarray, window_ms: float) -> np.ndarray:
    average = np.empty_like(index)
    for a in range(index.shape[1]):
        for t in range(len(ts)):
            if t == 0:
                average[t, a] = index[t, a]
                continue
            fresh = min(float(ts[t] - ts[t - 1]), window_ms)
            kept = window_ms - fresh
            average[t, a] = (average[t - 1, a] * kept + index[t, a] * fresh) / window_ms
    return average


@numba.njit(**STRICT)
def _toward(target: float, before: float, limit: float) -> float:
    return min(max(target, before * (1.0 - limit)), before * (1.0 + limit))


@numba.njit(**STRICT)
def _stable(ts: np.ndarray, index: np.ndarray, growth: float, delay_growth: float) -> np.ndarray:
    out = np.empty_like(index)
    delays = np.empty(DELAYS)
    for a in range(index.shape[1]):
        stable = index[0, a] if len(ts) else 0.0
        delays[:] = stable
        summed = 0.0
        summed_ms = 0
        place = ts[0] // MS_PER_HOUR % DELAYS if len(ts) else 0
        for t in range(len(ts)):
            now = ts[t - 1] if t > 0 else ts[t]
            while now < ts[t]:
                step_ms = min(LONGEST_STEP_MS, ts[t] - now)
                now += step_ms
                price = index[t, a] if now == ts[t] else index[t - 1, a]
                summed += price * step_ms
                summed_ms += step_ms
                if now // MS_PER_HOUR % DELAYS != place:
                    # The oldest of them is overwritten, with the last hour's average.
                    mean = summed / summed_ms
                    delays[place] = _toward(mean, delays[place - 1], delay_growth)
                    place = now // MS_PER_HOUR % DELAYS
                    summed = 0.0
                    summed_ms = 0
                near = min(stable / delays[place], delays[place] / stable)
                stable = _toward(price, stable, growth * near * near * (step_ms / 1_000))
            out[t, a] = stable
    return out
