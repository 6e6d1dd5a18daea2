"""What all rules share: frozen, no unknown keys, and windows of time."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from backtest.units import UtcMs


class Rules(BaseModel):
    """A group of rules; an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _ascending(windows: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    last = None
    for start, end in windows:
        if end <= start:
            raise ValueError("must end after it starts")
        if last is not None and start < last:
            raise ValueError("must be in order of time and must not overlap")
        last = end
    return windows


Windows = Annotated[tuple[tuple[UtcMs, UtcMs], ...], AfterValidator(_ascending)]
"""Half-open windows of time, in order, as ``[2020-03-12T10:00, 2020-03-12T11:00]``."""
