"""Margin as what an account's equity exceeds its health by (Mango v4, Drift v2).

Health counts what is held with a weight below one and what is owed with one above it. What is
asked for is equity less health, so that equity covers it exactly where health is not negative.
Every part of it is at least zero, because no weight flatters. For each margin, of:

*Coins*: ``q P - w q P'``. ``P'`` is the worse of the index and a posted price (a stable price,
an average): the lower for coins held, the higher for coins owed. ``w`` is the weight of an
asset, times ``start / deposits`` where all accounts hold more than that, and at most ``1.1 /
(1 + f sqrt(q))``; or of a debt, times ``debts / start``, and at least ``0.8 w + f sqrt(|q|)``.

*Perpetuals and dated futures*, netted per asset to ``N`` dollars with the profit ``U``: of the
profit there counts ``x = U + N (w P' / P - 1)`` if negative, else ``min(p x, cap)``; beside it
``N max(r, 0.8 r + f sqrt(coins))`` is charged. Mango weighs the notional (``w``), Drift
charges a ratio of it (``r``).

*Cash*: dollars and all that counts of profits are one balance with a weight of its own; where a
venue settles in a coin (``settles_in``), with that coin's balance, price and scaling.

What was paid for a position is in the account's money; it is put back to tell deposits from
profits. A profit on coin-settled contracts counts as one in dollars. Without money, where legs
are margined one by one, positions alone are asked for. *Options* are passed over. Everything is
asked for so many times as the policy posts. Without size factors and caps, margin is homogeneous
of degree one in money and positions together.
"""

from __future__ import annotations

