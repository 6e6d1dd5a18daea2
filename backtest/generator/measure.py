"""Measure an account book from its orders: who holds how much, how levered, on which side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.book import OPEN
from backtest.errors import BookError
from backtest.generator.options import STRATEGIES, Leg
from backtest.instruments import OPTION, PERPETUAL

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.generator.spec import BookSpec
    from backtest.tape import MarketTape


@dataclass(frozen=True)
class BookOrders:
    """The book's orders in the tape's terms, ``(M,)``."""

    row: np.ndarray
    instrument: np.ndarray
    contract_usd: np.ndarray
    is_option: np.ndarray


@dataclass(frozen=True)
class People:
    """Accounts that trade: mean gross notional, equity and leverage of their openings."""

    notional_usd: np.ndarray
    equity_usd: np.ndarray
    leverage: np.ndarray
    levered_usd: np.ndarray
    """Notional of those accounts that have a leverage."""


@dataclass(frozen=True)
class OpenInterest:
    """Mean over time, and the shares of options (of all) and of longs (of perpetuals)."""

    mean_usd: float
    option_share: float
    long_share: float


def leverage_by_notional(people: People) -> list[tuple[str, float, str]]:
    """Weigh each account's leverage by its notional, as statistics of open interest do."""
    order = np.argsort(people.leverage, kind="stable")
    leverage, notional = people.leverage[order], people.levered_usd[order]
    share = np.cumsum(notional) / notional.sum()
    below = [float(np.sum(notional[leverage < limit]) / notional.sum()) for limit in (3.0, 7.0)]
    return [
        ("leverage, mean by notional", float(leverage @ notional / notional.sum()), "x equity"),
        (
            "leverage, 80 % quantile by notional",
            float(leverage[int(np.argmax(share >= 0.8))]),
            "x equity",
        ),
        ("notional below 3x", below[0], "of notional"),
        ("notional at 3x to 7x", below[1] - below[0], "of notional"),
        ("notional above 7x", 1.0 - below[1], "of notional"),
    ]


def read_orders(book: AccountBook, tape: MarketTape) -> BookOrders:
    """Look each order's instrument and the price before it up; the first row at the earliest."""
    table = tape.instruments
    instrument = book.tape_rows(tape)[book.order_instrument]
    row = np.maximum(np.searchsorted(tape.ts, book.order_ts, side="left") - 1, 0)
    asset = table.asset[instrument]
    price = tape.index[row, asset]
    in_dollars = (table.inverse[instrument] == 1) & (table.kind[instrument] == PERPETUAL)
    return BookOrders(
        row=row,
        instrument=instrument,
        contract_usd=table.contract_size[instrument] * np.where(in_dollars, 1.0, price),
        is_option=table.kind[instrument] == OPTION,
    )


def people_of(
    book: AccountBook, tape: MarketTape, orders: BookOrders, spec: BookSpec | None
) -> People:
    """Average each account's openings; equity is what it had brought in until each of them.

    Raises
    ------
    BookError
        If nothing is opened, or fewer than two openings are funded.
    """
    opening = np.flatnonzero(book.order_kind == OPEN)
    if not len(opening):
        raise BookError("the book opens no position.")
    _, first, place = np.unique(book.order_group[opening], return_index=True, return_inverse=True)
    notional = np.abs(book.order_quantity[opening]) * orders.contract_usd[opening]
    gross = np.bincount(place, weights=notional)
    start = opening[first]
    account = book.order_account[start]
    currency = book.collateral_currency[account]
    coin_usd = tape.index[orders.row[start], np.maximum(currency - 1, 0)]
    wallet = book.wallet[account] * np.where(currency > 0, coin_usd, 1.0)
    wallet = wallet + _transferred_usd(book, tape, start, orders.row[start])
    equity = wallet / (spec.wallet_multiple if spec else 1.0)

    def mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        count = np.bincount(account[chosen], minlength=len(book))
        total = np.bincount(account[chosen], weights=values[chosen], minlength=len(book))
        return np.asarray(total[count > 0] / count[count > 0])

    # An observed wallet may be empty; it has a notional but no leverage.
    levered = (equity > 0.0) & (gross > 0.0)
    if levered.sum() < 2:
        raise BookError("fewer than two of the book's openings are funded by a wallet.")
    with np.errstate(divide="ignore", invalid="ignore"):
        leverage = gross / equity
    return People(
        notional_usd=mean(gross, np.ones(len(gross), bool)),
        equity_usd=mean(equity, levered),
        leverage=mean(leverage, levered),
        levered_usd=mean(gross, levered),
    )


