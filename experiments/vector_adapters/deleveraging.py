"""Who is deleveraged, when, at which price, and how what is left is shared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from backtest.kernels.laws.deleveraging import (
    capped_profit,
    effective_leverage,
    fund_threshold,
    loss_per_contract,
    pro_rata_share,
    profit_leverage_rank,
    profit_to_pool,
)
from backtest.kernels.laws.liquidation_price import bankruptcy_price, equity_at
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

OKX_FALL = 0.3
OKX_FLOOR = 50_000.0
"""OKX deleverages when its fund has lost this share of its 8 h average, or stands below this."""


class _DydxTrader(Inputs):
    deposit: Number
    qty: Number


class _DydxDeleveraging(Inputs):
    open: Number
    mark: Number
    loser: _DydxTrader
    winner: _DydxTrader


@answers(MARGIN, _DydxDeleveraging, "dYdX v4 deleveraging", "adl_at_bankruptcy_price")
def _dydx_deleveraging(given: _DydxDeleveraging) -> Answers:
    """Close the loser against the winner at the price that leaves the loser nothing."""
    loser, winner = given.loser, given.winner
    if loser.qty * winner.qty >= 0.0:
        raise NotCoveredError("winner.qty: must be opposite to loser.qty")
    price = bankruptcy_price(loser.deposit, loser.qty, given.open)
    closed = min(abs(loser.qty), abs(winner.qty))
    offset = math.copysign(closed, winner.qty)
    kept = loser.qty + offset
    cash = equity_at(loser.deposit, loser.qty - kept, given.open, price)
    return {
        "bankruptcy_price": price,
        "loser_equity": equity_at(loser.deposit, loser.qty, given.open, given.mark),
        "loser_left": equity_at(cash, kept, given.open, given.mark),
        "winner_pnl": equity_at(0.0, offset, given.open, price),
    }


class _GmxCoinPool(Inputs):
    oi_tokens: Number
    entry: Number
    price: Number
    pool_tokens: Number
    max_factor: Number


class _GmxDollarPool(Inputs):
    oi_tokens: Number
    entry: Number
    price: Number
    pool_usd: Number
    max_factor: Number


@answers(MARGIN, _GmxCoinPool, "GMX v2", "adl_pool_factor")
def _gmx_coin_pool(given: _GmxCoinPool) -> Answers:
    """Whether profit exceeds what a pool held in the coin may owe."""
    profit = equity_at(0.0, given.oi_tokens, given.entry, given.price)
    return _gmx(profit, given.pool_tokens * given.price, given.max_factor)


@answers(MARGIN, _GmxDollarPool, "GMX v2", "adl_pool_factor")
def _gmx_dollar_pool(given: _GmxDollarPool) -> Answers:
    """Whether profit exceeds what a pool held in dollars may owe."""
    profit = equity_at(0.0, given.oi_tokens, given.entry, given.price)
    return _gmx(profit, given.pool_usd, given.max_factor)


def _gmx(profit: float, pool: float, largest: float) -> Answers:
    factor = profit_to_pool(profit, pool)
    return {
        "pnl_to_pool": factor,
        "adl": factor > largest,
        "paid_pnl": capped_profit(profit, pool, largest),
    }


class _BitmexPosition(Inputs):
    mark_value: Number
    bankrupt_value: Number
    entry_value: Number


@answers(MARGIN, _BitmexPosition, "BitMEX", "adl_ranking")
def _bitmex_rank(given: _BitmexPosition) -> Answers:
    """Profit share times effective leverage; the two divided for a loss."""
    profit_share = (given.mark_value - given.entry_value) / abs(given.entry_value)
    lever = effective_leverage(given.mark_value, given.bankrupt_value)
    return {"rank": profit_leverage_rank(profit_share, lever)}


class _OkxFund(Inputs):
    avg8h: Number
    fund: Number


@answers(MARGIN, _OkxFund, "OKX", "adl_trigger")
def _okx_trigger(given: _OkxFund) -> Answers:
    """Whether the fund has fallen below its threshold."""
    threshold = fund_threshold(given.avg8h, OKX_FALL, OKX_FLOOR)
    return {"threshold": threshold, "adl": given.fund < threshold}


class _DriftLoss(Inputs):
    kind: Literal["socialise"]
    loss: Number
    long: Number
    short: Number


@answers(MARGIN, _DriftLoss, "Drift v2", "socialised_loss_via_funding")
def _drift_loss(given: _DriftLoss) -> Answers:
    """Loss per contract through the funding index."""
    return {"per_base": loss_per_contract(given.loss, given.long, given.short)}


class _VegaLoss(Inputs):
    gains: list[Number]
    collected: Number
    target: Number


@answers(MARGIN, _VegaLoss, "Vega protocol", "socialised_loss_pro_rata")
def _vega_loss(given: _VegaLoss) -> Answers:
    """Gains paid out of what the losers could pay, all in one proportion."""
    share = pro_rata_share(given.collected, given.target)
    return {"paid": [share * gain for gain in given.gains]}
