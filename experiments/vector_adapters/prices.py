"""At which price a position goes: brackets, liquidation, fillable and bankruptcy prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from backtest.kernels.laws.liquidation_price import (
    adjusted_bankruptcy_rating,
    bankruptcy_quote,
    below_least_collateral,
    bracket_deduction,
    bracket_liquidation_price,
    equity_at,
    fillable_price,
    isolated_liquidation_price,
    remaining_collateral,
)
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, Tiers, answers
from experiments.vector_adapters.kernels import bracketed_margin_usd

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

HYPERLIQUID_MAINTENANCE_SHARE = 0.5
"""Maintenance is half the initial margin at maximum leverage (Hyperliquid documentation)."""


class _TieredMargin(Inputs):
    notional: Number
    tiers: Tiers


def _tiered_margin(given: _TieredMargin) -> Answers:
    """Maintenance from the project's own bracketed policy, and the bracket's deduction."""
    lowers = [lower for lower, _ in given.tiers]
    if not lowers or lowers[0] != 0.0 or sorted(set(lowers)) != lowers:
        raise NotCoveredError("tiers: brackets must begin at 0 and ascend")
    notional = abs(given.notional)
    rates = np.array([rate for _, rate in given.tiers], dtype=np.float64)
    return {
        "MM": bracketed_margin_usd(notional, given.tiers),
        "deduction": bracket_deduction(notional, np.array(lowers, dtype=np.float64), rates),
    }


for _venue in ("Binance USD-M", "Bybit", "Hyperliquid", "BitMEX"):
    answers(MARGIN, _TieredMargin, _venue, "tiered_maintenance")(_tiered_margin)


class _BinancePosition(Inputs):
    wallet: Number
    mm_other: Number
    upnl_other: Number
    cum: Number
    side: Literal[1, -1]
    qty: Number
    entry: Number
    mmr: Number


@answers(MARGIN, _BinancePosition, "Binance USD-M", "tiered_maintenance", "liquidation_price")
def _binance_liquidation_price(given: _BinancePosition) -> Answers:
    """Price at which the wallet meets maintenance; other positions stand as they are."""
    price = bracket_liquidation_price(
        given.wallet - given.mm_other + given.upnl_other,
        given.side * abs(given.qty),
        given.entry,
        given.mmr,
        given.cum,
    )
    return {"liq_price": price}


class _HyperliquidPosition(Inputs):
    asset: str
    max_leverage: Number
    side: Literal["long", "short"]
    entry: Number
    size: Number
    collateral: Number


@answers(MARGIN, _HyperliquidPosition, "Hyperliquid", "liquidation_price")
def _hyperliquid_liquidation_price(given: _HyperliquidPosition) -> Answers:
    """Liquidation price of an isolated position at its tier's highest leverage."""
    quantity = abs(given.size) if given.side == "long" else -abs(given.size)
    rate = HYPERLIQUID_MAINTENANCE_SHARE / given.max_leverage
    price = isolated_liquidation_price(given.collateral, quantity, given.entry, rate)
    return {"liq_price": price}


class _DydxPosition(Inputs):
    q: Number
    price: Number
    mmf: Number


class _DydxAccount(Inputs):
    quote: Number
    positions: list[_DydxPosition]
    which: int
    ba: Number
    smmr: Number


@answers(MARGIN, _DydxAccount, "dYdX v4 liquidation price", "liquidation_fillable_price")
def _dydx_prices(given: _DydxAccount) -> Answers:
    """Where one position may be filled, and the cash of closing all of it at bankruptcy."""
    if not 0 <= given.which < len(given.positions):
        raise NotCoveredError(f"which: there is no position {given.which}")
    equity = given.quote
    maintenance = 0.0
    for p in given.positions:
        equity = equity_at(equity, p.q, 0.0, p.price)
        maintenance += abs(p.q) * p.price * p.mmf
    closed = given.positions[given.which]
    own = abs(closed.q) * closed.price * closed.mmf
    rating = adjusted_bankruptcy_rating(equity, maintenance, given.ba)
    return {
        "fillable_price": fillable_price(closed.q, closed.price, own, rating, given.smmr),
        "bankruptcy_quote": bankruptcy_quote(closed.q, closed.price, equity, own, maintenance),
    }


class _GmxPosition(Inputs):
    price: Number
    size_usd: Number
    size_tokens: Number
    entry: Number
    collateral_tokens: Number
    min_collateral_factor: Number


@answers(MARGIN, _GmxPosition, "GMX v2", "min_collateral_factor")
def _gmx_collateral(given: _GmxPosition) -> Answers:
    """Collateral that is left, fees and impact ignored, and whether it is too little."""
    remaining = remaining_collateral(
        given.collateral_tokens, given.size_tokens, given.entry, given.price
    )
    closed = below_least_collateral(remaining, given.size_usd, given.min_collateral_factor)
    return {"remaining_usd": remaining, "liquidatable": closed}
