"""Margin as a rate of notional: bracketed for perpetuals, by formula for options.

*Perpetuals*, linear and inverse, of one asset are netted: ``net = sum(quantity * notional)``.
A rate applies to ``|net|`` in marginal brackets, as the leverage tiers of Binance, Bybit and
Hyperliquid do, so the charge is continuous in size::

    rate * sum over brackets of multiple * (part of |net| inside the bracket)

*Options* are not netted with anything; a grid policy exists for that. Equity counts an
option's value, so what is asked is on top of it. A long option asks for its own value: it
earns no credit, and it can lose no more. A short one asks, in the form that Deribit and Derive
use for standard margin (``otm`` is how far it is out of the money)::

    max(rate - otm / index, otm_share * rate) * notional,   rate = max(posted rate, option_floor)

Maintenance is a fixed share of all this, except for the value of long options, which both ask.
"""

from __future__ import annotations

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.lanes import (
    all_at_most,
    gather,
    load,
    magnitude,
    spread,
    store,
    where_negative,
)
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held, net_notional_usd
from strategies.kernels.linear_law import (
    BRACKETS,
    FIRST_BOUND,
    MAINTENANCE_RATIO,
    OPTION_FLOOR,
    OTM_SHARE,
    PLAIN,
    linear_rate_constants,
    linear_rate_reference,
)

__all__ = ["LANES", "linear_rate", "linear_rate_constants"]

LANES = 32
"""Accounts that are asked at a time where each holds a single perpetual."""


@numba.extending.register_jitable(**INLINED)
def _tabulate_rates(given: KernelInput, market: Market) -> None:
    """Fill the scratch, as ``(3, I)``: notional of a contract, rate of a long and of a short.

    Options get NaN: the quick way is not for them.
    """
    instruments, assets = len(market.kind), len(market.index)
    short_column = assets if len(given.parameters) == 2 * assets else 0
    table = given.scratch.reshape(3, instruments)
    for i in range(instruments):
        asset = np.uint64(market.asset[i])
        perpetual = market.kind[i] != OPTION
        table[0, i] = market.notional_usd[i] if perpetual else np.nan
        table[1, i] = given.parameters[asset]
        table[2, i] = given.parameters[asset + np.uint64(short_column)]


@numba.extending.register_jitable(**INLINED)
def _are_neighbours(holdings: Holdings, accounts: np.ndarray, n: int) -> bool:
    """Tell whether `LANES` accounts hold one leg each, side by side in every array."""
    first = accounts[n]
    slot = holdings.start[np.uint64(first)]
    apart = 0
    for k in range(np.uint64(LANES)):
        account = np.uint64(first) + k
        apart |= accounts[n + k] - np.int64(account)
        apart |= holdings.start[account] - slot - np.int64(k)
        apart |= holdings.count[account] - 1
    return apart == 0


@numba.extending.register_jitable(**INLINED)
def _ask_neighbours(
    given: KernelInput,
    holdings: Holdings,
    account: int,
    requirement: Requirement,
    first_bound: float,
    multiple: float,
    ratio: float,
) -> bool:
    """Fill `LANES` neighbours at once if all hold perpetuals within the first bracket.

    Returns
    -------
    bool
        False if one of them does not; then nothing was filled.
    """
    rates, instruments = given.scratch, np.uint64(len(given.scratch_tick))
    legs, slot = holdings.instrument, np.uint64(holdings.start[account])
    notional = gather(rates, np.uint64(0), legs, slot, LANES)
    net = load(holdings.quantity, slot, LANES) * notional
    size = magnitude(net)
    if not all_at_most(size, spread(first_bound, LANES)):
        return False
    rate_long = gather(rates, instruments, legs, slot, LANES)
    rate_short = gather(rates, instruments + instruments, legs, slot, LANES)
    risk = where_negative(net, rate_short, rate_long) * (spread(multiple, LANES) * size)
    store(requirement.initial, account, risk)
    store(requirement.maintenance, account, spread(ratio, LANES) * risk)
    for k in range(np.uint64(LANES)):
        requirement.worst_scenario[account + k] = -1
    return True


