"""Margin as the Standard Portfolio Analysis of Risk computes it (CME, 1988).

All contracts of one asset are a *combined commodity*. Its **scan risk** is the largest loss over
16 scenarios, or nothing if none loses. Scenarios 1 to 14 are pairs, volatility up and then down,
of no move, +1/3, -1/3, +2/3, -2/3, +1 and -1 price scan ranges; 15 and 16 are an extreme move up
and down at unchanged volatility, whose loss counts in part. Every option is repriced in full,
with a day's decay; delta-one contracts move with the price, those that settle in coins as
`scenario_grid` has them. To the scan are added, with deltas in US dollars per unit relative move,

- the *inter-month* charge. An expiry is a month, a perpetual one that comes before all others.
  Net deltas of months stand in tiers by time to expiry, longs and shorts apart. Spreads are
  formed in the order of a table, each of the long delta of one tier and the short delta of
  another or the same; each costs a rate on the delta of one of its legs, which is used up;
- the *delivery* charge, a rate on the delta of every month that is about to expire;
- less the *inter-commodity* credit. Opposite net deltas of two assets form spreads in the order
  of a table, so many dollars of one against so many of the other; each leg earns a rate on the
  price risk that its delta carries, ``price risk / |net delta|`` per dollar.

*Price risk* is what remains of the scan without its volatility risk (half the difference of the
active scenario to its pair) and its time risk (the mean of scenarios 1 and 2); here it is
neither negative nor above the scan. What is asked for a commodity is at least the short option
minimum, a rate on the notional of every short option::

    maintenance = sum over assets of
        max(scan + inter-month + delivery - inter-commodity credit, short option minimum)
    initial = ratio * maintenance

A clearing house demands ``cash >= maintenance - net option value``: the premium has left the
buyer's cash for good, so what an option is worth is credited on the other side. With equity
``= cash + net option value`` this is ``equity >= maintenance``, which is what requirements are
held against here: net option value is in the equity and must not be subtracted once more.

All of it is homogeneous of degree 1. A long option may cost more than its premium where its delta
forms a charged spread or undoes a credit; a credit may jump where the active scenario changes.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED, STRICT
from backtest.kernels.lanes import (
    LANES,
    first_equal,
    load,
    lowest,
    spread,
    store,
    zeros,
)
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held
from strategies.kernels.span_law import explain_span, price_risk, span_reference
from strategies.kernels.span_layout import (
    COLUMNS,
    CREDIT_FIELDS,
    FIRST_TIER,
    INITIAL_RATIO,
    MONTH,
    SCENARIOS,
    SHORT_MINIMUM,
    SPREAD_FIELDS,
    SPREADS,
    TIERS,
    span_constants,
)
from strategies.kernels.span_months import (
    CREDIT,
    DELIVERY_CHARGE,
    DELTA,
    LEFT,
    SCAN,
    SHORT,
    SPREAD_CHARGE,
    SUMS,
    WORST,
    Room,
    charge_months,
    net_months,
)
from strategies.kernels.span_prices import fill_risk_arrays

__all__ = ["span", "span_constants"]

_price_risk = numba.extending.register_jitable(**INLINED)(price_risk)


@numba.extending.register_jitable(**INLINED)
def _list_assets(market: Market, holdings: Holdings, account: int, room: Room) -> int:
    """List the assets that an account holds, ascending, and clear their rows."""
    first = np.uint64(holdings.start[account])
    last = first + np.uint64(holdings.count[account])
    found = 0
    for block in range(0, len(market.index), ASSETS_PER_WORD):
        held = assets_held(market, holdings, first, last, block)
        while held != np.uint64(0):
            asset = np.uint64(block) + np.uint64(trailing_zeros(held))
            held &= held - np.uint64(1)
            room.listed[found] = asset
            found += 1
            store(room.profits, asset * np.uint64(SCENARIOS), zeros(SCENARIOS))
            store(room.sums, asset * np.uint64(SUMS), zeros(SUMS))
            for tier in range(np.uint64(room.tiers.shape[1])):
                room.tiers[asset, tier, 0] = room.tiers[asset, tier, 1] = 0.0
    return found


@numba.extending.register_jitable(**INLINED)
def _add_legs(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    room: Room,
) -> None:
    """Add an account's legs to the sums of their assets, and list their deltas by month."""
    scratch, profits, sums = given.scratch, room.profits, room.sums
    first = np.uint64(holdings.start[account])
    for slot in range(first, first + np.uint64(holdings.count[account])):
        i = np.uint64(holdings.instrument[slot])
        asset, quantity = np.uint64(market.asset[i]), holdings.quantity[slot]
        place = asset * np.uint64(SCENARIOS)
        leg = spread(quantity, SCENARIOS) * load(scratch, i * np.uint64(COLUMNS), SCENARIOS)
        store(profits, place, load(profits, place, SCENARIOS) + leg)
        short = max(-quantity, 0.0) * market.notional_usd[i]
        sums[asset, SHORT] += short if market.kind[i] == OPTION else 0.0
        legs = np.uint64(slot - first)
        room.keys[legs], room.deltas[legs] = scratch[i, MONTH], quantity * market.delta_usd[i]


