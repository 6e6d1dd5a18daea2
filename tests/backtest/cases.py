"""Random books and a simplest policy, for tests that drive both engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from backtest.book import AccountBook
from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.types import (
    DEBTS,
    DEPOSITS,
    FUND_USD,
    NET_NOTIONAL,
    OPEN_NOTIONAL,
    requirement_kernel,
)
from backtest.requirement import RequirementLayer, RequirementRule
from backtest.seeds import stream
from backtest.tape import MarketTape
from backtest.units import MS_PER_HOUR


def gross_reference(
    given: Any, market: Any, holdings: Any, accounts: np.ndarray, requirement: Any
) -> None:
    """Ask a rate of gross notional, and 60 % of it as maintenance."""
    for k in range(accounts.shape[0]):
        account = accounts[k]
        total = 0.0
        first = holdings.start[account]
        for slot in range(first, first + holdings.count[account]):
            i = holdings.instrument[slot]
            total += abs(holdings.quantity[slot]) * market.notional_usd[i]
        requirement.initial[account] = total * given.parameters[0]
        requirement.maintenance[account] = 0.6 * (total * given.parameters[0])
        requirement.worst_scenario[account] = -1


GROSS = RequirementRule("gross", requirement_kernel(gross_reference), gross_reference)


def curious_reference(
    given: Any, market: Any, holdings: Any, accounts: np.ndarray, requirement: Any
) -> None:
    """Add a charge that moves with everything a policy is shown and the simple rules ignore."""
    assets = market.index.shape[0]
    for k in range(accounts.shape[0]):
        account = accounts[k]
        first = holdings.start[account]
        charge = 0.0
        for slot in range(first, first + holdings.count[account]):
            i = holdings.instrument[slot]
            a = market.asset[i]
            paid = holdings.entry[slot] * (market.index[a] if market.inverse[i] == 1 else 1.0)
            gain = holdings.quantity[slot] * (market.value_usd[i] - paid)
            doubt = 2.0 - market.confidence[i] - market.index_confidence[a]
            shares = 0.01 * (doubt + market.settled[i] + abs(market.rate[i]))
            charge += abs(holdings.quantity[slot]) * shares * market.notional_usd[i]
            charge += 0.001 * abs(holdings.quantity[slot] * market.delta_usd[i])
            charge += 0.1 * max(gain, 0.0)
        if holdings.cash.shape[1] > 0:
            charge += 0.01 * abs(holdings.cash[0, account])
            for a in range(assets):
                charge += 0.1 * max(holdings.cash[1 + a, account], 0.0) * market.index[a]
        for a in range(assets):
            venue_usd = market.protocol[FUND_USD, a] + market.protocol[OPEN_NOTIONAL, a]
            venue_usd += abs(market.protocol[NET_NOTIONAL, a]) + market.protocol[DEPOSITS, a]
            charge += 1e-5 * (venue_usd + market.protocol[DEBTS, a])
        requirement.initial[account] += given.parameters[0] * charge
        requirement.maintenance[account] += 0.6 * (given.parameters[0] * charge)


CURIOUS = RequirementRule("curious", requirement_kernel(curious_reference), curious_reference)


@dataclass(frozen=True)
class LayeredPolicy:
    """A policy given by its layers' rules, rates and constants; constant in time."""

    parts: tuple[tuple[RequirementRule, tuple[float, ...], tuple[float, ...]], ...]

    def layers(self, tape: MarketTape) -> tuple[RequirementLayer, ...]:
        """Post the same parameters at every row."""
        return tuple(
            RequirementLayer(rule, np.tile(rates, (len(tape), 1)), np.array(constants))
            for rule, rates, constants in self.parts
        )

    def identity(self) -> dict[str, Any]:
        """Name the rules."""
        return {"policy": "+".join(rule.name for rule, _, _ in self.parts)}


def gross_policy(rate: float = 0.1) -> LayeredPolicy:
    """Return the simplest policy there is."""
    return LayeredPolicy(((GROSS, (rate,), ()),))


