"""Collateral add-on: haircuts on coins, growing with what the venue and the account hold of them.

Sources of the two scales: Mango v4 `health/cache.rs` (deposits), Drift v2 `math/margin.rs`
(size). The law is `strategies.kernels.collateral`'s.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.units import Fraction, Usd
from strategies.kernels.collateral import collateral
from strategies.knobs import Knob, knob
from strategies.layer import AddOn, Need, Netting, ScaleLaw
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class Haircut(BaseModel):
    """What is not counted of one coin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    initial: Fraction = Field(ge=0.0, le=1.0, description="of value, in initial margin")
    maintenance: Fraction = Field(ge=0.0, le=1.0, description="of value, in maintenance margin")
    deposits_from: Usd | None = Field(
        None, gt=0.0, description="venue-wide deposits from which the initial weight shrinks"
    )
    size_factor: float = Field(
        0.0, ge=0.0, le=10.0, description="of the square root of the balance in coins"
    )

    @model_validator(mode="after")
    def _initial_is_the_larger(self) -> Haircut:
        if self.initial < self.maintenance:
            raise ValueError(
                f"initial: a haircut of {self.initial:.4g} is below maintenance, "
                f"{self.maintenance:.4g}"
            )
        return self


class Collateral(AddOn):
    """Ask for the part of an account's coins that the venue does not count."""

    name: ClassVar[str] = "collateral"
    requirement = collateral
    needs: ClassVar[tuple[Need, ...]] = ("prices", "coins", "deposits")
    scale_law: ClassVar[ScaleLaw | None] = "superlinear"
    nets: ClassVar[Netting] = "portfolio"
    caps_longs: ClassVar[bool] = True

    initial: Knob = knob(
        "10%", low=0, high="100%", unit="of value", doc="initial haircut", stress="up"
    )
    maintenance: Knob = knob(
        "5%", low=0, high="100%", unit="of value", doc="maintenance haircut", stress="up"
    )
    deposits_from: Usd | None = Field(
        None, gt=0.0, description="venue-wide deposits from which the initial weight shrinks"
    )
    size_factor: Knob = knob(
        0,
        low=0,
        high=10,
        unit="per root of a coin",
        doc="of the discount on large balances",
        stress="up",
    )
    coins: dict[str, Haircut] = Field({}, description="own haircuts of a coin, by asset")

    @model_validator(mode="after")
    def _initial_is_the_larger(self) -> Collateral:
        self._plain()
        return self

    def _plain(self) -> Haircut:
        return Haircut(
            initial=self.initial,
            maintenance=self.maintenance,
            deposits_from=self.deposits_from,
            size_factor=self.size_factor,
        )

    def _table(self, tape: MarketTape) -> list[Haircut]:
        return per_asset(self.coins, self._plain(), tape.assets, "addons.collateral.coins")

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return the weights of all coins, initial then maintenance, ``(T, 2 A)``."""
        table = self._table(tape)
        weights = [1.0 - cut.initial for cut in table] + [1.0 - cut.maintenance for cut in table]
        return np.tile(weights, (len(tape), 1))

    def parameters(self, weights: np.ndarray) -> np.ndarray:
        """Post the weights, ``(T, 2 A)``."""
        return weights

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return the scales of deposits and of size as `collateral` reads them."""
        table = self._table(tape)
        starts = [math.inf if cut.deposits_from is None else cut.deposits_from for cut in table]
        return np.array([*starts, *(cut.size_factor for cut in table)])
