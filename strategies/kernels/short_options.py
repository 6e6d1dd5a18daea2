"""Short options by formula, or by the largest loss of an expiry where that is less.

Margin is asked against the account's whole equity, from which the mark of what was sold is gone
already; a venue that prints a short option's margin "plus mark" asks the same. In dollars per
contract of notional ``N`` (size times index ``S``), mark ``m``, strike ``K``:

===================  ==========================================================================
initial              ``max(initial - otm / S, floor) * N``, and at least maintenance; of a put,
                     with the mark, at least ``offset * (maintenance + m)``
maintenance          ``max(rate * N, mark_rate * m) + fee * N``, rates of calls and puts apart
spot shock instead   ``size * (u * min(K, s S) + max(K - s S, 0)) - m`` of a put, and of a call
                     ``size * (u * min(S, s K) + max(S - s K, 0)) - m``; never below zero;
                     initial and maintenance alike. ``u`` is the most that an option of this
                     maturity may cost; beyond the last maturity it is 1, fully collateralised
===================  ==========================================================================

A long option asks for its own value: it earns no credit, and it can lose no more.

With ``max_loss``, the options of one asset, expiry and settlement are asked for the lesser of
that sum and of what they can lose until they expire, never below zero::

    value - min(0, payoff at 0 and at every strike) + scale * max(0, -sum of calls at forward)

where calls sold beyond those bought, whose loss has no bound, count at a multiple of the forward
(Derive's form). Payoffs are in dollars at settlement; those of a coin-settled option are too, so
a position that holds coins is charged what the coins are worth then.

The charge is homogeneous of degree 1. Another long option raises it by no more than its value,
but for one rule of the venue's: where calls are sold net, a strike above all others held adds
its payoff beside the multiple of the forward.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    HOLDINGS_TYPE,
    KERNEL_INPUT_TYPE,
    MARKET_TYPE,
    REQUIREMENT_TYPE,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.order import greater, lesser
from strategies.kernels.short_options_law import (
    MAX_LOSS,
    UNPAIRED_INITIAL,
    UNPAIRED_MAINTENANCE,
    explain_short_options,
    short_contract_usd,
    short_options_constants,
    short_options_reference,
)

__all__ = ["short_options", "short_options_constants"]

COLUMNS = 8
(
    OWN_INITIAL, OWN_MAINTENANCE, VALUE, YEARS, FAMILY, STRIKE, SIZE, CALL_FORWARD,
) = range(COLUMNS)  # fmt: skip
NO_OPTION = -1.0


@numba.extending.register_jitable(**INLINED)
def _tabulate(given: KernelInput, market: Market, i: int) -> None:
    """Fill the scratch row of an instrument, a cache line that holds all the law needs of it."""
    row, asset = given.scratch[i], market.asset[i]
    given.scratch_tick[i] = market.tick[0]
    row[FAMILY] = NO_OPTION
    if market.kind[i] != OPTION:
        return
    own = short_contract_usd(
        given.constants,
        market.is_call[i],
        market.strike[i],
        market.index[asset],
        market.years[i],
        market.notional_usd[i],
        market.value_usd[i],
    )
    size, call = market.contract_size[i], market.is_call[i] == 1
    row[OWN_INITIAL], row[OWN_MAINTENANCE] = own
    row[VALUE] = market.value_usd[i]
    row[YEARS] = market.years[i]
    row[FAMILY] = 2.0 * asset + market.inverse[i]
    row[STRIKE] = market.strike[i]
    row[SIZE] = size if call else -size
    row[CALL_FORWARD] = size * market.forward[i] if call else 0.0


@numba.extending.register_jitable(**INLINED)
def _alone(row: np.ndarray, quantity: float) -> tuple[float, float]:
    """Return what a leg of options asks by itself."""
    value = quantity * row[VALUE]
    if quantity > 0.0:
        return value, value
    return -quantity * row[OWN_INITIAL], -quantity * row[OWN_MAINTENANCE]


@numba.extending.register_jitable(**INLINED)
def _least_payoff_usd(
    table: np.ndarray, holdings: Holdings, slots: np.ndarray, count: int, payoffs: np.ndarray
) -> float:
    """Return the least that some legs pay, at zero and at every strike, or zero.

    Leg by leg for all prices at once, so that the prices fit side by side into a register.
    """
    strikes = payoffs[count + 1 :]
    strikes[0] = 0.0
    payoffs[0] = 0.0
    for k in range(count):
        payoffs[k + 1] = 0.0
        strikes[k + 1] = table[np.uint64(holdings.instrument[slots[k]]), STRIKE]
    for k in range(count):
        row = table[np.uint64(holdings.instrument[slots[k]])]
        quantity, size, strike = holdings.quantity[slots[k]], row[SIZE], row[STRIKE]
        for price in range(count + 1):
            payoffs[price] += quantity * max(size * (strikes[price] - strike), 0.0)
    lowest = 0.0
    for price in range(count + 1):
        lowest = min(lowest, payoffs[price])
    return lowest


@numba.extending.register_jitable(**INLINED)
def _ask_expiry(
    given: KernelInput, holdings: Holdings, slots: np.ndarray, count: int, payoffs: np.ndarray
) -> tuple[float, float]:
    """Return what the options of one expiry ask, the lesser of two forms."""
    initial = 0.0
    maintenance = 0.0
    value = 0.0
    calls = 0.0
    sold = False
    for k in range(count):
        row = given.scratch[np.uint64(holdings.instrument[slots[k]])]
        quantity = holdings.quantity[slots[k]]
        alone = _alone(row, quantity)
        initial += alone[0]
        maintenance += alone[1]
        value += quantity * row[VALUE]
        calls += quantity * row[CALL_FORWARD]
        sold |= quantity < 0.0
    if not sold:
        return initial, maintenance
    lost = value - _least_payoff_usd(given.scratch, holdings, slots, count, payoffs)
    unpaired = max(-calls, 0.0)
    at_expiry = lost + given.constants[UNPAIRED_INITIAL] * unpaired
    at_expiry_maintenance = lost + given.constants[UNPAIRED_MAINTENANCE] * unpaired
    return (
        lesser(initial, greater(at_expiry, 0.0)),
        lesser(maintenance, greater(at_expiry_maintenance, 0.0)),
    )


@numba.extending.register_jitable(**INLINED)
def _ask_by_expiry(
    given: KernelInput, holdings: Holdings, slots: np.ndarray, left: int, payoffs: np.ndarray
) -> tuple[float, float]:
    """Return what options ask, expiry by expiry in the order they are met."""
    initial = 0.0
    maintenance = 0.0
    together = slots[left:]
    while left > 0:
        head = given.scratch[np.uint64(holdings.instrument[slots[0]])]
        years, family = head[YEARS], head[FAMILY]
        members = 1
        rest = 0
        together[0] = slots[0]
        for k in range(1, left):
            slot = slots[k]
            row = given.scratch[np.uint64(holdings.instrument[slot])]
            # One of the two stores is overwritten by the next leg; which one, no processor
            # could have foreseen.
            belongs = int(row[YEARS] == years) & int(row[FAMILY] == family)
            slots[rest] = slot
            together[members] = slot
            members += belongs
            rest += 1 - belongs
        left = rest
        asked = _ask_expiry(given, holdings, together, members, payoffs)
        initial += asked[0]
        maintenance += asked[1]
    return initial, maintenance


@numba.njit(
    types.void(
        KERNEL_INPUT_TYPE, MARKET_TYPE, HOLDINGS_TYPE, types.int64[::1], REQUIREMENT_TYPE,
        types.int64[::1], types.float64[::1],
    ),
    error_model="numpy", cache=True, nogil=True, no_cpython_wrapper=True, _nrt=False,
)  # fmt: skip
def _ask_accounts(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
    slots: np.ndarray,
    payoffs: np.ndarray,
) -> None:
    """Add the charge of every account; ``slots`` and ``payoffs`` are room to work in."""
    by_expiry = given.constants[MAX_LOSS] > 0.5
    for account in accounts:
        first = np.uint64(holdings.start[account])
        last = first + np.uint64(holdings.count[account])
        initial = 0.0
        maintenance = 0.0
        options = 0
        for slot in range(first, last):
            i = np.uint64(holdings.instrument[slot])
            if given.scratch_tick[i] != market.tick[0]:
                _tabulate(given, market, i)
            row = given.scratch[i]
            if by_expiry:
                slots[options] = slot
                options += int(row[FAMILY] != NO_OPTION)
            elif row[FAMILY] != NO_OPTION:
                alone = _alone(row, holdings.quantity[slot])
                initial += alone[0]
                maintenance += alone[1]
        if options > 0:
            initial, maintenance = _ask_by_expiry(given, holdings, slots, options, payoffs)
        requirement.initial[account] += initial
        requirement.maintenance[account] += maintenance


@requirement_kernel
def short_options_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `short_options_reference`."""
    most = 0
    for account in accounts:
        most = max(most, holdings.count[account])
    slots = np.empty(2 * most + 1, np.int64)
    payoffs = np.empty(2 * most + 2)
    _ask_accounts(given, market, holdings, accounts, requirement, slots, payoffs)


short_options = RequirementRule(
    "short_options",
    short_options_kernel,
    short_options_reference,
    scratch_columns=lambda constants: COLUMNS,
    explain=explain_short_options,
)
"""Formula of a short option, with the largest loss of an expiry as an upper bound."""
