"""Scenario grids: Deribit's risk matrix and Dederi's, through `scenario_grid`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.kernels.laws.liquidation_price import equity_at
from experiments.vector_adapters.base import MARGIN, Inputs, Number, answers
from experiments.vector_adapters.kernels import ask
from strategies.formulas.portfolio import (
    continuous_forward,
    deribit_margins,
    future_contingency,
    roll_shock,
)
from strategies.kernels.scenario_grid import scenario_grid, scenario_grid_constants

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers


class _DeribitMatrix(Inputs):
    settlement: str
    price_range: Number
    buckets: int
    pnl_offset: Number
    mm_factor: Number
    min_annualised_move: Number
    annualised_move_risk: Number
    mmp_margin: Number = 0.0
    open_orders_margin: Number = 0.0
    index: Number
    positions: dict[str, Number]


@answers(
    MARGIN, _DeribitMatrix, "Deribit S:PM extended risk matrix", "scenario_grid_portfolio_margin"
)
def _deribit_matrix(given: _DeribitMatrix) -> Answers:
    """Answer for futures of one coin, in the currency that they settle in.

    The case states no date, so that every expiry takes the least move of the roll shock.
    """
    inverse = "inverse" in given.settlement
    coins = [*given.positions.values()]
    grid = [(k / given.buckets, 0, 1.0) for k in range(-given.buckets, given.buckets + 1)]
    constants = scenario_grid_constants(given.mm_factor, grid, short_floor=0.0)
    # Positions are in coins; an inverse contract of one US dollar is 1 / index of a coin.
    row = {
        "inverse": int(inverse),
        "value_usd": -1.0 if inverse else given.index,
        "notional_usd": 1.0 if inverse else given.index,
    }
    asked = ask(
        scenario_grid,
        [given.price_range, 0.0, 0.0],
        constants,
        [row] * len(coins),
        [size * (given.index if inverse else 1.0) for size in coins],
        given.index,
    )
    unit = given.index if inverse else 1.0
    worst = asked[0] / unit
    roll = roll_shock(coins, given.min_annualised_move) * (given.index / unit)
    initial, maintenance = deribit_margins(
        worst + roll, given.mm_factor, given.mmp_margin + given.open_orders_margin
    )
    return {
        "worst_case": worst,
        "roll_shock": roll,
        "risk_matrix_margin": worst + roll,
        "initial_margin": initial,
        "maintenance_margin": maintenance,
    }


class _DederiFuture(Inputs):
    qty: Number
    index: Number
    annual_basis: Number
    days: Number
    shock: Number
    contingency: Number


@answers(
    MARGIN,
    _DederiFuture,
    "Dederi portfolio margin (Deribit-like)",
    "scenario_grid_portfolio_margin",
)
def _dederi_future(given: _DederiFuture) -> Answers:
    """Forward at its basis, profit at the lower end of the range, charge for liquidity."""
    forward = continuous_forward(given.index, given.annual_basis, given.days)
    lowest = forward * (1.0 - abs(given.shock))
    return {
        "forward": forward,
        "future_contingency": future_contingency(given.index, [given.qty], given.contingency),
        "pnl_down_15": equity_at(0.0, given.qty, forward, lowest),
    }
