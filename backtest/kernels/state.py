"""The arrays that the event loop reads and changes, and their exact numba types.

First-class functions reach the loop only through an explicit signature, and an explicit
signature is what lets one compiled loop, kept on disk, serve every policy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types

from backtest.venue import VenueNumbers

# Places in `State.purse`, US dollars.
FUND = 0
LIQUIDATORS = 1
FEES = 2
DEFICIT = 3
PURSES = 4

# Columns of the recorded series; `SERIES_NAMES` are their public names.
OPEN_NOTIONAL = 0
LOCKED_COLLATERAL = 1
REQUIRED_INITIAL = 2
REQUIRED_MAINTENANCE = 3
GROSS_BAD_DEBT = 4
INSURANCE_DRAWDOWN = 5
RESIDUAL_BAD_DEBT = 6
LIQUIDATIONS = 7
LIQUIDATED_NOTIONAL = 8
REJECTED_NOTIONAL = 9
MARGIN_CALLS = 10
DEPOSITS = 11
WITHDRAWALS = 12
PENALTIES = 13
FUND_LEVEL = 14
ACCOUNTS_OPEN = 15
LEDGER_IMBALANCE = 16
LEDGER_SCALE = 17
SERIES_NAMES = (
    "open_notional_usd",
    "locked_collateral_usd",
    "required_initial_usd",
    "required_maintenance_usd",
    "gross_bad_debt_usd",
    "insurance_drawdown_usd",
    "residual_bad_debt_usd",
    "liquidations",
    "liquidated_notional_usd",
    "rejected_notional_usd",
    "margin_calls_usd",
    "deposits_usd",
    "withdrawals_usd",
    "penalties_usd",
    "fund_usd",
    "accounts_open",
    "ledger_imbalance_usd",
    "ledger_scale_usd",
)

# Columns of the liquidation log; `LIQUIDATION_NAMES` are their public names.
LIQUIDATION_NAMES = (
    "row",
    "account",
    "asset",
    "side",
    "notional_usd",
    "share",
    "equity_usd",
    "maintenance_usd",
    "cost_usd",
    "penalty_usd",
    "shortfall_usd",
)
LIQUIDATION_COLUMNS = len(LIQUIDATION_NAMES)


class TapeArrays(NamedTuple):
    """The tape and its instrument table, read-only."""

    ts: np.ndarray  # (T,) int64
    seen: np.ndarray  # (T,) int64, row that the venue knows at each row, -1 for none
    snapshot: np.ndarray  # (T,) int64, option snapshot in force, -1 for none
    seen_snapshot: np.ndarray  # (T,) int64, option snapshot that the venue knows
    index: np.ndarray  # type: ignore[assignment]  # (T, A)
    mark: np.ndarray  # (T, A)
    funding: np.ndarray  # (T, A)
    depth_usd: np.ndarray  # (T, A)
    iv: np.ndarray  # (S, V)
    forward_ratio: np.ndarray  # (S, E)
    asset: np.ndarray  # (I,) int32
    kind: np.ndarray  # (I,) int8
    inverse: np.ndarray  # (I,) int8
    contract_size: np.ndarray  # (I,)
    strike: np.ndarray  # (I,)
    is_call: np.ndarray  # (I,) int8
    listed_ms: np.ndarray  # (I,) int64
    expiry_ms: np.ndarray  # (I,) int64
    iv_column: np.ndarray  # (I,) int32
    expiry_column: np.ndarray  # (I,) int32


class BookArrays(NamedTuple):
    """Accounts and the orders of the window, read-only, instruments as rows of the tape."""

    recorded: np.ndarray  # (1,) int64, 1 where collateral is as observed
    collateral_currency: np.ndarray  # (N,) int64
    buffer: np.ndarray  # (N,)
    release: np.ndarray  # (N,)
    top_up_share: np.ndarray  # (N,)
    top_up_delay_ms: np.ndarray  # (N,) int64
    order_row: np.ndarray  # (M,) int64, tape row that executes it
    order_account: np.ndarray  # (M,) int64
    order_instrument: np.ndarray  # (M,) int64
    order_quantity: np.ndarray  # (M,)
    order_kind: np.ndarray  # (M,) int64
    order_group: np.ndarray  # (M,) int64
    transfer_row: np.ndarray  # (X,) int64
    transfer_account: np.ndarray  # (X,) int64
    transfer_amount: np.ndarray  # (X,)


class State(NamedTuple):
    """Everything a replay changes. Row ``N`` is a spare account to try an order on."""

    cash: np.ndarray  # (N + 1, 1 + A) in each currency
    wallet: np.ndarray  # (N,) in the collateral currency
    outside: np.ndarray  # (1 + A,) the market's cash, counterparty of every trade
    flow: np.ndarray  # (1 + A,) what the market received in this tick, posted at its end
    purse: np.ndarray  # (PURSES,) USD: fund, liquidators, fees, uncovered deficit
    opening: np.ndarray  # (1 + A,) all money of each currency at the start
    start: np.ndarray  # (N + 1,) int64, first slot
    count: np.ndarray  # type: ignore[assignment]  # (N + 1,) int64, slots in use
    instrument: np.ndarray  # (slots,) int64
    quantity: np.ndarray  # (slots,)
    holders: np.ndarray  # (I,) int64, accounts that hold each instrument
    gross: np.ndarray  # (I,) contracts open in each instrument, both sides, at the margin check
    call_ts: np.ndarray  # (N,) int64, when the open margin call was made, -1 for none
    deposit_ts: np.ndarray  # (N,) int64, when its payment arrives, -1 for none
    deposit_usd: np.ndarray  # (N,)
    sold: np.ndarray  # (A,) liquidated exposure of this tick, USD
    unit: np.ndarray  # (I,) true unit value in the settlement currency
    value_usd: np.ndarray  # (I,) true unit value, USD
    notional_usd: np.ndarray  # (I,) true notional of one contract, USD
    delta_usd: np.ndarray  # (I,) signed sensitivity of one contract, USD
    priced_row: np.ndarray  # (I,) int64, row at which the true values were set, -1 for never
    seen_priced_row: np.ndarray  # (I,) int64, the same for the values that the venue sees
    unused: np.ndarray  # (3, I) where a pricing puts what nobody reads
    cursor: np.ndarray  # (2,) int64, next order and next transfer


def _array(dtype: Any, ndim: int = 1, readonly: bool = True) -> types.Array:
    return types.Array(dtype, ndim, "C", readonly=readonly)


def _named(cls: type, spec: str, readonly: bool) -> types.NamedTuple:
    kinds = {"f": types.float64, "i": types.int64, "w": types.int32, "b": types.int8}
    parts = [_array(kinds[word[0]], int(word[1]), readonly) for word in spec.split()]
    return types.NamedTuple(tuple(parts), cls)


TAPE_TYPE = _named(
    TapeArrays, "i1 i1 i1 i1 f2 f2 f2 f2 f2 f2 w1 b1 b1 f1 f1 b1 i1 i1 w1 w1", readonly=True
)
BOOK_TYPE = _named(BookArrays, "i1 i1 f1 f1 f1 i1 i1 i1 i1 f1 i1 i1 i1 i1 f1", readonly=True)
STATE_TYPE = _named(
    State,
    "f2 f1 f1 f1 f1 f1 i1 i1 i1 f1 i1 f1 i1 i1 f1 f1 f1 f1 f1 f1 i1 i1 f2 i1",
    readonly=False,
)
VENUE_TYPE = types.NamedUniTuple(types.float64, len(VenueNumbers._fields), VenueNumbers)
PATH_TYPE = _array(types.float64, 2)
SERIES_TYPE = _array(types.float64, 2, readonly=False)
