"""What size and crowding do to a ratio or a weight: Drift's scaling, Mango's health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.presets import ASSET, ask_position, ask_preset

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

DRIFT = "preset:drift-v2"
MANGO = "preset:mango-v4"
MANGO_SETTLE_COIN = "1"
"""Perpetuals of the published cases settle in their first coin."""
MANGO_PERPETUAL = "PERPETUAL"
"""How the market of a case's perpetual is called."""
NO_SIZE = 1e-12
"""Coins that stand for none, where a ratio or a weight is asked for and not an amount."""


class _DriftRatio(Inputs):
    kind: Literal["margin_ratio"]
    ratio: Number
    imf: Number
    size: Number


class _DriftPerpetual(Inputs):
    kind: Literal["perp_margin"]
    ratio: Number
    imf: Number
    size: Number
    price: Number


@answers(MARGIN, _DriftRatio, "Drift v2", "size_scaled_imf")
def _drift_ratio(given: _DriftRatio) -> Answers:
    """Margin ratio with the premium for size."""
    return {"ratio": _drift_margin(given.ratio, given.imf, given.size, 1.0)[1]}


@answers(MARGIN, _DriftPerpetual, "Drift v2", "size_scaled_imf")
def _drift_perpetual(given: _DriftPerpetual) -> Answers:
    """Margin of a perpetual with the premium for size."""
    margin, ratio = _drift_margin(given.ratio, given.imf, given.size, given.price)
    return {"ratio": ratio, "margin": margin}


def _drift_margin(ratio: float, factor: float, coins: float, price: float) -> tuple[float, float]:
    """Return margin of a perpetual, and its share of the notional."""
    position = {"ratio_initial": ratio, "ratio_maintenance": ratio, "factor": factor}
    knobs = {"position": position}
    margin = ask_position(DRIFT, knobs, coins, price).initial_usd
    sized = coins if coins != 0.0 else NO_SIZE
    share = ask_position(DRIFT, knobs, sized, price).initial_usd / (abs(sized) * price)
    return margin, share


class _DriftWeight(Inputs):
    kind: Literal["asset_weight"]
    weight: Number
    imf: Number
    size: Number


@answers(MARGIN, _DriftWeight, "Drift v2", "concentration_haircut")
def _drift_weight(given: _DriftWeight) -> Answers:
    """Weight of a large balance."""
    coin = {"factor": given.imf}
    return {"weight": _drift_coin_weight(given.weight, abs(given.size) or NO_SIZE, 1.0, coin, 0.0)}


class _DriftDeposits(Inputs):
    kind: str
    weight: Number
    start: Number
    deposits: Number
    price: Number


@answers(MARGIN, _DriftDeposits, "Drift v2", "deposit_cap_haircut")
def _drift_deposits(given: _DriftDeposits) -> Answers:
    """Weight of a coin of which the venue holds more than the scale's start; 0 is no scale."""
    coin = {"deposits_from": given.start} if given.start > 0.0 else {}
    deposits_usd = given.deposits * given.price
    return {"weight": _drift_coin_weight(given.weight, 1.0, given.price, coin, deposits_usd)}


def _drift_coin_weight(
    weight: float, coins: float, price: float, coin: dict[str, Any], deposits_usd: float
) -> float:
    """Return the share of a balance's value that counts for initial margin."""
    asked = ask_preset(
        DRIFT,
        {"coin": {"asset_initial": weight, "asset_maintenance": weight, **coin}},
        assets={ASSET: {"index": price, "deposits_usd": deposits_usd}},
        coins={ASSET: coins},
    )
    return (asked.equity_usd - asked.initial_usd) / asked.equity_usd


class _MangoScale(Inputs):
    deposits: Number = 0.0
    borrows: Number = 0.0
    start_quote: Number


class _MangoAccount(Inputs):
    tokens: dict[str, Number]
    perp: tuple[Number, Number, Number, Number] = (0.0, 0.0, 0.0, 0.0)
    scale: dict[str, _MangoScale] = Field(default_factory=dict)
    prices: dict[str, Number]
    init_asset_weights: dict[str, Number]
    init_liab_weights: dict[str, Number]
    perp_base_weights: tuple[Number, Number]
    perp_overall_asset_weight: Number
    perp_lot_quote: Number


@answers(MARGIN, _MangoAccount, "Mango v4 health", "weighted_health")
def _mango_health(given: _MangoAccount) -> Answers:
    """Health with all bids filled or with all asks filled, whichever is worse."""
    _, _, bids, asks = given.perp
    if MANGO_SETTLE_COIN not in given.prices:
        raise NotCoveredError(f"prices: the coin {MANGO_SETTLE_COIN!r} has none")
    return {"init_health": min(_mango_filled(given, bids), _mango_filled(given, -asks))}


def _mango_filled(given: _MangoAccount, filled: float) -> float:
    """Return the initial health of an account whose orders filled so many lots."""
    base, quote, _, _ = given.perp
    lot = given.perp_lot_quote
    lots, paid = base + filled, filled * lot - quote
    if lots == 0.0 and paid != 0.0:
        lots = NO_SIZE  # what is not settled yet is the profit of next to nothing
    asked = ask_preset(
        MANGO,
        {
            "coins": {coin: _mango_coin(given, coin) for coin in given.prices},
            "positions": {MANGO_PERPETUAL: _mango_position(given)},
            "settles_in": MANGO_SETTLE_COIN,
        },
        assets={
            **{coin: _mango_state(given, coin) for coin in given.prices},
            MANGO_PERPETUAL: {"index": lot},
        },
        # Profit is what is held less what was paid.
        cash_usd=-paid,
        coins=given.tokens,
        positions=[{"asset": MANGO_PERPETUAL, "quantity": lots, "entry": paid / lots}]
        if lots != 0.0
        else [],
    )
    return asked.equity_usd - asked.initial_usd


def _mango_coin(given: _MangoAccount, coin: str) -> dict[str, Any]:
    asset, debt = given.init_asset_weights[coin], given.init_liab_weights[coin]
    scale = given.scale.get(coin)
    start = scale.start_quote if scale is not None and scale.start_quote > 0.0 else None
    return {
        "asset_initial": asset,
        "asset_maintenance": asset,
        "debt_initial": debt,
        "debt_maintenance": debt,
        "deposits_from": start,
        "debts_from": start,
    }


def _mango_state(given: _MangoAccount, coin: str) -> dict[str, float]:
    price = given.prices[coin]
    scale = given.scale.get(coin, _MangoScale(start_quote=0.0))
    return {
        "index": price,
        "deposits_usd": scale.deposits * price,
        "debts_usd": scale.borrows * price,
    }


def _mango_position(given: _MangoAccount) -> dict[str, Any]:
    asset, debt = given.perp_base_weights
    profit = given.perp_overall_asset_weight
    return {
        "asset_initial": asset,
        "asset_maintenance": asset,
        "debt_initial": debt,
        "debt_maintenance": debt,
        "profit_initial": profit,
        "profit_maintenance": profit,
    }
