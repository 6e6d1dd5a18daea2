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

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.span_law import explain_span, price_risk, span_reference
from strategies.kernels.span_layout import (
    CREDIT_FIELDS,
    DELIVERY_RATE,
    DELIVERY_YEARS,
    FIRST_TIER,
    INITIAL_RATIO,
    PERPETUAL_MONTH,
    SCENARIOS,
    SHORT_MINIMUM,
    SPREAD_FIELDS,
    SPREADS,
    TIERS,
    span_constants,
)
from strategies.kernels.span_prices import fill_risk_arrays

__all__ = ["span", "span_constants"]

_HELD, _DELTA, _LEFT, _SHORT, _SCAN, _WORST, _CHARGED = range(7)
"""Columns of the table of sums per asset."""
_OF_ASSET, _YEARS, _NET = range(3)
"""Columns of the table of months."""

_price_risk = numba.extending.register_jitable(**INLINED)(price_risk)


@numba.extending.register_jitable(**INLINED)
def _add_legs(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    losses: np.ndarray,
    sums: np.ndarray,
    months: np.ndarray,
) -> int:
    """Add an account's legs to the sums of their assets; return how many months it holds."""
    found = 0
    first = holdings.start[account]
    for slot in range(first, first + holdings.count[account]):
        i = np.uint64(holdings.instrument[slot])
        asset, quantity = np.uint64(market.asset[i]), holdings.quantity[slot]
        if sums[asset, _HELD] == 0.0:
            sums[asset] = 0.0
            sums[asset, _HELD] = 1.0
            losses[asset] = 0.0
        for k in range(np.uint64(SCENARIOS)):
            losses[asset, k] -= quantity * given.scratch[i, k]
        years = PERPETUAL_MONTH if market.kind[i] == PERPETUAL else market.years[i]
        month = 0
        while month < found and not (
            months[month, _YEARS] == years and months[month, _OF_ASSET] == asset
        ):
            month += 1
        if month == found:
            found += 1
            months[month, _OF_ASSET], months[month, _YEARS] = asset, years
            months[month, _NET] = 0.0
        months[month, _NET] += quantity * market.delta_usd[i]
        if market.kind[i] == OPTION and quantity < 0.0:
            sums[asset, _SHORT] += -quantity * market.notional_usd[i]
    return found


@numba.extending.register_jitable(**INLINED)
def _charge_months(
    constants: np.ndarray, months: np.ndarray, asset: int, tiers: np.ndarray
) -> tuple[float, float, float]:
    """Return net delta, inter-month charge and delivery charge of an asset."""
    count, spreads = len(tiers), int(constants[SPREADS])
    tiers[:] = 0.0
    net = spread_charge = delivery_charge = 0.0
    for month in range(len(months)):
        if months[month, _OF_ASSET] != asset:
            continue
        years, delta = months[month, _YEARS], months[month, _NET]
        net += delta
        tier = 0
        while tier < count - 1 and not years <= constants[FIRST_TIER + tier]:
            tier += 1
        if delta > 0.0:
            tiers[tier, 0] += delta
        else:
            tiers[tier, 1] -= delta
        if 0.0 <= years <= constants[DELIVERY_YEARS]:
            delivery_charge += constants[DELIVERY_RATE] * abs(delta)
    for spread in range(spreads):
        line = FIRST_TIER + count + SPREAD_FIELDS * spread
        one, other = int(constants[line]), int(constants[line + 1])
        for side in range(2):
            long, short = (one, other) if side == 0 else (other, one)
            formed = min(tiers[long, 0], tiers[short, 1])
            tiers[long, 0] -= formed
            tiers[short, 1] -= formed
            spread_charge += constants[line + 2] * formed
    return net, spread_charge, delivery_charge


@numba.extending.register_jitable(**INLINED)
def _credit_pairs(
    constants: np.ndarray, start: int, losses: np.ndarray, sums: np.ndarray, credits: np.ndarray
) -> None:
    """Fill each asset's credit for spreads against others."""
    credits[:] = 0.0
    for line in range(start, len(constants), CREDIT_FIELDS):
        one, other = int(constants[line]), int(constants[line + 2])
        if sums[one, _HELD] == 0.0 or sums[other, _HELD] == 0.0:
            continue
        if not sums[one, _DELTA] * sums[other, _DELTA] < 0.0:
            continue
        formed = sums[one, _LEFT] / constants[line + 1]
        formed = min(formed, sums[other, _LEFT] / constants[line + 3])
        for side in range(0, 4, 2):
            asset = int(constants[line + side])
            used = formed * constants[line + side + 1]
            rest = sums[asset, _LEFT] - used
            sums[asset, _LEFT] = rest if rest > 0.0 else 0.0
            due = _price_risk(losses[asset], int(sums[asset, _WORST]))
            credits[asset] += constants[line + 4] * (used * (due / abs(sums[asset, _DELTA])))


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
    credit_lines = FIRST_TIER + count + SPREAD_FIELDS * int(constants[SPREADS])
    most = 0
    for account in accounts:
        most = max(most, holdings.count[account])
    months, tiers = np.empty((most, 3)), np.empty((count, 2))
    losses, sums, credits = np.empty((assets, SCENARIOS)), np.zeros((assets, 7)), np.zeros(assets)
    for account in accounts:
        found = _add_legs(given, market, holdings, account, losses, sums, months)
        for asset in range(assets):
            if sums[asset, _HELD] == 0.0:
                continue
            largest, worst = -np.inf, -1
            for k in range(SCENARIOS):
                loss = losses[asset, k]
                if loss > largest or loss != loss:
                    largest, worst = loss, k
            sums[asset, _SCAN] = 0.0 if largest < 0.0 else largest
            sums[asset, _WORST] = worst
            net, spread_charge, delivery_charge = _charge_months(
                constants, months[:found], asset, tiers
            )
            sums[asset, _DELTA], sums[asset, _LEFT] = net, abs(net)
            sums[asset, _CHARGED] = sums[asset, _SCAN] + spread_charge + delivery_charge
        if credit_lines < len(constants):
            _credit_pairs(constants, credit_lines, losses, sums, credits)
        asked = largest = 0.0
        worst = -1
        for asset in range(assets):
            if sums[asset, _HELD] == 0.0:
                continue
            sums[asset, _HELD] = 0.0
            charged = sums[asset, _CHARGED] - credits[asset]
            minimum = constants[SHORT_MINIMUM] * sums[asset, _SHORT]
            asked += minimum if charged < minimum else charged
            if worst < 0 or sums[asset, _SCAN] > largest:
                largest, worst = sums[asset, _SCAN], int(sums[asset, _WORST])
        requirement.initial[account] = constants[INITIAL_RATIO] * asked
        requirement.maintenance[account] = asked
        requirement.worst_scenario[account] = worst


span = RequirementRule(
    "span",
    span_kernel,
    span_reference,
    scratch_columns=lambda constants: SCENARIOS,
    explain=explain_span,
)
"""Worst of 16 scenarios, charges between months and for delivery, credits between assets."""
