"""The smaller and the larger of two numbers, NaN if either is: what is undefined stays so."""

from __future__ import annotations

from numba.extending import register_jitable

from backtest.kernels.black76 import INLINED


@register_jitable(**INLINED)
def lesser(one: float, other: float) -> float:
    """Return the smaller; NaN if either is."""
    return one if one <= other else (other if other < one else one + other)


@register_jitable(**INLINED)
def greater(one: float, other: float) -> float:
    """Return the larger; NaN if either is."""
    return one if one >= other else (other if other > one else one + other)