def _transferred_usd(
    book: AccountBook, tape: MarketTape, start: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Value what each opening's account had brought in by transfers until then, in USD."""
    total = np.zeros(len(start))
    if not len(book.transfer_ts):
        return total
    account, ts = book.order_account[start], book.order_ts[start]
    first = min(int(ts.min()), int(book.transfer_ts[0]))
    span = max(int(ts.max()), int(book.transfer_ts[-1])) - first + 1
    own = book.collateral_currency[book.transfer_account]
    currency = np.where(book.transfer_currency < 0, own, book.transfer_currency)
    for c in np.unique(currency):
        mine = np.flatnonzero(currency == c)
        # In order of account and then time, a sum until a moment is a difference of two places.
        mine = mine[np.argsort(book.transfer_account[mine], kind="stable")]
        key = book.transfer_account[mine] * span + book.transfer_ts[mine] - first
        running = np.append(0.0, np.cumsum(book.transfer_amount[mine]))
        until = np.searchsorted(key, account * span + ts - first, side="right")
        since = np.searchsorted(key, account * span, side="left")
        total += (running[until] - running[since]) * (
            tape.index[row, c - 1] if c else np.ones(len(row))
        )
    return total


def open_interest(book: AccountBook, tape: MarketTape, orders: BookOrders) -> OpenInterest:
    """Average the positions that the intents make, over time, at the prices of the orders."""
    key = book.order_account * len(tape.instruments) + orders.instrument
    order = np.argsort(key, kind="stable")
    key = key[order]
    new = np.diff(key, prepend=-1) != 0
    quantity = book.order_quantity[order]
    running = np.cumsum(quantity)
    start = np.flatnonzero(new)
    before = np.repeat(running[start] - quantity[start], np.diff(np.append(start, len(key))))
    position = running - before
    end = np.append(book.order_ts[order][1:], 0)
    end[np.append(new[1:], True)] = int(tape.ts[-1])
    end = np.minimum(end, tape.instruments.expiry_ms[orders.instrument[order]])
    held_ms = np.clip(end - book.order_ts[order], 0, None)
    weight = position * orders.contract_usd[order] * held_ms
    total = float(np.abs(weight).sum())
    span = int(tape.ts[-1]) - int(tape.ts[0])
    perpetual = ~orders.is_option[order]
    long = float(weight[perpetual & (weight > 0.0)].sum())
    short = float(-weight[perpetual & (weight < 0.0)].sum())
    options = float(np.abs(weight[~perpetual]).sum())
    return OpenInterest(
        mean_usd=total / span if span else float("nan"),
        option_share=options / total if total else 0.0,
        long_share=long / (long + short) if long + short else float("nan"),
    )


def strategy_mix(book: AccountBook, tape: MarketTape, orders: BookOrders) -> dict[str, float]:
    """Share of the openings by strategy, told from the legs of each group."""
    opening = np.flatnonzero(book.order_kind == OPEN)
    groups, place = np.unique(book.order_group[opening], return_inverse=True)
    table = tape.instruments
    instrument = orders.instrument[opening]
    long = book.order_quantity[opening] > 0.0
    call = table.is_call[instrument] == 1
    option = orders.is_option[opening]
    pattern = np.zeros((len(groups), 6), np.int64)
    kinds = (
        ~option & long,
        ~option & ~long,
        option & call & long,
        option & call & ~long,
        option & ~call & long,
        option & ~call & ~long,
    )
    for column, chosen in enumerate(kinds):
        pattern[:, column] = np.bincount(place[chosen], minlength=len(groups))
    highest = np.zeros(len(groups))
    lowest = np.full(len(groups), np.inf)
    np.maximum.at(highest, place[option], table.strike[instrument[option]])
    np.minimum.at(lowest, place[option], table.strike[instrument[option]])
    one_strike = highest == lowest
    mix: dict[str, float] = {}
    for name, legs in STRATEGIES.items():
        matches = np.all(pattern == _pattern(legs), axis=1)
        if name == "perpetual":
            matches |= np.all(pattern == [0, 1, 0, 0, 0, 0], axis=1)
        if name.endswith(("straddle", "strangle")):
            matches &= one_strike == name.endswith("straddle")
        if matches.any():
            mix[name.replace("_", " ")] = float(matches.mean())
    other = 1.0 - sum(mix.values())
    return mix | ({"other": other} if other > 1e-12 else {})


def _pattern(legs: tuple[Leg, ...]) -> list[int]:
    """Count long and short perpetuals, calls and puts."""
    kinds = [(kind, side) for kind in ("perpetual", "call", "put") for side in (1, -1)]
    return [sum((leg.kind, leg.side) == kind for leg in legs) for kind in kinds]
