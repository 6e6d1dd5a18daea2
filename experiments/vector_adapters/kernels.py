"""One account on one asset, put before a requirement kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.instruments import InstrumentTable
from backtest.kernels.types import Holdings, KernelInput, empty_market, empty_requirement
from strategies.kernels.linear_rate import linear_rate, linear_rate_constants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.requirement import RequirementRule


def ask(
    rule: RequirementRule,
    parameters: Sequence[float],
    constants: np.ndarray,
    rows: list[dict[str, Any]],
    quantities: Sequence[float],
    index_usd: float = 1.0,
    profits: np.ndarray | None = None,
) -> tuple[float, float, int]:
    """Ask one rule for the margin of one account on one asset.

    Parameters
    ----------
    rule, parameters, constants
        The kernel and its numbers.
    rows
        Instruments, with ``value_usd`` and ``notional_usd`` beside the table's columns.
    quantities
        Signed contracts held of each.
    index_usd
        Price of the asset.
    profits
        ``(instruments, scenarios)``, where repricing would otherwise have put them.

    Returns
    -------
    tuple
        Initial and maintenance margin in USD, and the worst scenario's number.
    """
    table = InstrumentTable.from_rows(
        [{"symbol": str(i), "asset": 0, **row} for i, row in enumerate(rows)]
    )
    market = empty_market(table, 1)
    market.tick[0] = 0
    market.index[0] = market.mark[0] = index_usd
    for i, row in enumerate(rows):
        for name in ("value_usd", "notional_usd"):
            getattr(market, name)[i] = row[name]
        market.forward[i] = index_usd
    count = len(rows)
    holdings = Holdings(
        np.zeros(1, np.int64),
        np.full(1, count, np.int64),
        np.arange(count, dtype=np.int64),
        np.array(quantities, dtype=np.float64),
        np.zeros(count),
        np.zeros((2, 1)),
    )
    scratch = np.zeros((count, rule.scratch_columns(constants)))
    stamps = np.full(count, -1, np.int64)
    if profits is not None:
        scratch[:, : profits.shape[1]] = profits
        stamps[:] = 0
    constants.flags.writeable = False
    given = KernelInput(np.array(parameters, dtype=np.float64), constants, scratch, stamps)
    filled = empty_requirement(1)
    rule.kernel(given, market, holdings, np.zeros(1, np.int64), filled)
    return float(filled.initial[0]), float(filled.maintenance[0]), int(filled.worst_scenario[0])


def bracketed_margin_usd(notional_usd: float, brackets: Sequence[tuple[float, float]]) -> float:
    """Ask `linear_rate` for the margin of a perpetual; brackets are ``(lower, rate)``."""
    base = max(rate for _, rate in brackets)
    uppers = [lower for lower, _ in brackets[1:]] + [math.inf]
    constants = linear_rate_constants(
        1.0, [(upper, rate / base) for upper, (_, rate) in zip(uppers, brackets, strict=True)]
    )
    row = {"value_usd": 1.0, "notional_usd": 1.0}
    return ask(linear_rate, [base], constants, [row], [notional_usd])[1]
