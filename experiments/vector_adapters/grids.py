"""Scenario grids: CME SPAN's scan and Deribit's risk matrix, through `scenario_grid`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.kernels.laws.liquidation_price import equity_at
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
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

SPAN_PRICE_FRACTIONS = (0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3)
"""Thirds of the scan range in CME SPAN's scenarios 1 to 14; each pair is volatility up, down."""
RANGES_PER_PRICE = 1024.0
"""Price of a future in scan ranges, where only the range is given; any large one would do."""


class _SpanPosition(Inputs):
    qty: Number
    array_pnl: list[Number]


class _SpanPortfolio(Inputs):
    positions: list[_SpanPosition]


@answers(MARGIN, _SpanPortfolio, "CME SPAN", "span_scan")
def _span_arrays(given: _SpanPortfolio) -> Answers:
    """Largest combined loss over the printed risk arrays."""
    if len({len(position.array_pnl) for position in given.positions}) != 1:
        raise NotCoveredError("positions: risk arrays must be of one length")
    arrays = np.array([position.array_pnl for position in given.positions], np.float64)
    constants = scenario_grid_constants(1.0, [(0.0, 0, 1.0)] * arrays.shape[1], short_floor=0.0)
    rows = [{"value_usd": 1.0, "notional_usd": 1.0} for _ in arrays]
    quantities = [position.qty for position in given.positions]
    asked = ask(scenario_grid, [0.0, 0.0, 0.0], constants, rows, quantities, profits=arrays)
    return {"scan_risk": asked[0], "scenario": asked[2] + 1}


class _SpanFuture(Inputs):
    qty: Number
    scan_range: Number
    extreme_mult: Number
    extreme_cover: Number


@answers(MARGIN, _SpanFuture, "CME SPAN", "span_scan")
def _span_future(given: _SpanFuture) -> Answers:
    """Scan of a future, its extreme moves counted in part."""
    extremes = [(sign * given.extreme_mult, 0, given.extreme_cover) for sign in (1.0, -1.0)]
    thirds = [(third / 3.0, 0, 1.0) for third in SPAN_PRICE_FRACTIONS]
    constants = scenario_grid_constants(1.0, thirds + extremes, short_floor=0.0)
    price = given.scan_range * RANGES_PER_PRICE
    row = {"value_usd": price, "notional_usd": price}
    asked = ask(scenario_grid, [1.0 / RANGES_PER_PRICE, 0.0, 0.0], constants, [row], [given.qty])
    return {"scan_risk": asked[0], "scenario": asked[2] + 1}


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
