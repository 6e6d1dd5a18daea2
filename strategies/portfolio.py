"""One portfolio on one market: what `remargin policy margin` prices, and published cases too.

A portfolio is written by hand, so that a policy's answer can be laid beside a venue's own screen:
prices, what is held, what the venue's own state is. It becomes a market and an account exactly as
the event loop shows them to a requirement kernel; the policy's real kernels answer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.errors import nearest
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
    empty_market,
    empty_requirement,
)
from backtest.tape import MarketTape
from backtest.units import MS_PER_YEAR, DurationMs, Fraction, Usd, UtcMs

if TYPE_CHECKING:
    from backtest.requirement import RequirementLayer
    from strategies.contract import MarginPolicy

KINDS = {"perpetual": PERPETUAL, "option": OPTION, "future": FUTURE}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AssetState(_Part):
    """Prices of one asset, and what the venue and its market hold of it."""

    index: float = Field(gt=0.0, description="spot index, USD")
    mark: float | None = Field(None, gt=0.0, description="of the perpetual, USD; index if absent")
    confidence: Fraction = Field(1.0, ge=0.0, le=1.0, description="of the index oracle")
    open_interest_usd: Usd = Field(0.0, ge=0.0, description="gross open notional")
    net_open_usd: float = Field(0.0, description="longs less shorts, perpetuals and futures")
    deposits_usd: Usd = Field(0.0, ge=0.0, description="coins that all accounts hold")
    debts_usd: Usd = Field(0.0, ge=0.0, description="coins that all accounts owe")
    depth_usd: Usd = Field(0.0, ge=0.0, description="resting within 1 % of mid")
    volume_usd: Usd = Field(0.0, ge=0.0, description="traded in the last bar")


class Leg(_Part):
    """Contracts of one instrument."""

    asset: str
    kind: Literal["perpetual", "option", "future"] = "perpetual"
    quantity: float = Field(description="contracts, negative if short")
    settles_in: Literal["usd", "coin"] = "usd"
    contract_size: float = Field(
        1.0, gt=0.0, description="coins; USD for a perpetual or future that settles in coin"
    )
    entry: float | None = Field(None, description="mean unit value paid; at its value if absent")
    strike: float = Field(0.0, ge=0.0, description="USD")
    call: bool = False
    expires_in: DurationMs = Field(0, ge=0, description="time to expiry")
    forward: float | None = Field(None, gt=0.0, description="USD; mark or index if absent")
    iv: Fraction = Field(0.0, ge=0.0, le=10.0, description="annualised implied volatility")
    value: float | None = Field(
        None, description="of one contract in its settlement currency; from iv if absent"
    )
    rate: float | None = Field(None, description="annual; the forward's carry if absent")
    settled: Fraction = Field(0.0, ge=0.0, le=1.0, description="share of the average that is fixed")
    confidence: Fraction = Field(1.0, ge=0.0, le=1.0, description="of its own oracles")

    @model_validator(mode="after")
    def _whole(self) -> Leg:
        if self.kind == "option" and not self.strike > 0.0:
            raise ValueError("an option needs its strike, in USD")
        if self.kind == "option" and self.iv == 0.0 and self.value is None:
            raise ValueError("an option needs its iv, or its value")
        return self


class Portfolio(_Part):
    """What one account holds, and the market it holds it on."""

    at: UtcMs = Field(1_767_225_600_000, description="instant, UTC")
    assets: dict[str, AssetState] = Field(min_length=1)
    cash_usd: float = 0.0
    coins: dict[str, float] = Field({}, description="balance of each asset's coin, debts negative")
    positions: tuple[Leg, ...] = ()
    fund_usd: Usd = Field(0.0, ge=0.0, description="the venue's insurance fund")

    @model_validator(mode="after")
    def _known_assets(self) -> Portfolio:
        for place, name in [("coins", c) for c in self.coins] + [
            (f"positions.{k}.asset", leg.asset) for k, leg in enumerate(self.positions)
        ]:
            if name not in self.assets:
                raise ValueError(
                    f"{place}: there is no asset {name!r}.{nearest(name, self.assets)}"
                )
        return self


@dataclass(frozen=True)
class Ask:
    """What a policy asks of one portfolio, US dollars against its whole equity.

    Parameters
    ----------
    equity_usd
        Cash, coins and the value of every position.
    initial_usd, maintenance_usd
        The requirement.
    worst
        What happens in the worst scenario, in words; empty where there are no scenarios.
    worst_scenario
        Its number, -1 where there is none.
    parts
        ``(layer, part, initial, maintenance)``; they add up to the requirement.
    """

    equity_usd: float
    initial_usd: float
    maintenance_usd: float
    worst: str
    worst_scenario: int
    parts: tuple[tuple[str, str, float, float], ...]


def ask(policy: MarginPolicy, portfolio: Portfolio) -> Ask:
    """Ask a policy's compiled kernels for the margin of one portfolio.

    Parameters
    ----------
    policy
        Any policy. What it reads off a market's past it reads off a single bar here.
    portfolio
        Market and account.

    Returns
    -------
    Ask
        Requirement, its parts and the account's equity.

    Raises
    ------
    PolicyError
        If the policy cannot be asked about these assets.
    """
    tape, market = market_of(portfolio)
    holdings = _holdings(portfolio, market)
    who, filled = np.zeros(1, np.int64), empty_requirement(1)
    parts: list[tuple[str, str, float, float]] = []
    worst = ""
    for layer in policy.layers(tape):
        before = float(filled.initial[0]), float(filled.maintenance[0])
        given = _given(layer, len(market.kind))
        layer.rule.kernel(given, market, holdings, who, filled)
        if layer.rule.explain is None:
            added = float(filled.initial[0]) - before[0], float(filled.maintenance[0]) - before[1]
            parts.append((layer.rule.name, layer.rule.name, *added))
            continue
        told = layer.rule.explain(given, market, holdings, 0)
        worst = worst or _with_names(told.worst, tape.assets)
        parts += [
            (
                layer.rule.name,
                _with_names(part, tape.assets),
                told.initial.get(part, 0.0),
                told.maintenance.get(part, 0.0),
            )
            for part in dict.fromkeys((*told.initial, *told.maintenance))
        ]
    return Ask(
        equity_usd=_equity_usd(holdings, market),
        initial_usd=float(filled.initial[0]),
        maintenance_usd=float(filled.maintenance[0]),
        worst=worst,
        worst_scenario=int(filled.worst_scenario[0]),
        parts=tuple(parts),
    )


def _with_names(text: str, assets: tuple[str, ...]) -> str:
    """Say ``BTC`` where a rule, which knows no names, says ``asset 0``."""
    return re.sub(r"\basset (\d+)\b", lambda found: assets[int(found[1])], text)


def market_of(portfolio: Portfolio) -> tuple[MarketTape, Market]:
    """Show a portfolio's market as a tape of one row, and as requirement kernels see it."""
    names = list(portfolio.assets)
    states = list(portfolio.assets.values())
    legs = portfolio.positions
    rows = [_row(k, leg, names, portfolio.at) for k, leg in enumerate(legs)]
    table = InstrumentTable.from_rows(rows)
    index = np.array([state.index for state in states])
    mark = np.array([state.mark or state.index for state in states])
    dated = [leg.kind != "perpetual" for leg in legs]
    snapshots = int(any(dated))
    forward = np.array([_forward(leg, portfolio) for leg in legs])
    tape = MarketTape(
        assets=tuple(names),
        instruments=table,
        ts=np.array([portfolio.at]),
        known_ts=np.array([portfolio.at]),
        index=index[None],
        mark=mark[None],
        high=np.maximum(index, mark)[None],
        low=np.minimum(index, mark)[None],
        funding=np.zeros((1, len(names))),
        volume_usd=np.array([[state.volume_usd for state in states]]),
        depth_usd=np.array([[state.depth_usd for state in states]]),
        vol_ts=np.full(snapshots, portfolio.at),
        vol_known_ts=np.full(snapshots, portfolio.at),
        iv=np.array([[leg.iv or math.nan for leg in legs]])[:snapshots],
        forward_ratio=(forward / index[table.asset])[None][:snapshots],
        synthetic=True,
    )
    market = empty_market(table, len(names))
    market.tick[0] = 0
    market.index[:], market.mark[:], market.forward[:] = index, mark, forward
    market.index_confidence[:] = [state.confidence for state in states]
    market.protocol[FUND_USD] = portfolio.fund_usd
    for row, name in (
        (OPEN_NOTIONAL, "open_interest_usd"),
        (NET_NOTIONAL, "net_open_usd"),
        (DEPOSITS, "deposits_usd"),
        (DEBTS, "debts_usd"),
    ):
        market.protocol[row] = [getattr(state, name) for state in states]
    for i, leg in enumerate(legs):
        _value(market, i, leg)
    return tape, market


