"""The event loop: one compiled loop for every policy.

At one instant, in this order: what was scheduled before it, market, funding, expiry, oracle and
parameter post, protocol state, payments and deadlines due, transfers, resting orders, margin
check with its liquidations, fund and winners and socialised loss, calls and what may leave,
orders, recording. An account never trades on what it could not know, and money is counted
whenever it may have moved.
"""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.cache import compiled
from backtest.kernels.actions import act, meet_fates
from backtest.kernels.checks import check_all
from backtest.kernels.events import run_scheduled, schedule_recheck
from backtest.kernels.execution import advance
from backtest.kernels.market import (
    accrue_funding,
    arrive_transfers,
    open_row,
    see,
    settle_expired,
)
from backtest.kernels.money import imbalance, post_flows, record_purses
from backtest.kernels.records import (
    LARGEST_SHIFT,
    LEDGER_IMBALANCE,
    LEDGER_SCALE,
)
from backtest.kernels.state import ROW, SHIFT, WORLD
from backtest.kernels.types import KERNELS_TYPE
from backtest.kernels.waterfall import waterfall


@compiled()
def _record(world: Any) -> None:
    """Post the flows of an instant, count all money and write down the venue's levels."""
    state, series, row = world.state, world.records.series, world.state.counter[ROW]
    post_flows(world)
    record_purses(world)
    for a in range(state.assets.shape[1]):
        shift = abs(state.assets[SHIFT, a])
        series[row, LARGEST_SHIFT] = max(series[row, LARGEST_SHIFT], shift)
    leaked, gross = imbalance(world)
    if not leaked * series[row, LEDGER_SCALE] < series[row, LEDGER_IMBALANCE] * gross:
        series[row, LEDGER_IMBALANCE] = leaked
        series[row, LEDGER_SCALE] = gross


@compiled(types.void(WORLD, KERNELS_TYPE, types.int64, types.int64), entry=True, nogil=True)
def replay_instants(world: Any, kernels: Any, first: int, last: int) -> None:
    """Replay the instants ``first .. last``, changing ``world.state`` and ``world.records``.

    Parameters
    ----------
    world
        Every array there is; see `backtest.kernels.state.WORLD`.
    kernels
        Requirement kernel of each slot.
    first, last
        Half-open range of instants; a replay may be cut into consecutive ranges.
    """
    timeline = world.timeline
    for instant in range(first, last):
        now, row = timeline.at_ms[instant], timeline.row[instant]
        checked = timeline.check[instant] == 1
        run_scheduled(world, kernels, now - 1, False)
        advance(world, now)
        opens = timeline.opens_row[instant] == 1
        if opens:
            open_row(world, row)
            accrue_funding(world)
            settle_expired(world)
        see(world, instant)
        run_scheduled(world, kernels, now, checked)
        if opens:
            arrive_transfers(world)
            meet_fates(world)
        if checked:
            check_all(world, kernels)
        waterfall(world)
        if opens:
            act(world, kernels)
            waterfall(world)
        schedule_recheck(world)
        _record(world)
