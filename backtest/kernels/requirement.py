"""Asking the policy: the portfolio of an account, its legs one by one, or with open orders.

An account margined as a portfolio is one row for the policy's kernels. An account of the cross
scheme shares its collateral between its legs but nets no risk: each leg is a row of its own and
the margins are added. Isolated accounts come as one account per instrument and need nothing here.
"""

from __future__ import annotations

from typing import Any

from numba import types

from backtest.book import CLOSE
from backtest.cache import compiled
from backtest.kernels.positions import add_contracts, find_slot
from backtest.kernels.state import CLOCK, CROSSED, WORLD
from backtest.kernels.types import (
    KERNELS_TYPE,
    Holdings,
    KernelInput,
    Market,
    Requirement,
)
from backtest.kernels.valuation import price_seen, rate_seen, settlement_currency


@compiled(forceinline=True)
def seen_market(world: Any) -> Market:
    """Show what the venue sees to a requirement kernel."""
    tape, market = world.tape, world.market
    return Market(
        tape.asset,
        tape.kind,
        tape.inverse,
        tape.contract_size,
        tape.strike,
        tape.is_call,
        market.tick,
        market.index,
        market.mark,
        market.value_usd,
        market.notional_usd,
        market.forward,
        market.sigma,
        market.years,
        market.delta_usd,
        market.rate,
        market.settled,
        market.confidence,
        market.index_confidence,
        market.protocol,
    )


@compiled()
def run_kernels(
    world: Any, kernels: Any, holdings: Holdings, who: Any, requirement: Requirement
) -> None:
    """Ask base and add-ons, in order, for the margin of some rows of ``holdings``."""
    ask, market = world.ask, seen_market(world)
    layers = ask.layers
    given = KernelInput(ask.parameters0, ask.constants0, ask.scratch0, ask.scratch_tick0)
    kernels[0](given, market, holdings, who, requirement)
    if layers > 1:
        given = KernelInput(ask.parameters1, ask.constants1, ask.scratch1, ask.scratch_tick1)
        kernels[1](given, market, holdings, who, requirement)
    if layers > 2:
        given = KernelInput(ask.parameters2, ask.constants2, ask.scratch2, ask.scratch_tick2)
        kernels[2](given, market, holdings, who, requirement)
    if layers > 3:
        given = KernelInput(ask.parameters3, ask.constants3, ask.scratch3, ask.scratch_tick3)
        kernels[3](given, market, holdings, who, requirement)
    if layers > 4:
        given = KernelInput(ask.parameters4, ask.constants4, ask.scratch4, ask.scratch_tick4)
        kernels[4](given, market, holdings, who, requirement)
    if layers > 5:
        given = KernelInput(ask.parameters5, ask.constants5, ask.scratch5, ask.scratch_tick5)
        kernels[5](given, market, holdings, who, requirement)


@compiled()
def _sum_legs(world: Any, kernels: Any, who: Any, count: int) -> None:
    """Margin the legs of the cross accounts among ``who[:count]`` one by one and add them up."""
    state, ask, scheme = world.state, world.ask, world.state.scheme
    start, held = state.start, state.count
    legs = 0
    for k in range(count):
        account = who[k]
        if scheme[account] == 1:
            for slot in range(start[account], start[account] + held[account]):
                ask.legs[legs] = slot
                legs += 1
    holdings = Holdings(
        ask.leg_start, ask.leg_count, state.instrument, state.quantity, state.entry, ask.no_cash
    )
    asked = Requirement(ask.leg_initial, ask.leg_maintenance, ask.leg_worst)
    run_kernels(world, kernels, holdings, ask.legs[:legs], asked)
    for k in range(count):
        account = who[k]
        if scheme[account] == 1:
            initial = 0.0
            maintenance = 0.0
            for slot in range(start[account], start[account] + held[account]):
                initial += ask.leg_initial[slot]
                maintenance += ask.leg_maintenance[slot]
            ask.initial[account] = initial
            ask.maintenance[account] = maintenance
            ask.worst_scenario[account] = -1


