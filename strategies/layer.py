"""What base policies and add-ons share: one kernel's parameters along a tape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from backtest.requirement import RequirementRule
from strategies.choice import Choice

if TYPE_CHECKING:
    from backtest.tape import MarketTape


Need = Literal[
    "prices",
    "price history",
    "implied volatility",
    "depth",
    "volume",
    "open interest",
    "deposits",
    "coins",
    "entry prices",
    "confidence",
    "insurance fund",
    "calendars",
]
"""What a law reads, as `remargin policy list` tells it."""
ScaleLaw = Literal["homogeneous", "superlinear", "none"]
Netting = Literal["nothing", "perpetuals", "portfolio"]


@dataclass(frozen=True)
class Promises:
    """What a layer promises of its margin; the contract suite holds it to that.

    Parameters
    ----------
    scale_law
        ``homogeneous``: k times an account asks for k times the margin, coins and cash scaled
        along; ``superlinear``: for at least that, k > 1; ``none``: neither. None is silence.
    nets
        ``perpetuals``: a long and an equal short of one perpetual or future ask nothing;
        ``portfolio``: options offset each other, too, but for what is charged per short option.
    caps_longs
        More of a long option never asks for more than its value.
    continuous
        Margin has no jump as positions grow; venues that charge a whole position at the rate
        of its bracket have some.
    """

    scale_law: ScaleLaw | None
    nets: Netting
    caps_longs: bool
    continuous: bool


class RiskLayer(BaseModel, ABC):
    """What base policies and add-ons share: a config, a path of parameters and a rule.

    Its promises are tested by `strategies.testing.PolicyContract`. A policy promises what its
    base, its parts and its add-ons all do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """How configs call it."""
    version: ClassVar[str] = "1"
    """Changes whenever the same config would give other numbers."""
    requirement: ClassVar[RequirementRule]
    needs: ClassVar[tuple[Need, ...]] = ("prices",)
    """What it looks at, in the market, the venue and the account."""

    scale_law: ClassVar[ScaleLaw | None] = None
    """One of `Promises`, like the three below it; this one has to be stated."""
    nets: ClassVar[Netting] = "nothing"
    caps_longs: ClassVar[bool] = False
    continuous: ClassVar[bool] = True

    @abstractmethod
    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return causal market signals, ``(T, F)``: row ``t`` reads rows ``<= t`` only."""

    @abstractmethod
    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Return what would be posted with no update rule, ``(T, P)``."""

    def promises(self) -> Promises:
        """Return the class's promises; override it where they hang on how a knob is set."""
        return Promises(self.scale_law, self.nets, self.caps_longs, self.continuous)

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return what the kernel needs beside the parameters; it may not read prices."""
        return np.empty(0)


class AddOn(RiskLayer, Choice):
    """A layer that asks for more on top of a base policy, configured as ``{name: {knobs}}``."""
