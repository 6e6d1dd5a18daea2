"""Adapters from published cases to the project's laws and kernels, a module per family."""

from __future__ import annotations

from experiments.vector_adapters import (
    deleveraging,
    derive_portfolio,
    derive_standard,
    grids,
    liquidation,
    margins,
    options,
    prices,
    risk,
    span,
    surfaces,
    weights,
)
from experiments.vector_adapters.base import MARGIN, RISK, NotCoveredError, answer

__all__ = [
    "MARGIN",
    "RISK",
    "NotCoveredError",
    "answer",
    "deleveraging",
    "derive_portfolio",
    "derive_standard",
    "grids",
    "liquidation",
    "margins",
    "options",
    "prices",
    "risk",
    "span",
    "surfaces",
    "weights",
]
