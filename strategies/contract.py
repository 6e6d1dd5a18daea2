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

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PrivateAttr

from backtest.kernels.types import KERNEL_SLOTS
from backtest.requirement import RequirementLayer
from backtest.settings import TIME
from strategies.addons import ADDONS
from strategies.choice import read_choice
from strategies.knobs import Knob, knob, parse_quantity
from strategies.layer import AddOn, Need, Netting, Promises, RiskLayer, ScaleLaw
from strategies.updates import Continuous, UpdateRule

if TYPE_CHECKING:
    from backtest.tape import MarketTape

__all__ = [
    "TIME",
    "AddOn",
    "Knob",
    "MarginPolicy",
    "Need",
    "Netting",
    "Promises",
    "RiskLayer",
    "ScaleLaw",
    "knob",
    "parse_quantity",
]


class MarginPolicy(RiskLayer):
    """A base policy: sets the requirement, wears an update rule and add-ons."""

    generation: ClassVar[str] = "own"
    """Which kind of margin model it is: ``brackets``, ``scenario grid``, ``SPAN`` …"""
    source: ClassVar[str] = ""
    """Where the model comes from, for `remargin policy list`; a preset names its own."""
    origin: ClassVar[tuple[str, str] | None] = None
    """Of a class in a user's own file: how it was asked for, and the file's digest."""

    _preset: str | None = PrivateAttr(None)

    update: UpdateRule = Continuous()
    addons: tuple[Annotated[AddOn, BeforeValidator(read_choice("add-on", ADDONS))], ...] = Field(
        (), max_length=KERNEL_SLOTS - 2
    )

    @property
    def preset(self) -> str | None:
        """Name of the preset that it equals number by number, if it was loaded as one."""
        return self._preset

    def parts(self) -> tuple[RiskLayer, ...]:
        """Return further layers of the policy's own, asked after its base and before add-ons."""
        return ()

    def layers(self, tape: MarketTape) -> tuple[RequirementLayer, ...]:
        """Return the base layer, its parts and the add-ons along a tape, after the update rule."""
        return tuple(
            RequirementLayer(
                rule=layer.requirement,
                parameters=self.update.post(tape.ts, layer.parameters(layer.signals(tape))),
                constants=layer.constants(tape),
            )
            for layer in (self, *self.parts(), *self.addons)
        )

    def identity(self) -> dict[str, Any]:
        """Return name, version and every parameter, ready for canonical JSON.

        `strategies.registry.load_policy` reads it back to an equal policy.
        """
        told: dict[str, Any] = {"policy": self.name, "version": self.version}
        if self.origin is not None:
            told["policy"], told["source_sha256"] = self.origin
        if self.preset is not None:
            told["preset"] = self.preset
        return {**told, **self.model_dump(mode="json", serialize_as_any=True)}
