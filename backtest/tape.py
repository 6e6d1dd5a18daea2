"""The market tape: what happened, and when the venue could know it.

A tape is a set of aligned, read-only arrays plus a sha256 digest. Row ``t`` describes the bar
that ended at ``ts[t]``. Every row has two clocks: ``ts``, when it happened, and ``known_ts``,
when the venue could know it; `MarketTape.upto` cuts it at what was known at an instant.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from backtest.errors import DataError, nearest
from backtest.events import EventTable
from backtest.instruments import OPTION, PERPETUAL, InstrumentTable
from backtest.units import iso_utc

Intrabar = Literal["close", "high_low"]
"""Whether only closes count, or each bar's extremes too."""
INTRABAR: tuple[Intrabar, ...] = get_args(Intrabar)

_PER_ROW_AND_ASSET = ("index", "mark", "high", "low", "funding", "volume_usd", "depth_usd")
_POSITIVE = ("index", "mark", "high", "low")
_NON_NEGATIVE = ("volume_usd", "depth_usd")


def array_digest(arrays: list[tuple[str, np.ndarray]], *labels: str) -> str:
    """Return the sha256 of names, dtypes, shapes and little-endian bytes, in order."""
    digest = hashlib.sha256("\0".join(labels).encode())
    for name, array in arrays:
        block = np.ascontiguousarray(array)
        if sys.byteorder != "little":
            block = block.astype(block.dtype.newbyteorder("<"))
        digest.update(f"{name}|{block.dtype.str}|{block.shape}|".encode())
        digest.update(block.tobytes())
    return digest.hexdigest()


def arrays_of(held: Any) -> list[tuple[str, np.ndarray]]:
    """List name and array of each field of a dataclass that holds one, in declaration order."""
    values = [(f.name, getattr(held, f.name)) for f in fields(held)]
    return [(name, value) for name, value in values if isinstance(value, np.ndarray)]


@dataclass(frozen=True)
class DataSource:
    """Where one feed of a tape came from, for the report's data inventory."""

    feed: str
    market: str
    start_ms: int
    end_ms: int
    rows: int
    sha256: str
    origin: str