import numba
import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.kernels.laws.collateral import (
    borrow_scaling,
    deposit_scaling,
    size_discount,
    size_premium,
)
from backtest.kernels.types import (
    DEBTS,
    DEPOSITS,
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.health_law import (
    ASSET,
    COIN_WORSE,
    COLUMNS,
    DEBT,
    DEBTS_FROM,
    DEPOSITS_FROM,
    FACTOR,
    FIRST_ROW,
    NO_ASSET,
    PERPETUAL_ASSET,
    PERPETUAL_DEBT,
    PERPETUAL_WORSE,
    PROFIT,
    PROFIT_CAP,
    RATIO,
    RATIO_FACTOR,
    SETTLES_IN,
    Weights,
    health_constants,
    health_explain,
    health_reference,
)
from strategies.kernels.legs import ASSETS_PER_WORD, assets_held

__all__ = ["NO_ASSET", "Weights", "health_constants", "health_weights"]


@numba.extending.register_jitable(**INLINED)
def _number(constants: np.ndarray, at: int, column: int) -> float:
    return float(constants[np.uint64(at) + np.uint64(column)])


@numba.extending.register_jitable(**INLINED)
def _worse(applies: float, quantity: float, index: float, posted: float) -> float:
    """Return the price that counts over the index: the lower for what is held."""
    better = posted <= index if quantity < 0.0 else posted >= index
    return 1.0 if better or applies == 0.0 else posted / index


@numba.extending.register_jitable(**INLINED)
def _coin_weight(constants: np.ndarray, at: int, market: Market, asset: int, coins: float) -> float:
    """Return the weight of a balance of coins."""
    factor = _number(constants, at, FACTOR)
    if coins < 0.0:
        owed = market.protocol[DEBTS, asset]
        scaled = borrow_scaling(owed, _number(constants, at, DEBTS_FROM))
        return size_premium(_number(constants, at, DEBT) * scaled, factor, coins)
    held = market.protocol[DEPOSITS, asset]
    scaled = deposit_scaling(held, _number(constants, at, DEPOSITS_FROM))
    return size_discount(_number(constants, at, ASSET) * scaled, factor, coins)


@numba.extending.register_jitable(**INLINED)
def _position(
    constants: np.ndarray, at: int, net: float, profit: float, index: float, posted: float
) -> tuple[float, float]:
    """Return how much of a position's profit counts, and what is charged beside it."""
    weight = _number(constants, at, PERPETUAL_DEBT if net < 0.0 else PERPETUAL_ASSET)
    weight = weight * _worse(_number(constants, at, PERPETUAL_WORSE), net, index, posted)
    left = profit + net * (weight - 1.0)
    cap = _number(constants, at, PROFIT_CAP)
    if left > 0.0:
        left = _number(constants, at, PROFIT) * left
        left = cap if left > cap else left
    plain, factor = _number(constants, at, RATIO), _number(constants, at, RATIO_FACTOR)
    return left, size_premium(plain, factor, net / index) * abs(net)


@numba.extending.register_jitable(**INLINED)
def _holding(
    market: Market, holdings: Holdings, first: int, last: int, asset: int
) -> tuple[float, float, float, float]:
    """Return net notional, profit, and what was paid in dollars and in coins, of an asset."""
    net = 0.0
    profit = 0.0
    paid_usd = 0.0
    paid_coins = 0.0
    for slot in range(first, last):
        i = np.uint64(holdings.instrument[slot])
        if market.kind[i] == OPTION or market.asset[i] != asset:
            continue
        quantity = holdings.quantity[slot]
        paid = quantity * holdings.entry[slot]
        net += quantity * market.notional_usd[i]
        value = quantity * market.value_usd[i]
        if market.inverse[i] == 1:
            profit += value - paid * market.index[np.uint64(asset)]
            paid_coins += paid
        else:
            profit += value - paid
            paid_usd += paid
    return net, profit, paid_usd, paid_coins


@numba.extending.register_jitable(**INLINED)
def _cash_short(given: KernelInput, market: Market, balance_usd: float, margin: int) -> float:
    """Return by how much the balance in which the venue settles counts for less."""
    constants = given.constants
    at = FIRST_ROW + (2 * len(market.index) + margin) * COLUMNS
    asset = int(constants[SETTLES_IN])
    if asset == NO_ASSET:
        weight = _number(constants, at, DEBT if balance_usd < 0.0 else ASSET)
        return balance_usd - weight * balance_usd
    index, posted = market.index[asset], given.parameters[1 + asset]
    weight = _coin_weight(constants, at, market, asset, balance_usd / index)
    price = _worse(_number(constants, at, COIN_WORSE), balance_usd, index, posted)
    return balance_usd - weight * price * balance_usd


@numba.extending.register_jitable(**INLINED)
def _ask_account(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> tuple[float, float]:
    """Return initial and maintenance margin of one account."""
    constants, assets = given.constants, len(market.index)
    settles_in = int(constants[SETTLES_IN])
    first = np.uint64(holdings.start[account])
    last = first + np.uint64(holdings.count[account])
    has_cash = holdings.cash.shape[1] > 0
    balance_usd = holdings.cash[0, account] if has_cash else 0.0
    counted = (0.0, 0.0)
    coins_short = (0.0, 0.0)
    positions_short = (0.0, 0.0)
    for block in range(0, assets, ASSETS_PER_WORD):
        held = assets_held(market, holdings, first, last, block)
        for asset in range(block, min(block + ASSETS_PER_WORD, assets)):
            paid_coins = 0.0
            at = FIRST_ROW + 2 * asset * COLUMNS
            index, posted = market.index[asset], given.parameters[1 + asset]
            if held & (np.uint64(1) << np.uint64(asset - block)) != np.uint64(0):
                net, profit, paid_usd, paid_coins = _holding(market, holdings, first, last, asset)
                balance_usd += paid_usd
                if net != 0.0 or profit != 0.0:
                    one, ask = _position(constants, at, net, profit, index, posted)
                    two, keep = _position(constants, at + COLUMNS, net, profit, index, posted)
                    counted = (counted[0] + one, counted[1] + two)
                    positions_short = (
                        positions_short[0] + (profit - one + ask),
                        positions_short[1] + (profit - two + keep),
                    )
            if not has_cash:
                continue
            coins = holdings.cash[1 + asset, account] + paid_coins
            if coins == 0.0:
                continue
            value = coins * index
            if asset == settles_in:
                balance_usd += value
                continue
            one = _coin_weight(constants, at, market, asset, coins)
            one = one * _worse(_number(constants, at, COIN_WORSE), coins, index, posted)
            at += COLUMNS
            two = _coin_weight(constants, at, market, asset, coins)
            two = two * _worse(_number(constants, at, COIN_WORSE), coins, index, posted)
            coins_short = (
                coins_short[0] + (value - one * value),
                coins_short[1] + (value - two * value),
            )
    cash_short = (0.0, 0.0)
    if has_cash:
        cash_short = (
            _cash_short(given, market, balance_usd + counted[0], 0),
            _cash_short(given, market, balance_usd + counted[1], 1),
        )
    return (
        cash_short[0] + coins_short[0] + positions_short[0],
        cash_short[1] + coins_short[1] + positions_short[1],
    )


@requirement_kernel(allocates=False)
def health_weights_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `health_reference`."""
    scale = given.parameters[0]
    for account in accounts:
        initial, maintenance = _ask_account(given, market, holdings, account)
        initial = maintenance if maintenance > initial else initial
        requirement.initial[account] = scale * initial
        requirement.maintenance[account] = scale * maintenance
        requirement.worst_scenario[account] = -1


health_weights = RequirementRule(
    "health_weights", health_weights_kernel, health_reference, explain=health_explain
)
"""Equity less health: weights of coins, debts, profits and notionals."""
