"""Risk checks that concern the venue: waterfall, deleveraging, fund, impact, limits."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field

from backtest.kernels.laws.deleveraging import (
    fund_payment,
    pro_rata_share,
    queue_taken,
    slice_shortfall,
)
from backtest.kernels.laws.funding import funding_cash, imbalance_rate
from backtest.kernels.laws.impact import (
    SQUARE_ROOT,
    permanent_impact,
    price_move,
    temporary_impact,
)
from backtest.kernels.laws.insurance import (
    cover_probability,
    exponential_quantile,
    fund_after,
    liquidation_fee,
)
from backtest.kernels.laws.limits import (
    large_position_premium,
    loan_to_value,
    pool_loss_ratio,
)
from backtest.kernels.laws.liquidation_price import bankruptcy_price, equity_at, leverage
from experiments.vector_adapters.base import RISK, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.kernels import bracketed_margin_usd

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

BPS = 1e-4


class _Holder(Inputs):
    q: Number
    cash: Number
    side: Literal[1, -1]


class _Book(Inputs):
    p0: Number
    positions: dict[str, _Holder]


@answers(RISK, _Book, "waterfall")
def _opening_book(given: _Book, wanted: frozenset[str]) -> Answers:
    """Leverage on posted cash at the entry price and at others, and bankruptcy prices."""
    holders = given.positions.items()
    found: Answers = {
        "lev0": {name: leverage(given.p0, h.q, h.cash) for name, h in holders},
        "p_bk": {name: bankruptcy_price(h.cash, h.side * h.q, given.p0) for name, h in holders},
    }
    # A price stands in the name of the answer: lev_1_4 is the leverage at 1.4.
    for key in wanted:
        if price := re.fullmatch(r"lev_(\d+)_(\d+)", key):
            at = float(".".join(price.groups()))
            found[key] = {name: leverage(at, h.q, h.cash) for name, h in holders}
    return found


class _FundedBook(Inputs):
    p0: Number
    positions: dict[str, _Holder]
    kappa: Number
    oracle: list[Number]
    mark: list[Number]
    mm: Number | None = None


@answers(RISK, _FundedBook, "waterfall")
def _funded_book(given: _FundedBook, wanted: frozenset[str]) -> Answers:
    """Funding of every step; equity after the first, and who is below its margin then."""
    del wanted
    if len(given.oracle) != len(given.mark) or len(given.mark) < 2:
        raise NotCoveredError("oracle and mark: must have one price per step, two or more")
    size = {s: sum(h.q for h in given.positions.values() if h.side == s) for s in (1, -1)}
    prices = list(zip(given.mark, given.oracle, strict=True))[1:]
    rates = [imbalance_rate(size[1], size[-1], m, o, given.kappa) for m, o in prices]
    holders = given.positions.items()
    found: Answers = {"gamma": rates}
    for step, (rate, (mark, _)) in enumerate(zip(rates, prices, strict=True), 1):
        found[f"cash_t{step}"] = {
            name: funding_cash(rate, mark, h.side * h.q) for name, h in holders
        }
    first = given.mark[1]
    equity = {
        name: equity_at(h.cash, h.side * h.q, given.p0, first) + found["cash_t1"][name]
        for name, h in holders
    }
    found["equity"] = equity
    if given.mm is not None:
        brackets = [(0.0, given.mm)]
        found["liquidatable"] = sorted(
            name for name, h in holders
            if equity[name] < bracketed_margin_usd(h.q * first, brackets)
        )  # fmt: skip
    return found


class _LiquidationFees(Inputs):
    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, tuple[Number, Number]] = Field(init=False)

    p: Number
    dq: Number
    exec: Number


@answers(RISK, _LiquidationFees, "waterfall")
def _liquidation_fees(given: _LiquidationFees, wanted: frozenset[str]) -> Answers:
    """Fee of each venue that gives ``<venue>_bps``: at the mark and at the execution price."""
    del wanted
    return {
        name.removesuffix("_bps"): liquidation_fee(
            given.dq, given.p, given.exec, at_mark * BPS, at_execution * BPS
        )
        for name, (at_mark, at_execution) in given.__pydantic_extra__.items()
        if name.endswith("_bps")
    }


class _Slice(Inputs):
    p_bk: Number
    p_exec: Number
    dq: Number


@answers(RISK, _Slice, "waterfall")
def _slice_loss(given: _Slice, wanted: frozenset[str]) -> Answers:
    """Shortfall of a slice executed through its bankruptcy price."""
    del wanted
    return {"shortfall": slice_shortfall(given.p_bk, given.p_exec, given.dq)}


class _FundStep(Inputs):
    fund: Number = Field(alias="IF")
    deficit: Number = Field(alias="D")
    fee_in: Number


@answers(RISK, _FundStep, "waterfall")
@answers(RISK, _FundStep, "insurance")
def _fund_step(given: _FundStep, wanted: frozenset[str]) -> Answers:
    """Pay from a fund: what is covered, what is left for deleveraging, the fund after."""
    del wanted
    covered = fund_payment(given.fund, given.deficit, math.inf)
    return {
        "covered": covered,
        "residual_to_ADL": given.deficit - covered,
        "IF_next": fund_after(given.fund, covered, given.fee_in),
    }


class _Deleveraging(Inputs):
    cash: list[Number]
    pnl: list[Number]
    deficit: Number
    severity: Number
    queue_order_1based: list[int]


@answers(RISK, _Deleveraging, "adl")
def _deleveraging(given: _Deleveraging, wanted: frozenset[str]) -> Answers:
    """Take gains in the order of a queue, and pro rata; never more than an account has."""
    del wanted
    count = len(given.pnl)
    if len(given.cash) != count or sorted(given.queue_order_1based) != list(range(1, count + 1)):
        raise NotCoveredError("cash, pnl and queue_order_1based: must be of the same accounts")
    equity = [cash + profit for cash, profit in zip(given.cash, given.pnl, strict=True)]
    gains = [max(min(g, e), 0.0) for g, e in zip(given.pnl, equity, strict=True)]
    budget = given.severity * given.deficit
    queued = [0.0] * count
    for place in given.queue_order_1based:
        queued[place - 1] = queue_taken(gains[place - 1], budget - sum(queued))
    share = pro_rata_share(budget, sum(gains))
    shared = [share * gain for gain in gains]
    return {
        "queue_seized": queued,
        "queue_equity": [e - taken for e, taken in zip(equity, queued, strict=True)],
        "prorata_factor": share,
        "prorata_seized": shared,
        "prorata_equity": [e - taken for e, taken in zip(equity, shared, strict=True)],
    }


class _FundSize(Inputs):
    r: Number
    kappa: list[Number]
    mean: Number


@answers(RISK, _FundSize, "insurance")
def _fund_size(given: _FundSize, wanted: frozenset[str]) -> Answers:
    """Best fund against exponentially distributed deficits."""
    del wanted
    levels = [cover_probability(given.r, kappa) for kappa in given.kappa]
    return {"K": [exponential_quantile(given.mean, level) for level in levels]}


class _AlmgrenOrder(Inputs):
    sigma_d: Number
    V: Number
    Theta: Number
    X: Number
    T: list[Number]
    gamma: Number
    eta: Number
    delta: Number
    beta: Number


@answers(RISK, _AlmgrenOrder, "impact")
def _almgren_order(given: _AlmgrenOrder, wanted: frozenset[str]) -> Answers:
    """Permanent, temporary and realised impact of an order worked over parts of a day."""
    del wanted
    g = given
    permanent = permanent_impact(g.sigma_d, g.X, g.V, g.Theta, g.gamma, g.delta) / BPS
    temporary = {
        str(days): temporary_impact(g.sigma_d, g.X, g.V, days, g.eta, g.beta) / BPS for days in g.T
    }
    realised = {days: 0.5 * permanent + part for days, part in temporary.items()}
    return {"I_bp": permanent, "K_bp": temporary, "J_bp": realised}


class _SquareRootImpact(Inputs):
    Y: Number
    sigma: Number
    participation: list[Number]


@answers(RISK, _SquareRootImpact, "impact")
def _square_root_impact(given: _SquareRootImpact, wanted: frozenset[str]) -> Answers:
    """Move after shares of a day's volume, by the law that the loop executes at."""
    del wanted
    move = given.Y * given.sigma
    return {"impact": [price_move(q, 1.0, SQUARE_ROOT, move) for q in given.participation]}