def _row(k: int, leg: Leg, names: list[str], at: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "symbol": f"{k}-{leg.asset}-{leg.kind}",
        "asset": names.index(leg.asset),
        "kind": KINDS[leg.kind],
        "inverse": int(leg.settles_in == "coin"),
        "contract_size": leg.contract_size,
    }
    if leg.kind != "perpetual":
        # A contract that expires now still stands until it is settled.
        expires = {"expiry_ms": at + max(round(leg.expires_in), 1), "expiry_column": k}
        row |= expires | {"strike": leg.strike, "is_call": int(leg.call), "iv_column": k}
    return row


def _forward(leg: Leg, portfolio: Portfolio) -> float:
    state = portfolio.assets[leg.asset]
    if leg.forward is not None:
        return leg.forward
    return (state.mark or state.index) if leg.kind == "perpetual" else state.index


def _value(market: Market, i: int, leg: Leg) -> None:
    """Fill what one contract is worth; the forms of `backtest.instruments`."""
    index = float(market.index[market.asset[i]])
    size, forward = leg.contract_size, float(market.forward[i])
    inverse = leg.settles_in == "coin"
    years = leg.expires_in / MS_PER_YEAR
    if leg.kind == "option":
        terms = (forward, leg.strike, leg.iv, years, float(leg.call))
        unit = size * black76(*terms) / (forward if inverse else 1.0)
        notional = size * index
        delta = black76_delta(*terms) * notional
    else:
        unit = -size / forward if inverse else size * forward
        notional = delta = size if inverse else unit
    unit = unit if leg.value is None else leg.value
    market.value_usd[i] = unit * index if inverse else unit
    market.notional_usd[i], market.delta_usd[i] = notional, delta
    market.sigma[i] = leg.iv
    market.years[i] = years if leg.kind != "perpetual" else 0.0
    carry = math.log(forward / index) / years if years > 0.0 and leg.kind != "perpetual" else 0.0
    market.rate[i] = carry if leg.rate is None else leg.rate
    market.settled[i], market.confidence[i] = leg.settled, leg.confidence