def random_book(
    tape: MarketTape,
    seed: int,
    accounts: int = 12,
    groups: int = 60,
    mode: Literal["elastic", "recorded"] = "elastic",
    wealth_usd: float = 20_000.0,
    plain: bool = True,
) -> AccountBook:
    """Make a book with every kind of order, in no way like a real one.

    One that is not ``plain`` has accounts of every scheme, some that run, limit orders, and
    transfers of any coin.
    """
    draw = stream(seed, "random book")
    table = tape.instruments
    legs = np.minimum(draw.integers(1, 4, groups), len(table))
    group = np.repeat(np.arange(groups), legs)
    instrument = np.concatenate([draw.choice(len(table), n, replace=False) for n in legs])
    inverse_perpetual = (table.inverse[instrument] == 1) & (table.kind[instrument] == PERPETUAL)
    asset_usd = tape.index[0, table.asset[instrument]]
    contract_usd = np.where(inverse_perpetual, 10.0, asset_usd * table.contract_size[instrument])
    order_usd = wealth_usd * np.exp(draw.normal(0.0, 1.5, len(group)))
    currency = draw.integers(0, 1 + len(tape.assets), accounts)
    rate = np.concatenate(([1.0], tape.index[0]))
    wallet = wealth_usd * np.exp(draw.normal(0.0, 1.0, accounts)) / rate[currency]
    transfers = int(draw.integers(0, 5)) if mode == "recorded" else 0
    book = AccountBook(
        mode=mode,
        assets=tape.assets,
        symbols=table.symbols,
        collateral_currency=currency,
        wallet=wallet,
        buffer=1.0 + draw.exponential(0.5, accounts),
        release=1.0 + draw.exponential(1.0, accounts),
        top_up_share=draw.random(accounts),
        top_up_delay_ms=draw.integers(0, 12, accounts) * MS_PER_HOUR,
        segment=np.zeros(accounts),
        segments=("random",),
        order_ts=np.sort(draw.integers(tape.ts[0], tape.ts[-1] + 1, groups))[group],
        order_account=draw.integers(0, accounts, groups)[group],
        order_instrument=instrument,
        order_quantity=order_usd / contract_usd * draw.choice([-1.0, 1.0], len(group)),
        order_kind=(draw.random(len(group)) < 0.3).astype(np.int64),
        order_group=group,
        transfer_ts=np.sort(draw.integers(tape.ts[0], tape.ts[-1] + 1, transfers)),
        transfer_account=draw.integers(0, accounts, transfers),
        transfer_amount=draw.normal(0.0, 0.1, transfers) * wallet.mean(),
        origin=f"random test book, seed {seed}",
    )
    return book if plain else _varied(book, tape, seed)


def _varied(book: AccountBook, tape: MarketTape, seed: int) -> AccountBook:
    draw = stream(seed, "varied book")
    accounts, orders, table = len(book), len(book.order_ts), tape.instruments
    schemes = (0, 1, 2) if book.mode == "elastic" else (0, 1)
    scheme = draw.choice(schemes, accounts)
    alone = np.bincount(book.order_group)[book.order_group] == 1
    rests = alone & (draw.random(orders) < 0.5) & (table.kind[book.order_instrument] != OPTION)
    row = np.searchsorted(tape.ts, book.order_ts)
    mark = tape.mark[row, table.asset[book.order_instrument]]
    limit = mark * (1.0 - 0.03 * np.sign(book.order_quantity) * draw.random(orders))
    transfers = int(draw.integers(0, 8))
    currency = draw.integers(-1, 1 + len(tape.assets), transfers)
    sender = draw.integers(0, accounts, transfers)
    paid_in = np.where(currency < 0, book.collateral_currency[sender], currency)
    rate = np.concatenate(([1.0], tape.index[0]))[paid_in]
    return replace(
        book,
        scheme=scheme,
        flight=np.where(draw.random(accounts) < 0.5, 0.0, draw.exponential(2.0, accounts)),
        order_limit=np.where(rests, limit, np.nan),
        order_until_ms=np.where(
            rests, book.order_ts + draw.integers(1, 20, orders) * MS_PER_HOUR, 0
        ),
        transfer_ts=np.sort(draw.integers(tape.ts[0], tape.ts[-1] + 1, transfers)),
        transfer_account=sender,
        transfer_amount=20_000.0 * draw.exponential(1.0, transfers) / rate,
        transfer_currency=currency,
    )
