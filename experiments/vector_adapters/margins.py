"""Margin by formula: rates that scale, floors, risk factors, open orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from backtest.units import MS_PER_YEAR
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.presets import ASSET, ask_position, ask_positions
from experiments.vector_adapters.quotes import skew_fill_price

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers


class _DydxTier(Inputs):
    base_imf: Number
    lower: Number
    upper: Number
    oi: Number
    notional: Number | None = None


@answers(MARGIN, _DydxTier, "dYdX v4 liquidity tier", "open_interest_scaled_imf")
def _dydx_tier(given: _DydxTier) -> Answers:
    """State the initial rate, and the margin of a position where one is given."""
    tier = {"initial": given.base_imf, "maintenance": 1.0}
    if given.upper > 0.0:
        tier |= {"lower": given.lower, "upper": given.upper}
    # Open interest counts one side; the venue's state counts both.
    state = {"open_interest_usd": 2.0 * given.oi}

    def initial(notional: float) -> float:
        knobs = {"tier": tier}
        return ask_positions("preset:dydx-v4", knobs, [(ASSET, notional, 1.0)], state).initial_usd

    found = {"imf": initial(1.0)}
    return found | ({"im": initial(given.notional)} if given.notional is not None else {})


class _SynthetixPosition(Inputs):
    size: Number
    min_margin: Number
    skew_scale: Number
    imr: Number
    min_imr: Number
    mm_scalar: Number
    reward: Number
    price: Number


class _SynthetixAccount(Inputs):
    collateral: Number
    positions: list[_SynthetixPosition]


@answers(MARGIN, _SynthetixAccount, "Synthetix perps v3", "skew_scaled_margin")
def _synthetix_account(given: _SynthetixAccount) -> Answers:
    """Margins of an account that opened on balanced markets, and what it may withdraw."""
    laws = {
        f"{ASSET}{k}": {
            "skew": {
                "scale": p.skew_scale,
                "ratio": p.imr,
                "least": p.min_imr,
                "maintenance_scalar": p.mm_scalar,
                "flat_usd": p.min_margin,
                "reward": p.reward,
            }
        }
        for k, p in enumerate(given.positions)
    }
    legs = [(f"{ASSET}{k}", p.size, p.price) for k, p in enumerate(given.positions)]
    paid = sum(p.size * skew_fill_price(p.price, p.size, p.skew_scale) for p in given.positions)
    asked = ask_positions(
        "preset:synthetix-v3", {"laws": laws}, legs, cash_usd=given.collateral - paid
    )
    reward = sum(usd for _, part, usd, _ in asked.parts if part == "cost of closing")
    return {
        "IM": asked.initial_usd - reward,
        "MM": asked.maintenance_usd - reward,
        "reward": reward,
        "available": asked.equity_usd,
        "withdrawable": asked.equity_usd - asked.initial_usd,
    }


class _DeribitLinear(Inputs):
    size: Number
    price: Number
    im0: Number
    mm0: Number
    slope: Number


@answers(MARGIN, _DeribitLinear, "Deribit standard margin", "size_scaled_static")
def _deribit_linear(given: _DeribitLinear) -> Answers:
    """Margin a linear contract at rates that rise with its size."""
    slope = {"initial": given.im0, "maintenance": given.mm0, "per_coin": given.slope}
    asked = ask_position(
        "preset:deribit-standard", {"law": {"slope": slope}}, given.size, given.price
    )
    return {"IM": asked.initial_usd, "MM": asked.maintenance_usd}


class _ParadexOrders(Inputs):
    pos: Number
    buys: Number
    sells: Number
    imf: Number
    mark: Number


@answers(MARGIN, _ParadexOrders, "Paradex", "open_order_margin")
def _paradex_orders(given: _ParadexOrders) -> Answers:
    """Ask the policy as the loop does: as held, with every bid filled, with every ask filled."""
    if given.buys < 0.0 or given.sells < 0.0:
        raise NotCoveredError("buys and sells: must be sizes, not negative")
    knobs = {"law": {"root_notional": {"base": given.imf}}}
    held = (given.pos, given.pos + given.buys, given.pos - given.sells)
    asked = [ask_position("preset:paradex-cross", knobs, q, given.mark) for q in held]
    return {"net_imr": max(each.initial_usd for each in asked)}


class _VegaFactors(Inputs):
    tail: Number = Field(alias="lambda", gt=0.0, lt=1.0)
    tau: Number
    mu: Number
    sigma: Number


@answers(MARGIN, _VegaFactors, "Vega protocol", "expected_shortfall")
def _vega_factors(given: _VegaFactors) -> Answers:
    """Risk factors of the lognormal model: what a long and a short of one dollar keep."""
    lognormal = {
        "tail": given.tail,
        "horizon": given.tau * MS_PER_YEAR,
        "drift": given.mu,
        "estimator": {"stated": {"volatility": given.sigma}},
    }
    knobs = {"model": {"lognormal": lognormal}, "slippage": 0.0}
    long, short = (ask_position("preset:vega", knobs, side, 1.0) for side in (1.0, -1.0))
    return {"rf_long": long.maintenance_usd, "rf_short": short.maintenance_usd}


class _VegaMargin(Inputs):
    mark: Number
    slippage: Number
    rf: Number
    qty: Number


@answers(MARGIN, _VegaMargin, "Vega protocol", "expected_shortfall_plus_slippage")
def _vega_margin(given: _VegaMargin) -> Answers:
    """Maintenance margin with slippage."""
    model = {"simple": {"long": given.rf, "short": given.rf}}
    knobs = {"model": model, "slippage": given.slippage}
    return {"MM": ask_position("preset:vega", knobs, given.qty, given.mark).maintenance_usd}
