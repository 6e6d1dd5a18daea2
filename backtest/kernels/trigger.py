"""The cheap check: a linear guess of equity against the last known margin.

A venue that cannot afford the full calculation for everybody at every price follows each
account by its deltas and asks for the full one only where the guess comes near the margin. The
replay makes the full calculation all the same, so that it can count what the trigger missed.
"""

from __future__ import annotations

from typing import Any

from backtest.cache import compiled
from backtest.kernels.collateral import haircut_usd
from backtest.kernels.state import CLOCK, NEVER
from backtest.kernels.valuation import cash_seen


@compiled()
def set_anchor(world: Any, account: int, maintenance: float) -> None:
    """Remember an account's margin, value and deltas at the prices that the venue sees."""
    state, market = world.state, world.market
    delta = state.anchor_delta[account]
    delta[:] = 0.0
    value = 0.0
    first = state.start[account]
    for slot in range(first, first + state.count[account]):
        i = state.instrument[slot]
        value += state.quantity[slot] * market.value_usd[i]
        delta[world.tape.asset[i]] += state.quantity[slot] * market.delta_usd[i]
    state.anchor_value[account] = value
    state.anchor_margin[account] = maintenance
    state.anchor_ts[account] = state.counter[CLOCK]
    for a in range(market.index.shape[0]):
        state.anchor_index[account, a] = market.index[a]


@compiled()
def fires(world: Any, account: int, maintenance: float) -> bool:
    """Return whether the full check is made; what it finds becomes the new anchor."""
    state, venue, index = world.state, world.venue, world.market.index
    at = state.anchor_ts[account]
    if at != NEVER and state.counter[CLOCK] - at < venue.trigger_refresh_ms:
        guess = cash_seen(world, account) + state.anchor_value[account]
        for a in range(index.shape[0]):
            move = index[a] / state.anchor_index[account, a] - 1.0
            guess += state.anchor_delta[account, a] * move
        if venue.haircuts_on != 0.0:
            guess -= haircut_usd(world, account)
        if not guess < venue.trigger_level * state.anchor_margin[account]:
            return False
    set_anchor(world, account, maintenance)
    return True
