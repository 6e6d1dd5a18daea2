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
OWN_CURRENCY = -1
"""Currency of a transfer that is made in the account's collateral, whatever that is."""
PORTFOLIO = 0
CROSS = 1
ISOLATED = 2

_FLOATS = frozenset(
    ("wallet", "buffer", "release", "top_up_share", "flight", "order_quantity", "order_limit")
) | {"transfer_amount"}
_UNSAID: dict[str, tuple[str, float]] = {
    "scheme": ("wallet", PORTFOLIO),
    "flight": ("wallet", 0.0),
    "order_limit": ("order_ts", np.nan),
    "order_until_ms": ("order_ts", 0),
    "transfer_currency": ("transfer_ts", OWN_CURRENCY),
}
"""Per column that may be left out: the column it is as long as, and what each row then says."""


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
        ``(X,)`` observed deposits (positive) and withdrawals, in ``transfer_currency``.
    scheme
        ``(N,)`` how the account is margined: ``PORTFOLIO`` nets risk over all it holds,
        ``CROSS`` shares collateral between positions that are each margined alone,
        ``ISOLATED`` sets collateral aside for each position.
    flight
        ``(N,)`` exponent, at least 0, with which the account's buffer and release shrink as
        the venue's insurance fund falls; 0 never runs.
    order_limit
        ``(M,)`` USD, limit price of an order that rests; NaN for a market order.
    order_until_ms
        ``(M,)`` milliseconds UTC until which a limit order rests; 0 for a market order.
    transfer_currency
        ``(X,)`` ``OWN_CURRENCY`` for the account's collateral currency, else 0 for US dollars,
        ``1 + a`` for the coin of ``assets[a]``.
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
    scheme: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    flight: np.ndarray = field(default_factory=lambda: np.empty(0))
    order_limit: np.ndarray = field(default_factory=lambda: np.empty(0))
    order_until_ms: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    transfer_currency: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    synthetic: bool = True
    origin: str = ""

    def __post_init__(self) -> None:
        """Freeze the arrays and refuse a book that contradicts itself."""
        for name, (like, value) in _UNSAID.items():
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(getattr(self, like)), value))
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                dtype = np.float64 if f.name in _FLOATS else np.int64
                if dtype is np.int64 and value.dtype.kind == "f":
                    for row in np.flatnonzero(value != np.rint(value))[:1]:
                        raise BookError(
                            f"book {f.name} row {row} is {value[row].item()}; it must be whole."
                        )
                frozen = np.array(value, dtype=dtype, order="C")
                frozen.flags.writeable = False
                object.__setattr__(self, f.name, frozen)
                wrong = ~np.isfinite(frozen)
                if f.name == "order_limit":
                    wrong &= ~np.isnan(frozen)
                for row in np.flatnonzero(wrong)[:1]:
                    raise BookError(
                        f"book {f.name} row {row} is {frozen[row].item()}; it must be finite."
                    )
        self._check_accounts()
        self._check_orders()
        self._check_groups()
        self._check_resting()
        self._check_transfers()
        self._check_isolated()

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
            ("scheme", PORTFOLIO, ISOLATED),
            ("flight", 0.0, np.inf),
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
        for name in ("account", "instrument", "quantity", "kind", "group", "limit", "until_ms"):
            if len(getattr(self, f"order_{name}")) != count:
                raise BookError(f"book order_{name} does not have {count} rows.")
        for name, size in (("account", len(self)), ("instrument", len(self.symbols)), ("kind", 2)):
            column = getattr(self, f"order_{name}")
            for row in np.flatnonzero((column < 0) | (column >= size))[:1]:
                raise BookError(f"book order {row} names {name} {column[row]} of {size}.")
        for row in np.flatnonzero(np.diff(self.order_ts) < 0)[:1]:
            raise BookError(
                f"book order {row + 1} at {iso_utc(int(self.order_ts[row + 1]))} UTC "
                "stands after a later one."
            )

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

    def _check_resting(self) -> None:
        resting = np.isfinite(self.order_limit)
        for row in np.flatnonzero(resting & (self.order_limit <= 0.0))[:1]:
            raise BookError(
                f"book order {row} has a limit of {self.order_limit[row]:g} USD; "
                "a price must be positive."
            )
        for row in np.flatnonzero(resting & (self.order_until_ms <= self.order_ts))[:1]:
            raise BookError(
                f"book order {row} rests until {self.order_until_ms[row]} ms, which is not after "
                f"its own time, {self.order_ts[row]} ms."
            )
        for row in np.flatnonzero(~resting & (self.order_until_ms != 0))[:1]:
            raise BookError(
                f"book order {row} rests until {self.order_until_ms[row]} ms without a limit "
                "price; a market order is filled at once."
            )
        alone = np.append(True, np.diff(self.order_group) != 0)[: len(resting)]
        alone &= np.append(alone[1:], True)[: len(resting)]
        for row in np.flatnonzero(resting & ~alone)[:1]:
            raise BookError(
                f"book order {row} rests at a limit but shares group {self.order_group[row]}; "
                "a resting order stands alone, as its legs could not be filled together."
            )

    def _check_transfers(self) -> None:
        count = len(self.transfer_ts)
        for name in ("account", "amount", "currency"):
            if len(getattr(self, f"transfer_{name}")) != count:
                raise BookError(f"book transfer_{name} does not have {count} rows.")
        for name, low, high in (
            ("account", 0, len(self) - 1),
            ("currency", OWN_CURRENCY, len(self.assets)),
        ):
            column = getattr(self, f"transfer_{name}")
            for row in np.flatnonzero((column < low) | (column > high))[:1]:
                raise BookError(
                    f"book transfer {row} names {name} {column[row]}; it must {_range(low, high)}."
                )
        for row in np.flatnonzero(np.diff(self.transfer_ts) < 0)[:1]:
            raise BookError(f"book transfer {row + 1} stands after a later one.")

    def _check_isolated(self) -> None:
        """Observed collateral of an isolated account can back one position only."""
        if self.mode != "recorded":
            return
        mine = np.flatnonzero(self.scheme[self.order_account] == ISOLATED)
        first = np.full(len(self), -1)
        # Written backwards, the first order of each account is what stays.
        first[self.order_account[mine[::-1]]] = self.order_instrument[mine[::-1]]
        for row in mine[self.order_instrument[mine] != first[self.order_account[mine]]][:1]:
            account = self.order_account[row]
            raise BookError(
                f"book order {row} trades {self.symbols[self.order_instrument[row]]!r} on "
                f"isolated account {account}, which holds {self.symbols[first[account]]!r}; "
                "in a recorded book collateral is observed per position, so give each position "
                "an account of its own."
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
