"""Equity for margin: what an account is worth, less the haircuts on its coins."""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.laws.collateral import (
    deposit_scaling,
    depth_haircut,
    peg_haircut,
    wrong_way_haircut,
)
from backtest.kernels.state import (
    CORRELATION,
    DEPTH_IMPACT,
    HAIRCUT,
    HELD_COINS,
    NET,
    PEG_FACTOR,
    PEG_THRESHOLD,
    PEG_USD,
    ROW,
    SCALE_START_USD,
    WRONG_WAY,
)
from backtest.kernels.valuation import equity_seen


@compiled()
def count_coins(world: Any) -> None:
    """Add up the coins that accounts hold, for the weights that shrink with them."""
    if world.venue.haircuts_on == 0.0:
        return
    cash, assets, index = world.state.cash, world.state.assets, world.market.index
    for a in range(index.shape[0]):
        total = 0.0
        for account in range(cash.shape[1] - 1):
            total += max(cash[1 + a, account], 0.0)
        assets[HELD_COINS, a] = total * index[a]


@compiled()
def _sum_deltas(world: Any, account: int) -> None:
    """Fill the scratch row ``NET`` with an account's deltas per asset, as the venue sees them."""
    state, delta_usd, asset = world.state, world.market.delta_usd, world.tape.asset
    net = state.assets[NET]
    net[:] = 0.0
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        i = state.instrument[slot]
        net[asset[i]] += state.quantity[slot] * delta_usd[i]


@compiled()
def collateral_weight(world: Any, a: int, value_usd: float) -> float:
    """Return what share of a coin balance counts; `backtest.rules.collateral` has the formula.

    Needs the account's deltas in the scratch row ``NET``.
    """
    state, rule, price = world.state, world.venue.collateral, world.market.index[a]
    taken = rule[a, HAIRCUT]
    if rule[a, DEPTH_IMPACT] > 0.0:
        depth = world.tape.depth_usd[state.counter[ROW], a]
        taken += depth_haircut(value_usd, depth, rule[a, DEPTH_IMPACT])
    if rule[a, WRONG_WAY] > 0.0:
        adverse = 0.0
        for b in range(state.assets.shape[1]):
            correlation = 1.0 if b == a else rule[a, CORRELATION]
            adverse += correlation * state.assets[NET, b]
        taken += wrong_way_haircut(adverse, value_usd, rule[a, WRONG_WAY])
    if rule[a, PEG_USD] > 0.0:
        taken += peg_haircut(price, rule[a, PEG_USD], rule[a, PEG_THRESHOLD], rule[a, PEG_FACTOR])
    held = state.assets[HELD_COINS, a]
    return max(0.0, 1.0 - taken) * deposit_scaling(held, rule[a, SCALE_START_USD])


@compiled()
def haircut_usd(world: Any, account: int) -> float:
    """Return what an account's coins count for less than they are worth, USD."""
    cash, index = world.state.cash, world.market.index
    total = 0.0
    summed = False
    for a in range(index.shape[0]):
        balance = cash[1 + a, account]
        if balance > 0.0:
            if not summed:
                _sum_deltas(world, account)
                summed = True
            value = balance * index[a]
            total += (1.0 - collateral_weight(world, a, value)) * value
    return total


@compiled()
def margin_equity(world: Any, account: int) -> float:
    """Return an account's equity in USD as margin is held against it."""
    equity = equity_seen(world, account)
    if world.venue.haircuts_on != 0.0:
        equity -= haircut_usd(world, account)
    return equity