class _LoanLimit(Inputs):
    c: Number
    sigma: Number
    l: Number  # noqa: E741 - the published name
    d: Number
    beta: Number


@answers(RISK, _LoanLimit, "liquidity")
def _loan_limit(given: _LoanLimit, wanted: frozenset[str]) -> Answers:
    """Largest loan to value that liquidity can close in time."""
    del wanted
    return {"ltv": loan_to_value(given.c, given.sigma, given.l, given.d, given.beta)}


class _PoolSkew(Inputs):
    RF: list[Number]
    skew: Number
    drop: list[Number]


@answers(RISK, _PoolSkew, "oi_caps")
def _pool_skew(given: _PoolSkew, wanted: frozenset[str]) -> Answers:
    """Profit of the traders over the pool, and whether it exceeds the pool at some fall."""
    found: Answers = {
        "ratio": [[pool_loss_ratio(f, given.skew, drop) for drop in given.drop] for f in given.RF]
    }
    # The fall stands in the name of the answer: past_bad_debt_at_90pct.
    for key in wanted:
        if fall := re.fullmatch(r"past_bad_debt_at_(\d+)pct", key):
            drop = int(fall[1]) / 100
            found[key] = [pool_loss_ratio(f, given.skew, drop) > 1.0 for f in given.RF]
    return found


class _LargePosition(Inputs):
    LPM: Number
    S: Number
    skewScale: Number
    P: Number


@answers(RISK, _LargePosition, "concentration")
def _large_position(given: _LargePosition, wanted: frozenset[str]) -> Answers:
    """Extra liquidation premium of a large position."""
    del wanted
    premium = large_position_premium(given.LPM, given.S, given.skewScale, given.P)
    return {"premium": premium}