@numba.extending.register_jitable(**INLINED)
def _charge(
    given: KernelInput, constants: np.ndarray, assets: int, asset: int, net: float
) -> float:
    """Return what the net notional of an asset is charged, bracket by bracket."""
    short_column = assets if len(given.parameters) == 2 * assets else 0
    rate = given.parameters[np.uint64(asset + (short_column if net < 0.0 else 0))]
    size = abs(net)
    brackets = int(constants[BRACKETS])
    lower = 0.0
    weighted = 0.0
    for k in range(brackets):
        if size <= lower:
            break
        upper = constants[FIRST_BOUND + k]
        weighted += constants[FIRST_BOUND + brackets + k] * (min(size, upper) - lower)
        lower = upper
    return rate * weighted


@numba.extending.register_jitable(**INLINED)
def _charge_short_option(
    given: KernelInput, market: Market, constants: np.ndarray, i: int, quantity: float
) -> float:
    """Return what a short option is charged."""
    assets, asset = len(market.index), market.asset[i]
    short_column = assets if len(given.parameters) == 2 * assets else 0
    index = market.index[asset]
    is_call = market.is_call[i] == 1
    rate = given.parameters[asset + (short_column if is_call else 0)]
    rate = max(rate, constants[OPTION_FLOOR])
    otm = market.strike[i] - index if is_call else index - market.strike[i]
    charged = max(rate - max(otm, 0.0) / index, constants[OTM_SHARE] * rate)
    return charged * (-quantity * market.notional_usd[i])


@numba.extending.register_jitable(**INLINED)
def _ask_portfolio(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    constants: np.ndarray,
    first: int,
    last: int,
) -> tuple[float, float]:
    """Return the charge for risk and the value of long options, for slots of any content."""
    assets = len(market.index)
    risk = 0.0
    long_value = 0.0
    for slot in range(first, last):
        i = np.uint64(holdings.instrument[slot])
        if market.kind[i] == OPTION:
            quantity = holdings.quantity[slot]
            if quantity > 0.0:
                long_value += quantity * market.value_usd[i]
            else:
                risk += _charge_short_option(given, market, constants, i, quantity)
    for block in range(0, assets, ASSETS_PER_WORD):
        held = assets_held(market, holdings, first, last, block)
        while held != np.uint64(0):
            asset = block + np.int64(trailing_zeros(held))
            held &= held - np.uint64(1)
            net = net_notional_usd(market, holdings, first, last, asset, 0.0)
            risk += _charge(given, constants, assets, asset, net)
    return risk, long_value


@numba.extending.register_jitable(**INLINED)
def _ask_account(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    constants: np.ndarray,
    account: int,
    requirement: Requirement,
) -> None:
    """Fill one account, whatever it holds."""
    first = np.uint64(holdings.start[account])
    last = first + np.uint64(holdings.count[account])
    if (
        last - first == np.uint64(1)
        and market.kind[np.uint64(holdings.instrument[first])] != OPTION
    ):
        i = np.uint64(holdings.instrument[first])
        net = holdings.quantity[first] * market.notional_usd[i]
        risk = _charge(given, constants, len(market.index), market.asset[i], net)
        long_value = 0.0
    else:
        risk, long_value = _ask_portfolio(given, market, holdings, constants, first, last)
    requirement.initial[account] = risk + long_value
    requirement.maintenance[account] = constants[MAINTENANCE_RATIO] * risk + long_value
    requirement.worst_scenario[account] = -1


@requirement_kernel(allocates=False)
def linear_rate_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `linear_rate_reference`."""
    constants = given.constants if len(given.constants) else PLAIN
    # Read before the loop: what it stores might be anywhere, for all that LLVM knows.
    first_bound, ratio = constants[FIRST_BOUND], constants[MAINTENANCE_RATIO]
    multiple = constants[FIRST_BOUND + int(constants[BRACKETS])]
    last, step = np.uint64(len(accounts)), np.uint64(LANES)
    if last >= step:
        _tabulate_rates(given, market)
    n = np.uint64(0)
    while n < last:
        until = min(n + step, last)
        account = np.uint64(accounts[n])
        if not (
            until - n == step
            and _are_neighbours(holdings, accounts, n)
            and _ask_neighbours(given, holdings, account, requirement, first_bound, multiple, ratio)
        ):
            for k in range(n, until):
                account = np.uint64(accounts[k])
                _ask_account(given, market, holdings, constants, account, requirement)
        n = until


linear_rate = RequirementRule(
    "linear_rate", linear_rate_kernel, linear_rate_reference, scratch_columns=lambda constants: 3
)
"""Rate of net notional in brackets, with the standard formula for options."""
