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

Everything is homogeneous of degree 1 in the positions. What this does not keep: a long option may
cost more than its premium where its delta forms a spread that is charged or undoes one that
earned a credit, and the credit may jump where the active scenario changes.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import INLINED
from backtest.kernels.lanes import first_equal, load, lowest, spread, store, zeros
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
    DELIVERY,
    FIRST_TIER,
    HASH,
    INITIAL_RATIO,
    PERPETUAL_MONTH,
    SCENARIOS,
    SHORT_MINIMUM,
    SPREAD_FIELDS,
    SPREADS,
    TIER,
    TIERS,
    span_constants,
)
from strategies.kernels.span_prices import fill_risk_arrays

__all__ = ["span", "span_constants"]

_DELTA, _LEFT, _SHORT, _SCAN, _WORST, _SPREADS, _DELIVERY, _CREDIT = range(8)
"""Columns of the table of sums per asset."""
_OF_ASSET, _YEARS, _NET, _TIER, _RATE = range(5)
"""Columns of the table of months."""
_NO_MONTH = -1

_price_risk = numba.extending.register_jitable(**INLINED)(price_risk)


@numba.extending.register_jitable(**INLINED)
def _list_assets(
    market: Market,
    holdings: Holdings,
    account: int,
    profits: np.ndarray,
    sums: np.ndarray,
    tiers: np.ndarray,
    listed: np.ndarray,
) -> int:
    """List the assets that an account holds, ascending, and clear their rows."""
    first = np.uint64(holdings.start[account])
    last = first + np.uint64(holdings.count[account])
    found = 0
    for block in range(0, len(market.index), ASSETS_PER_WORD):
        held = assets_held(market, holdings, first, last, block)
        while held != np.uint64(0):
            asset = np.uint64(block) + np.uint64(trailing_zeros(held))
            held &= held - np.uint64(1)
            listed[found] = asset
            found += 1
            store(profits, asset * np.uint64(SCENARIOS), zeros(SCENARIOS))
            sums[asset], tiers[asset] = 0.0, 0.0
    return found


@numba.extending.register_jitable(**INLINED)
def _add_legs(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    profits: np.ndarray,
    sums: np.ndarray,
    months: np.ndarray,
    month_at: np.ndarray,
) -> int:
    """Add an account's legs to the sums of their assets; return how many months it holds."""
    scratch, found = given.scratch, 0
    mask = np.uint64(len(month_at) - 1)
    first = np.uint64(holdings.start[account])
    for slot in range(first, first + np.uint64(holdings.count[account])):
        i = np.uint64(holdings.instrument[slot])
        asset, quantity = np.uint64(market.asset[i]), holdings.quantity[slot]
        place = asset * np.uint64(SCENARIOS)
        leg = spread(quantity, SCENARIOS) * load(scratch, i * np.uint64(COLUMNS), SCENARIOS)
        store(profits, place, load(profits, place, SCENARIOS) + leg)
        short = max(-quantity, 0.0) * market.notional_usd[i]
        sums[asset, _SHORT] += short if market.kind[i] == OPTION else 0.0
        years = PERPETUAL_MONTH if market.kind[i] == PERPETUAL else market.years[i]
        at = np.uint64(scratch[i, HASH] * len(month_at))
        while month_at[at] != _NO_MONTH and not (
            months[np.uint64(month_at[at]), _YEARS] == years
            and months[np.uint64(month_at[at]), _OF_ASSET] == asset
        ):
            at = (at + np.uint64(1)) & mask
        if month_at[at] == _NO_MONTH:
            month_at[at] = found
            new = months[np.uint64(found)]
            new[_OF_ASSET], new[_YEARS], new[_NET] = asset, years, 0.0
            new[_TIER], new[_RATE] = scratch[i, TIER], scratch[i, DELIVERY]
            found += 1
        months[np.uint64(month_at[at]), _NET] += quantity * market.delta_usd[i]
    month_at[:] = _NO_MONTH
    return found


