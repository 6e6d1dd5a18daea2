"""Random markets and portfolios for requirement kernels, every kind of instrument in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.instruments import FUTURE, OPTION, PERPETUAL, InstrumentTable
from backtest.kernels.black76 import black76, black76_delta
from backtest.kernels.types import (
    DEBTS,
    DEPOSITS,
    FUND_USD,
    NET_NOTIONAL,
    OPEN_NOTIONAL,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    empty_market,
    empty_requirement,
)
from backtest.seeds import stream
from backtest.units import MS_PER_YEAR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.requirement import RequirementRule
    from backtest.tape import MarketTape

INDEX_USD = (42_000.0, 2_300.0, 100.0)


def make_market(seed: int = 0, assets: int = 2, options: int = 24) -> Market:
    """Make a market of ``2 * assets`` perpetuals (linear, then inverse) and some options."""
    draws = stream(seed, "market")
    index = np.resize(INDEX_USD, assets)
    rows: list[dict[str, Any]] = []
    for inverse in (0, 1):
        rows += [
            {"symbol": f"P{a}{inverse}", "asset": a, "kind": PERPETUAL, "inverse": inverse}
            | {"contract_size": 10.0 if inverse else 1.0}
            for a in range(assets)
        ]
    for i in range(options):
        asset = i % assets
        rows.append(
            {"symbol": f"O{i}", "asset": asset, "kind": OPTION, "inverse": i // assets % 2}
            | {"strike": float(index[asset] * draws.uniform(0.5, 1.8)), "is_call": i % 3 % 2}
            | {"contract_size": 0.1 if i % 5 == 0 else 1.0, "iv_column": 0, "expiry_column": 0}
        )
    market = empty_market(InstrumentTable.from_rows(rows), assets)
    is_option = market.kind == OPTION
    market.tick[0] = 1
    market.index[:] = index
    market.mark[:] = index * draws.uniform(0.99, 1.01, assets)
    count = len(rows)
    market.forward[:] = market.mark[market.asset] * np.where(
        is_option, draws.uniform(0.97, 1.05, count), 1.0
    )
    market.sigma[:] = np.where(is_option, draws.uniform(0.1, 2.0, count), 0.0)
    market.years[:] = np.where(is_option, draws.uniform(1e-3, 1.0, count), 0.0)
    market.rate[:] = np.where(is_option, draws.uniform(-0.05, 0.2, count), 0.0)
    market.settled[:] = np.where(is_option & (draws.random(count) < 0.2), draws.random(count), 0.0)
    _draw_venue(market, draws)
    # Options of one expiry share its time, carry and settlement.
    expiries = np.flatnonzero(is_option)
    for name in ("years", "rate", "settled"):
        values = getattr(market, name)
        values[expiries] = values[expiries[(np.arange(len(expiries)) // 4) * 4 % len(expiries)]]
    revalue(market)
    return market


def market_of_tape(tape: MarketTape, row: int, seed: int = 0) -> tuple[Market, np.ndarray]:
    """Show one row of a tape as requirement kernels see it.

    Parameters
    ----------
    tape
        Any market.
    row
        Which of its rows.
    seed
        Of what no tape holds: the venue's own state and the oracles' confidence.

    Returns
    -------
    market, tradable
        The market, and the instruments that live then and have a value, ``(I',)`` int64. The
        rows of all others are NaN or stale, as in a replay.
    """
    table, now = tape.instruments, int(tape.ts[row])
    market = empty_market(table, len(tape.assets))
    market.tick[0] = row
    market.index[:], market.mark[:] = tape.index[row], tape.mark[row]
    market.forward[:] = market.mark[table.asset]
    snapshot = int(np.searchsorted(tape.vol_known_ts, tape.known_ts[row], side="right")) - 1
    dated = table.kind != PERPETUAL
    market.years[dated] = np.maximum(table.expiry_ms[dated] - now, 0) / MS_PER_YEAR
    if snapshot < 0:
        market.forward[dated] = market.index[table.asset[dated]]
        market.sigma[table.kind == OPTION] = np.nan
    else:
        ratio = tape.forward_ratio[snapshot]
        market.forward[dated] = market.index[table.asset[dated]] * ratio[table.expiry_column[dated]]
        option = table.kind == OPTION
        market.sigma[option] = tape.iv[snapshot][table.iv_column[option]]
    alive = (table.listed_ms <= now) & (now < table.expiry_ms)
    carried = dated & (market.years > 0.0)
    market.rate[carried] = (
        np.log(market.forward[carried] / market.index[table.asset[carried]]) / market.years[carried]
    )
    revalue(market)
    tradable = np.flatnonzero(alive & np.isfinite(market.value_usd))
    _draw_venue(market, stream(seed, "venue", row))
    return market, tradable


def _draw_venue(market: Market, draws: np.random.Generator) -> None:
    assets = len(market.index)
    market.confidence[:] = draws.uniform(0.3, 1.0, len(market.kind))
    market.index_confidence[:] = draws.uniform(0.3, 1.0, assets)
    market.protocol[FUND_USD] = 1e6
    market.protocol[OPEN_NOTIONAL] = draws.uniform(1e5, 1e8, assets)
    market.protocol[NET_NOTIONAL] = draws.normal(0.0, 1e7, assets)
    market.protocol[DEPOSITS] = draws.uniform(0.0, 1e8, assets)
    market.protocol[DEBTS] = draws.uniform(0.0, 1e8, assets)


def revalue(market: Market) -> None:
    """Set unit values and notionals from index, mark, forward and volatility."""
    for i in range(len(market.kind)):
        asset, size = market.asset[i], market.contract_size[i]
        index, forward = market.index[asset], market.forward[i]
        price = forward if market.kind[i] == FUTURE else market.mark[asset]
        if market.kind[i] == OPTION:
            terms = (forward, market.strike[i], market.sigma[i], market.years[i])
            worth = black76(*terms, float(market.is_call[i]))
            delta = black76_delta(*terms, float(market.is_call[i]))
            market.value_usd[i] = size * (worth / forward * index if market.inverse[i] else worth)
            market.notional_usd[i] = size * index
            market.delta_usd[i] = delta * size * index
        elif market.inverse[i]:
            market.value_usd[i] = -size / price * index
            market.notional_usd[i] = market.delta_usd[i] = size
        else:
            market.value_usd[i] = market.notional_usd[i] = market.delta_usd[i] = size * price


def random_holdings(market: Market, seed: int, accounts: int = 12, legs: int = 8) -> Holdings:
    """Give each account up to ``legs`` legs, some of them none."""
    draws = stream(seed, "holdings")
    count = draws.integers(0, legs + 1, accounts)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    instrument = draws.integers(0, len(market.kind), int(count.sum()))
    dollars = draws.normal(0.0, 1e5, len(instrument))
    rate = np.where(market.inverse == 1, market.index[market.asset], 1.0)
    entry = (market.value_usd / rate)[instrument] * draws.uniform(0.7, 1.4, len(instrument))
    cash = draws.normal(0.0, 1e5, (1 + len(market.index), accounts))
    cash[1:] *= (draws.random((len(market.index), accounts)) < 0.5) / market.index[:, None]
    return Holdings(
        start, count, instrument, dollars / market.notional_usd[instrument], entry, cash
    )


def holdings_of(
    accounts: Sequence[Sequence[tuple[int, float]]],
    market: Market,
    cash: np.ndarray | None = None,
) -> Holdings:
    """Hold ``(instrument, quantity)`` legs in one account each, bought at their present value.

    Parameters
    ----------
    accounts
        Legs of every account; an account may have none.
    market
        Where the legs are traded.
    cash
        ``(1 + A, N)`` US dollars and coins; none by default.
    """
    count = np.array([len(legs) for legs in accounts], dtype=np.int64)
    legs = [leg for account in accounts for leg in account]
    instrument = np.array([i for i, _ in legs], dtype=np.int64)
    unit = market.value_usd / np.where(market.inverse == 1, market.index[market.asset], 1.0)
    return Holdings(
        np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64),
        count,
        instrument,
        np.array([quantity for _, quantity in legs], dtype=np.float64),
        unit[instrument],
        np.zeros((1 + len(market.index), len(accounts))) if cash is None else cash,
    )


def random_accounts(
    market: Market, tradable: np.ndarray, seed: int, accounts: int = 16, legs: int = 6
) -> Holdings:
    """Give each account up to ``legs`` different instruments, half of them no options."""
    draws = stream(seed, "accounts")
    option = market.kind[tradable] == OPTION
    weight = np.where(option, 0.5 / max(option.sum(), 1), 0.5 / max((~option).sum(), 1))
    held = []
    for _ in range(accounts):
        size = min(int(draws.integers(0, legs + 1)), len(tradable))
        chosen = draws.choice(tradable, size, replace=False, p=weight / weight.sum())
        dollars = draws.choice([-1.0, 1.0], size) * 10.0 ** draws.uniform(2.0, 6.0, size)
        held.append(
            [
                (int(i), float(usd / market.notional_usd[i]))
                for i, usd in zip(chosen, dollars, strict=True)
            ]
        )
    cash = draws.normal(0.0, 1e5, (1 + len(market.index), accounts))
    cash[1:] *= (draws.random((len(market.index), accounts)) < 0.5) / market.index[:, None]
    made = holdings_of(held, market, cash)
    return made._replace(entry=made.entry * draws.uniform(0.7, 1.4, len(made.entry)))


def one_account(*legs: tuple[int, float], assets: int = 2) -> Holdings:
    """Hold ``(instrument, quantity)`` legs in a single account without money."""
    instrument, quantity = zip(*legs, strict=True)
    return Holdings(
        np.zeros(1, np.int64),
        np.array([len(legs)]),
        np.array(instrument, np.int64),
        np.array(quantity, float),
        np.zeros(len(legs)),
        np.zeros((1 + assets, 1)),
    )


def given_numbers(
    rule: RequirementRule, parameters: Sequence[float], constants: np.ndarray, market: Market
) -> KernelInput:
    """Put parameters, constants and a fresh scratch table together."""
    constants = np.array(constants, float)
    constants.flags.writeable = False
    columns = rule.scratch_columns(constants)
    instruments = len(market.kind)
    return KernelInput(
        np.array(parameters, float),
        constants,
        np.zeros((instruments, columns)),
        np.full(instruments, -1, np.int64),
    )


def ask(
    rule: RequirementRule,
    parameters: Sequence[float],
    constants: np.ndarray,
    market: Market,
    holdings: Holdings,
    plain: bool = False,
) -> Requirement:
    """Ask a rule for the margin of all accounts, compiled or in plain Python."""
    accounts = np.arange(len(holdings.start))
    requirement = empty_requirement(len(accounts))
    call = rule.reference if plain else rule.kernel
    call(
        given_numbers(rule, parameters, constants, market), market, holdings, accounts, requirement
    )
    return requirement


def equal_bits(one: Requirement, other: Requirement) -> bool:
    """Tell whether two requirements are the same, NaN counting as equal to itself."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
