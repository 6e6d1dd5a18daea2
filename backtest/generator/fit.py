"""What a book looks like, beside what it was meant to look like."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.generator.measure import (
    leverage_by_notional,
    open_interest,
    people_of,
    read_orders,
    strategy_mix,
)
from backtest.generator.population import gini, hill_index, top_share
from backtest.instruments import OPTION
from backtest.units import MS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backtest.book import AccountBook
    from backtest.generator.spec import BookSpec, Target
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
    """Facts about a book in a fixed order; a generated one's with their targets.

    ``published`` says how far each published fact may be missed; for the generator's own
    settings that is in `TOLERANCES`.
    """

    facts: tuple[FitRow, ...]
    synthetic: bool
    published: Mapping[str, float] = field(default_factory=dict)

    def rows(self) -> list[FitRow]:
        """List (name, target, achieved, unit, source)."""
        return list(self.facts)

    def __getitem__(self, name: str) -> FitRow:
        """Return one fact by name."""
        return next(row for row in self.facts if row.name == name)

    def misses(self) -> list[FitRow]:
        """List the facts that lie outside their stated tolerance."""
        return [row for row in self.facts if not self._is_met(row)]

    def _is_met(self, row: FitRow) -> bool:
        if row.target is None:
            return True
        limit = self.published.get(row.name, math.inf)
        if row.name not in self.published and row.name in TOLERANCES:
            allowed = TOLERANCES[row.name]
            limit = allowed.absolute + allowed.relative * abs(row.target)
        return abs(row.achieved - row.target) <= limit + 1e-12


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
    orders = read_orders(book, tape)
    people = people_of(book, tape, orders, spec)
    interest = open_interest(book, tape, orders)
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
        *(
            FitRow(name, None, value, unit, "")
            for name, value, unit in leverage_by_notional(people)
        ),
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
            for name, share in strategy_mix(book, tape, orders).items()
        ),
    )
    targets: Mapping[str, Target] = dict(spec.targets.items()) if spec else {}
    if not lists_options:
        targets = {name: aim for name, aim in targets.items() if not name.startswith("options")}
    return BookFit(
        tuple(_published(row, targets.get(row.name)) for row in facts),
        book.synthetic,
        {name: aim.tolerance for name, aim in targets.items()},
    )


def _published(row: FitRow, target: Target | None) -> FitRow:
    """Hold a fact against what was published about it rather than the generator's setting."""
    return row if target is None else row._replace(target=target.value, source=target.source)
