"""What size and crowding do to a ratio or a weight: Drift's scaling, Mango's health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from backtest.kernels.laws.collateral import deposit_scaling, size_discount, size_premium
from experiments.vector_adapters.base import MARGIN, Inputs, Number, answers
from strategies.formulas.health import (
    CoinWeights,
    PerpetualPosition,
    coin_health,
    perpetual_value,
)

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

MANGO_SETTLE_COIN = "1"
"""Perpetuals of the published cases settle in their first coin."""


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
    return {"ratio": size_premium(given.ratio, given.imf, given.size)}


@answers(MARGIN, _DriftPerpetual, "Drift v2", "size_scaled_imf")
def _drift_perpetual(given: _DriftPerpetual) -> Answers:
    """Margin of a perpetual with the premium for size."""
    ratio = size_premium(given.ratio, given.imf, given.size)
    return {"ratio": ratio, "margin": ratio * abs(given.size) * given.price}


class _DriftWeight(Inputs):
    kind: Literal["asset_weight"]
    weight: Number
    imf: Number
    size: Number


@answers(MARGIN, _DriftWeight, "Drift v2", "concentration_haircut")
def _drift_weight(given: _DriftWeight) -> Answers:
    """Weight of a large balance."""
    return {"weight": size_discount(given.weight, given.imf, given.size)}


class _DriftDeposits(Inputs):
    kind: str
    weight: Number
    start: Number
    deposits: Number
    price: Number


@answers(MARGIN, _DriftDeposits, "Drift v2", "deposit_cap_haircut")
def _drift_deposits(given: _DriftDeposits) -> Answers:
    """Weight of a coin of which the venue holds more than the scale's start; 0 is no scale."""
    scale = 1.0
    if given.start > 0.0:
        scale = deposit_scaling(given.deposits * given.price, given.start)
    return {"weight": given.weight * scale}


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
    """Weigh balances; the perpetual's lots count in the coin it settles in."""
    base, quote, bids, asks = given.perp
    asset, debt = given.perp_base_weights
    settled = perpetual_value(
        PerpetualPosition(
            base, quote, bids, asks, given.perp_lot_quote, asset, debt,
            given.perp_overall_asset_weight,
        )
    )  # fmt: skip
    held = {MANGO_SETTLE_COIN: 0.0} | given.tokens
    held[MANGO_SETTLE_COIN] += settled / given.prices[MANGO_SETTLE_COIN]
    return {"init_health": sum(_mango_coin(given, coin, held[coin]) for coin in held)}


def _mango_coin(given: _MangoAccount, coin: str, quantity: float) -> float:
    scale = given.scale.get(coin, _MangoScale(start_quote=0.0))
    weights = CoinWeights(
        given.prices[coin],
        given.init_asset_weights[coin],
        given.init_liab_weights[coin],
        scale.deposits,
        scale.start_quote,
        scale.borrows,
        scale.start_quote,
    )
    return coin_health(quantity, weights)
