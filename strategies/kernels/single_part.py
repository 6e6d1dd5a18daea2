"""How an add-on of one part tells what it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.kernels.types import Holdings, KernelInput, Market, empty_requirement
from backtest.requirement import Explanation

if TYPE_CHECKING:
    from collections.abc import Callable


def told_as(part: str, reference: Callable[..., None]) -> Callable[..., Explanation]:
    """Return the `explain` of a rule that adds a single part.

    Parameters
    ----------
    part
        What the charge is for, in words.
    reference
        The rule in plain Python.
    """

    def explain(
        given: KernelInput, market: Market, holdings: Holdings, account: int
    ) -> Explanation:
        asked = empty_requirement(len(holdings.start))
        reference(given, market, holdings, np.array([account]), asked)
        return Explanation(
            {part: float(asked.initial[account])}, {part: float(asked.maintenance[account])}
        )

    return explain
