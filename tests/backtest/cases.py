"""Random books and a simplest policy, for tests that drive both engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from backtest.book import AccountBook
from backtest.instruments import PERPETUAL
from backtest.kernels.types import requirement_kernel
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
) -> AccountBook:
    """Make a book with every kind of order, in no way like a real one."""
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
    return AccountBook(
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
