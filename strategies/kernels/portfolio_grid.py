"""Portfolio margin: the worst of a grid of scenarios, with the charges that venues add to it.

One law with the parts of Derive's PMRM and PMRM_2, Deribit's and Paradex's portfolio margins;
a part that a venue lacks has rates of zero. Every option is repriced in full (Black 1976) under
scenario ``s``, which moves the price of an asset by a factor ``x`` and shocks volatility.

For one account and one asset, ``g`` being the scenario's weight, ``V_e`` the value of the
options of one expiry and ``M_e`` their present value in the account's equity::

    profit_s = g * ( q * price * (x - 1)  +  coins * index * (x - 1)  +  sum_e (D(V_e) - M_e) )
    D(V)     = V * df * ( gain factor if V >= 0, else debt factor )
    loss     = max( -min_s profit_s, basis, delta floor, minimum of shorts ) + roll + delta

- *volatility*: ``z = (30 / days) ** p``; up is ``max(s + up * z * s, least)``, down is
  ``max(s - down * z * s, 0)`` (or points of volatility: without the factor ``s``); in a skew
  scenario the volatilities of far strikes change and every expiry counts with ``-|change|``.
- *discounting*: ``df = exp(-max(r, 0) t)``, gain factor ``base * exp(-t (r * m + a))``, debt
  factor ``min(1 / df, base * exp(t (r * m + a)))``.
- *settlement*: the part of an expiry's settlement average that is fixed does not move.
- *basis*: each expiry's worse loss when its forward alone moves, times ``add + mult * t``.
- *delta floor*: ``a * |net delta| + b * (gross - |net|) / 2``, Paradex.
- *roll*: ``sum_e |delta_e| * max(least, rate * t)``, all contracts of an expiry together,
  perpetuals being one; *delta*: a rate on net delta beyond a free amount, capped; Deribit.
- *kinds*: linear and coin-settled contracts are summed apart; a gain of one kind offsets the
  other only in part. A loss in coins is counted in coins, as in `scenario_grid`, unless coins
  are revalued with the scenario: then everything is counted in dollars.
- *tails* may be reduced by a dampener, and may move perpetuals by the range only (Deribit).

Losses of assets are added; optionally a share of what they would offset, if one scenario hit
them all, is given back. Then::

    maintenance = f_m * loss + charges
    initial     = (f_i + peg) * loss + charges + extra charges + doubt

or with the charges inside of the brackets. Charges are a rate on the notional of perpetuals and
futures at the index, on options sold beyond those bought of their expiry and strike (calls and
puts pooled), on coins, on gross notional (fees), and funding that is expected to be paid. Doubt
charges, in initial margin alone, notional whose oracles are less sure than a threshold.
Initial margin is never below maintenance. All is homogeneous of degree one in positions and
money, except where dampener or free delta, which are dollars, are not zero.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    KERNEL_SIGNATURE,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.portfolio_close import close_expiries, first_at, scan
from strategies.kernels.portfolio_desk import (
    BASIS,
    CONFIDENCE,
    CONTRACTS,
    DESK_TYPE,
    GROSS,
    LINEAR,
    NAKED,
    NET,
    ROLL,
    SHORTS,
    Desk,
    add_coins,
    add_up,
    clear,
    doubt_in,
    own_number,
)
from strategies.kernels.portfolio_law import portfolio_grid_explain, portfolio_grid_reference
from strategies.kernels.portfolio_moves import scenario_row, tabulate_moves
from strategies.kernels.portfolio_prices import reprice_stale
from strategies.kernels.portfolio_terms import LANES

__all__ = ["portfolio_grid"]


@numba.extending.register_jitable(**INLINED)
def _at_least(loss: float, least: float) -> float:
    """Raise a loss to a least one; unknown if either is."""
    excess = least - loss
    return loss if excess <= 0.0 else loss + excess


@numba.extending.register_jitable(**INLINED)
def _loss_usd(given: KernelInput, desk: Desk, place: int, scanned: float) -> float:
    """Return the loss of an asset: the scan, what competes with it, and what is added."""
    constants, held = given.constants, desk.held[place]
    loss = _at_least(scanned, -held[BASIS])
    net, hedged = constants[terms.NET_DELTA_FLOOR], constants[terms.HEDGED_DELTA_FLOOR]
    if net + hedged > 0.0:
        delta = abs(held[NET])
        loss = _at_least(loss, net * delta + hedged * (0.5 * (held[GROSS] - delta)))
    short, contract = constants[terms.SHORT_MINIMUM], constants[terms.CONTRACT_MINIMUM]
    if short + contract > 0.0:
        loss = _at_least(loss, short * held[SHORTS] + contract * held[CONTRACTS])
    loss += held[ROLL]
    if constants[terms.DELTA_RATE] > 0.0:
        delta = abs(held[NET])
        beyond, cap = delta - constants[terms.DELTA_FREE], constants[terms.DELTA_CAP] * delta
        shock = constants[terms.DELTA_RATE] * (0.0 if beyond < 0.0 else beyond)
        loss += cap if cap < shock else shock
    return loss


@numba.extending.register_jitable(**INLINED)
def _option_doubt(
    given: KernelInput, market: Market, holdings: Holdings, account: int, desk: Desk
) -> float:
    """Return the notional of options times the doubt in their oracles, USD."""
    first, doubt = np.uint64(holdings.start[account]), 0.0
    for slot in range(first, first + np.uint64(holdings.count[account])):
        i = np.uint64(holdings.instrument[slot])
        if market.kind[i] == OPTION:
            sure = desk.held[desk.places[market.asset[i]], CONFIDENCE]
            own = market.confidence[i]
            sure = own if own < sure or own != own else sure
            doubt += doubt_in(given, sure) * (abs(holdings.quantity[slot]) * market.notional_usd[i])
    return doubt


@numba.extending.register_jitable(**INLINED)
def _plain_columns(given: KernelInput, assets: int) -> int:
    """Return how many of the first scenarios, in lanes, count in full and skew nothing."""
    constants, columns = given.constants, int(given.constants[terms.SCENARIOS])
    weight = scenario_row(constants, assets, terms.WEIGHT)
    slope = scenario_row(constants, assets, terms.WEIGHT_BY_RANGE)
    skewed = scenario_row(constants, assets, terms.SKEWED)
    plain = 0
    for k in range(columns):
        whole = constants[weight + k] == 1.0 and constants[slope + k] == 0.0
        if plain == k and whole and constants[skewed + k] == 0.0:
            plain += 1
    return plain - plain % LANES


@numba.njit(
    types.void(*KERNEL_SIGNATURE.args, DESK_TYPE),
    error_model="numpy",
    cache=True,
    nogil=True,
    _nrt=False,
)
def _ask(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
    desk: Desk,
) -> None:
    """Fill ``requirement``, given prices and a desk; nothing is counted here, so it is fast."""
    constants, columns = given.constants, int(given.constants[terms.SCENARIOS])
    coins = constants[terms.COINS_MATTER] > 0.5 and holdings.cash.shape[1] > 0
    doubted = constants[terms.DOUBT_RATE] > 0.0
    offset = constants[terms.OFFSET_BETWEEN]
    joint = np.int64(desk.base[0]) - 1 if offset > 0.0 else -1
    for account in accounts:
        assets, expiries, kept = add_up(given, market, holdings, account, desk)
        extra = doubt = 0.0
        if coins:
            assets, own, more, doubt = add_coins(given, market, holdings, account, desk, assets)
            kept, extra = kept + own, extra + more
        close_expiries(given, market, holdings, account, desk, expiries)
        if joint >= 0:
            clear(desk, np.uint64(joint), np.uint64(columns))
        loss = scanned = largest = 0.0
        worst = -1
        for place in range(assets):
            asset, held = desk.assets[place], desk.held[place]
            low = scan(given, market, desk, place, joint)
            own = 0.0 if low >= 0.0 else -low
            if own > largest:
                largest, worst = own, first_at(given, desk, place, low)
            scanned += own
            loss += _loss_usd(given, desk, place, own)
            naked = held[NAKED] * market.index[asset]
            kept += held[LINEAR] * own_number(given, asset, terms.PERPETUAL_MM)
            kept += naked * own_number(given, asset, terms.OPTION_MM)
            extra += held[LINEAR] * own_number(given, asset, terms.PERPETUAL_IM)
            extra += naked * own_number(given, asset, terms.OPTION_IM)
            if doubted:
                rate = constants[terms.DOUBT_RATE] * doubt_in(given, held[CONFIDENCE])
                doubt += rate * held[LINEAR]
        if doubted:
            options = _option_doubt(given, market, holdings, account, desk)
            doubt += constants[terms.DOUBT_RATE] * options
        if joint >= 0:
            low = np.inf
            for k in range(joint * columns, (joint + 1) * columns):
                low = desk.sums[k] if not desk.sums[k] >= low else low
            together = 0.0 if low >= 0.0 else -low
            loss -= offset * (scanned - together)
        for place in range(assets):
            desk.places[desk.assets[place]] = -1
        factor = constants[terms.IM_FACTOR] + given.parameters[terms.PEG]
        if constants[terms.CHARGES_INSIDE] > 0.5:
            maintenance = constants[terms.MM_FACTOR] * (loss + kept)
            initial = factor * (loss + kept) + (extra + doubt)
        else:
            maintenance = constants[terms.MM_FACTOR] * loss + kept
            initial = factor * loss + kept + (extra + doubt)
        requirement.maintenance[account] = maintenance
        requirement.initial[account] = maintenance if initial < maintenance else initial
        requirement.worst_scenario[account] = worst


@requirement_kernel
def portfolio_grid_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `portfolio_law`."""
    reprice_stale(given, market, holdings, accounts)
    constants, listed = given.constants, len(market.index)
    columns = int(constants[terms.SCENARIOS])
    longest = 1
    for account in accounts:
        longest = max(longest, holdings.count[account])
    places = listed if constants[terms.COINS_MATTER] > 0.5 else min(listed, longest)
    moves, weights = np.empty((listed, columns)), np.empty((listed, columns))
    tabulate_moves(given, moves, weights)
    sums = np.empty((2 * places + 2) * columns + LANES)
    first = -(sums.ctypes.data // 8) % LANES
    desk = Desk(
        np.array([2 * places + 1, _plain_columns(given, listed)], np.uint64),
        sums[first : first + len(sums) - LANES],
        np.full(listed, -1),
        np.empty(places, np.int64),
        np.empty((places, BASIS + 1)),
        np.empty(longest, np.uint64),
        np.empty(longest),
        np.empty(longest),
        np.empty(longest),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        moves,
        weights,
    )
    _ask(given, market, holdings, accounts, requirement, desk)


portfolio_grid = RequirementRule(
    "portfolio_grid",
    portfolio_grid_kernel,
    portfolio_grid_reference,
    scratch_columns=terms.columns_of,
    explain=portfolio_grid_explain,
)
"""Worst of a scenario grid with the charges that venues add to it."""
