"""Margin and collateral weights by formula: rates, options, haircuts, health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from backtest.kernels.laws.collateral import deposit_scaling, size_discount, size_premium
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.kernels import bracketed_margin_usd
from strategies.formulas.health import (
    CoinWeights,
    PerpetualPosition,
    coin_health,
    perpetual_value,
)
from strategies.formulas.options import bybit_short, deribit_short, opyn_short
from strategies.formulas.sized import (
    SkewMarket,
    hedged_delta_floor,
    open_interest_rate,
    size_rate,
    skew_cost,
    skew_scaled,
)
from strategies.formulas.tail_factors import lognormal_factors, maintenance

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

MANGO_SETTLE_COIN = "1"
"""Perpetuals of the published cases settle in their first coin."""


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


class _DriftRatio(Inputs):
    kind: Literal["margin_ratio"]
    ratio: Number
    imf: Number
    size: Number


class _DriftPerpetual(Inputs):
    kind: Literal["perp_margin"]
    ratio: Number
    imf: Number
    size: Number
    price: Number


@answers(MARGIN, _DriftRatio, "Drift v2", "size_scaled_imf")
def _drift_ratio(given: _DriftRatio) -> Answers:
    """Margin ratio with the premium for size."""
    return {"ratio": size_premium(given.ratio, given.imf, given.size)}


@answers(MARGIN, _DriftPerpetual, "Drift v2", "size_scaled_imf")
def _drift_perpetual(given: _DriftPerpetual) -> Answers:
    """Margin of a perpetual with the premium for size."""
    ratio = size_premium(given.ratio, given.imf, given.size)
    return {"ratio": ratio, "margin": ratio * abs(given.size) * given.price}


class _DriftWeight(Inputs):
    kind: Literal["asset_weight"]
    weight: Number
    imf: Number
    size: Number


@answers(MARGIN, _DriftWeight, "Drift v2", "concentration_haircut")
def _drift_weight(given: _DriftWeight) -> Answers:
    """Weight of a large balance."""
    return {"weight": size_discount(given.weight, given.imf, given.size)}


class _DriftDeposits(Inputs):
    kind: str
    weight: Number
    start: Number
    deposits: Number
    price: Number


@answers(MARGIN, _DriftDeposits, "Drift v2", "deposit_cap_haircut")
def _drift_deposits(given: _DriftDeposits) -> Answers:
    """Weight of a coin of which the venue holds more than the scale's start; 0 is no scale."""
    scale = 1.0
    if given.start > 0.0:
        scale = deposit_scaling(given.deposits * given.price, given.start)
    return {"weight": given.weight * scale}


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
    """Least portfolio margin by net and hedged delta."""
    deltas = [leg.q * leg.delta for leg in given.positions]
    return {"margin": hedged_delta_floor(deltas, given.spot, given.net_w, given.hedged_w)}


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


class _MangoScale(Inputs):
    deposits: Number = 0.0
    borrows: Number = 0.0
    start_quote: Number


class _MangoAccount(Inputs):
    tokens: dict[str, Number]
    perp: tuple[Number, Number, Number, Number] = (0.0, 0.0, 0.0, 0.0)
    scale: dict[str, _MangoScale] = Field(default_factory=dict)
    prices: dict[str, Number]
    init_asset_weights: dict[str, Number]
    init_liab_weights: dict[str, Number]
    perp_base_weights: tuple[Number, Number]
    perp_overall_asset_weight: Number
    perp_lot_quote: Number


@answers(MARGIN, _MangoAccount, "Mango v4 health", "weighted_health")
def _mango_health(given: _MangoAccount) -> Answers:
    """Weigh balances; the perpetual's lots count in the coin it settles in."""
    base, quote, bids, asks = given.perp
    asset, debt = given.perp_base_weights
    settled = perpetual_value(
        PerpetualPosition(
            base, quote, bids, asks, given.perp_lot_quote, asset, debt,
            given.perp_overall_asset_weight,
        )
    )  # fmt: skip
    held = {MANGO_SETTLE_COIN: 0.0} | given.tokens
    held[MANGO_SETTLE_COIN] += settled / given.prices[MANGO_SETTLE_COIN]
    return {"init_health": sum(_mango_coin(given, coin, held[coin]) for coin in held)}


def _mango_coin(given: _MangoAccount, coin: str, quantity: float) -> float:
    scale = given.scale.get(coin, _MangoScale(start_quote=0.0))
    weights = CoinWeights(
        given.prices[coin],
        given.init_asset_weights[coin],
        given.init_liab_weights[coin],
        scale.deposits,
        scale.start_quote,
        scale.borrows,
        scale.start_quote,
    )
    return coin_health(quantity, weights)
