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

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.short_options_law import (
    MAX_LOSS,
    UNPAIRED_INITIAL,
    UNPAIRED_MAINTENANCE,
    explain_short_options,
    greater,
    lesser,
    short_contract_usd,
    short_options_constants,
    short_options_reference,
)

__all__ = ["short_options", "short_options_constants"]


@numba.extending.register_jitable(**INLINED)
def _alone(
    given: KernelInput, market: Market, holdings: Holdings, slot: int
) -> tuple[float, float]:
    """Return what a leg of options asks by itself; a contract's margin is kept for the tick."""
    i = np.uint64(holdings.instrument[slot])
    quantity = holdings.quantity[slot]
    if quantity > 0.0:
        value = quantity * market.value_usd[i]
        return value, value
    if given.scratch_tick[i] != market.tick[0]:
        given.scratch[i, 0], given.scratch[i, 1] = short_contract_usd(
            given.constants,
            market.is_call[i],
            market.strike[i],
            market.index[np.uint64(market.asset[i])],
            market.years[i],
            market.notional_usd[i],
            market.value_usd[i],
        )
        given.scratch_tick[i] = market.tick[0]
    return -quantity * given.scratch[i, 0], -quantity * given.scratch[i, 1]


@numba.extending.register_jitable(**INLINED)
def _payoff_usd(market: Market, holdings: Holdings, slots: np.ndarray, price: float) -> float:
    """Return what some legs pay if their asset settles at a price."""
    total = 0.0
    for slot in slots:
        i = np.uint64(holdings.instrument[slot])
        size = holdings.quantity[slot] * market.contract_size[i]
        strike = market.strike[i]
        total += size * max(price - strike if market.is_call[i] == 1 else strike - price, 0.0)
    return total


@numba.extending.register_jitable(**INLINED)
def _ask_expiry(
    given: KernelInput, market: Market, holdings: Holdings, slots: np.ndarray
) -> tuple[float, float]:
    """Return what the options of one expiry ask: the lesser of the two forms."""
    initial = 0.0
    maintenance = 0.0
    value = 0.0
    calls = 0.0
    lowest = min(0.0, _payoff_usd(market, holdings, slots, 0.0))
    for slot in slots:
        i = np.uint64(holdings.instrument[slot])
        quantity = holdings.quantity[slot]
        value += quantity * market.value_usd[i]
        if market.is_call[i] == 1:
            calls += quantity * market.contract_size[i] * market.forward[i]
        alone = _alone(given, market, holdings, slot)
        initial += alone[0]
        maintenance += alone[1]
        lowest = min(lowest, _payoff_usd(market, holdings, slots, market.strike[i]))
    lost, unpaired = value - lowest, max(-calls, 0.0)
    at_expiry = lost + given.constants[UNPAIRED_INITIAL] * unpaired
    at_expiry_maintenance = lost + given.constants[UNPAIRED_MAINTENANCE] * unpaired
    return (
        lesser(initial, greater(at_expiry, 0.0)),
        lesser(maintenance, greater(at_expiry_maintenance, 0.0)),
    )


@requirement_kernel
def short_options_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge; see `short_options_reference`."""
    by_expiry = given.constants[MAX_LOSS] > 0.5
    most = 0
    for account in accounts:
        most = max(most, holdings.count[account])
    waiting = np.empty(most, np.int64)
    together = np.empty(most, np.int64)
    for account in accounts:
        first = holdings.start[account]
        initial = 0.0
        maintenance = 0.0
        left = 0
        for slot in range(first, first + holdings.count[account]):
            if market.kind[np.uint64(holdings.instrument[slot])] != OPTION:
                continue
            if by_expiry:
                waiting[left] = slot
                left += 1
            else:
                alone = _alone(given, market, holdings, slot)
                initial += alone[0]
                maintenance += alone[1]
        while left > 0:
            head = np.uint64(holdings.instrument[waiting[0]])
            members = 0
            rest = 0
            for k in range(left):
                i = np.uint64(holdings.instrument[waiting[k]])
                if k == 0 or (
                    market.years[i] == market.years[head]
                    and market.asset[i] == market.asset[head]
                    and market.inverse[i] == market.inverse[head]
                ):
                    together[members] = waiting[k]
                    members += 1
                else:
                    waiting[rest] = waiting[k]
                    rest += 1
            left = rest
            asked = _ask_expiry(given, market, holdings, together[:members])
            initial += asked[0]
            maintenance += asked[1]
        requirement.initial[account] += initial
        requirement.maintenance[account] += maintenance


short_options = RequirementRule(
    "short_options",
    short_options_kernel,
    short_options_reference,
    scratch_columns=lambda constants: 2,
    explain=explain_short_options,
)
"""Formula of a short option, with the largest loss of an expiry as an upper bound."""