@compiled(types.void(WORLD, KERNELS_TYPE, types.Array(types.int64, 1, "C"), types.int64))
def require(world: Any, kernels: Any, who: Any, count: int) -> None:
    """Fill ``ask.initial`` and ``ask.maintenance`` of the accounts ``who[:count]``."""
    state, ask = world.state, world.ask
    holdings = Holdings(
        state.start, state.count, state.instrument, state.quantity, state.entry, state.cash
    )
    asked = Requirement(ask.initial, ask.maintenance, ask.worst_scenario)
    run_kernels(world, kernels, holdings, who[:count], asked)
    if state.counter[CROSSED] > 0:
        _sum_legs(world, kernels, who, count)


@compiled()
def require_one(world: Any, kernels: Any, account: int) -> None:
    """Fill the requirement of one account; the spare one has the scheme it was given."""
    world.state.who[0] = account
    require(world, kernels, world.state.who, 1)


@compiled()
def copy_to_spare(world: Any, account: int) -> int:
    """Lay an account's positions and cash out in the spare account; return its row."""
    state = world.state
    trial = state.cash.shape[1] - 1
    source, base = state.start[account], state.start[trial]
    state.count[trial] = state.count[account]
    for k in range(state.count[account]):
        state.instrument[base + k] = state.instrument[source + k]
        state.quantity[base + k] = state.quantity[source + k]
        state.entry[base + k] = state.entry[source + k]
    for currency in range(state.cash.shape[0]):
        state.cash[currency, trial] = state.cash[currency, account]
    state.scheme[trial] = state.scheme[account]
    return trial


@compiled()
def closing_quantity(state: Any, account: int, instrument: int, quantity: float) -> float:
    """Return what is left of an order that may only reduce the position it meets."""
    slot = find_slot(state, account, instrument)
    if slot < 0:
        return 0.0
    held = state.quantity[slot]
    if held * quantity >= 0.0:
        return 0.0
    return -held if abs(quantity) >= abs(held) else quantity


@compiled()
def _add_order(world: Any, trial: int, order: int, unit: float) -> None:
    """Fill an order on the spare account at a unit value in its settlement currency."""
    state, book = world.state, world.book
    i, quantity = book.order_instrument[order], book.order_quantity[order]
    if book.order_kind[order] == CLOSE:
        quantity = closing_quantity(state, trial, i, quantity)
    if quantity != 0.0:
        currency = settlement_currency(world.tape, i)
        state.cash[currency, trial] -= quantity * unit
        add_contracts(state, trial, i, quantity, unit, False)


@compiled()
def _initial_with_orders(
    world: Any, kernels: Any, account: int, side: float, first: int, last: int
) -> float:
    """Return the initial margin as if a group and all resting orders of one side were filled."""
    state, book = world.state, world.book
    trial = copy_to_spare(world, account)
    for order in range(first, last):
        _add_order(world, trial, order, state.unit[book.order_instrument[order]])
    for k in range(book.resting_start[account], book.resting_start[account + 1]):
        order = book.resting_order[k]
        i = book.order_instrument[order]
        alive = state.live[order] == 1 and world.tape.expiry_ms[i] > state.counter[CLOCK]
        if alive and book.order_quantity[order] * side > 0.0:
            price_seen(world, i)
            currency = settlement_currency(world.tape, i)
            unit = world.market.value_usd[i] / rate_seen(world.market, currency)
            _add_order(world, trial, order, unit)
    require_one(world, kernels, trial)
    return world.ask.initial[trial]


@compiled(types.float64(WORLD, KERNELS_TYPE, types.int64, types.float64, types.int64, types.int64))
def include_orders(
    world: Any, kernels: Any, account: int, initial: float, first: int, last: int
) -> float:
    """Return the initial margin of an account that has resting orders.

    The worse of the portfolio as it is, with all buys filled, and with all sells filled; for a
    linear rate that is ``max(position + buys, sells - position)``, as at Paradex. The orders
    ``first .. last`` count as filled in each.
    """
    bought = _initial_with_orders(world, kernels, account, 1.0, first, last)
    sold = _initial_with_orders(world, kernels, account, -1.0, first, last)
    return max(initial, max(bought, sold))
