"""From a book to what the loop does at each row: margin accounts, orders, actions, transfers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.book import CROSS, ISOLATED, OWN_CURRENCY
from backtest.errors import BookError
from backtest.instruments import FUTURE, OPTION
from backtest.kernels.state import CANCEL, FILL, REST, TRADE

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.intrabar import Expanded
    from backtest.tape import MarketTape


class BookArrays(NamedTuple):
    """``N`` margin accounts, ``M`` orders of the window, ``K`` actions, ``X`` transfers."""

    recorded: int  # 1 where collateral is as observed
    owner: np.ndarray  # (N,) row of the book's account, whose wallet it draws on
    scheme: np.ndarray  # (N,) 1 where each leg is margined alone
    collateral_currency: np.ndarray  # (N,)
    buffer: np.ndarray  # (N,)
    release: np.ndarray  # (N,)
    flight: np.ndarray  # (N,)
    top_up_share: np.ndarray  # (N,)
    top_up_delay_ms: np.ndarray  # (N,)
    order_account: np.ndarray  # (M,) margin account
    order_instrument: np.ndarray  # (M,) row of the tape's instrument table
    order_quantity: np.ndarray  # (M,)
    order_limit: np.ndarray  # (M,) USD, NaN where an order trades at the market
    order_kind: np.ndarray  # (M,)
    action_row: np.ndarray  # (K,) ascending tape row
    action_kind: np.ndarray  # (K,) TRADE or REST
    action_first: np.ndarray  # (K,) half-open range of orders
    action_last: np.ndarray  # (K,)
    fate_row: np.ndarray  # (F,) ascending tape row
    fate_kind: np.ndarray  # (F,) FILL or CANCEL
    fate_order: np.ndarray  # (F,) order that rested
    resting_start: np.ndarray  # (N + 1,) where an account's orders begin in resting_order
    resting_order: np.ndarray  # orders that may rest
    transfer_row: np.ndarray  # (X,) ascending tape row
    transfer_account: np.ndarray  # (X,) margin account
    transfer_currency: np.ndarray  # (X,)
    transfer_amount: np.ndarray  # (X,)


def book_arrays(book: AccountBook, tape: MarketTape, path: Expanded, rows: slice) -> BookArrays:
    """Lay a book out for the loop: orders and transfers of the window, by tape row.

    An order is executed at the close of the first bar that ends after it was given; a limit
    order is filled at whatever row of the path reaches it. Orders given before the window's
    first bar began are not part of the window. An isolated account becomes one margin
    account per instrument that it trades, all of which draw on its wallet; the legs of its
    orders are then groups of their own.

    Raises
    ------
    BookError
        If the book does not fit the tape, or an option is ordered at a limit.
    """
    instruments = book.tape_rows(tape)
    begins = tape.ts[rows.start - 1] if rows.start > 0 else np.int64(-(2**62))

    def window(ts: np.ndarray) -> slice:
        first = int(np.searchsorted(ts, begins, side="right"))
        last = int(np.searchsorted(ts, tape.ts[rows.stop - 1], side="right"))
        return slice(first, last)

    orders, transfers = window(book.order_ts), window(book.transfer_ts)
    if book.mode == "elastic":
        # Whoever starts flat later still brings the coins that it had at first.
        transfers = slice(0, transfers.stop)
    instrument = instruments[book.order_instrument[orders]]
    owner, account, first_of = _margin_accounts(book, book.order_account[orders], instrument)
    group = book.order_group[orders]
    alone = book.scheme[book.order_account[orders]] == ISOLATED
    breaks = np.concatenate(([True], (np.diff(group) != 0) | alone[1:] | alone[:-1]))
    first = np.flatnonzero(breaks[: len(group)])
    last = np.append(first[1:], len(group))
    close = path.last_row_of_bar
    row = close[np.searchsorted(tape.ts, book.order_ts[orders], side="left")]
    actions = _actions(book, path.tape, orders, instrument, row, first, last)
    rests = np.zeros(len(group), bool)
    rests[actions[2][actions[1] == REST]] = True
    placed = actions[1] <= REST
    resting = np.flatnonzero(rests)
    resting = resting[np.argsort(account[resting], kind="stable")]
    counts = np.bincount(account[resting], minlength=len(owner))
    currency = book.transfer_currency[transfers]
    sender = book.transfer_account[transfers]
    return BookArrays(
        recorded=int(book.mode == "recorded"),
        owner=owner,
        scheme=(book.scheme[owner] == CROSS).astype(np.int64),
        collateral_currency=book.collateral_currency[owner],
        buffer=book.buffer[owner],
        release=book.release[owner],
        flight=book.flight[owner],
        top_up_share=book.top_up_share[owner],
        top_up_delay_ms=book.top_up_delay_ms[owner],
        order_account=account,
        order_instrument=instrument,
        order_quantity=book.order_quantity[orders].copy(),
        order_limit=book.order_limit[orders].copy(),
        order_kind=book.order_kind[orders].copy(),
        action_row=actions[0][placed],
        action_kind=actions[1][placed],
        action_first=actions[2][placed],
        action_last=actions[3][placed],
        fate_row=actions[0][~placed],
        fate_kind=actions[1][~placed],
        fate_order=actions[2][~placed],
        resting_start=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        resting_order=resting.astype(np.int64),
        transfer_row=close[
            np.maximum(
                np.searchsorted(tape.ts, book.transfer_ts[transfers], side="left"), rows.start
            )
        ],
        transfer_account=first_of[sender],
        transfer_currency=np.where(
            currency == OWN_CURRENCY, book.collateral_currency[sender], currency
        ),
        transfer_amount=book.transfer_amount[transfers].copy(),
    )


def _margin_accounts(
    book: AccountBook, trader: np.ndarray, instrument: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split isolated accounts by instrument.

    Returns
    -------
    tuple of numpy.ndarray
        Owner of each margin account, margin account of each order, and first margin account of
        each owner.
    """
    isolated = book.scheme[trader] == ISOLATED
    width = int(instrument.max(initial=0)) + 1
    pairs, pair_of = np.unique(
        np.where(isolated, trader * width + instrument, trader * width), return_inverse=True
    )
    idle = np.setdiff1d(np.arange(len(book)), pairs // width)
    keys = np.concatenate((pairs, idle * width))
    order = np.argsort(keys, kind="stable")
    place = np.empty(len(keys), np.int64)
    place[order] = np.arange(len(keys))
    owner = (keys[order] // width).astype(np.int64)
    first_of = np.searchsorted(owner, np.arange(len(book))).astype(np.int64)
    return owner, place[pair_of].astype(np.int64), first_of


def _actions(
    book: AccountBook,
    tape: MarketTape,
    orders: slice,
    instrument: np.ndarray,
    row: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """List what happens to each group: trade at once, or rest and then be filled or cancelled."""
    limit, until = book.order_limit[orders], book.order_until_ms[orders]
    quantity, table = book.order_quantity[orders], tape.instruments
    trades = np.isnan(limit[first])
    made = [(row[k], k, TRADE, k, end) for k, end in zip(first[trades], last[trades], strict=True)]
    for k in first[~trades]:
        i, order = int(instrument[k]), int(k)
        if table.kind[i] == OPTION:
            raise BookError(
                f"book order {orders.start + order} is a limit order for the option "
                f"{table.symbols[i]!r}; limits are for perpetuals and futures."
            )
        price = _price_path(tape, i)
        end = int(np.searchsorted(tape.ts, min(until[k], table.expiry_ms[i] - 1), side="right"))
        reached = (
            price[row[k] : end] <= limit[k] if quantity[k] > 0 else price[row[k] : end] >= limit[k]
        )
        at = int(np.argmax(reached)) if reached.any() else -1
        if at == 0:
            made.append((row[k], order, TRADE, order, order + 1))
            continue
        made.append((row[k], order, REST, order, order + 1))
        if at > 0:
            made.append((row[k] + at, order, FILL, order, order + 1))
        elif end < len(tape):
            made.append((max(end, row[k]), order, CANCEL, order, order + 1))
    table_of = np.array(sorted(made), dtype=np.int64).reshape(-1, 5)
    return tuple(np.ascontiguousarray(table_of[:, c]) for c in (0, 2, 3, 4))  # type: ignore[return-value]


def _price_path(tape: MarketTape, instrument: int) -> np.ndarray:
    """Return the price at which limit orders of a perpetual or future are filled, ``(T,)``."""
    table = tape.instruments
    asset = table.asset[instrument]
    if table.kind[instrument] != FUTURE:
        return tape.mark[:, asset]
    at = np.searchsorted(tape.vol_ts, tape.ts, side="right") - 1
    ratio = np.where(at < 0, 1.0, tape.forward_ratio[at, table.expiry_column[instrument]])
    price: np.ndarray = tape.index[:, asset] * ratio
    return price