@dataclass(frozen=True, eq=False)
class MarketTape:
    """Aligned market history of ``A`` assets, ``I`` instruments and ``T`` rows.

    Parameters
    ----------
    assets
        Names of the underlyings, length ``A``.
    instruments
        The instrument table, length ``I``.
    ts, known_ts
        ``(T,)`` int64 milliseconds UTC, ``ts`` strictly ascending, ``known_ts >= ts``.
    index, mark, high, low
        ``(T, A)`` US dollars: spot index, perpetual mark, and the bar's extremes.
    funding
        ``(T, A)`` fraction of notional that longs pay in ``(ts[t-1], ts[t]]``.
    volume_usd, depth_usd
        ``(T, A)`` traded in the bar, and resting within 1 % of mid on one side.
    vol_ts, vol_known_ts
        ``(S,)`` int64 instants of the option snapshots, ascending.
    iv
        ``(S, V)`` annualised implied volatility as a fraction; NaN before the first quote.
    forward_ratio
        ``(S, E)`` forward over index, one column per expiry.
    notes
        Plain sentences on what was missing or assumed; the report prints them.
    sources
        The data inventory.
    synthetic
        True where the market was simulated.
    intrabar
        Whether a replay passes through each bar's extremes before its close; see
        `backtest.intrabar`.
    signal_names
        Names of outside signals, length ``K``.
    signals
        ``(T, K)`` as last known at each row's ``known_ts``; NaN before the first. None where
        the tape carries none.
    events
        Announced events; None where the tape carries no calendar.
    """

    assets: tuple[str, ...]
    instruments: InstrumentTable
    ts: np.ndarray
    known_ts: np.ndarray
    index: np.ndarray
    mark: np.ndarray
    high: np.ndarray
    low: np.ndarray
    funding: np.ndarray
    volume_usd: np.ndarray
    depth_usd: np.ndarray
    vol_ts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    vol_known_ts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    iv: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    forward_ratio: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    notes: tuple[str, ...] = ()
    sources: tuple[DataSource, ...] = ()
    synthetic: bool = False
    intrabar: Intrabar = "close"
    signal_names: tuple[str, ...] = ()
    signals: np.ndarray | None = None
    events: EventTable | None = None

    def __post_init__(self) -> None:
        """Freeze the arrays and refuse what no market can have shown."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                dtype = np.int64 if f.name.endswith("ts") else np.float64
                frozen = np.ascontiguousarray(value, dtype=dtype)
                if frozen.flags.writeable:
                    frozen = frozen.view() if frozen is not value else frozen.copy()
                    frozen.flags.writeable = False
                object.__setattr__(self, f.name, frozen)
        if self.intrabar not in INTRABAR:
            raise DataError(
                f"tape intrabar {self.intrabar!r} is not a choice."
                f"{nearest(self.intrabar, INTRABAR)}"
            )
        self._check_rows()
        self._check_options()
        self._check_outside()

    def _check_rows(self) -> None:
        shape = (len(self.ts), len(self.assets))
        if shape[0] == 0 or shape[1] == 0:
            raise DataError("a market tape needs at least one row and one asset.")
        for name in _PER_ROW_AND_ASSET:
            array = getattr(self, name)
            if array.shape != shape:
                raise DataError(f"tape {name} has shape {array.shape}, expected {shape}.")
            bad = ~np.isfinite(array)
            if name in _POSITIVE:
                bad |= array <= 0
            elif name in _NON_NEGATIVE:
                bad |= array < 0
            for row, column in np.argwhere(bad)[:1]:
                raise DataError(
                    f"tape {name} of {self.assets[column]} at {iso_utc(int(self.ts[row]))} UTC is "
                    f"{array[row, column].item()}; it must be finite"
                    f"{' and positive' if name in _POSITIVE else ''}."
                )
        _check_clock("row", self.ts, self.known_ts)

    def _check_options(self) -> None:
        snapshots = len(self.vol_ts)
        _check_clock("option snapshot", self.vol_ts, self.vol_known_ts)
        if self.iv.shape[0] != snapshots or self.forward_ratio.shape[0] != snapshots:
            raise DataError(
                f"tape iv has {self.iv.shape[0]} and forward_ratio {self.forward_ratio.shape[0]} "
                f"rows for {snapshots} option snapshots."
            )
        if np.any(np.isinf(self.iv)) or np.any(self.iv <= 0):
            raise DataError("tape iv holds a value that is infinite or not positive.")
        if not np.all(np.isfinite(self.forward_ratio)) or np.any(self.forward_ratio <= 0):
            raise DataError("tape forward_ratio holds a value that is not finite and positive.")
        table = self.instruments
        if len(table) and (table.asset.min() < 0 or table.asset.max() >= len(self.assets)):
            raise DataError("an instrument refers to an asset that the tape lacks.")
        option = table.kind == OPTION
        if option.any():
            if snapshots == 0:
                raise DataError("the tape lists options but holds no option snapshot.")
            if table.iv_column.max() >= self.iv.shape[1]:
                raise DataError("an option refers to an iv column that the tape lacks.")
        dated = table.kind != PERPETUAL
        if dated.any():
            if snapshots == 0:
                raise DataError("the tape lists dated futures but holds no snapshot of forwards.")
            if table.expiry_column[dated].max() >= self.forward_ratio.shape[1]:
                raise DataError("an instrument refers to an expiry column that the tape lacks.")

    def _check_outside(self) -> None:
        named, held = len(self.signal_names), self.signals
        shape = None if held is None else held.shape
        if shape != ((len(self.ts), named) if named else None):
            raise DataError(f"tape signals have shape {shape} for {named} names.")
        if held is not None and np.any(np.isinf(held)):
            raise DataError("tape signals hold a value that is infinite.")
        if self.events is not None and self.events.concerns.shape[1] != len(self.assets):
            raise DataError(
                f"tape events concern {self.events.concerns.shape[1]} assets of {len(self.assets)}."
            )

    def signal(self, name: str) -> np.ndarray:
        """Return an outside signal as last known at each row, ``(T,)``; NaN before the first.

        Raises
        ------
        DataError
            If the tape does not carry it.
        """
        if self.signals is None or name not in self.signal_names:
            raise DataError(
                f"the tape carries no signal {name!r}; add it to market.signals."
                f"{nearest(name, self.signal_names)}"
            )
        return np.asarray(self.signals[:, self.signal_names.index(name)])

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.ts)

    @cached_property
    def digest(self) -> str:
        """Sha256 of everything a replay can read; notes and sources are not part of it."""
        table = [(f"instruments.{name}", array) for name, array in self.instruments.arrays()]
        labels = (*self.assets, *self.instruments.symbols)
        if self.intrabar != "close":
            labels += (f"intrabar={self.intrabar}",)
        labels += tuple(f"signal={name}" for name in self.signal_names)
        if self.events is not None:
            table += [(f"events.{name}", array) for name, array in self.events.arrays()]
            labels += tuple(f"calendar={name}" for name in self.events.calendars)
        return array_digest(arrays_of(self) + table, *labels)

    def upto(self, now_ms: int) -> MarketTape:
        """Return the part of the tape that the venue could know at an instant.

        Parameters
        ----------
        now_ms
            Milliseconds UTC.

        Returns
        -------
        MarketTape
            Views of the rows and option snapshots with ``known_ts <= now_ms``.

        Raises
        ------
        DataError
            If nothing was known yet.
        """
        rows = int(np.searchsorted(np.maximum.accumulate(self.known_ts), now_ms, side="right"))
        snapshots = int(
            np.searchsorted(np.maximum.accumulate(self.vol_known_ts), now_ms, side="right")
        )
        return self.head(rows, snapshots)

    def head(self, rows: int, snapshots: int | None = None) -> MarketTape:
        """Return the first rows (and option snapshots) as views of the same memory."""
        last = self.known_ts[rows - 1] if rows else -1
        if snapshots is None:
            snapshots = int(np.searchsorted(self.vol_known_ts, last, side="right"))
        changes: dict[str, Any] = {name: getattr(self, name)[:rows] for name in _PER_ROW_AND_ASSET}
        if self.signals is not None:
            changes["signals"] = self.signals[:rows]
        if self.events is not None:
            changes["events"] = self.events.upto(int(last))
        if snapshots == 0 and self.forward_ratio.shape[1]:
            # A tape with expiries always shows at least one snapshot; before the first one
            # was known, its volatilities are unknown, not absent.
            changes |= {
                "vol_ts": self.vol_ts[:1],
                "vol_known_ts": self.vol_known_ts[:1],
                "iv": np.full((1, self.iv.shape[1]), np.nan),
                "forward_ratio": np.ones((1, self.forward_ratio.shape[1])),
            }
        else:
            for name in ("vol_ts", "vol_known_ts", "iv", "forward_ratio"):
                changes[name] = getattr(self, name)[:snapshots]
        return replace(self, ts=self.ts[:rows], known_ts=self.known_ts[:rows], **changes)

    def rows_between(self, start_ms: int, end_ms: int) -> slice:
        """Return the slice of rows with ``start_ms <= ts < end_ms``.

        Raises
        ------
        DataError
            If the window holds no row; the sentence names the tape's own span.
        """
        first = int(np.searchsorted(self.ts, start_ms, side="left"))
        last = int(np.searchsorted(self.ts, end_ms, side="left"))
        if first >= last:
            raise DataError(
                f"the window {iso_utc(start_ms)} to {iso_utc(end_ms)} UTC holds no row of the "
                f"tape, which spans {iso_utc(int(self.ts[0]))} to {iso_utc(int(self.ts[-1]))} UTC."
            )
        return slice(first, last)


def _check_clock(what: str, ts: np.ndarray, known_ts: np.ndarray) -> None:
    if ts.shape != known_ts.shape:
        raise DataError(f"{what} clocks differ in length: {len(ts)} and {len(known_ts)}.")
    for i in np.flatnonzero(np.diff(ts) <= 0)[:1]:
        word = "repeats" if ts[i + 1] == ts[i] else "runs backwards at"
        raise DataError(f"the tape's {what} clock {word} {iso_utc(int(ts[i + 1]))} UTC.")
    for i in np.flatnonzero(known_ts < ts)[:1]:
        raise DataError(
            f"the {what} of {iso_utc(int(ts[i]))} UTC claims to be known before it happened."
        )
    for i in np.flatnonzero(np.diff(known_ts) < 0)[:1]:
        raise DataError(
            f"the {what} of {iso_utc(int(ts[i + 1]))} UTC was known before the one before it."
        )
