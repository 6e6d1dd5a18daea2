"""Adapters from published cases to the project's requirement kernels: layout, no formulas."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.instruments import OPTION, InstrumentTable
from backtest.kernels.types import Holdings, KernelInput, empty_market, empty_requirement
from strategies.kernels.linear_rate import linear_rate, linear_rate_constants
from strategies.kernels.scenario_grid import scenario_grid, scenario_grid_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backtest.requirement import RequirementRule

    Adapter = Callable[[dict[str, Any]], dict[str, float]]

DERIBIT_OPTION_RATE = 0.15
DERIBIT_OPTION_FLOOR = 0.10
DERIBIT_OPTION_MAINTENANCE = 0.075
"""Deribit's standard option margin, per unit of the underlying (Deribit knowledge base)."""
HYPERLIQUID_MAINTENANCE_SHARE = 0.5
"""Maintenance is half the initial margin at maximum leverage (Hyperliquid documentation)."""
SPAN_PRICE_FRACTIONS = (0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3)
"""Thirds of the scan range in CME SPAN's scenarios 1 to 14; each pair is volatility up, down."""
RANGES_PER_PRICE = 1024.0
"""Price of a future in scan ranges, where only the range is given; any large one would do."""


class NotCoveredError(Exception):
    """The project has no model for a case; the text says what is missing."""


def adapter(system: str, engine: str) -> Adapter:
    """Return the adapter of a venue's rule.

    Raises
    ------
    NotCoveredError
        If there is none.
    """
    found = _ADAPTERS.get((system, engine)) or _ADAPTERS.get(("", engine))
    if found is None:
        raise NotCoveredError(f"no model of {engine} at {system}")
    return found


