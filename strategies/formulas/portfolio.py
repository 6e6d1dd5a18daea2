"""Parts of portfolio margin beside the scenario grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def roll_shock(deltas: Sequence[float], least_move: float) -> float:
    """Return Deribit's charge for curves that move apart: ``sum |delta| * move`` by expiry.

    Parameters
    ----------
    deltas
        Of each expiry, perpetuals as one of them.
    least_move
        Move of every expiry; for long ones the venue scales an annual move by their time.
    """
    return sum(abs(delta) for delta in deltas) * least_move


def deribit_margins(
    risk_matrix: float, maintenance_factor: float, additions: float
) -> tuple[float, float]:
    """Return Deribit's initial and maintenance margin from its risk matrix margin.

    Parameters
    ----------
    risk_matrix
        Worst case, roll shock and delta shock together.
    maintenance_factor
        Share of it that is maintenance margin, 0.8.
    additions
        Margin of spot, market maker protection and open orders, in initial margin only.
    """
    return risk_matrix + additions, maintenance_factor * risk_matrix


def continuous_forward(index: float, annual_basis: float, days: float) -> float:
    """Return ``index * e**(basis * days / 365)``, a forward at an annual basis (Dederi)."""
    return index * math.exp(annual_basis * days / 365.0)


def future_contingency(index: float, quantities: Sequence[float], rate: float) -> float:
    """Return Dederi's charge for the liquidity of futures: a rate of all contracts' notional."""
    return rate * index * sum(abs(quantity) for quantity in quantities)
