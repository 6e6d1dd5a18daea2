"""How the venue learns prices, and when it stops acting on them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backtest.rules.base import Rules, Windows
from backtest.units import DurationMs, Fraction


class Confidence(Rules):
    """Half-width of the oracle's own uncertainty, as a share of the price."""

    width: Fraction = Field(0.0, ge=0.0, le=1.0, description="half-width in a quiet bar")
    range_share: float = Field(
        0.0, ge=0.0, le=10.0, description="part of the bar's high-low range added to the half-width"
    )
    limit: Fraction | None = Field(
        None, gt=0.0, le=1.0, description="a wider price is not acted upon"
    )


class Oracle(Rules):
    """When a price is posted, how late it arrives, and how long it is good for."""

    latency: DurationMs = Field(0, ge=0, description="delay between a price and its use, ms")
    heartbeat: DurationMs | None = Field(
        None, gt=0, description="a price is posted at least this often, ms"
    )
    deviation: Fraction = Field(
        0.0, ge=0.0, le=1.0, description="a price is posted when it moved this far from the last"
    )
    confidence: Confidence = Confidence()
    outages: Windows = Field((), description="windows UTC in which nothing is posted")
    stale_after: DurationMs | None = Field(
        None, gt=0, description="an older post is stale, ms; never if not given"
    )
    when_stale: Literal["keep", "halt"] = Field(
        "halt",
        description="keep acting on a stale price, or halt the accounts that depend on it",
    )


class CircuitBreaker(Rules):
    """Trading stops for a while after a large move."""

    move: Fraction = Field(gt=0.0, le=1.0, description="move of the index that trips it")
    window: DurationMs = Field(300_000, gt=0, description="time within which it moved, ms")
    halt: DurationMs = Field(600_000, gt=0, description="how long trading stops, ms")


class Funding(Rules):
    """How often funding is charged, and at most how much of it."""

    interval: DurationMs | None = Field(
        None, gt=0, description="accruals are charged at multiples of this, ms; as recorded if not"
    )
    cap: Fraction | None = Field(
        None, ge=0.0, le=1.0, description="largest charge of one interval, share of notional"
    )


class Settlement(Rules):
    """What expired contracts are settled at."""

    average: DurationMs = Field(
        1_800_000, ge=0, description="the index is averaged over this long before expiry, ms"
    )