def _ask(
    rule: RequirementRule,
    parameters: Sequence[float],
    constants: np.ndarray,
    rows: list[dict[str, Any]],
    quantities: Sequence[float],
    index_usd: float = 1.0,
    profits: np.ndarray | None = None,
) -> tuple[float, float, int]:
    """Ask one rule for the margin of one account on one asset.

    ``rows`` are instruments with the market columns ``value_usd`` and ``notional_usd`` beside
    those of the table; ``profits``, if given, stands where repricing would have put it.
    """
    market_columns = ("value_usd", "notional_usd")
    table = InstrumentTable.from_rows(
        [{"symbol": str(i), "asset": 0, **row} for i, row in enumerate(rows)]
    )
    market = empty_market(table, 1)
    market.tick[0] = 0
    market.index[0] = market.mark[0] = index_usd
    for i, row in enumerate(rows):
        for name in market_columns:
            getattr(market, name)[i] = row[name]
        market.forward[i] = index_usd
    count = len(rows)
    holdings = Holdings(
        np.zeros(1, np.int64),
        np.full(1, count, np.int64),
        np.arange(count, dtype=np.int64),
        np.array(quantities, dtype=np.float64),
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


def _maintenance_usd(notional_usd: float, brackets: list[tuple[float, float]]) -> float:
    """Ask `linear_rate` for the maintenance of a perpetual; brackets are (lower, rate)."""
    base = max(rate for _, rate in brackets)
    uppers = [lower for lower, _ in brackets[1:]] + [math.inf]
    constants = linear_rate_constants(
        1.0, [(upper, rate / base) for upper, (_, rate) in zip(uppers, brackets, strict=True)]
    )
    row = {"value_usd": 1.0, "notional_usd": 1.0}
    return _ask(linear_rate, [base], constants, [row], [notional_usd])[1]


def _tiers(inputs: dict[str, Any]) -> dict[str, float]:
    if "tiers" not in inputs:
        return _isolated_liquidation(
            inputs["wallet"] - inputs["mm_other"] + inputs["upnl_other"],
            inputs["side"] * inputs["qty"],
            inputs["entry"],
            # "rate x notional - deduction" is a bracket that is free up to deduction / rate.
            [(0.0, 0.0), (inputs["cum"] / inputs["mmr"], inputs["mmr"])],
        )
    notional = float(inputs["notional"])
    brackets = [(float(lower), float(rate)) for lower, rate in inputs["tiers"]]
    asked = _maintenance_usd(notional, brackets)
    marginal = next(rate for lower, rate in reversed(brackets) if notional > lower)
    return {"MM": asked, "deduction": marginal * notional - asked}


def _hyperliquid_liquidation(inputs: dict[str, Any]) -> dict[str, float]:
    side = {"long": 1.0, "short": -1.0}[inputs["side"]]
    rate = HYPERLIQUID_MAINTENANCE_SHARE / inputs["max_leverage"]
    return _isolated_liquidation(
        inputs["collateral"], side * inputs["size"], inputs["entry"], [(0.0, rate)]
    )


def _isolated_liquidation(
    collateral: float, quantity: float, entry: float, brackets: list[tuple[float, float]]
) -> dict[str, float]:
    """Find the price at which equity meets the maintenance that the kernel asks."""

    def surplus(price: float) -> float:
        equity = collateral + quantity * (price - entry)
        return equity - _maintenance_usd(abs(quantity) * price, brackets)

    safe, closed = entry, entry
    if surplus(safe) <= 0.0:
        raise NotCoveredError("the position is to be liquidated at its entry price")
    while surplus(closed) > 0.0:
        closed = closed * 0.5 if quantity > 0 else closed * 2.0
        if not 1e-12 * entry < closed < 1e12 * entry:
            raise NotCoveredError("the position has no liquidation price")
    while abs(closed - safe) > 1e-12 * entry:
        middle = 0.5 * (safe + closed)
        safe, closed = (middle, closed) if surplus(middle) > 0.0 else (safe, middle)
    return {"liq_price": closed}


def _deribit_option(inputs: dict[str, Any]) -> dict[str, float]:
    index, strike = float(inputs["underlying"]), float(inputs["strike"])
    if not inputs["call"] and inputs["mark"] > 1.0:
        raise NotCoveredError("no model of the premium-scaled margin of a put dearer than a coin")
    premium_usd = inputs["mark"] * index
    row = {
        "kind": OPTION,
        "inverse": 1,
        "strike": strike,
        "is_call": int(inputs["call"]),
        "expiry_ms": 1,
        "iv_column": 0,
        "expiry_column": 0,
        "value_usd": premium_usd,
        "notional_usd": index,
    }
    constants = linear_rate_constants(
        DERIBIT_OPTION_MAINTENANCE / DERIBIT_OPTION_RATE,
        option_floor=0.0,
        otm_share=DERIBIT_OPTION_FLOOR / DERIBIT_OPTION_RATE,
    )
    asked = _ask(linear_rate, [DERIBIT_OPTION_RATE], constants, [row], [-1.0], index)
    # The project counts an option's value in equity; Deribit states margin with it included.
    answer = {"IM": asked[0] + premium_usd}
    if asked[0] == DERIBIT_OPTION_RATE * index:
        # Elsewhere Deribit's maintenance is not a fixed share of its initial margin.
        answer["MM"] = asked[1] + premium_usd
    return answer


def _span(inputs: dict[str, Any]) -> dict[str, float]:
    if "positions" not in inputs:
        return _span_future(inputs)
    arrays = np.array([position["array_pnl"] for position in inputs["positions"]], np.float64)
    constants = scenario_grid_constants(1.0, [(0.0, 0, 1.0)] * arrays.shape[1], short_floor=0.0)
    rows = [{"value_usd": 1.0, "notional_usd": 1.0} for _ in arrays]
    quantities = [position["qty"] for position in inputs["positions"]]
    asked = _ask(scenario_grid, [0.0, 0.0, 0.0], constants, rows, quantities, profits=arrays)
    return {"scan_risk": asked[0], "scenario": asked[2] + 1}


def _span_future(inputs: dict[str, Any]) -> dict[str, float]:
    extremes = [(sign * inputs["extreme_mult"], 0, inputs["extreme_cover"]) for sign in (1.0, -1.0)]
    thirds = [(third / 3.0, 0, 1.0) for third in SPAN_PRICE_FRACTIONS]
    constants = scenario_grid_constants(1.0, thirds + extremes, short_floor=0.0)
    price = inputs["scan_range"] * RANGES_PER_PRICE
    row = {"value_usd": price, "notional_usd": price}
    parameters = [1.0 / RANGES_PER_PRICE, 0.0, 0.0]
    asked = _ask(scenario_grid, parameters, constants, [row], [inputs["qty"]])
    return {"scan_risk": asked[0], "scenario": asked[2] + 1}


def _deribit_risk_matrix(inputs: dict[str, Any]) -> dict[str, float]:
    """Answer the risk matrix alone; the roll shock and the order margins have no model."""
    index, buckets = float(inputs["index"]), int(inputs["buckets"])
    inverse = "inverse" in inputs["settlement"]
    grid = [(k / buckets, 0, 1.0) for k in range(-buckets, buckets + 1)]
    constants = scenario_grid_constants(inputs["mm_factor"], grid, short_floor=0.0)
    # Positions are in coins; an inverse contract of one US dollar is 1 / index of a coin.
    row = {
        "inverse": int(inverse),
        "value_usd": -1.0 if inverse else index,
        "notional_usd": 1.0 if inverse else index,
    }
    scale = index if inverse else 1.0
    sizes = [size * scale for size in inputs["positions"].values()]
    asked = _ask(
        scenario_grid,
        [inputs["price_range"], 0.0, 0.0],
        constants,
        [row] * len(sizes),
        sizes,
        index,
    )
    return {"worst_case": asked[0] / (index if inverse else 1.0)}


_ADAPTERS: dict[tuple[str, str], Adapter] = {
    ("", "tiered_maintenance"): _tiers,
    ("Hyperliquid", "liquidation_price"): _hyperliquid_liquidation,
    ("Deribit standard margin", "static_option_formula"): _deribit_option,
    ("CME SPAN", "span_scan"): _span,
    ("Deribit S:PM extended risk matrix", "scenario_grid_portfolio_margin"): _deribit_risk_matrix,
}
