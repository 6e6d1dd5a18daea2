"""Leverage brackets in plain Python: how the constants are laid out, and what they mean.

`strategies.kernels.bracketed` states the law and compiles it; this is its specification, with
which it must agree bit for bit.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import PolicyError
from backtest.kernels.laws.liquidation_price import bracket_deduction
from backtest.requirement import Explanation
from strategies.kernels.perpetual_legs import net_notional_by_asset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement

LOWER, INITIAL_RATE, INITIAL_DEDUCTION, MAINTENANCE_RATE, MAINTENANCE_DEDUCTION = range(5)
COLUMNS = 5

IN_COINS = 0
FIRST_TABLE = 1

Table = tuple[tuple[float, float, float], ...]
"""``(lower bound, initial rate, maintenance rate)`` of each bracket, ascending."""


def bracketed_constants(tables: Sequence[Table], in_coins: bool = False) -> np.ndarray:
    """Lay out the constants of `bracketed`.

    Parameters
    ----------
    tables
        One per asset. The first bracket begins at 0.
    in_coins
        Bounds count coins instead of US dollars.

    Returns
    -------
    numpy.ndarray
        Whether bounds count coins; for each asset where its first bracket stands and how many
        there are, ``(2 A,)``; then five numbers per bracket: lower bound, and rate and
        deduction of either margin.

    Raises
    ------
    PolicyError
        If a table does not ascend from 0.
    """
    place: dict[Table, int] = {}
    head = [float(in_coins)]
    rows: list[list[float]] = []
    for table in tables:
        lowers = np.array([lower for lower, _, _ in table], dtype=np.float64)
        if not len(lowers) or lowers[0] != 0.0 or np.any(np.diff(lowers) <= 0.0):
            raise PolicyError(f"brackets begin at {lowers.tolist()}; they must ascend from 0.")
        if table not in place:
            place[table] = FIRST_TABLE + 2 * len(tables) + COLUMNS * len(rows)
            for k in range(len(table)):
                row = [table[k][0]]
                for margin in (1, 2):
                    rates = np.array([bracket[margin] for bracket in table[: k + 1]])
                    row += [rates[k], bracket_deduction(np.inf, lowers[: k + 1], rates)]
                rows.append(row)
        head += [place[table], len(table)]
    return np.array([*head, *itertools.chain.from_iterable(rows)], dtype=np.float64)


def bracketed_explain(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split an account's requirement into rate times notional, and what brackets take off it."""
    scale = float(given.parameters[0])
    parts: list[dict[str, float]] = []
    for margin in (INITIAL_RATE, MAINTENANCE_RATE):
        charged = deducted = 0.0
        for asset, net in enumerate(net_notional_by_asset(market, holdings, account)):
            row, size, unit_usd = _bracket(given.constants, market, asset, net)
            charged += scale * row[margin] * size * unit_usd
            deducted -= scale * row[margin + 1] * unit_usd
        parts.append({"notional at its bracket's rate": charged, "deduction": deducted})
    return Explanation(initial=parts[0], maintenance=parts[1])


def bracketed_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for margin as the module describes, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: the scale. ``constants``: from `bracketed_constants`.
    market, holdings, accounts, requirement
        As for every requirement kernel.
    """
    scale = float(given.parameters[0])
    for account in accounts:
        initial = maintenance = 0.0
        for asset, net in enumerate(net_notional_by_asset(market, holdings, account)):
            row, size, unit_usd = _bracket(given.constants, market, asset, net)
            initial += (row[INITIAL_RATE] * size - row[INITIAL_DEDUCTION]) * unit_usd
            maintenance += (row[MAINTENANCE_RATE] * size - row[MAINTENANCE_DEDUCTION]) * unit_usd
        # Rates that barely differ may be told apart by rounding only.
        initial = maintenance if maintenance > initial else initial
        requirement.initial[account] = scale * initial
        requirement.maintenance[account] = scale * maintenance
        requirement.worst_scenario[account] = -1


def _bracket(
    constants: np.ndarray, market: Market, asset: int, net: float
) -> tuple[list[float], float, float]:
    """Return the row of the bracket that a position ends in, its size, and the size's unit."""
    unit_usd = float(market.index[asset]) if constants[IN_COINS] > 0.5 else 1.0
    size = abs(net) / unit_usd
    at = FIRST_TABLE + 2 * asset
    first, count = int(constants[at]), int(constants[at + 1])
    rows: list[list[float]] = constants[first : first + COLUMNS * count].reshape(count, -1).tolist()
    # An edge belongs to the bracket below it; a size that is not a number to the first.
    row = next((row for row in reversed(rows[1:]) if size > row[LOWER]), rows[0])
    return row, size, unit_usd
