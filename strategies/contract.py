"""The contract of a margin policy: look at the market, post parameters, ask for margin.

A policy is one file with three things in it: a frozen config whose fields are `knob`s, pure
functions from market to signals to parameters, and the requirement rule that reads them.
The cycle of risk assessment, threshold update and enforcement has three slots:

1. *assess*: `MarginPolicy.signals`, causal market signals, one row per tape row;
2. *update*: `MarginPolicy.parameters`, then the update rule the policy wears;
3. *require*: `MarginPolicy.requirement`, a compiled kernel shared by every policy of its law.

Enforcement belongs to the venue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from backtest.requirement import RequirementLayer, RequirementRule
from backtest.units import parse_duration_ms, parse_fraction
from strategies.updates import Continuous, UpdateRule

if TYPE_CHECKING:
    from backtest.tape import MarketTape

TIME = "time"
"""Unit of a knob that holds milliseconds and is written as a duration."""


def parse_quantity(value: Any) -> float:
    """Read a plain number, a percentage, basis points or a duration (as milliseconds)."""
    try:
        return parse_fraction(value)
    except ValueError:
        pass
    try:
        return float(parse_duration_ms(value))
    except ValueError:
        raise ValueError(
            f"{value!r} is not a number, a percentage, basis points or a duration"
        ) from None


Knob = Annotated[float, BeforeValidator(parse_quantity)]
"""A number of a policy that can be set and searched."""


def knob(
    default: float | str,
    *,
    low: float | str,
    high: float | str,
    unit: str,
    doc: str = "",
    log: bool = False,
) -> Any:
    """Declare a searchable number of a policy.

    Parameters
    ----------
    default, low, high
        Value and inclusive bounds, as people write them: ``3.0``, ``"1%"``, ``"10min"``.
    unit
        What the number counts, for messages and documentation; ``"time"`` for durations.
    doc
        One line on what the number does.
    log
        Whether a search should treat ratios alike (``True``) or differences.
    """
    return Field(
        parse_quantity(default),
        ge=parse_quantity(low),
        le=parse_quantity(high),
        description=doc,
        validate_default=True,
        json_schema_extra={"unit": unit, "log": log},
    )


class RiskLayer(BaseModel, ABC):
    """What base policies and add-ons share: a config, a path of parameters and a rule."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: ClassVar[str]
    """How configs call it."""
    version: ClassVar[str] = "1"
    """Changes whenever the same config would give other numbers."""
    requirement: ClassVar[RequirementRule]

    @abstractmethod
    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return causal market signals, ``(T, F)``: row ``t`` reads rows ``<= t`` only."""

    @abstractmethod
    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Return what would be posted with no update rule, ``(T, P)``."""

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return what the kernel needs beside the parameters; it may not read prices."""
        return np.empty(0)


class MarginPolicy(RiskLayer):
    """A base policy: sets the requirement, wears an update rule and add-ons."""

    update: UpdateRule = Continuous()
    addons: tuple[Any, ...] = ()

    def layers(self, tape: MarketTape) -> tuple[RequirementLayer, ...]:
        """Return the base layer and the add-ons along a tape, after the update rule."""
        return tuple(
            RequirementLayer(
                rule=layer.requirement,
                parameters=self.update.post(tape.ts, layer.parameters(layer.signals(tape))),
                constants=layer.constants(tape),
            )
            for layer in (self, *self.addons)
        )

    def identity(self) -> dict[str, Any]:
        """Return name, version and every parameter, ready for canonical JSON."""
        return {"policy": self.name, "version": self.version, **self.model_dump(mode="json")}