def _holdings(portfolio: Portfolio, market: Market) -> Holdings:
    legs = portfolio.positions
    rate = np.where(market.inverse == 1, market.index[market.asset], 1.0)
    unit = market.value_usd / rate
    entry = [unit[i] if leg.entry is None else leg.entry for i, leg in enumerate(legs)]
    cash = np.zeros((1 + len(market.index), 1))
    cash[0] = portfolio.cash_usd
    for a, name in enumerate(portfolio.assets):
        cash[1 + a] = portfolio.coins.get(name, 0.0)
    return Holdings(
        np.zeros(1, np.int64),
        np.full(1, len(legs), np.int64),
        np.arange(len(legs), dtype=np.int64),
        np.array([leg.quantity for leg in legs]),
        np.array(entry, dtype=np.float64),
        cash,
    )


def _given(layer: RequirementLayer, instruments: int) -> KernelInput:
    return KernelInput(
        np.array(layer.parameters[0]),
        layer.constants,
        np.zeros((instruments, layer.rule.scratch_columns(layer.constants))),
        np.full(instruments, -1, np.int64),
    )


def _equity_usd(holdings: Holdings, market: Market) -> float:
    coins = float(holdings.cash[1:, 0] @ market.index)
    return float(holdings.cash[0, 0]) + coins + float(holdings.quantity @ market.value_usd)
