"""The instrument table: perpetuals, dated futures, European options; linear or settled in coin.

An instrument's *unit value* is what one contract adds to an account, in its settlement
currency. Trading ``q`` contracts at unit value ``u`` moves ``-q*u`` of cash, so profit and
loss needs no entry price, and one rule serves them all:

==================  ==============================  ===================
instrument          unit value                      settlement currency
==================  ==============================  ===================
linear perpetual    ``size * mark``                 USD
inverse perpetual   ``-size / mark``                coin
linear future       ``size * forward``              USD
inverse future      ``-size / forward``             coin
linear option       ``size * black76``              USD
inverse option      ``size * black76 / forward``    coin
==================  ==============================  ===================

``size`` is coins per contract, except for the inverse perpetual and future, where it is US
dollars. A perpetual's price is its mark; a dated contract's is the forward of its expiry.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DataError
from backtest.units import iso_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

PERPETUAL = 0
OPTION = 1
FUTURE = 2
NEVER_MS = 2**62
"""Expiry of an instrument that has none."""

_COLUMNS: dict[str, Any] = {
    "asset": np.int32,
    "kind": np.int8,
    "inverse": np.int8,
    "contract_size": np.float64,
    "strike": np.float64,
    "is_call": np.int8,
    "listed_ms": np.int64,
    "expiry_ms": np.int64,
    "iv_column": np.int32,
    "expiry_column": np.int32,
}
_MUST_BE = {
    "kind": "0 (perpetual), 1 (option) or 2 (dated future)",
    "contract_size": "above 0 coins (US dollars where a perpetual or future is inverse)",
    "expiry_ms": "the instant at which the future is settled, milliseconds UTC",
    "strike": "above 0 USD",
    "iv_column": "a column of the tape's iv, 0 or more",
    "expiry_column": "a column of the tape's forward_ratio, 0 or more",
}


@dataclass(frozen=True, eq=False)
class InstrumentTable:
    """Static facts of every instrument of a tape; all arrays have shape ``(I,)``.

    Parameters
    ----------
    symbols
        Unique names, for example ``BTC-PERP`` or ``BTC-28MAR25-50000-C``.
    asset
        Column of the underlying in the tape's ``assets``.
    kind
        ``PERPETUAL``, ``OPTION`` or ``FUTURE``.
    inverse
        1 where the contract settles in coin, else 0.
    contract_size
        Coins per contract; US dollars per contract for inverse perpetuals and futures.
    strike
        US dollars; 0 for what is no option.
    is_call
        1 for calls, 0 for puts and for what is no option.
    listed_ms, expiry_ms
        First and last instant of life, milliseconds UTC; ``NEVER_MS`` for no expiry.
    iv_column, expiry_column
        Columns in the tape's ``iv``, for options, and ``forward_ratio``, for all that
        expires; -1 for others.
    """

    symbols: tuple[str, ...]
    asset: np.ndarray
    kind: np.ndarray
    inverse: np.ndarray
    contract_size: np.ndarray
    strike: np.ndarray
    is_call: np.ndarray
    listed_ms: np.ndarray
    expiry_ms: np.ndarray
    iv_column: np.ndarray
    expiry_column: np.ndarray

    def __post_init__(self) -> None:
        """Freeze the arrays and refuse a table that contradicts itself."""
        count = len(self.symbols)
        for name, dtype in _COLUMNS.items():
            column = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if column.shape != (count,):
                raise DataError(
                    f"instrument column {name} has shape {column.shape}, expected ({count},)."
                )
            column = column.copy()
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        if len(set(self.symbols)) != count:
            twice = next(s for s in self.symbols if self.symbols.count(s) > 1)
            raise DataError(f"instrument {twice!r} is listed twice.")
        self._refuse((self.kind < PERPETUAL) | (self.kind > FUTURE), "kind")
        self._refuse(~np.isfinite(self.contract_size) | (self.contract_size <= 0), "contract_size")
        option, future = self.kind == OPTION, self.kind == FUTURE
        self._refuse(option & ~(np.isfinite(self.strike) & (self.strike > 0)), "strike")
        self._refuse(option & (self.iv_column < 0), "iv_column")
        self._refuse((option | future) & (self.expiry_column < 0), "expiry_column")
        self._refuse(future & (self.expiry_ms >= NEVER_MS), "expiry_ms")
        for i in np.flatnonzero(self.expiry_ms <= self.listed_ms)[:1]:
            raise DataError(
                f"instrument {self.symbols[i]}: expiry {iso_utc(int(self.expiry_ms[i]))} UTC "
                f"precedes its first mark, {iso_utc(int(self.listed_ms[i]))} UTC."
            )

    def _refuse(self, bad: np.ndarray, name: str) -> None:
        for i in np.flatnonzero(bad)[:1]:
            value = getattr(self, name)[i].item()
            raise DataError(
                f"instrument {self.symbols[i]}: {name} {value} is not valid; "
                f"it must be {_MUST_BE[name]}."
            )

    def __len__(self) -> int:
        """Count the instruments."""
        return len(self.symbols)

    def index_of(self) -> dict[str, int]:
        """Map each symbol to its row."""
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def arrays(self) -> list[tuple[str, np.ndarray]]:
        """List name and array of each column, in declaration order."""
        return [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "symbols"]

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]]) -> InstrumentTable:
        """Build a table from one mapping per instrument.

        Missing fields take a perpetual's values, so ``{"symbol": "BTC-PERP", "asset": 0}`` is
        a linear perpetual of one coin.

        Raises
        ------
        DataError
            If an option's ``style``, where it is given, is not ``european``, or the table
            contradicts itself.
        """
        for row in rows:
            if (style := row.get("style", "european")) != "european":
                raise DataError(
                    f"instrument {row['symbol']}: style {style!r} is refused; options here are "
                    "European, there is no early exercise."
                )
        defaults: dict[str, Any] = {
            "kind": PERPETUAL,
            "inverse": 0,
            "contract_size": 1.0,
            "strike": 0.0,
            "is_call": 0,
            "listed_ms": 0,
            "expiry_ms": NEVER_MS,
            "iv_column": -1,
            "expiry_column": -1,
        }
        table = {
            name: np.array([row.get(name, defaults.get(name)) for row in rows], dtype=dtype)
            for name, dtype in _COLUMNS.items()
        }
        return cls(symbols=tuple(str(row["symbol"]) for row in rows), **table)
