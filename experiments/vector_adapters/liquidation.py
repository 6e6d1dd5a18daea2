"""How much is closed, and what for: partial liquidation, auctions, disposal by the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from backtest.kernels.laws.auction import insolvent_payout, largest_fraction, price_share
from backtest.kernels.laws.liquidation_price import equity_at
from backtest.kernels.laws.liquidation_size import (
    disposal_size,
    quantity_to_restore,
    share_in_steps,
)
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

PARADEX_STEP = 0.2
"""Share of the positions that one liquidation step of Paradex closes."""
PARADEX_RESTORED_RATIO = 0.9
"""Maintenance over account value below which Paradex stops liquidating."""
DERIVE_INSOLVENT_RAMP_S = 600.0
"""Time in which Derive's pay for an insolvent account rises to its whole requirement."""
MOST_ORDERS = 100_000
"""A disposal that takes more orders than this does not end."""


class _DriftCover(Inputs):
    kind: Literal["cover"]
    shortage: Number
    price: Number
    quote_price: Number
    ratio: Number
    liq_fee: Number
    if_fee: Number


@answers(MARGIN, _DriftCover, "Drift v2", "partial_liquidation")
def _drift_cover(given: _DriftCover) -> Answers:
    """Contracts whose closing covers a shortage of margin, after both fees."""
    notional = given.price * given.quote_price
    costs = notional * given.liq_fee + given.price * given.if_fee
    return {"base": quantity_to_restore(given.shortage, notional * given.ratio, costs)}


class _DriftSpotCover(Inputs):
    kind: Literal["spot_cover"]
    shortage: Number
    price: Number
    wl: Number
    wa: Number
    ma: Number
    ml: Number
    if_fee: Number


@answers(MARGIN, _DriftSpotCover, "Drift v2", "partial_liquidation")
def _drift_spot_cover(given: _DriftSpotCover) -> Answers:
    """Debt whose repayment covers a shortage; the collateral given for it also counted."""
    released = given.price * given.wl
    collateral = given.price * given.wa * given.ma / given.ml
    costs = collateral + given.price * given.if_fee * given.wl
    return {"liability": quantity_to_restore(given.shortage, released, costs)}


class _ParadexPosition(Inputs):
    q: Number
    entry: Number
    mark: Number


class _ParadexLiquidation(Inputs):
    collateral: Number
    mmf: Number
    liq_fee: Number
    positions: list[_ParadexPosition]


@answers(MARGIN, _ParadexLiquidation, "Paradex", "partial_liquidation")
def _paradex_liquidation(given: _ParadexLiquidation) -> Answers:
    """Close fifths until maintenance is below nine tenths of the account's value."""
    value = given.collateral
    maintenance = 0.0
    for p in given.positions:
        value = equity_at(value, p.q, p.entry, p.mark)
        maintenance += given.mmf * abs(p.q) * p.mark
    unit_penalty = given.liq_fee * maintenance
    share = 0.0
    if value < maintenance:
        target = 1.0 / PARADEX_RESTORED_RATIO
        share = share_in_steps(value, maintenance, target, unit_penalty, PARADEX_STEP)
    # What the account does not have cannot be taken from it.
    penalty = min(share * unit_penalty, max(value, 0.0))
    profit = value - given.collateral
    after = value - penalty
    answer = {
        "account_value": value,
        "mmr": maintenance,
        "share": share,
        "penalty": penalty,
        "new_value": after,
        "collateral_left": given.collateral + share * profit - penalty,
    }
    left = (1.0 - share) * maintenance
    if after != 0.0 or left == 0.0:
        answer["new_ratio"] = left / after if left else 0.0
    return answer


class _DeriveAuction(Inputs):
    mm: Number
    mtm: Number
    elapsed: Number
    reserved: Number = 0.0
    buffer: Number
    start_pct: Number
    cut_pct: Number
    fast_len: Number
    slow_len: Number


@answers(MARGIN, _DeriveAuction, "Derive DutchAuction", "liquidation_auction")
def _derive_auction(given: _DeriveAuction) -> Answers:
    """Bid price and largest fraction while value is left; pay for the whole account after."""
    if given.mtm <= 0.0:
        payout = insolvent_payout(given.mtm, given.mm, given.elapsed, DERIVE_INSOLVENT_RAMP_S)
        return {"bid_price": -payout, "max_fraction": 1.0, "cash_at_max": -payout}
    if given.reserved > given.mtm:
        raise NotCoveredError("cash of earlier bids exceeds the value: this auction has ended")
    price = price_share(
        given.elapsed, given.fast_len, given.slow_len, given.start_pct, given.cut_pct
    )
    fraction = largest_fraction(given.mtm, given.mm, price, given.reserved, given.buffer)
    bid = (given.mtm - given.reserved) * price
    return {
        "bid_price": bid,
        "max_fraction": fraction,
        "cash_at_max": bid * fraction,
        "discount": price,
    }


class _VegaDisposal(Inputs):
    qty: Number
    fraction: Number
    full: Number
    book: Number
    max_frac: Number


@answers(MARGIN, _VegaDisposal, "Vega protocol", "network_disposal")
def _vega_disposal(given: _VegaDisposal) -> Answers:
    """Orders by which the network sheds what it took over, the book refilled between them."""
    held = abs(given.qty)
    volumes = (held, given.full, given.book)
    lot = 1.0 if all(volume == int(volume) for volume in volumes) else 0.0
    trades: list[float] = []
    while held > 0.0:
        size = disposal_size(held, given.fraction, given.full, given.book, given.max_frac, lot)
        if size <= 0.0 or len(trades) == MOST_ORDERS:
            raise NotCoveredError("these orders never dispose of the whole position")
        trades.append(size)
        held -= size
    return {"trades": trades}