@numba.extending.register_jitable(**INLINED)
def _charge_months(
    constants: np.ndarray,
    months: np.ndarray,
    listed: np.ndarray,
    tiers: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add up each asset's net delta, and charge it for delivery and for spreads of months."""
    for month in range(np.uint64(len(months))):
        asset, delta = np.uint64(months[month, _OF_ASSET]), months[month, _NET]
        tier = np.uint64(months[month, _TIER])
        sums[asset, _DELTA] += delta
        sums[asset, _DELIVERY] += months[month, _RATE] * abs(delta)
        tiers[asset, tier, 0] += max(delta, 0.0)
        tiers[asset, tier, 1] += max(-delta, 0.0)
    start = FIRST_TIER + tiers.shape[1]
    for line in range(start, start + SPREAD_FIELDS * int(constants[SPREADS]), SPREAD_FIELDS):
        one, other = np.uint64(constants[line]), np.uint64(constants[line + 1])
        for n in range(np.uint64(len(listed))):
            asset = np.uint64(listed[n])
            formed = min(tiers[asset, one, 0], tiers[asset, other, 1])
            tiers[asset, one, 0] -= formed
            tiers[asset, other, 1] -= formed
            sums[asset, _SPREADS] += constants[line + 2] * formed


@numba.extending.register_jitable(**INLINED)
def _credit_pairs(constants: np.ndarray, start: int, profits: np.ndarray, sums: np.ndarray) -> None:
    """Add each asset's credit for spreads against others; one that is not held has no delta."""
    for line in range(start, len(constants), CREDIT_FIELDS):
        one, other = int(constants[line]), int(constants[line + 2])
        if not sums[one, _DELTA] * sums[other, _DELTA] < 0.0:
            continue
        formed = sums[one, _LEFT] / constants[line + 1]
        formed = min(formed, sums[other, _LEFT] / constants[line + 3])
        for side in range(0, 4, 2):
            asset = int(constants[line + side])
            used = formed * constants[line + side + 1]
            rest = sums[asset, _LEFT] - used
            sums[asset, _LEFT] = rest if rest > 0.0 else 0.0
            due = _price_risk(profits[asset], int(sums[asset, _WORST]))
            credit = constants[line + 4] * (used * (due / abs(sums[asset, _DELTA])))
            sums[asset, _CREDIT] += credit


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
    constants, assets = given.constants, len(market.index)
    count = int(constants[TIERS])
    credits = FIRST_TIER + count + SPREAD_FIELDS * int(constants[SPREADS])
    most = 1
    for account in accounts:
        most = max(most, holdings.count[account])
    room = 8
    while room < 2 * most:
        room *= 2
    months, month_at = np.empty((most, 5)), np.full(room, _NO_MONTH)
    profits, sums = np.empty((assets, SCENARIOS)), np.zeros((assets, 8))
    tiers, numbers = np.empty((assets, count, 2)), np.empty(assets, np.int64)
    for account in accounts:
        found = _list_assets(market, holdings, account, profits, sums, tiers, numbers)
        listed = numbers[:found]
        found = _add_legs(given, market, holdings, account, profits, sums, months, month_at)
        _charge_months(constants, months[:found], listed, tiers, sums)
        for asset in listed:
            row = load(profits, np.uint64(asset) * np.uint64(SCENARIOS), SCENARIOS)
            low = lowest(row)
            sums[asset, _SCAN] = 0.0 if low >= 0.0 else -low
            sums[asset, _WORST] = first_equal(row, low) if low == low else 0
            sums[asset, _LEFT] = abs(sums[asset, _DELTA])
        if credits < len(constants):
            _credit_pairs(constants, credits, profits, sums)
        asked = largest = 0.0
        worst = -1
        for asset in listed:
            charged = sums[asset, _SCAN] + sums[asset, _SPREADS] + sums[asset, _DELIVERY]
            charged -= sums[asset, _CREDIT]
            minimum = constants[SHORT_MINIMUM] * sums[asset, _SHORT]
            asked += minimum if charged < minimum else charged
            if worst < 0 or sums[asset, _SCAN] > largest:
                largest, worst = sums[asset, _SCAN], int(sums[asset, _WORST])
            sums[asset, _DELTA] = 0.0
        requirement.initial[account] = constants[INITIAL_RATIO] * asked
        requirement.maintenance[account] = asked
        requirement.worst_scenario[account] = worst


span = RequirementRule(
    "span",
    span_kernel,
    span_reference,
    scratch_columns=lambda constants: COLUMNS,
    explain=explain_span,
)
"""Worst of 16 scenarios, charges between months and for delivery, credits between assets."""
