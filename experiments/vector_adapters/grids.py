"""Scenario grids: Deribit's risk matrix, Dederi's future, Paradex's floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.vector_adapters.base import MARGIN, Inputs, Number, answers
from experiments.vector_adapters.portfolios import preset, scenario_profits
from experiments.vector_adapters.quotes import forward_at_basis
from strategies.portfolio import AssetState, Leg, Portfolio, ask

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
    """Answer for perpetuals and futures of one coin, in the currency that they settle in.

    The case states no date, so that every expiry takes the least move of the roll shock.
    """
    inverse = "inverse" in given.settlement
    # Positions are in coins; an inverse contract of one US dollar is 1 / index of a coin.
    unit = given.index if inverse else 1.0
    legs = [
        Leg(
            asset="COIN",
            kind="perpetual" if name.endswith("PERPETUAL") else "future",
            settles_in="coin" if inverse else "usd",
            quantity=coins * unit,
            expires_in=f"{expiry + 1}ms",
        )
        for expiry, (name, coins) in enumerate(given.positions.items())
    ]
    rules = preset(
        "deribit-portfolio",
        price_range=given.price_range,
        price_steps=given.buckets,
        gain_counted=given.pnl_offset,
        maintenance_ratio=given.mm_factor,
        roll={"least": given.min_annualised_move, "per_year": given.annualised_move_risk},
        delta_shock=None,
        assets={},
    )
    asked = ask(rules, Portfolio(assets={"COIN": AssetState(index=given.index)}, positions=legs))
    parts = {part: initial for _, part, initial, _ in asked.parts}
    additions = given.mmp_margin + given.open_orders_margin
    return {
        "worst_case": parts.get("scan", 0.0) / unit,
        "roll_shock": parts.get("roll", 0.0) / unit,
        "risk_matrix_margin": asked.initial_usd / unit,
        "initial_margin": asked.initial_usd / unit + additions,
        "maintenance_margin": asked.maintenance_usd / unit,
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
    forward = forward_at_basis(given.index, given.annual_basis, given.days)
    leg = Leg(
        asset="COIN",
        kind="future",
        quantity=given.qty,
        forward=forward,
        expires_in=f"{given.days}d",
    )
    rules = preset(
        "deribit-portfolio",
        points=[{"move": -abs(given.shock), "volatility": "none"}],
        charges={"perpetual": given.contingency},
        gain_counted=1.0,
        assets={},
    )
    held = Portfolio(assets={"COIN": AssetState(index=given.index)}, positions=(leg,))
    parts = scenario_profits(rules, held)
    return {
        "forward": forward,
        "future_contingency": parts.kept,
        "pnl_down_15": parts.scans[0][0],
    }


class _ParadexLeg(Inputs):
    q: Number
    delta: Number


class _ParadexFloor(Inputs):
    net_w: Number
    hedged_w: Number
    spot: Number
    positions: list[_ParadexLeg]


@answers(MARGIN, _ParadexFloor, "Paradex", "portfolio_margin_greeks_floor")
def _paradex_floor(given: _ParadexFloor) -> Answers:
    """Least portfolio margin by net and hedged delta: the preset where no scenario moves."""
    rules = preset(
        "paradex-portfolio",
        points=[{"move": 0.0, "volatility": "none"}],
        delta_floor={"net": given.net_w, "hedged": given.hedged_w},
        fees=0.0,
    )
    legs = tuple(Leg(asset="COIN", quantity=leg.q * leg.delta) for leg in given.positions)
    held = Portfolio(assets={"COIN": AssetState(index=given.spot)}, positions=legs)
    return {"margin": ask(rules, held).initial_usd}
