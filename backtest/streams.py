"""One tape from assets that each keep time of their own: other bar lengths, irregular ticks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DataError
from backtest.instruments import InstrumentTable
from backtest.tape import MarketTape
from backtest.units import iso_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = ("mark", "depth_usd", "index", "high", "low", "funding", "volume_usd")
_POSITIVE = ("mark", "index", "high", "low")


@dataclass(frozen=True, eq=False)
class PriceStream:
    """What was recorded of one asset, at its own times; every array has shape ``(n,)``.

    Parameters
    ----------
    asset
        Name of the underlying.
    ts
        Ends of the bars, or instants of the ticks: milliseconds UTC, strictly ascending.
    mark
        Perpetual mark, US dollars.
    depth_usd
        Resting within 1 % of mid on one side.
    index
        Spot index, US dollars; the mark where it is not recorded.
    high, low
        Extremes of the bar that ends at each time; the mark where they are not recorded.
    funding
        Fraction of notional that longs pay since the time before; 0 where not recorded.
    volume_usd
        Traded since the time before; 0 where not recorded.
    known_ts
        When the venue could know each; at once where not recorded.

    Raises
    ------
    DataError
        If a clock or number is impossible; names asset, column and time.
    """

    asset: str
    ts: np.ndarray
    mark: np.ndarray
    depth_usd: np.ndarray
    index: np.ndarray | None = None
    high: np.ndarray | None = None
    low: np.ndarray | None = None
    funding: np.ndarray | None = None
    volume_usd: np.ndarray | None = None
    known_ts: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Refuse what could not have been recorded, before other streams hide where it was."""
        ts, known_ts = np.asarray(self.ts), self.known()
        if ts.ndim != 1 or not len(ts):
            raise DataError(f"the stream of {self.asset} is empty.")
        for i in np.flatnonzero(np.diff(ts) <= 0)[:1]:
            raise DataError(
                f"the stream of {self.asset} repeats or runs backwards at "
                f"{iso_utc(int(ts[i + 1]))} UTC."
            )
        for name in ("known_ts", *_COLUMNS):
            column = getattr(self, name)
            if column is not None and np.shape(column) != ts.shape:
                raise DataError(
                    f"{name} of the stream of {self.asset} has shape {np.shape(column)}, "
                    f"expected {ts.shape}."
                )
        late = np.diff(known_ts, prepend=known_ts[0])
        for i in np.flatnonzero((known_ts < ts) | (late < 0))[:1]:
            raise DataError(
                f"the stream of {self.asset} at {iso_utc(int(ts[i]))} UTC was known before it "
                "happened, or before what came before it."
            )
        for name in _COLUMNS:
            values = self.column(name)
            bad = ~np.isfinite(values)
            if name != "funding":
                bad |= values <= 0 if name in _POSITIVE else values < 0
            for i in np.flatnonzero(bad)[:1]:
                raise DataError(
                    f"{name} of the stream of {self.asset} at {iso_utc(int(ts[i]))} UTC is "
                    f"{values[i].item()}; it must be finite"
                    f"{' and positive' if name in _POSITIVE else ''}."
                )

    def column(self, name: str) -> np.ndarray:
        """Return a column, or what stands for it where it was not recorded."""
        values = getattr(self, name)
        if values is not None:
            return np.asarray(values, dtype=np.float64)
        absent = name in ("funding", "volume_usd")
        return np.zeros(len(self.ts)) if absent else np.asarray(self.mark, dtype=np.float64)

    def known(self) -> np.ndarray:
        """Return when each time's values could be known."""
        return np.asarray(self.ts if self.known_ts is None else self.known_ts, dtype=np.int64)


def interleave(
    streams: Sequence[PriceStream], instruments: InstrumentTable | None = None
) -> MarketTape:
    """Join streams into a tape that has a row wherever one of them has.

    Between its own times an asset's index, mark and depth hold their last value, its extremes
    are its mark, and it neither trades nor pays funding. A row is known when its last value is.

    Parameters
    ----------
    streams
        One per asset.
    instruments
        What is traded; one linear perpetual of one coin per asset if not given.

    Returns
    -------
    MarketTape
        Its first row is the first time at which every asset is known.

    Raises
    ------
    DataError
        If there is no stream, two of one asset, or one ends before another begins.
    """
    names = tuple(stream.asset for stream in streams)
    if not names:
        raise DataError("a tape needs the stream of at least one asset.")
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"there are two streams of {name}.")
    last_to_begin = max(streams, key=lambda stream: int(stream.ts[0]))
    begins = int(last_to_begin.ts[0])
    for stream in streams:
        if stream.ts[-1] < begins:
            raise DataError(
                f"the stream of {stream.asset} ends at {iso_utc(int(stream.ts[-1]))} UTC, before "
                f"the one of {last_to_begin.asset} begins at {iso_utc(begins)} UTC."
            )
    ts = np.unique(np.concatenate([stream.ts for stream in streams]).astype(np.int64))
    ts = ts[ts >= begins]
    known_ts = ts.copy()
    columns: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
    for stream in streams:
        held = np.searchsorted(stream.ts, ts, side="right") - 1
        own = np.asarray(stream.ts)[held] == ts
        known_ts = np.maximum(known_ts, stream.known()[held])
        for name in ("index", "mark", "depth_usd"):
            columns[name].append(stream.column(name)[held])
        for name in ("high", "low"):
            columns[name].append(
                np.where(own, stream.column(name)[held], stream.column("mark")[held])
            )
        for name in ("funding", "volume_usd"):
            columns[name].append(np.where(own, stream.column(name)[held], 0.0))
    if instruments is None:
        instruments = InstrumentTable.from_rows(
            [{"symbol": f"{name}-PERP", "asset": a} for a, name in enumerate(names)]
        )
    joined: dict[str, Any] = {name: np.column_stack(column) for name, column in columns.items()}
    return MarketTape(names, instruments, ts=ts, known_ts=known_ts, **joined)
