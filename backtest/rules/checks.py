"""When margin is checked, called, paid and taken home."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backtest.rules.base import Rules
from backtest.units import DurationMs


class Trigger(Rules):
    """The cheap linear check that decides whether the full one is made."""

    level: float = Field(
        1.1, ge=0.0, le=10.0, description="full check below this multiple of the last known margin"
    )
    refresh: DurationMs = Field(
        3_600_000, ge=0, description="a full check is made at least this often, ms"
    )


class MarginCheck(Rules):
    """How often the venue compares equity with margin."""

    mode: Literal["full", "trigger"] = Field(
        "full", description="full calculation every time, or after a linear trigger"
    )
    trigger: Trigger = Trigger()
    every: DurationMs = Field(0, ge=0, description="least time between two checks of all, ms")
    near_expiry: DurationMs = Field(
        0, ge=0, description="within this long before an expiry every event is checked, ms"
    )


class MarginCall(Rules):
    """When an account is asked for more, and how long it has."""

    level: float = Field(
        1.25, ge=1.0, le=10.0, description="call below this multiple of maintenance margin"
    )
    deadline: DurationMs = Field(
        14_400_000, ge=0, description="time until an unpaid call is enforced, ms"
    )


class Withdrawals(Rules):
    """What may leave the venue."""

    gated_by_deficit: bool = Field(
        False, description="nothing leaves while a deficit is uncovered, as at dYdX"
    )
