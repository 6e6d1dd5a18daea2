"""What a book looks like, beside what it was meant to look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.book import OPEN
from backtest.errors import BookError
from backtest.generator.options import STRATEGIES, Leg
from backtest.generator.population import gini, hill_index, top_share
from backtest.instruments import OPTION, PERPETUAL
from backtest.units import MS_PER_DAY

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.generator.spec import BookSpec
    from backtest.tape import MarketTape


class FitRow(NamedTuple):
    """One fact about a book; ``target`` is None where there was none."""

    name: str
    target: float | None
    achieved: float
    unit: str
    source: str


class _Tolerance(NamedTuple):
    absolute: float
    relative: float


TOLERANCES: dict[str, _Tolerance] = {
    "gini of intended notional": _Tolerance(0.03, 0.0),
    "share of largest 1 %": _Tolerance(0.08, 0.0),
    "correlation of log equity and log leverage": _Tolerance(0.06, 0.0),
    "leverage, 5 % quantile": _Tolerance(0.0, 0.25),
    "leverage, 25 % quantile": _Tolerance(0.0, 0.15),
    "leverage, median": _Tolerance(0.0, 0.10),
    "leverage, 75 % quantile": _Tolerance(0.0, 0.15),
    "leverage, 95 % quantile": _Tolerance(0.0, 0.20),
    "options, share of notional x time": _Tolerance(0.03, 0.0),
    "longs, share of open interest": _Tolerance(0.10, 0.0),
    "orders per account per day": _Tolerance(0.0, 0.10),
    "accounts": _Tolerance(0.0, 0.0),
}
"""How far a target may be missed, for books of 2,000 accounts that mostly trade."""


@dataclass(frozen=True)
class BookFit:
    """Facts about a book in a fixed order; a generated one's with their targets."""

    facts: tuple[FitRow, ...]
    synthetic: bool

    def rows(self) -> list[FitRow]:
        """List (name, target, achieved, unit, source)."""
        return list(self.facts)

    def __getitem__(self, name: str) -> FitRow:
        """Return one fact by name."""
        return next(row for row in self.facts if row.name == name)

    def misses(self) -> list[FitRow]:
        """List the facts that lie outside their stated tolerance."""
        return [row for row in self.facts if not _is_met(row)]


def _is_met(row: FitRow) -> bool:
    if row.target is None or row.name not in TOLERANCES:
        return True
    allowed = TOLERANCES[row.name]
    limit = allowed.absolute + allowed.relative * abs(row.target)
    return abs(row.achieved - row.target) <= limit + 1e-12


@dataclass(frozen=True)
class _Orders:
    """The book's orders in the tape's terms, ``(M,)``."""

    row: np.ndarray
    instrument: np.ndarray
    contract_usd: np.ndarray
    is_option: np.ndarray


@dataclass(frozen=True)
class _People:
    """Accounts that trade: mean gross notional, equity and leverage of their openings."""

    notional_usd: np.ndarray
    equity_usd: np.ndarray
    leverage: np.ndarray


@dataclass(frozen=True)
class _Interest:
    mean_usd: float
    option_share: float
    long_share: float


