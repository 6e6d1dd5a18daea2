"""SPAN's months: what an account's legs come to by expiry, and what that is charged."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from backtest.kernels.black76 import INLINED
from backtest.kernels.lanes import LANES, load, magnitude, spread, store, where_negative, zeros
from backtest.kernels.types import Holdings, KernelInput, Market
from strategies.kernels.span_layout import DELIVERY, TIER

DELTA, LEFT, SHORT, SCAN, WORST, SPREAD_CHARGE, DELIVERY_CHARGE, CREDIT = range(8)
SUMS = 8
"""Columns of the table of sums per asset, and how many there are."""
_LEAST = 5e-324
"""The smallest number: taken from a distance it leaves less than nothing only of nothing."""


class Room(NamedTuple):
    """What one account at a time is added up in."""

    profits: np.ndarray  # (A, 16), USD
    sums: np.ndarray  # (A, 8)
    tiers: np.ndarray  # (A, tiers, 2): deltas of long months and of short ones
    listed: np.ndarray  # (A,), the assets that are held
    keys: np.ndarray  # (legs,), the same for legs of one month
    deltas: np.ndarray  # (legs,), USD
    nets: np.ndarray  # (legs,), of the leg's month
    firsts: np.ndarray  # (legs,), number of its first leg
    lines: np.ndarray  # (spreads, 2): the long tier and the short one
    rates: np.ndarray  # (spreads,)


@numba.extending.register_jitable(**INLINED)
def net_months(room: Room, legs: int) -> None:
    """Fill, for every leg, the delta of its month and the first leg of that month."""
    minus_least = spread(-_LEAST, LANES)
    for group in range(np.uint64(0), np.uint64(legs), np.uint64(LANES)):
        keys = load(room.keys, group, LANES)
        nets, firsts = zeros(LANES), spread(-1.0, LANES)
        for k in range(np.uint64(legs)):
            # Below nothing where the keys are equal, and only there.
            apart = magnitude(keys + spread(-room.keys[k], LANES)) + minus_least
            nets = where_negative(apart, nets + spread(room.deltas[k], LANES), nets)
            found = where_negative(firsts, spread(float(k), LANES), firsts)
            firsts = where_negative(apart, found, firsts)
        store(room.nets, group, nets)
        store(room.firsts, group, firsts)


@numba.extending.register_jitable(**INLINED)
def charge_months(
    given: KernelInput, market: Market, holdings: Holdings, account: int, assets: int, room: Room
) -> None:
    """Add up each asset's net delta, and charge it for delivery and for spreads of months."""
    sums, tiers, lines = room.sums, room.tiers, room.lines
    first = np.uint64(holdings.start[account])
    for leg in range(np.uint64(holdings.count[account])):
        i = np.uint64(holdings.instrument[first + leg])
        asset = np.uint64(market.asset[i])
        tier = np.uint64(np.int64(given.scratch[i, TIER]))
        delta = room.nets[leg] if room.firsts[leg] == float(leg) else 0.0
        sums[asset, DELTA] += delta
        sums[asset, DELIVERY_CHARGE] += given.scratch[i, DELIVERY] * abs(delta)
        tiers[asset, tier, 0] += max(delta, 0.0)
        tiers[asset, tier, 1] += max(-delta, 0.0)
    for n in range(np.uint64(assets)):
        asset = np.uint64(room.listed[n])
        charge = 0.0
        for line in range(np.uint64(len(lines))):
            long, short = lines[line, 0], lines[line, 1]
            formed = min(tiers[asset, long, 0], tiers[asset, short, 1])
            tiers[asset, long, 0] -= formed
            tiers[asset, short, 1] -= formed
            charge += room.rates[line] * formed
        sums[asset, SPREAD_CHARGE] = charge
