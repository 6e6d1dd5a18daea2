"""From the four inputs to the arrays that both engines read: clocks, orders, slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError
from backtest.kernels.state import (
    FUND,
    PURSES,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.types import KERNEL_SLOTS, Holdings, KernelInput, no_requirement
from backtest.requirement import RequirementLayer, RequirementRule

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules


def _no_reference(*_: object) -> None:
    """Add nothing, in plain Python."""


NO_RULE = RequirementRule("none", no_requirement, _no_reference)


def _frozen(array: np.ndarray) -> np.ndarray:
    block = np.ascontiguousarray(array)
    if block.flags.writeable:
        block = block.copy()
        block.flags.writeable = False
    return block


def tape_arrays(tape: MarketTape, venue: VenueRules) -> TapeArrays:
    """Lay a tape out for the loop, with the rows that the venue knows at each row.

    The venue knows row ``r`` at row ``t`` if ``known_ts[r] + oracle.latency <= ts[t]``; the
    market itself knows the option snapshots with ``vol_ts <= ts[t]``.
    """
    latency = venue.oracle.latency

    def latest(known: np.ndarray) -> np.ndarray:
        return np.searchsorted(known, tape.ts, side="right").astype(np.int64) - 1

    table = tape.instruments
    return TapeArrays(
        ts=tape.ts,
        seen=_frozen(latest(tape.known_ts + latency)),
        snapshot=_frozen(latest(tape.vol_ts)),
        seen_snapshot=_frozen(latest(tape.vol_known_ts + latency)),
        index=tape.index,
        mark=tape.mark,
        funding=tape.funding,
        depth_usd=tape.depth_usd,
        iv=tape.iv,
        forward_ratio=tape.forward_ratio,
        asset=table.asset,
        kind=table.kind,
        inverse=table.inverse,
        contract_size=table.contract_size,
        strike=table.strike,
        is_call=table.is_call,
        listed_ms=table.listed_ms,
        expiry_ms=table.expiry_ms,
        iv_column=table.iv_column,
        expiry_column=table.expiry_column,
    )


def book_arrays(book: AccountBook, tape: MarketTape, rows: slice) -> BookArrays:
    """Lay a book out for the loop: orders and transfers of the window, by tape row.

    An order is executed at the first row that ends after it was given; orders given before the
    window's first row began are not part of the window.
    """
    instruments = book.tape_rows(tape)
    begins = tape.ts[rows.start - 1] if rows.start > 0 else np.int64(-(2**62))

    def window(ts: np.ndarray) -> slice:
        first = int(np.searchsorted(ts, begins, side="right"))
        last = int(np.searchsorted(ts, tape.ts[rows.stop - 1], side="right"))
        return slice(first, last)

    orders = window(book.order_ts)
    transfers = window(book.transfer_ts)
    return BookArrays(
        recorded=_frozen(np.array([book.mode == "recorded"], dtype=np.int64)),
        collateral_currency=book.collateral_currency,
        buffer=book.buffer,
        release=book.release,
        top_up_share=book.top_up_share,
        top_up_delay_ms=book.top_up_delay_ms,
        order_row=_frozen(np.searchsorted(tape.ts, book.order_ts[orders], side="left")),
        order_account=_frozen(book.order_account[orders]),
        order_instrument=_frozen(instruments[book.order_instrument[orders]]),
        order_quantity=_frozen(book.order_quantity[orders]),
        order_kind=_frozen(book.order_kind[orders]),
        order_group=_frozen(book.order_group[orders]),
        transfer_row=_frozen(np.searchsorted(tape.ts, book.transfer_ts[transfers], side="left")),
        transfer_account=_frozen(book.transfer_account[transfers]),
        transfer_amount=_frozen(book.transfer_amount[transfers]),
    )


def slots_needed(orders: BookArrays, accounts: int, instruments: int) -> np.ndarray:
    """Count the distinct instruments each account ever orders: no account can hold more.

    Returns
    -------
    numpy.ndarray
        ``(N + 1,)`` slots; the last entry, of the spare account, fits any order group.
    """
    pairs = np.unique(orders.order_account * instruments + orders.order_instrument)
    needed = np.bincount(pairs // instruments, minlength=accounts)[:accounts]
    _, legs = np.unique(orders.order_group, return_counts=True)
    spare = (needed.max(initial=0)) + (legs.max(initial=0))
    return np.append(needed, spare).astype(np.int64)


def opening_state(
    book: AccountBook, tape: MarketTape, venue: VenueRules, needed: np.ndarray
) -> State:
    """Allocate the state at the start of a window: wallets full, no position open.

    In a recorded book the wallet is the collateral observed at the start and lies in the
    account from the first row.
    """
    accounts, assets, instruments = len(book), len(tape.assets), len(tape.instruments)
    cash = np.zeros((accounts + 1, 1 + assets))
    wallet = book.wallet.copy()
    if book.mode == "recorded":
        cash[np.arange(accounts), book.collateral_currency] = wallet
        wallet[:] = 0.0
    purse = np.zeros(PURSES)
    purse[FUND] = venue.insurance_fund.start_usd
    opening = np.bincount(book.collateral_currency, weights=book.wallet, minlength=1 + assets)
    opening[0] += purse[FUND]
    return State(
        cash=cash,
        wallet=wallet,
        outside=np.zeros(1 + assets),
        flow=np.zeros(1 + assets),
        purse=purse,
        opening=opening,
        start=np.concatenate(([0], np.cumsum(needed)[:-1])).astype(np.int64),
        count=np.zeros(accounts + 1, np.int64),
        instrument=np.zeros(int(needed.sum()), np.int64),
        quantity=np.zeros(int(needed.sum())),
        holders=np.zeros(instruments, np.int64),
        gross=np.zeros(instruments),
        call_ts=np.full(accounts, -1, np.int64),
        deposit_ts=np.full(accounts, -1, np.int64),
        deposit_usd=np.zeros(accounts),
        sold=np.zeros(assets),
        unit=np.zeros(instruments),
        value_usd=np.zeros(instruments),
        notional_usd=np.zeros(instruments),
        delta_usd=np.zeros(instruments),
        priced_row=np.full(instruments, -1, np.int64),
        seen_priced_row=np.full(instruments, -1, np.int64),
        unused=np.zeros((3, instruments)),
        cursor=np.zeros(2, np.int64),
    )


def holdings_of(state: State) -> Holdings:
    """Show a state's positions to the kernels; the arrays are shared, not copied."""
    return Holdings(state.start, state.count, state.instrument, state.quantity)


def fill_slots(layers: tuple[RequirementLayer, ...], rows: int) -> tuple[RequirementLayer, ...]:
    """Fill a policy's unused kernel slots; refuse more add-ons than there are slots."""
    if not 1 <= len(layers) <= KERNEL_SLOTS:
        raise DataError(
            f"a policy has one base layer and at most {KERNEL_SLOTS - 1} add-ons, "
            f"not {len(layers)} layers."
        )
    empty = RequirementLayer(NO_RULE, np.zeros((rows, 0)), np.empty(0))
    return layers + (empty,) * (KERNEL_SLOTS - len(layers))


def kernel_inputs(
    layers: tuple[RequirementLayer, ...], instruments: int
) -> tuple[KernelInput, ...]:
    """Allocate what each kernel is handed."""
    return tuple(
        KernelInput(
            parameters=np.zeros(layer.parameters.shape[1]),
            constants=layer.constants,
            scratch=np.zeros((instruments, layer.rule.scratch_columns(layer.constants))),
            scratch_tick=np.full(instruments, -1, np.int64),
        )
        for layer in layers
    )
