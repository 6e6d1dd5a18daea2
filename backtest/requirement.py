"""What `replay` needs of a margin policy: layers of numbers, each read by one kernel.

The loop does not know policies. It knows a base layer and up to three add-ons, each a path of
parameters over the tape, a vector of constants, and the rule that turns them into margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from backtest.errors import LookAheadError, PolicyError
from backtest.units import iso_utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.tape import MarketTape


@dataclass(frozen=True)
class Explanation:
    """What one account is asked for, part by part.

    Parameters
    ----------
    initial, maintenance
        USD by the part's name; each adds up to what the rule asks (or adds, for an add-on).
    worst
        What happens in the worst scenario, in words; empty where a rule has none.
    """

    initial: dict[str, float]
    maintenance: dict[str, float]
    worst: str = ""


@dataclass(frozen=True)
class RequirementRule:
    """A requirement kernel together with its plain-Python form.

    Parameters
    ----------
    name
        How manifests and documentation call it.
    kernel
        Compiled by `backtest.kernels.types.requirement_kernel`.
    reference
        The same rule in plain Python, called with the same five arguments; the twin engine
        uses it, and tests demand equal bits.
    scratch_columns
        From the constants to the number of scratch columns per instrument.
    explain
        Split the requirement of one account into named parts, in plain Python: takes the given
        numbers, market, holdings and the account, as the reference does.
    """

    name: str
    kernel: Any
    reference: Callable[..., None]
    scratch_columns: Callable[[np.ndarray], int] = lambda constants: 0
    explain: Callable[..., Explanation] | None = None


@dataclass(frozen=True, eq=False)
class RequirementLayer:
    """One kernel's numbers along a tape: ``parameters`` is ``(T, P)``, ``constants`` ``(C,)``."""

    rule: RequirementRule
    parameters: np.ndarray
    constants: np.ndarray

    def __post_init__(self) -> None:
        """Freeze the arrays; refuse a parameter that is not finite."""
        for name in ("parameters", "constants"):
            array = np.array(getattr(self, name), dtype=np.float64, order="C")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.parameters.ndim != 2:
            raise PolicyError(
                f"{self.rule.name}: parameters have shape {self.parameters.shape}, "
                "expected one row per tape row."
            )
        for place in np.flatnonzero(np.isnan(self.constants))[:1]:
            raise PolicyError(f"{self.rule.name}: constant {place} is not a number.")
        for row, column in np.argwhere(~np.isfinite(self.parameters))[:1]:
            raise PolicyError(
                f"{self.rule.name}: parameter {column} is {self.parameters[row, column].item()} "
                f"at row {row} of the tape; every posted parameter must be finite."
            )


class Policy(Protocol):
    """A margin policy as `replay` sees it."""

    def layers(self, tape: MarketTape) -> tuple[RequirementLayer, ...]:
        """Return the base layer and the add-ons along a tape, causally."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return name, version and every parameter, ready for canonical JSON."""
        ...


def refuse_look_ahead(
    policy: Policy, tape: MarketTape, layers: tuple[RequirementLayer, ...], cuts: int = 2
) -> None:
    """Recompute a policy on truncated tapes and demand the same parameters and constants.

    Parameters
    ----------
    policy, tape
        What is replayed.
    layers
        The policy's layers along the whole tape.
    cuts
        How many instants are tried, spread evenly over the tape.

    Raises
    ------
    LookAheadError
        If a parameter posted at an instant, or a constant, changes when the rows after it are
        hidden.
    """
    for k in range(1, cuts + 1):
        rows = len(tape) * k // (cuts + 1)
        if rows == 0:
            continue
        for whole, part in zip(layers, policy.layers(tape.head(rows)), strict=True):
            if not np.array_equal(whole.constants, part.constants, equal_nan=True):
                raise LookAheadError(
                    f"policy {policy.identity().get('policy')!r}: its constants change when the "
                    f"market after {iso_utc(int(tape.ts[rows - 1]))} UTC is hidden; what follows "
                    "the market belongs into its parameters."
                )
            different = np.any(whole.parameters[:rows] != part.parameters, axis=1)
            if different.any():
                row = int(np.flatnonzero(different)[0])
                raise LookAheadError(
                    f"policy {policy.identity().get('policy')!r}: the parameters of "
                    f"{iso_utc(int(tape.ts[row]))} UTC change when the market after "
                    f"{iso_utc(int(tape.ts[rows - 1]))} UTC is hidden, so they look ahead."
                )
