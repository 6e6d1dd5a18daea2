"""What a requirement kernel is given and what it fills: one signature for all policies.

The loop calls a policy's kernels once per tick over a batch of accounts, through numba's
first-class functions, so it is compiled once for every policy that will ever be written, and
a user's own kernel compiles alone. A kernel never trades, never schedules, never allocates
per account: it reads and fills the arrays below.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaExperimentalFeatureWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.instruments import InstrumentTable

# First-class functions are the documented way to pass a compiled callback; numba marks the
# feature experimental on every use.
warnings.filterwarnings("ignore", category=NumbaExperimentalFeatureWarning)

KERNEL_SLOTS = 6
"""A requirement is a base kernel and up to five more; unused slots hold `no_requirement`."""

# Rows of ``protocol``, the venue's own state, one column per asset; US dollars.
(
    FUND_USD,  # the insurance fund, the same in every column
    OPEN_NOTIONAL,  # gross notional of all accounts' positions
    NET_NOTIONAL,  # longs less shorts, perpetuals and futures only
    DEPOSITS,  # coins that accounts hold
    DEBTS,  # coins that accounts owe
) = range(5)
PROTOCOL_ROWS = 5


class Market(NamedTuple):
    """The market as the venue knows it now; ``I`` instruments, ``A`` assets.

    The first seven arrays are the instrument table. Of the others, the rows of instruments
    that no account of the batch holds are stale and must not be read.
    """

    asset: np.ndarray  # (I,) int32
    kind: np.ndarray  # (I,) int8, PERPETUAL or OPTION
    inverse: np.ndarray  # (I,) int8
    contract_size: np.ndarray  # (I,) float64
    strike: np.ndarray  # (I,) float64, USD
    is_call: np.ndarray  # (I,) int8
    tick: np.ndarray  # (1,) int64, changes whenever anything below does
    index: np.ndarray  # type: ignore[assignment]  # (A,) float64, USD
    mark: np.ndarray  # (A,) float64, USD
    value_usd: np.ndarray  # (I,) float64, unit value in USD, signed for inverse perpetuals
    notional_usd: np.ndarray  # (I,) float64, underlying notional of one contract
    forward: np.ndarray  # (I,) float64, USD; the mark for perpetuals
    sigma: np.ndarray  # (I,) float64, annualised; 0 for perpetuals
    years: np.ndarray  # (I,) float64 to expiry; 0 for perpetuals
    delta_usd: np.ndarray  # (I,) float64, USD per unit relative move of the forward
    rate: np.ndarray  # (I,) float64, annual carry of the forward over the index; 0 for perpetuals
    settled: np.ndarray  # (I,) float64, share of the settlement average that is fixed already
    confidence: np.ndarray  # (I,) float64, 1 less the half-width of the oracle's doubt
    index_confidence: np.ndarray  # (A,) float64, the same for the index
    protocol: np.ndarray  # (PROTOCOL_ROWS, A) float64, the venue's own state in USD


class Holdings(NamedTuple):
    """Open positions: account ``a`` holds slots ``start[a] .. start[a] + count[a]``.

    Where legs are margined one by one each is a row of its own, and ``cash`` has no columns:
    money that several rows share is nobody's.
    """

    start: np.ndarray  # (N,) int64
    count: np.ndarray  # type: ignore[assignment]  # (N,) int64
    instrument: np.ndarray  # (slots,) int64
    quantity: np.ndarray  # (slots,) float64, signed contracts
    entry: np.ndarray  # (slots,) float64, mean unit value paid, in the settlement currency
    cash: np.ndarray  # (1 + A, N) float64: US dollars, then coins of every asset


class Requirement(NamedTuple):
    """What a kernel fills, in USD against the account's whole equity (option value included)."""

    initial: np.ndarray  # (N,) float64
    maintenance: np.ndarray  # (N,) float64
    worst_scenario: np.ndarray  # (N,) int64, -1 where the kernel has no scenarios


