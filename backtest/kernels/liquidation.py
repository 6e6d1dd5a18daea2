"""After a breach: how much is closed, what it costs, and who is paid."""

from __future__ import annotations

import numpy as np

from backtest.cache import compiled
from backtest.kernels.money import charge, close_out
from backtest.kernels.positions import change_position
from backtest.kernels.state import (
    FUND,
    LIQUIDATED_NOTIONAL,
    LIQUIDATIONS,
    LIQUIDATORS,
    PENALTIES,
    BookArrays,
    State,
    TapeArrays,
)
from backtest.kernels.valuation import (
    equity_now,
    exposure_usd,
    rate_to_usd,
    settlement_currency,
)
from backtest.venue import FULL, VenueNumbers


@compiled()
def impact_cost(
    volume_usd: float, already_usd: float, depth_usd: float, venue: VenueNumbers
) -> float:
    """Cost of executing a volume after others in the same tick: the square-root law.

    The marginal price move after ``Q`` is ``c * sqrt(Q / depth)``, so executing from ``Q0`` to
    ``Q1`` costs ``2/3 * c * (Q1**1.5 - Q0**1.5) / sqrt(depth)``, and at most ``cap`` of the
    volume. The constant ``c`` is the move at ``Q = depth``: 1 % when depth is what rests within
    1 % of mid. Square-root impact: Donier and Bonart, arXiv 1412.4503.

    Returns
    -------
    float
        US dollars.
    """
    ceiling = venue.impact_cap * volume_usd
    if depth_usd <= 0.0:
        return ceiling
    until = already_usd + volume_usd
    swept = until * np.sqrt(until) - already_usd * np.sqrt(already_usd)
    return min(2.0 / 3.0 * venue.impact_at_depth * swept / np.sqrt(depth_usd), ceiling)


@compiled()
def liquidate(
    tape: TapeArrays,
    book: BookArrays,
    venue: VenueNumbers,
    state: State,
    series: np.ndarray,
    event: np.ndarray,
    account: int,
    row: int,
    equity_at_check: float,
    maintenance: float,
) -> float:
    """Close a share of an account's portfolio, all legs alike, against the book.

    To-target mode closes the share ``f`` that restores ``target x maintenance`` when margin
    shrinks with the portfolio and the penalty is paid on what is closed:
    ``equity - f * penalty * exposure = target * maintenance * (1 - f)``.

    Returns
    -------
    float
        The shortfall in USD if the account ends flat and below zero, else 0.
    """
    first = state.start[account]
    legs = state.count[account]
    exposure = 0.0
    net = np.zeros(tape.index.shape[1])
    for slot in range(first, first + legs):
        i = state.instrument[slot]
        exposure += abs(state.quantity[slot]) * exposure_usd(state, i, venue)
        net[tape.asset[i]] += state.quantity[slot] * state.delta_usd[i]
    share = 1.0
    if venue.liquidation_mode != FULL and equity_at_check > 0.0:
        target = venue.liquidation_target * maintenance
        saved = target - venue.penalty * exposure
        if saved > 0.0:
            share = max((target - equity_at_check) / saved, venue.liquidation_minimum_share)
            share = min(share, 1.0)

    equity_before = equity_now(tape, state, account, row)
    closed_exposure = 0.0
    closed_notional = 0.0
    cost = 0.0
    for slot in range(first + legs - 1, first - 1, -1):
        i = state.instrument[slot]
        quantity = -share * state.quantity[slot]
        volume = abs(quantity) * exposure_usd(state, i, venue)
        asset = tape.asset[i]
        slippage = impact_cost(volume, state.sold[asset], tape.depth_usd[row, asset], venue)
        state.sold[asset] += volume
        currency = settlement_currency(tape, i)
        paid = quantity * state.unit[i] + slippage / rate_to_usd(tape, row, currency)
        state.cash[account, currency] -= paid
        state.flow[currency] += paid
        closed_exposure += volume
        closed_notional += abs(quantity) * state.notional_usd[i]
        cost += slippage
        change_position(state, account, i, quantity, True)

    # A penalty is a claim on what is left; it must not create the deficit it is meant to avoid.
    equity_after = equity_now(tape, state, account, row)
    penalty = min(venue.penalty * closed_exposure, max(equity_after, 0.0))
    charge(tape, book, state, account, row, penalty)
    incentive = venue.incentive_share * penalty
    state.purse[LIQUIDATORS] += incentive
    state.purse[FUND] += penalty - incentive

    shortfall = 0.0
    if state.count[account] == 0:
        shortfall = close_out(tape, book, state, series, account, row)
    state.call_ts[account] = -1
    series[row, LIQUIDATIONS] += 1.0
    series[row, LIQUIDATED_NOTIONAL] += closed_notional
    series[row, PENALTIES] += penalty

    largest = 0
    for asset in range(1, net.shape[0]):
        if abs(net[asset]) > abs(net[largest]):
            largest = asset
    event[0] = row
    event[1] = account
    event[2] = largest
    event[3] = 1.0 if net[largest] >= 0.0 else -1.0
    event[4] = closed_notional
    event[5] = share
    event[6] = equity_before
    event[7] = maintenance
    event[8] = cost
    event[9] = penalty
    event[10] = shortfall
    return shortfall
