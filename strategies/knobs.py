"""Knobs: the numbers of a policy that can be set, searched and explained.

A knob knows its bounds, its unit and what it does, so that one declaration serves the config
reader, the search space, the documentation and the message about a slipped decimal point.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from backtest.units import parse_duration_ms, parse_fraction


def parse_quantity(value: Any) -> float:
    """Read a plain number, a percentage, basis points or a duration (as milliseconds)."""
    if isinstance(value, (int, float)):
        return parse_fraction(value)
    with suppress(ValueError):
        return parse_fraction(value)
    try:
        return float(parse_duration_ms(value))
    except ValueError:
        raise ValueError(
            f"{value!r} is not a number, a percentage, basis points or a duration"
        ) from None


Knob = Annotated[float, BeforeValidator(parse_quantity)]
"""A number of a policy that can be set and searched."""

Stress = Literal["", "up", "down", "leg up", "leg down"]
"""What more of a knob does to margin; see `knob`."""


def knob(
    default: float | str,
    *,
    low: float | str,
    high: float | str,
    unit: str,
    doc: str = "",
    log: bool = False,
    stress: Stress = "",
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
    stress
        What the contract suite holds the knob to. ``"up"``: more of it never asks less of any
        portfolio (``"down"``: less of it). ``"leg up"`` promises that of single positions
        only: the worst of a few scenarios may fall for a hedged book as they move apart.
    """
    return Field(
        parse_quantity(default),
        ge=parse_quantity(low),
        le=parse_quantity(high),
        allow_inf_nan=False,
        description=doc,
        validate_default=True,
        json_schema_extra={"unit": unit, "log": log, "stress": stress},
    )
