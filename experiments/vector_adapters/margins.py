"""Margin by formula: rates that scale, single options, floors, risk factors, open orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.kernels import bracketed_margin_usd
from strategies.formulas.options import bybit_short, deribit_short, opyn_short
from strategies.formulas.sized import (
    SkewMarket,
    open_interest_rate,
    size_rate,
    skew_cost,
    skew_scaled,
)
from strategies.formulas.tail_factors import lognormal_factors, maintenance

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
    rate = open_interest_rate(given.base_imf, given.lower, given.upper, given.oi)
    return {"imf": rate} | ({"im": rate * given.notional} if given.notional is not None else {})


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
    markets = [
        SkewMarket(
            p.size, p.price, p.skew_scale, p.imr, p.min_imr, p.mm_scalar, p.min_margin, p.reward
        )
        for p in given.positions
    ]
    parts = [skew_scaled(market) for market in markets]
    initial, kept, reward = (sum(part[i] for part in parts) for i in range(3))
    available = given.collateral - sum(skew_cost(market) for market in markets)
    return {
        "IM": initial,
        "MM": kept,
        "reward": reward,
        "available": available,
        "withdrawable": available - initial - reward,
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
    notional = abs(given.size) * given.price
    return {
        "IM": size_rate(given.im0, given.slope, given.size) * notional,
        "MM": size_rate(given.mm0, given.slope, given.size) * notional,
    }


class _DeribitOption(Inputs):
    underlying: Number
    strike: Number
    mark: Number
    call: bool


@answers(MARGIN, _DeribitOption, "Deribit standard margin", "static_option_formula")
def _deribit_option(given: _DeribitOption) -> Answers:
    """Margin of one short option in dollars."""
    coins = deribit_short(given.underlying, given.strike, given.mark, given.call)
    return {"IM": coins[0] * given.underlying, "MM": coins[1] * given.underlying}


class _BybitOption(Inputs):
    index: Number
    mark: Number
    f: Number
    liq_fee: Number
    qty: Number


@answers(MARGIN, _BybitOption, "Bybit", "static_option_formula")
def _bybit_option(given: _BybitOption) -> Answers:
    """Maintenance margin of short options with the liquidation fee."""
    return {"MM": bybit_short(given.index, given.mark, given.f, given.liq_fee) * abs(given.qty)}


class _OpynOption(Inputs):
    put: bool
    strike: Number
    spot: Number
    spot_shock: Number
    upper_bound: Number
    amount: Number


@answers(MARGIN, _OpynOption, "Opyn Gamma naked margin", "static_option_upper_bound")
def _opyn_option(given: _OpynOption) -> Answers:
    """Naked margin: of puts in dollars, of calls in coins."""
    each = opyn_short(given.strike, given.spot, given.spot_shock, given.upper_bound, given.put)
    return {"margin": each * given.amount}


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
    held = (given.pos, given.pos + given.buys, given.pos - given.sells)
    return {"net_imr": max(bracketed_margin_usd(q * given.mark, [(0.0, given.imf)]) for q in held)}


class _VegaFactors(Inputs):
    tail: Number = Field(alias="lambda", gt=0.0, lt=1.0)
    tau: Number
    mu: Number
    sigma: Number


@answers(MARGIN, _VegaFactors, "Vega protocol", "expected_shortfall")
def _vega_factors(given: _VegaFactors) -> Answers:
    """Risk factors of the lognormal model."""
    long, short = lognormal_factors(given.tail, given.tau, given.mu, given.sigma)
    return {"rf_long": long, "rf_short": short}


class _VegaMargin(Inputs):
    mark: Number
    slippage: Number
    rf: Number
    qty: Number


@answers(MARGIN, _VegaMargin, "Vega protocol", "expected_shortfall_plus_slippage")
def _vega_margin(given: _VegaMargin) -> Answers:
    """Maintenance margin with slippage."""
    return {"MM": maintenance(given.mark, given.slippage, given.rf, given.qty)}
