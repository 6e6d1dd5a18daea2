"""Update rules: when a policy's wished-for parameters become the posted ones.

A model may change its mind at every row of the tape; a venue does not. An update rule turns
the path that a policy wishes for into the path that is in force.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import BeforeValidator

from backtest.kernels.black76 import STRICT
from backtest.settings import TIME
from strategies.choice import Choice, read_choice
from strategies.knobs import Knob, knob

UNCAPPED = 100.0
"""A step of 10,000 % or more is no cap."""


class Continuous(Choice):
    """Every wish is in force at once: what a venue without governance or gas could do."""

    name: ClassVar[str] = "continuous"

    def post(self, ts: np.ndarray, wished: np.ndarray) -> np.ndarray:
        """Return the wished-for path itself, ``(T, P)``."""
        return wished


class Keeper(Choice):
    """A bot posts a parameter when it has moved far enough; the post takes time and is capped.

    Each parameter is posted for itself. While a post is in flight no other is sent for the
    same parameter. The first row's wish is in force from the start.
    """

    name: ClassVar[str] = "keeper"

    threshold: Knob = knob(
        "5%", low=0, high=10, unit="relative", doc="post when the wish is off by more"
    )
    latency: Knob = knob(
        "0s", low="0s", high="7d", unit=TIME, doc="from a decision until it is in force"
    )
    max_step: Knob = knob(
        UNCAPPED, low="0.1%", high=UNCAPPED, unit="relative", doc="largest change of one post"
    )

    def post(self, ts: np.ndarray, wished: np.ndarray) -> np.ndarray:
        """Return the posted path.

        Parameters
        ----------
        ts
            ``(T,)`` milliseconds UTC, ascending.
        wished
            ``(T, P)`` what the policy would post at each row.

        Returns
        -------
        numpy.ndarray
            ``(T, P)``; row ``t`` depends on rows ``<= t`` only. A parameter that stands at
            zero has no relative size and moves to its wish in one step.
        """
        cap = self.max_step if self.max_step < UNCAPPED else math.inf
        wished = np.ascontiguousarray(wished, dtype=np.float64)
        return np.asarray(_post(ts, wished, self.threshold, self.latency, cap))


@numba.njit(**STRICT)
def _post(
    ts: np.ndarray, wished: np.ndarray, threshold: float, latency_ms: float, max_step: float
) -> np.ndarray:
    posted = np.empty_like(wished)
    for p in range(wished.shape[1]):
        in_force = wished[0, p] if len(ts) else 0.0
        flying = False
        due_ms = 0.0
        landing = 0.0
        for t in range(len(ts)):
            if flying and ts[t] >= due_ms:
                in_force = landing
                flying = False
            gap = abs(wished[t, p] - in_force)
            if not flying and gap > threshold * abs(in_force):
                step = max_step * abs(in_force)
                landing = wished[t, p]
                if in_force != 0.0 and gap > step:
                    landing = in_force + (step if landing > in_force else -step)
                if latency_ms == 0.0:
                    in_force = landing
                else:
                    flying = True
                    due_ms = ts[t] + latency_ms
            posted[t, p] = in_force
    return posted


UPDATE_RULES: tuple[type[Any], ...] = (Continuous, Keeper)
UpdateRule = Annotated[
    Continuous | Keeper, BeforeValidator(read_choice("update rule", UPDATE_RULES))
]
"""The field type of a policy's ``update``."""
