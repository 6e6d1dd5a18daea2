"""CME SPAN: scan risk of printed risk arrays and of futures, through the preset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from experiments.vector_adapters import kernels
from experiments.vector_adapters.base import MARGIN, Inputs, Number, answers
from strategies.kernels.span_layout import SCENARIOS
from strategies.portfolio import Portfolio, ask, market_of
from strategies.registry import policy

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

PRESET = "preset:cme-span"
RANGES_PER_PRICE = 64
"""Price of a future in scan ranges, where only the range is given; any large one would do."""


class _Position(Inputs):
    qty: Number
    array_pnl: Annotated[list[Number], Field(min_length=SCENARIOS, max_length=SCENARIOS)]


class _Arrays(Inputs):
    positions: Annotated[list[_Position], Field(min_length=1)]


@answers(MARGIN, _Arrays, "CME SPAN", "span_scan")
def _arrays(given: _Arrays) -> Answers:
    """Scan the printed arrays, put where the preset's kernel keeps the ones that it computes.

    Nothing is known of the contracts themselves: neither delta nor kind, so that only the scan
    is asked.
    """
    legs = [{"asset": "BTC", "quantity": position.qty} for position in given.positions]
    portfolio = Portfolio.model_validate({"assets": {"BTC": {"index": 1.0}}, "positions": legs})
    tape, _ = market_of(portfolio)
    layer = policy(PRESET).layers(tape)[0]
    arrays = np.array([position.array_pnl for position in given.positions], np.float64)
    rows = [{"value_usd": 0.0, "notional_usd": 0.0} for _ in arrays]
    quantities = [position.qty for position in given.positions]
    _, maintenance, worst = kernels.ask(
        layer.rule,
        layer.parameters[0].tolist(),
        layer.constants,
        rows,
        quantities,
        profits=arrays,
    )
    return {"scan_risk": maintenance, "scenario": worst + 1}


class _Future(Inputs):
    qty: Number
    scan_range: Annotated[Number, Field(gt=0.0)]
    extreme_mult: Annotated[Number, Field(ge=0.0, le=20.0)]
    extreme_cover: Annotated[Number, Field(ge=0.0, le=1.0)]


@answers(MARGIN, _Future, "CME SPAN", "span_scan")
def _future(given: _Future) -> Answers:
    """Scan of a single future, its extreme moves counted in part."""
    chosen = policy(
        PRESET,
        price_range={"fixed": {"range": 1.0 / RANGES_PER_PRICE}},
        extreme_ranges=given.extreme_mult,
        extreme_cover=given.extreme_cover,
    )
    price = given.scan_range * RANGES_PER_PRICE
    leg = {"asset": "BTC", "kind": "future", "quantity": given.qty, "expires_in": "30d"}
    asked = ask(
        chosen, Portfolio.model_validate({"assets": {"BTC": {"index": price}}, "positions": [leg]})
    )
    return {"scan_risk": asked.maintenance_usd, "scenario": asked.worst_scenario + 1}
