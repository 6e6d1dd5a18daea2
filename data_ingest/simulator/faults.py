"""Requests that fail on purpose, in a known order, so that a client's recovery can be tested."""

from __future__ import annotations

from itertools import cycle
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FaultKind = Literal["429", "418", "500", "502", "empty", "html", "malformed", "truncated", "reset"]


class FaultPlan(BaseModel):
    """Which requests fail and how, so that a client's recovery can be tested.

    Only exchange paths fail, never the clock. Faults come in turn: the first failing request
    gets the first kind, and so on round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(3, ge=1, description="every n-th exchange request fails")
    kinds: tuple[FaultKind, ...] = Field(
        ("429", "502", "truncated", "empty", "malformed"), min_length=1
    )
    limit: int | None = Field(None, ge=0, description="stop after so many faults; null: never")
    retry_after_s: int = Field(1, ge=0, description="Retry-After header of a 429 or 418")


class FaultSchedule:
    """Hands out a plan's faults as requests come in."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._kinds = cycle(plan.kinds)
        self._seen = self._failed = 0

    def next(self) -> FaultKind | None:
        """Return how the next request fails, or None."""
        self._seen += 1
        spent = self.plan.limit is not None and self._failed >= self.plan.limit
        if spent or self._seen % self.plan.every:
            return None
        self._failed += 1
        return next(self._kinds)
