"""The account book: who trades what, when, and how they answer a margin call.

A book holds *intents*, which do not depend on the policy: two policies see the very same flow,
so every comparison between them is paired. In an ``elastic`` book an account posts
``buffer x initial margin`` out of its wallet, so that the policy itself sets how much capital
is locked; what the wallet cannot fund is rejected and counted. In a ``recorded`` book the
collateral is as observed and the policy decides only who would have been closed, and when.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from backtest.errors import BookError, nearest
from backtest.tape import array_digest, arrays_of
from backtest.units import iso_utc

if TYPE_CHECKING:
    from backtest.tape import MarketTape

OPEN = 0
CLOSE = 1
USD = 0
"""Collateral currency 0 is the US dollar; currency ``1 + a`` is the coin of asset ``a``."""


@dataclass(frozen=True, eq=False)
class AccountBook:
    """Accounts (``N``), their order intents (``M``) and observed transfers (``X``).

    Parameters
    ----------
    mode
        ``"elastic"`` or ``"recorded"``.
    assets
        Names that ``collateral_currency`` counts through, in order.
    symbols
        Names of the instruments that ``order_instrument`` counts through.
    collateral_currency
        ``(N,)`` 0 for US dollars, ``1 + a`` for the coin of ``assets[a]``.
    wallet
        ``(N,)`` what the account can post, in its collateral currency, at the start.
    buffer
        ``(N,)`` multiple of initial margin that the account posts, at least 1.
    release
        ``(N,)`` multiple of the posted target above which it withdraws, at least 1.
    top_up_share
        ``(N,)`` share of a margin call that it pays, 0 to 1.
    top_up_delay_ms
        ``(N,)`` how long it takes to pay, milliseconds.
    segment
        ``(N,)`` row in ``segments``: what kind of trader it is.
    segments
        Names of the kinds of trader.
    order_ts
        ``(M,)`` milliseconds UTC, ascending.
    order_account, order_instrument
        ``(M,)`` rows of the account and of ``symbols``.
    order_quantity
        ``(M,)`` signed contracts.
    order_kind
        ``(M,)`` ``OPEN``, or ``CLOSE`` for an order that can only reduce a position.
    order_group
        ``(M,)`` legs of one strategy share a number, stand next to each other and are accepted
        or rejected together.
    transfer_ts, transfer_account, transfer_amount
        ``(X,)`` observed deposits (positive) and withdrawals, in the collateral currency.
    synthetic
        True where the book was generated; every caption that depends on it says so.
    origin
        One sentence: file and digest, or generator and seed.
    """

    mode: Literal["elastic", "recorded"]
    assets: tuple[str, ...]
    symbols: tuple[str, ...]
    collateral_currency: np.ndarray
    wallet: np.ndarray
    buffer: np.ndarray
    release: np.ndarray
    top_up_share: np.ndarray
    top_up_delay_ms: np.ndarray
    segment: np.ndarray
    segments: tuple[str, ...]
    order_ts: np.ndarray
    order_account: np.ndarray
    order_instrument: np.ndarray
    order_quantity: np.ndarray
    order_kind: np.ndarray
    order_group: np.ndarray
    transfer_ts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    transfer_account: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    transfer_amount: np.ndarray = field(default_factory=lambda: np.empty(0))
    synthetic: bool = True
    origin: str = ""

    def __post_init__(self) -> None:
        """Freeze the arrays and refuse a book that contradicts itself."""
        floats = {"wallet", "buffer", "release", "top_up_share", "order_quantity"}
        floats.add("transfer_amount")
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                dtype = np.float64 if f.name in floats else np.int64
                frozen = np.array(value, dtype=dtype, order="C")
                frozen.flags.writeable = False
                object.__setattr__(self, f.name, frozen)
                if not np.all(np.isfinite(frozen)):
                    row = int(np.flatnonzero(~np.isfinite(frozen))[0])
                    raise BookError(
                        f"book {f.name} row {row} is {frozen[row].item()}; it must be finite."
                    )
        self._check_accounts()
        self._check_orders()

    def _check_accounts(self) -> None:
        count = len(self.wallet)
        for name, low, high in (
            ("collateral_currency", 0, len(self.assets)),
            ("wallet", 0.0, np.inf),
            ("buffer", 1.0, np.inf),
            ("release", 1.0, np.inf),
            ("top_up_share", 0.0, 1.0),
            ("top_up_delay_ms", 0, np.inf),
            ("segment", 0, len(self.segments) - 1),
        ):
            column = getattr(self, name)
            if column.shape != (count,):
                raise BookError(f"book {name} has {len(column)} rows for {count} accounts.")
            for row in np.flatnonzero((column < low) | (column > high))[:1]:
                raise BookError(
                    f"book {name} of account {row} is {column[row].item()}; "
                    f"it must {_range(low, high)}."
                )

    def _check_orders(self) -> None:
        count = len(self.order_ts)
        for name, size in (("account", len(self.wallet)), ("instrument", len(self.symbols))):
            column = getattr(self, f"order_{name}")
            for row in np.flatnonzero((column < 0) | (column >= size))[:1]:
                raise BookError(f"book order {row} names {name} {column[row]} of {size}.")
        for name in ("account", "instrument", "quantity", "kind", "group"):
            if len(getattr(self, f"order_{name}")) != count:
                raise BookError(f"book order_{name} does not have {count} rows.")
        for row in np.flatnonzero(np.diff(self.order_ts) < 0)[:1]:
            raise BookError(
                f"book order {row + 1} at {iso_utc(int(self.order_ts[row + 1]))} UTC "
                "stands after a later one."
            )
        self._check_groups()
        if not (len(self.transfer_ts) == len(self.transfer_account) == len(self.transfer_amount)):
            raise BookError("book transfer columns differ in length.")
        if np.any(np.diff(self.transfer_ts) < 0):
            raise BookError("book transfers are not in order of time.")

    def _check_groups(self) -> None:
        same = np.diff(self.order_group) == 0
        for name in ("ts", "account"):
            for row in np.flatnonzero(same & (np.diff(getattr(self, f"order_{name}")) != 0))[:1]:
                raise BookError(
                    f"book orders {row} and {row + 1} share group {self.order_group[row]} "
                    f"but differ in {name}; the legs of a group are traded together."
                )
        starts = np.concatenate(([True], ~same)) if len(self.order_ts) else np.empty(0, bool)
        if len(np.unique(self.order_group[starts])) != int(starts.sum()):
            raise BookError("the orders of a group do not stand next to each other in the book.")
        legs = self.order_group * len(self.symbols) + self.order_instrument
        unique, first = np.unique(legs, return_index=True)
        if len(unique) != len(legs):
            row = int(np.setdiff1d(np.arange(len(legs)), first)[0])
            raise BookError(
                f"book order {row} trades {self.symbols[self.order_instrument[row]]!r} a second "
                f"time in group {self.order_group[row]}; give it a group of its own."
            )

    def __len__(self) -> int:
        """Count the accounts."""
        return len(self.wallet)

    @cached_property
    def digest(self) -> str:
        """Sha256 of everything a replay can read."""
        return array_digest(arrays_of(self), self.mode, *self.assets, *self.symbols)

    def tape_rows(self, tape: MarketTape) -> np.ndarray:
        """Map the book's instruments to the tape's.

        Returns
        -------
        numpy.ndarray
            ``(len(symbols),)`` rows of the tape's instrument table.

        Raises
        ------
        BookError
            If the tape lacks an instrument that the book trades, or orders its assets
            differently.
        """
        if self.assets != tape.assets:
            raise BookError(
                f"the book counts its collateral in {', '.join(self.assets)}, the tape holds "
                f"{', '.join(tape.assets)}; give both the same assets in the same order."
            )
        rows = tape.instruments.index_of()
        for symbol in self.symbols:
            if symbol not in rows:
                raise BookError(
                    f"the book trades {symbol!r}, which the tape lacks.{nearest(symbol, rows)}"
                )
        return np.array([rows[symbol] for symbol in self.symbols], dtype=np.int64)


def _range(low: float, high: float) -> str:
    return f"be at least {low:g}" if np.isinf(high) else f"lie between {low:g} and {high:g}"
