"""Sensitivities with correlations: the form of ISDA's standard initial margin model.

What banks exchange for derivatives that nobody clears (SIMM, since 2016): exposures times risk
weights, aggregated under correlations. `strategies.kernels.sensitivities` states the law. ISDA's
tables are licensed and are not part of this project: the table here is a user's own, a YAML file
or written in place. The defaults are round numbers to start from and nobody's rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from backtest.errors import ConfigError, PolicyError
from backtest.mistakes import first_mistake
from backtest.units import MS_PER_DAY, Fraction, Usd, years
from backtest.yaml_files import read_yaml
from strategies.contract import Knob, MarginPolicy, knob
from strategies.kernels.sensitivities import sensitivities, sensitivities_constants
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape

Correlation = Annotated[Fraction, Field(ge=-1.0, le=1.0)]
_ROUNDING = 1e-9
"""A table's least eigenvalue may be this much below nothing."""


class AssetRisk(BaseModel):
    """Risk weights of one asset, and where an exposure to it counts as concentrated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delta_weight: Annotated[Fraction, Field(ge=0.0, le=10.0)] = Field(
        0.2, description="relative move of the price that is covered"
    )
    vega_weight: Annotated[Fraction, Field(ge=0.0, le=10.0)] = Field(
        0.25, description="relative move of volatility that is covered"
    )
    delta_threshold: Annotated[Usd, Field(gt=0.0)] | None = Field(
        None, description="net delta beyond which weights grow, none if absent"
    )
    vega_threshold: Annotated[Usd, Field(gt=0.0)] | None = Field(
        None, description="net vega beyond which weights grow, none if absent"
    )


class AssetPair(BaseModel):
    """How two assets move together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    assets: tuple[str, str]
    correlation: Correlation


class SensitivityTable(BaseModel):
    """Risk weights and correlations: what a YAML file holds, or a config in place of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: AssetRisk = AssetRisk()
    assets: dict[str, AssetRisk] = Field({}, description="own weights of an asset, by name")
    asset_correlation: Correlation = Field(0.0, description="of two assets that no pair names")
    asset_correlations: tuple[AssetPair, ...] = ()
    tenors: tuple[Annotated[Knob, Field(gt=0.0)], ...] = Field(
        (30.0 * MS_PER_DAY,), min_length=1, description="times to expiry of the factors, ascending"
    )
    tenor_correlations: tuple[tuple[Correlation, ...], ...] = Field(
        (), description="one row per tenor; all 1 if absent"
    )
    perpetual_correlation: Correlation = Field(
        1.0, description="of a perpetual with the first tenor"
    )
    historical_volatility_ratio: float = Field(
        1.0, gt=0.0, le=10.0, allow_inf_nan=False, description="on vega"
    )

    @model_validator(mode="after")
    def _fits(self) -> SensitivityTable:
        if any(self.tenors[k] <= self.tenors[k - 1] for k in range(1, len(self.tenors))):
            raise ValueError("tenors: the times to expiry must ascend")
        rows = self.tenor_correlations
        if rows and {len(rows), *map(len, rows)} != {len(self.tenors)}:
            raise ValueError(
                f"tenor_correlations: {len(self.tenors)} tenors need as many rows and columns"
            )
        _refuse_impossible(self.factor_correlations(), "tenor_correlations")
        return self

    def factor_correlations(self) -> np.ndarray:
        """Return the correlations of perpetuals, then every tenor, ``(N, N)``."""
        count = len(self.tenors)
        matrix = np.ones((1 + count, 1 + count))
        if self.tenor_correlations:
            matrix[1:, 1:] = self.tenor_correlations
        matrix[0, 1:] = matrix[1:, 0] = self.perpetual_correlation * matrix[1, 1:]
        return matrix


def _refuse_impossible(matrix: np.ndarray, field: str) -> None:
    """Raise ``ValueError`` unless a matrix is one of correlations."""
    if not np.array_equal(matrix, matrix.T) or np.any(np.diag(matrix) != 1.0):
        raise ValueError(f"{field}: the table must be symmetric, with 1 on its diagonal")
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least < -_ROUNDING:
        raise ValueError(
            f"{field}: no factors can be correlated like this, the least eigenvalue is {least:.3g}"
        )


def _read_table(value: Any) -> Any:
    """Read the path of a YAML file as the table in it."""
    if not isinstance(value, str | Path):
        return value
    path = Path(value)
    if not path.is_file():
        raise ConfigError(f"table: there is no file {path}.")
    written = read_yaml(path)
    try:
        return SensitivityTable.model_validate(written)
    except ValidationError as error:
        mistake = first_mistake(error, "", SensitivityTable, written)
        raise ConfigError(f"{path}: {mistake}") from None


class Sensitivities(MarginPolicy):
    """Delta, vega and curvature exposures under the risk weights and correlations of a table."""

    name: ClassVar[str] = "sensitivities"
    requirement = sensitivities

    table: Annotated[SensitivityTable, BeforeValidator(_read_table)] = Field(
        SensitivityTable(), description="weights and correlations, or the path of their YAML file"
    )
    scale: Knob = knob(
        "100%", low="10%", high="500%", unit="of the table's weights", doc="on delta and vega"
    )
    maintenance_ratio: Knob = knob(
        "80%", low="10%", high="100%", unit="of initial margin", doc="maintenance margin"
    )

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return risk weights for delta, then for vega, of every asset, ``(T, 2 A)``."""
        risks = self._risks(tape)
        row = [r.delta_weight for r in risks] + [r.vega_weight for r in risks]
        return np.tile(row, (len(tape), 1))

    def parameters(self, weights: np.ndarray) -> np.ndarray:
        """Post the weights at their scale, ``(T, 2 A)``."""
        return self.scale * weights

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return tenors, correlations and thresholds as the kernel reads them."""
        risks = self._risks(tape)
        return sensitivities_constants(
            maintenance_ratio=self.maintenance_ratio,
            volatility_ratio=self.table.historical_volatility_ratio,
            tenors=np.array([years(tenor) for tenor in self.table.tenors]),
            factors=self.table.factor_correlations(),
            assets=self._asset_correlations(tape.assets),
            thresholds=np.array(
                [
                    [r.delta_threshold or np.inf for r in risks],
                    [r.vega_threshold or np.inf for r in risks],
                ]
            ),
        )

    def _risks(self, tape: MarketTape) -> list[AssetRisk]:
        return per_asset(self.table.assets, self.table.default, tape.assets, "table.assets")

    def _asset_correlations(self, assets: tuple[str, ...]) -> np.ndarray:
        number = {name: place for place, name in enumerate(assets)}
        matrix = np.full((len(assets), len(assets)), self.table.asset_correlation)
        np.fill_diagonal(matrix, 1.0)
        for pair in self.table.asset_correlations:
            if all(name in number for name in pair.assets):
                one, other = (number[name] for name in pair.assets)
                matrix[one, other] = matrix[other, one] = pair.correlation
        try:
            _refuse_impossible(matrix, "table.asset_correlations")
        except ValueError as error:
            raise PolicyError(f"{error}.") from None
        return matrix
