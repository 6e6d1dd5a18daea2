"""What base policies and add-ons share: one kernel's parameters along a tape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from backtest.requirement import RequirementRule
from strategies.choice import Choice

if TYPE_CHECKING:
    from backtest.tape import MarketTape


class RiskLayer(BaseModel, ABC):
    """What base policies and add-ons share: a config, a path of parameters and a rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class AddOn(RiskLayer, Choice):
    """A layer that asks for more on top of a base policy, configured as ``{name: {knobs}}``."""