@numba.extending.register_jitable(**INLINED)
def _credit_pairs(constants: np.ndarray, start: int, profits: np.ndarray, sums: np.ndarray) -> None:
    """Add each asset's credit for spreads against others; one that is not held has no delta."""
    for line in range(start, len(constants), CREDIT_FIELDS):
        one, other = int(constants[line]), int(constants[line + 2])
        if not sums[one, DELTA] * sums[other, DELTA] < 0.0:
            continue
        formed = sums[one, LEFT] / constants[line + 1]
        formed = min(formed, sums[other, LEFT] / constants[line + 3])
        for side in range(0, 4, 2):
            asset = int(constants[line + side])
            used = formed * constants[line + side + 1]
            rest = sums[asset, LEFT] - used
            sums[asset, LEFT] = rest if rest > 0.0 else 0.0
            due = _price_risk(profits[asset], int(sums[asset, WORST]))
            credit = constants[line + 4] * (used * (due / abs(sums[asset, DELTA])))
            sums[asset, CREDIT] += credit


@numba.njit(**STRICT, _nrt=False)
def _ask(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
    room: Room,
) -> None:
    """Fill ``requirement``, the risk arrays being up to date."""
    constants = given.constants
    credits = FIRST_TIER + room.tiers.shape[1] + SPREAD_FIELDS * int(constants[SPREADS])
    profits, sums = room.profits, room.sums
    for account in accounts:
        found = _list_assets(market, holdings, account, room)
        _add_legs(given, market, holdings, account, room)
        net_months(room, holdings.count[account])
        charge_months(given, market, holdings, account, found, room)
        for n in range(np.uint64(found)):
            asset = np.uint64(room.listed[n])
            row = load(profits, asset * np.uint64(SCENARIOS), SCENARIOS)
            low = lowest(row)
            sums[asset, SCAN] = 0.0 if low >= 0.0 else -low
            sums[asset, WORST] = first_equal(row, low) if low == low else 0
            sums[asset, LEFT] = abs(sums[asset, DELTA])
        if credits < len(constants):
            _credit_pairs(constants, credits, profits, sums)
        asked = largest = 0.0
        worst = -1
        for n in range(np.uint64(found)):
            asset = np.uint64(room.listed[n])
            minimum = constants[SHORT_MINIMUM] * sums[asset, SHORT]
            charged = sums[asset, SCAN] + sums[asset, SPREAD_CHARGE] + sums[asset, DELIVERY_CHARGE]
            charged -= sums[asset, CREDIT]
            asked += minimum if charged < minimum else charged
            if worst < 0 or sums[asset, SCAN] > largest:
                largest, worst = sums[asset, SCAN], int(sums[asset, WORST])
            sums[asset, DELTA] = 0.0
        requirement.initial[account] = constants[INITIAL_RATIO] * asked
        requirement.maintenance[account] = asked
        requirement.worst_scenario[account] = worst


@requirement_kernel
def span_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `span_law.span_reference`."""
    fill_risk_arrays(given, market, holdings, accounts)
    constants, assets, most = given.constants, len(market.index), 1
    for account in accounts:
        most = max(most, holdings.count[account])
    most += -most % LANES
    tiers, spreads = int(constants[TIERS]), int(constants[SPREADS])
    cells = constants[FIRST_TIER + tiers :][: SPREAD_FIELDS * spreads]
    table = cells.reshape(spreads, SPREAD_FIELDS)
    room = Room(
        np.empty((assets, SCENARIOS)),
        np.zeros((assets, SUMS)),
        np.empty((assets, tiers, 2)),
        np.empty(assets, np.int64),
        np.full(most, np.nan),
        np.empty(most),
        np.empty(most),
        np.empty(most),
        table[:, :2].astype(np.uint64),
        table[:, 2].copy(),
    )
    _ask(given, market, holdings, accounts, requirement, room)


span = RequirementRule(
    "span",
    span_kernel,
    span_reference,
    scratch_columns=lambda constants: COLUMNS,
    explain=explain_span,
)
"""Largest of 16 losses, charges between months and for delivery, credits between assets."""
