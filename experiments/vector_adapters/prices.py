"""At which price a position goes: brackets, liquidation, fillable and bankruptcy prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from backtest.kernels.laws.liquidation_price import (
    adjusted_bankruptcy_rating,
    bankruptcy_quote,
    fillable_price,
)
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, Tiers, answers
from experiments.vector_adapters.presets import ASSET, ask_position, ask_positions, ask_preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.vector_adapters.base import Answers

HYPERLIQUID_MAINTENANCE_SHARE = 0.5
"""Maintenance is half the initial margin at maximum leverage (Hyperliquid documentation)."""
BRACKETED = {
    "Binance USD-M": "preset:binance-usdm",
    "Bybit": "preset:bybit",
    "Hyperliquid": "preset:hyperliquid",
    "BitMEX": "brackets",
}


class _TieredMargin(Inputs):
    notional: Number
    tiers: Tiers


def _tiered_margin(preset: str) -> Callable[[_TieredMargin], Answers]:
    def margin(given: _TieredMargin) -> Answers:
        """Maintenance of the venue's preset with the case's brackets, and what they deduct."""
        asked = ask_position(preset, _tables(given.tiers), given.notional, 1.0)
        deduction = -sum(kept for _, part, _, kept in asked.parts if part == "deduction")
        return {"MM": asked.maintenance_usd, "deduction": deduction}

    return margin


for _venue, _preset in BRACKETED.items():
    answers(MARGIN, _TieredMargin, _venue, "tiered_maintenance")(_tiered_margin(_preset))


def _tables(tiers: Tiers) -> dict[str, Any]:
    """Lay out a case's brackets as the policy of every asset; both margins have their rates."""
    table = [{"above": above, "initial": rate, "maintenance": rate} for above, rate in tiers]
    return {"brackets": table, "tables": {}, "in_coins": False}


def _liquidation_price(
    preset: str, tiers: Tiers, collateral: float, coins: float, entry: float
) -> float:
    """Return the price at which an account's equity meets the maintenance that is asked of it.

    Inside one bracket both are lines over the price, which two prices above its edge give.
    """
    lowest = max(entry, 2.0 * tiers[-1][0] / abs(coins))
    cushions = []
    for price in (lowest, 2.0 * lowest):
        asked = ask_position(
            preset, _tables(tiers), coins, price, cash_usd=collateral - coins * entry
        )
        cushions.append(asked.equity_usd - asked.maintenance_usd)
    return lowest * (1.0 - cushions[0] / (cushions[1] - cushions[0]))


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
    """Price at which the wallet meets maintenance; other positions stand as they are.

    A bracket of rate and deduction is one that begins at their quotient, above one of no rate.
    """
    if given.cum < 0.0:
        raise NotCoveredError("cum: a maintenance amount is not negative")
    tiers: Tiers = [(0.0, 0.0 if given.cum > 0.0 else given.mmr)]
    if given.cum > 0.0:
        tiers.append((given.cum / given.mmr, given.mmr))
    balance = given.wallet - given.mm_other + given.upnl_other
    quantity = given.side * abs(given.qty)
    return {
        "liq_price": _liquidation_price(
            BRACKETED["Binance USD-M"], tiers, balance, quantity, given.entry
        )
    }


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
    tiers: Tiers = [(0.0, HYPERLIQUID_MAINTENANCE_SHARE / given.max_leverage)]
    return {
        "liq_price": _liquidation_price(
            BRACKETED["Hyperliquid"], tiers, given.collateral, quantity, given.entry
        )
    }


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
    tiers = {
        f"{ASSET}{k}": {"initial": p.mmf, "maintenance": 1.0} for k, p in enumerate(given.positions)
    }
    legs = [(f"{ASSET}{k}", p.q, p.price) for k, p in enumerate(given.positions)]
    preset = "preset:dydx-v4"
    account = ask_positions(preset, {"tiers": tiers}, legs, cash_usd=given.quote)
    closed = given.positions[given.which]
    own = ask_positions(preset, {"tiers": tiers}, [legs[given.which]]).maintenance_usd
    equity, maintenance = account.equity_usd, account.maintenance_usd
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
    asked = ask_preset(
        "preset:gmx-v2",
        {
            "factor": {"least": given.min_collateral_factor},
            "position_fee": 0.0,
            "liquidation_fee": 0.0,
        },
        assets={ASSET: {"index": given.price}},
        cash_usd=-given.size_tokens * given.entry,
        coins={ASSET: given.collateral_tokens},
        positions=[
            {
                "asset": ASSET,
                "quantity": given.size_tokens,
                "entry": given.size_usd / abs(given.size_tokens),
            }
        ],
    )
    remaining = asked.equity_usd
    return {
        "remaining_usd": remaining,
        "liquidatable": remaining <= 0.0 or remaining < asked.maintenance_usd,
    }