class KernelInput(NamedTuple):
    """One kernel's numbers: the posted parameters, its constants and its own scratch."""

    parameters: np.ndarray  # (P,) float64, the row in force now
    constants: np.ndarray  # (C,) float64, the same all along the replay
    scratch: np.ndarray  # (I, K) float64, whatever the kernel keeps per instrument
    scratch_tick: np.ndarray  # (I,) int64, the tick each scratch row belongs to


def _array(dtype: Any, readonly: bool = False, ndim: int = 1) -> types.Array:
    return types.Array(dtype, ndim, "C", readonly=readonly)


_F8 = _array(types.float64)
_I8 = _array(types.int64)

MARKET_TYPE = types.NamedTuple(
    (
        _array(types.int32, True),
        _array(types.int8, True),
        _array(types.int8, True),
        _array(types.float64, True),
        _array(types.float64, True),
        _array(types.int8, True),
        _I8,
        *[_F8] * 12,
        _array(types.float64, ndim=2),
    ),
    Market,
)
HOLDINGS_TYPE = types.NamedTuple((_I8, _I8, _I8, _F8, _F8, _array(types.float64, ndim=2)), Holdings)
REQUIREMENT_TYPE = types.NamedTuple((_F8, _F8, _I8), Requirement)
KERNEL_INPUT_TYPE = types.NamedTuple(
    (_F8, _array(types.float64, True), _array(types.float64, ndim=2), _I8), KernelInput
)
KERNEL_SIGNATURE = types.void(KERNEL_INPUT_TYPE, MARKET_TYPE, HOLDINGS_TYPE, _I8, REQUIREMENT_TYPE)
"""``kernel(given, market, holdings, accounts, requirement)``.

``accounts`` lists the rows to fill. A base kernel **sets** ``initial``, ``maintenance`` and
``worst_scenario`` of each; an add-on **adds** to the first two.
"""
KERNELS_TYPE = types.UniTuple(types.FunctionType(KERNEL_SIGNATURE), KERNEL_SLOTS)


def requirement_kernel(function: Any = None, *, allocates: bool = True) -> Any:
    """Compile a requirement kernel with the one signature that the loop calls.

    Strict IEEE arithmetic (no contraction) keeps it equal, bit for bit, to its plain-Python
    form; ``error_model="numpy"`` lets LLVM vectorise divisions. One that never allocates may say
    so: nothing is counted then as it is handed on, which makes short kernels several times
    faster.
    """
    options = {"cache": True, "error_model": "numpy", "nogil": True}
    if not allocates:
        options["_nrt"] = False

    def decorate(kernel: Callable[..., None]) -> Any:
        return numba.njit(KERNEL_SIGNATURE, **options)(kernel)

    return decorate if function is None else decorate(function)


@requirement_kernel(allocates=False)
def no_requirement(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill an unused slot: nothing is added."""


def empty_market(table: InstrumentTable, assets: int) -> Market:
    """Allocate a market over an instrument table, to be filled by the loop."""
    count = len(table)
    names = ("value_usd", "notional_usd", "forward", "sigma", "years", "delta_usd", "rate")
    return Market(
        asset=table.asset,
        kind=table.kind,
        inverse=table.inverse,
        contract_size=table.contract_size,
        strike=table.strike,
        is_call=table.is_call,
        tick=np.full(1, -1, np.int64),
        index=np.zeros(assets),
        mark=np.zeros(assets),
        **{name: np.zeros(count) for name in names},
        settled=np.zeros(count),
        confidence=np.ones(count),
        index_confidence=np.ones(assets),
        protocol=np.zeros((PROTOCOL_ROWS, assets)),
    )


def empty_requirement(accounts: int) -> Requirement:
    """Allocate a requirement for ``N`` accounts."""
    return Requirement(np.zeros(accounts), np.zeros(accounts), np.full(accounts, -1, np.int64))