def describe_book(book: AccountBook, tape: MarketTape, spec: BookSpec | None = None) -> BookFit:
    """Measure a book on its tape.

    Parameters
    ----------
    book
        Generated or imported.
    tape
        The market it trades in.
    spec
        What it was generated from, for the targets and their sources.

    Returns
    -------
    BookFit
        Intended notional of an account is the mean over its openings of the gross notional of
        all legs; its leverage is that over its equity. Shares of open interest are averages
        over time at the prices of the openings.

    Raises
    ------
    BookError
        If the book does not fit the tape, or no account opens a position within it.
    """
    orders = _read_orders(book, tape)
    people = _population(book, tape, orders, spec)
    interest = _open_interest(book, tape, orders)
    days = (int(tape.ts[-1]) - int(tape.ts[0])) / MS_PER_DAY
    lists_options = bool(np.any(tape.instruments.kind == OPTION))
    tail = max(3, round((spec.tail_share if spec else 0.025) * len(people.equity_usd)))
    multiple = spec.wallet_multiple if spec else 1.0

    def fact(name: str, achieved: float, unit: str, field: str = "") -> FitRow:
        if spec is None or not field:
            return FitRow(name, None, float(achieved), unit, "")
        target: float | None = getattr(spec, field)
        return FitRow(name, target, float(achieved), unit, spec.source_of(field))

    def leverage(quantile: int, label: str) -> FitRow:
        achieved = float(np.quantile(people.leverage, quantile / 100))
        target = getattr(spec.leverage, f"p{quantile:02d}") if spec else None
        source = spec.source_of("leverage") if spec else ""
        return FitRow(f"leverage, {label}", target, achieved, "x equity", source)

    facts = (
        fact("accounts", len(book), "accounts", "accounts"),
        fact("accounts that trade", len(people.notional_usd), "accounts"),
        fact("median wallet", np.median(people.equity_usd) * multiple, "USD", "median_equity_usd"),
        fact("mean open interest", interest.mean_usd, "USD", "open_interest_usd"),
        fact("gini of intended notional", gini(people.notional_usd), "", "gini"),
        fact(
            "share of largest 1 %",
            top_share(people.notional_usd, max(1, round(len(people.notional_usd) / 100))),
            "of notional",
            "top_percent_share",
        ),
        fact("share of ten largest", top_share(people.notional_usd, 10), "of notional"),
        fact("hill index of equity", hill_index(people.equity_usd, tail), "", "tail_index"),
        fact(
            "correlation of log equity and log leverage",
            np.corrcoef(np.log(people.equity_usd), np.log(people.leverage))[0, 1],
            "",
            "size_leverage_correlation",
        ),
        leverage(5, "5 % quantile"),
        leverage(25, "25 % quantile"),
        leverage(50, "median"),
        leverage(75, "75 % quantile"),
        leverage(95, "95 % quantile"),
        fact(
            "options, share of notional x time",
            interest.option_share,
            "of notional",
            "option_share" if lists_options else "",
        ),
        FitRow(
            "longs, share of open interest",
            0.5 if spec else None,
            interest.long_share,
            "of perpetuals",
            "every long has a short" if spec else "",
        ),
        fact(
            "orders per account per day",
            len(book.order_ts) / (len(book) * days) if days else float("nan"),
            "orders",
            "orders_per_account_per_day",
        ),
        *(
            FitRow(f"openings: {name}", None, share, "of openings", "")
            for name, share in _strategy_mix(book, tape, orders).items()
        ),
    )
    return BookFit(facts, book.synthetic)


def _read_orders(book: AccountBook, tape: MarketTape) -> _Orders:
    """Look each order's instrument and the price before it up; the first row at the earliest."""
    table = tape.instruments
    instrument = book.tape_rows(tape)[book.order_instrument]
    row = np.maximum(np.searchsorted(tape.ts, book.order_ts, side="left") - 1, 0)
    asset = table.asset[instrument]
    price = tape.index[row, asset]
    in_dollars = (table.inverse[instrument] == 1) & (table.kind[instrument] == PERPETUAL)
    return _Orders(
        row=row,
        instrument=instrument,
        contract_usd=table.contract_size[instrument] * np.where(in_dollars, 1.0, price),
        is_option=table.kind[instrument] == OPTION,
    )


def _population(
    book: AccountBook, tape: MarketTape, orders: _Orders, spec: BookSpec | None
) -> _People:
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
    return _People(
        notional_usd=mean(gross, np.ones(len(gross), bool)),
        equity_usd=mean(equity, levered),
        leverage=mean(leverage, levered),
    )


def _open_interest(book: AccountBook, tape: MarketTape, orders: _Orders) -> _Interest:
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
    return _Interest(
        mean_usd=total / span if span else float("nan"),
        option_share=options / total if total else 0.0,
        long_share=long / (long + short) if long + short else float("nan"),
    )


def _strategy_mix(book: AccountBook, tape: MarketTape, orders: _Orders) -> dict[str, float]:
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
