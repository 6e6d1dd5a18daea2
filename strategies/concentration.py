"""Concentration add-on: more margin for who holds more than a market could take.

Measured against the venue's open interest, the depth of its book, or what has been traded; each
is a share that is free of charge, and of several the least is. The law is
`strategies.kernels.concentration`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from backtest.settings import TIME
from strategies.kernels.concentration import concentration
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Concentration(AddOn):
    """Charge net notional beyond a share of open interest, of depth, or of traded volume."""

    name: ClassVar[str] = "concentration"
    requirement = concentration
    needs: ClassVar[tuple[Need, ...]] = ("prices", "open interest", "depth", "volume")
    scale_law: ClassVar[ScaleLaw | None] = "superlinear"
    nets: ClassVar[Netting] = "portfolio"

    share_of_open_interest: Knob | None = knob(
        "10%",
        low="0.1%",
        high="100%",
        unit="of open interest",
        doc="free of charge",
        log=True,
        stress="down",
    )
    share_of_depth: Knob | None = Field(
        None, ge=0.01, le=100.0, description="free of charge",
        json_schema_extra={"unit": "of depth", "log": True, "stress": "down"},
    )  # fmt: skip
    share_of_volume: Knob | None = Field(
        None, ge=0.001, le=10.0, description="free of charge",
        json_schema_extra={"unit": "of volume", "log": True, "stress": "down"},
    )  # fmt: skip
    volume_window: Knob = knob(
        "1d", low="1h", high="30d", unit=TIME, doc="over which volume is added up"
    )
    charge: Knob = knob(
        "10%",
        low=0,
        high="100%",
        unit="of notional",
        doc="rate on what lies beyond the share",
        stress="up",
    )
    least_open_interest: Knob = knob(
        1e6,
        low=0,
        high=1e10,
        unit="USD",
        doc="open interest is taken to be at least this much",
        stress="down",
    )

    @model_validator(mode="after")
    def _measures_something(self) -> Concentration:
        if (self.share_of_open_interest, self.share_of_depth, self.share_of_volume) == (None,) * 3:
            raise ValueError(
                "is measured against nothing; give share_of_open_interest, share_of_depth or "
                "share_of_volume"
            )
        return self

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return what depth and volume leave free, ``(T, A)`` USD; ``(T, 0)`` without them."""
        limits = []
        if self.share_of_depth is not None:
            limits.append(self.share_of_depth * tape.depth_usd)
        if self.share_of_volume is not None:
            traded = rolling_volume_usd(tape.ts, tape.volume_usd, self.volume_window)
            limits.append(self.share_of_volume * traded)
        return np.min(limits, axis=0) if limits else np.empty((len(tape), 0))

    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Post share, rate and least open interest, then the limits: ``(T, 3)`` or more."""
        row = [self.share_of_open_interest or 0.0, self.charge, self.least_open_interest]
        return np.hstack([np.tile(row, (len(signals), 1)), signals])


def rolling_volume_usd(ts: np.ndarray, volume_usd: np.ndarray, window_ms: float) -> np.ndarray:
    """Return what was traded in the window that ends at each row.

    Parameters
    ----------
    ts
        ``(T,)`` milliseconds UTC, ascending.
    volume_usd
        ``(T, A)``, traded since the row before.
    window_ms
        Rows in ``(ts[t] - window_ms, ts[t]]`` count.

    Returns
    -------
    numpy.ndarray
        ``(T, A)``. While the tape is shorter than the window, what was traded since its first
        row is scaled up to it; the first row stands for itself.
    """
    total = np.cumsum(volume_usd, axis=0)
    seen_ms = (ts - ts[0]).astype(np.float64)
    young = (seen_ms > 0.0) & (seen_ms < window_ms)
    before = np.searchsorted(ts, ts - window_ms, side="right") - 1
    before[young] = 0  # what the first row brought was traded before the tape began
    start = np.where((before < 0)[:, None], 0.0, total[np.maximum(before, 0)])
    scale = np.where(young, window_ms / np.where(young, seen_ms, 1.0), 1.0)
    return np.asarray(np.maximum(total - start, 0.0) * scale[:, None])
