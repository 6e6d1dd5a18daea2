"""Portfolios as people write them: prices, balances and positions as a venue's screen has them.

A screen shows balances apart from open positions: a perpetual or a future costs nothing to open,
and what it has earned is no balance yet. The event loop keeps one sum instead (`Portfolio`);
this module turns the one into the other.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backtest.errors import ConfigError, nearest
from backtest.mistakes import first_mistake
from backtest.units import Usd, UtcMs
from backtest.yaml_files import read_yaml
from strategies.portfolio import AssetState, Leg, Portfolio

if TYPE_CHECKING:
    from strategies.contract import MarginPolicy


class PortfolioFile(BaseModel):
    """One account and its market; ``entry`` of a position is the price at which it was bought.

    That price is in USD, for an option that settles in coin in coins, as it is quoted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: UtcMs = Field(1_767_225_600_000, description="instant, UTC")
    assets: dict[str, AssetState] = Field(min_length=1)
    balance_usd: Usd = Field(0.0, description="dollars, open perpetuals and futures not counted")
    balances: dict[str, float] = Field({}, description="the same of every coin, debts negative")
    positions: tuple[Leg, ...] = ()
    fund_usd: Usd = Field(0.0, ge=0.0, description="the venue's insurance fund")

    @model_validator(mode="after")
    def _known_assets(self) -> PortfolioFile:
        named = [("balances", coin) for coin in self.balances]
        named += [(f"positions.{k}.asset", leg.asset) for k, leg in enumerate(self.positions)]
        for place, name in named:
            if name not in self.assets:
                raise ValueError(
                    f"{place}: there is no asset {name!r}.{nearest(name, self.assets)}"
                )
        return self

    def portfolio(self) -> Portfolio:
        """Return the portfolio as the event loop would hold it."""
        cash_usd, coins = self.balance_usd, dict(self.balances)
        legs = [self._with_unit_entry(leg) for leg in self.positions]
        for leg in legs:
            if leg.kind == "option" or leg.entry is None:
                continue
            if leg.settles_in == "coin":
                coins[leg.asset] = coins.get(leg.asset, 0.0) - leg.quantity * leg.entry
            else:
                cash_usd -= leg.quantity * leg.entry
        return Portfolio(
            at=self.at,
            assets=self.assets,
            cash_usd=cash_usd,
            coins=coins,
            positions=tuple(legs),
            fund_usd=self.fund_usd,
        )

    def _with_unit_entry(self, leg: Leg) -> Leg:
        """Put the value of one contract in the place of the price that was paid."""
        price = leg.entry
        if leg.kind == "option":
            unit = None if price is None else leg.contract_size * price
            return leg.model_copy(update={"entry": unit})
        if price is None:
            price = leg.forward or self._price(leg)
        inverse = leg.settles_in == "coin"
        unit = -leg.contract_size / price if inverse else leg.contract_size * price
        return leg.model_copy(update={"entry": unit})

    def _price(self, leg: Leg) -> float:
        state = self.assets[leg.asset]
        return (state.mark or state.index) if leg.kind == "perpetual" else state.index


def load_portfolio(path: str | Path) -> Portfolio:
    """Read a portfolio file.

    Parameters
    ----------
    path
        A YAML file; `PortfolioFile` names its keys.

    Raises
    ------
    ConfigError
        One sentence with file, field and value.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such portfolio file.")
    written = read_yaml(file)
    if not isinstance(written, dict):
        raise ConfigError(f"{file}: a portfolio is a mapping of keys to values.")
    if place := _not_finite(written, ""):
        raise ConfigError(f"{file}: {place} is not a finite number.")
    try:
        return PortfolioFile.model_validate(written).portfolio()
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_mistake(error, '', PortfolioFile, written)}") from None


def _not_finite(value: Any, place: str) -> str:
    """Return where a NaN or an infinity stands, empty if nowhere; no price is one."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        inside = (_not_finite(inner, f"{place}.{key}".removeprefix(".")) for key, inner in pairs)
        return next(filter(None, inside), "")
    return place if isinstance(value, float) and not math.isfinite(value) else ""


def refuse_missing_volatility(policy: MarginPolicy, portfolio: Portfolio, path: str | Path) -> None:
    """Refuse to price an option by its value alone with a policy that moves its volatility.

    Raises
    ------
    ConfigError
        If an option states no iv and a layer of the policy reads it.
    """
    layers = (policy, *policy.parts(), *policy.addons)
    if not any("implied volatility" in layer.needs for layer in layers):
        return
    for k, leg in enumerate(portfolio.positions):
        if leg.kind == "option" and leg.iv == 0.0:
            raise ConfigError(
                f"{path}: positions.{k}.iv: is missing; {policy.name} reads implied volatility."
            )
