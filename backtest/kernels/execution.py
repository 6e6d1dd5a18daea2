"""Closing a share of a portfolio against the book, and what that does to the price."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.laws.impact import execution_cost, price_move
from backtest.kernels.money import pay_for_contracts
from backtest.kernels.positions import add_contracts
from backtest.kernels.pricing import price_held_now
from backtest.kernels.records import IN_SLIPPAGE
from backtest.kernels.state import (
    CLOCK,
    NET,
    PERMANENT,
    PUSHED,
    ROW,
    SAME_VIEW,
    SHIFT,
    SOLD,
    STAMP,
    TRANSIENT,
    TRIAL_SOLD,
    TRUE_INDEX,
    TRUE_MARK,
)
from backtest.kernels.valuation import exposure_usd, rate_now, settlement_currency

LEAST_PRICE = 0.05
"""A price that liquidations move keeps at least this share of the tape's."""


@compiled()
def portfolio_exposure(world: Any, account: int) -> float:
    """Return the exposure of all legs, USD unsigned; fill scratch row ``NET`` with the deltas."""
    state, asset = world.state, world.tape.asset
    net = state.assets[NET]
    net[:] = 0.0
    exposure = 0.0
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        i = state.instrument[slot]
        exposure += abs(state.quantity[slot]) * exposure_usd(world, i)
        net[asset[i]] += state.quantity[slot] * state.delta_usd[i]
    return exposure


@compiled()
def _cost(world: Any, asset: int, volume: float, already: float) -> float:
    venue = world.venue
    depth = world.tape.depth_usd[world.state.counter[ROW], asset]
    law = int(venue.impact_law)
    return execution_cost(volume, already, depth, law, venue.impact_at_depth, venue.impact_cap)


@compiled()
def expected_slippage(world: Any, account: int, share: float) -> float:
    """Return what `close_share` would pay to the market beyond the mark, USD."""
    state = world.state
    sold, trial = state.assets[SOLD], state.assets[TRIAL_SOLD]
    for a in range(sold.shape[0]):
        trial[a] = sold[a]
    cost = 0.0
    first = state.start[account]
    for slot in range(first + state.count[account] - 1, first - 1, -1):
        i = state.instrument[slot]
        a = world.tape.asset[i]
        volume = abs(-share * state.quantity[slot]) * exposure_usd(world, i)
        cost += _cost(world, a, volume, trial[a])
        trial[a] += volume
    return cost


@compiled()
def close_share(world: Any, account: int, share: float) -> tuple[float, float, float]:
    """Close a share of every leg, the last slot first.

    Returns
    -------
    tuple of float
        Closed exposure, closed notional and slippage paid, USD.
    """
    state, ledger = world.state, world.records.ledger
    closed_exposure = 0.0
    closed_notional = 0.0
    cost = 0.0
    first = state.start[account]
    for slot in range(first + state.count[account] - 1, first - 1, -1):
        i = state.instrument[slot]
        a = world.tape.asset[i]
        quantity = -share * state.quantity[slot]
        volume = abs(quantity) * exposure_usd(world, i)
        slippage = _cost(world, a, volume, state.assets[SOLD, a])
        state.assets[SOLD, a] += volume
        long = state.quantity[slot] * state.delta_usd[i] >= 0.0
        state.assets[PUSHED, a] += volume if long else -volume
        pay_for_contracts(world, account, i, quantity, state.unit[i])
        currency = settlement_currency(world.tape, i)
        coins = slippage / rate_now(state, currency)
        state.cash[currency, account] -= coins
        state.flow[currency] += coins
        ledger[account, IN_SLIPPAGE] -= slippage
        closed_exposure += volume
        closed_notional += abs(quantity) * state.notional_usd[i]
        cost += slippage
        add_contracts(state, account, i, quantity, state.unit[i], True)
    return closed_exposure, closed_notional, cost


@compiled()
def set_true_prices(world: Any) -> None:
    """Take the prices of the present row, moved by the shift, and make all values stale."""
    tape, state, assets = world.tape, world.state, world.state.assets
    row = state.counter[ROW]
    moved = world.venue.feedback_on != 0.0
    for a in range(assets.shape[1]):
        factor = 1.0 + assets[SHIFT, a]
        assets[TRUE_INDEX, a] = tape.index[row, a] * factor if moved else tape.index[row, a]
        assets[TRUE_MARK, a] = tape.mark[row, a] * factor if moved else tape.mark[row, a]
    state.counter[STAMP] += 1


@compiled()
def add_shift(assets: Any) -> None:
    """Add the lasting and the decaying part of every asset's shift."""
    for a in range(assets.shape[1]):
        assets[SHIFT, a] = max(assets[PERMANENT, a] + assets[TRANSIENT, a], LEAST_PRICE - 1.0)


@compiled()
def _apply_push(world: Any) -> None:
    """Move prices by what was executed at the instant that is over."""
    tape, state, venue, assets = world.tape, world.state, world.venue, world.state.assets
    moved = False
    for a in range(assets.shape[1]):
        pushed = assets[PUSHED, a]
        if pushed == 0.0:
            continue
        depth = tape.depth_usd[state.counter[ROW], a]
        law = int(venue.impact_law)
        move = min(price_move(abs(pushed), depth, law, venue.impact_at_depth), venue.impact_cap)
        signed = -move if pushed > 0.0 else move
        assets[PERMANENT, a] += venue.permanent_share * signed
        assets[TRANSIENT, a] += (1.0 - venue.permanent_share) * signed
        assets[PUSHED, a] = 0.0
        moved = True
    if moved:
        state.counter[SAME_VIEW] = 0
        add_shift(assets)
        set_true_prices(world)
        price_held_now(world)


@compiled()
def advance(world: Any, now_ms: int) -> None:
    """Let the clock go on: the book refills, and what was executed has moved the price."""
    state = world.state
    if now_ms <= state.counter[CLOCK]:
        return
    if world.venue.feedback_on != 0.0:
        _apply_push(world)
    state.assets[SOLD, :] = 0.0
    state.counter[CLOCK] = now_ms
