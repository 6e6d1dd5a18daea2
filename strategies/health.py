"""Health weights: what is held counts for less than it is worth, what is owed for more.

A venue that takes many coins as collateral, and lends them, compares weighted values instead
of margin with equity; what this policy asks for is the difference. Weights shrink with what all
accounts hold or owe of a coin, or with the size of a balance, and prices are the worse of two.
Sources: blockworks-foundation/mango-v4 `health/cache.rs`; drift-labs/protocol-v2
`math/margin.rs`, `state/spot_market.rs`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.units import Fraction, Usd
from strategies.kernels.health_weights import (
    NO_ASSET,
    Weights,
    health_constants,
    health_weights,
)
from strategies.perpetuals import PerpetualPolicy
from strategies.posted_prices import PostedPrice, Stable
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class _Weighted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def _require(self, initial: str, maintenance: str, stricter_below: bool) -> None:
        """Refuse an initial weight that is more generous than that of maintenance."""
        own, other = getattr(self, initial), getattr(self, maintenance)
        if own != other and (own < other) != stricter_below:
            raise ValueError(
                f"{initial} {own:g} is more generous than {maintenance} {other:g}; initial "
                "margin must be the larger"
            )


class CoinWeights(_Weighted):
    """How a coin counts; scaling and the worse price hold for initial margin only."""

    asset_initial: Fraction = Field(1.0, ge=0.0, le=1.0, description="of what is held")
    asset_maintenance: Fraction = Field(1.0, ge=0.0, le=1.0, description="of what is held")
    debt_initial: Fraction = Field(1.0, ge=1.0, le=100.0, description="of what is owed")
    debt_maintenance: Fraction = Field(1.0, ge=1.0, le=100.0, description="of what is owed")
    factor: float = Field(0.0, ge=0.0, le=10.0, description="per square root of a coin")
    deposits_from: Usd | None = Field(
        None, gt=0.0, description="what all hold before the weight of an asset shrinks"
    )
    debts_from: Usd | None = Field(
        None, gt=0.0, description="what all owe before the weight of a debt grows"
    )
    worse_price: bool = Field(True, description="of index and posted price; else the index")

    @model_validator(mode="after")
    def _initial_is_stricter(self) -> CoinWeights:
        self._require("asset_initial", "asset_maintenance", stricter_below=True)
        self._require("debt_initial", "debt_maintenance", stricter_below=False)
        return self


class PositionWeights(_Weighted):
    """How a perpetual counts; the cap and the worse price hold for initial margin only."""

    asset_initial: Fraction = Field(1.0, ge=0.0, le=1.0, description="of a long's notional")
    asset_maintenance: Fraction = Field(1.0, ge=0.0, le=1.0, description="of a long's notional")
    debt_initial: Fraction = Field(1.0, ge=1.0, le=100.0, description="of a short's notional")
    debt_maintenance: Fraction = Field(1.0, ge=1.0, le=100.0, description="of a short's notional")
    ratio_initial: Fraction = Field(0.0, ge=0.0, le=1.0, description="of notional, beside it")
    ratio_maintenance: Fraction = Field(0.0, ge=0.0, le=1.0, description="of notional, beside it")
    factor: float = Field(0.0, ge=0.0, le=10.0, description="on the ratio, per root of a coin")
    profit_initial: Fraction = Field(1.0, ge=0.0, le=1.0, description="of a profit that is left")
    profit_maintenance: Fraction = Field(1.0, ge=0.0, le=1.0, description="of such a profit")
    profit_cap: Usd | None = Field(None, ge=0.0, description="the most that counts of a profit")
    worse_price: bool = Field(False, description="of index and posted price; else the index")

    @model_validator(mode="after")
    def _initial_is_stricter(self) -> PositionWeights:
        for name in ("asset", "profit"):
            self._require(f"{name}_initial", f"{name}_maintenance", stricter_below=True)
        for name in ("debt", "ratio"):
            self._require(f"{name}_initial", f"{name}_maintenance", stricter_below=False)
        return self


class Health(PerpetualPolicy):
    """Weights on coins, debts, profits and positions, at the worse of two prices."""

    name: ClassVar[str] = "health"
    requirement = health_weights

    posted_price: PostedPrice = Stable()
    cash: CoinWeights = Field(CoinWeights(), description="of US dollars")
    coin: CoinWeights = Field(
        CoinWeights(
            asset_initial=0.8, asset_maintenance=0.9, debt_initial=1.2, debt_maintenance=1.1
        ),
        description="of every coin without weights of its own",
    )
    coins: dict[str, CoinWeights] = Field({}, description="weights of a coin, by name")
    position: PositionWeights = Field(
        PositionWeights(
            asset_initial=0.9, asset_maintenance=0.95, debt_initial=1.1, debt_maintenance=1.05
        ),
        description="of perpetuals of every asset without weights of its own",
    )
    positions: dict[str, PositionWeights] = Field({}, description="by name of the asset")
    settles_in: str | None = Field(
        None, description="coin that is one balance with dollars and with profits"
    )

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the second price of every asset, ``(T, A)``, USD."""
        return self.posted_price(tape)

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return all weights as `health_weights` reads them."""
        coins = per_asset(self.coins, self.coin, tape.assets, "coins")
        positions = per_asset(self.positions, self.position, tape.assets, "positions")
        rows = [_both(coin, position) for coin, position in zip(coins, positions, strict=True)]
        if self.settles_in in tape.assets:
            settles_in = tape.assets.index(self.settles_in)
            return health_constants(rows, rows[settles_in], settles_in)
        return health_constants(rows, _both(self.cash, PositionWeights()), NO_ASSET)


def _both(coin: CoinWeights, position: PositionWeights) -> tuple[Weights, Weights]:
    """Return an asset's weights for initial and for maintenance margin, as the kernel has them."""
    initial = Weights(
        asset=coin.asset_initial,
        debt=coin.debt_initial,
        factor=coin.factor,
        deposits_from_usd=math.inf if coin.deposits_from is None else coin.deposits_from,
        debts_from_usd=math.inf if coin.debts_from is None else coin.debts_from,
        coin_worse_price=float(coin.worse_price),
        perpetual_asset=position.asset_initial,
        perpetual_debt=position.debt_initial,
        perpetual_worse_price=float(position.worse_price),
        ratio=position.ratio_initial,
        ratio_factor=position.factor,
        profit=position.profit_initial,
        profit_cap_usd=math.inf if position.profit_cap is None else position.profit_cap,
    )
    maintenance = Weights(
        asset=coin.asset_maintenance,
        debt=coin.debt_maintenance,
        factor=coin.factor,
        perpetual_asset=position.asset_maintenance,
        perpetual_debt=position.debt_maintenance,
        ratio=position.ratio_maintenance,
        ratio_factor=position.factor,
        profit=position.profit_maintenance,
    )
    return initial, maintenance
