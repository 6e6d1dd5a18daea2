"""Parts of portfolio margin beside the scenario grid."""

from __future__ import annotations

import math


def continuous_forward(index: float, annual_basis: float, days: float) -> float:
    """Return ``index * e**(basis * days / 365)``, a forward at an annual basis (Dederi)."""
    return index * math.exp(annual_basis * days / 365.0)
