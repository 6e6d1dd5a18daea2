"""Health weights in plain Python: how the constants are laid out, and what they mean.

`strategies.kernels.health_weights` states the law and compiles it; this is its specification,
with which it must agree bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from backtest.kernels.types import DEBTS, DEPOSITS
from backtest.requirement import Explanation
from strategies.kernels.perpetual_legs import perpetual_slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement


@dataclass(frozen=True)
class Weights:
    """How one asset's coins and perpetuals count, for one margin.

    Parameters
    ----------
    asset, debt
        Weight of a coin held and of one owed.
    factor
        Of the square root of coins: takes from the weight of many held, adds to that of many
        owed.
    deposits_from_usd, debts_from_usd
        What all accounts may hold, and owe, before weights are scaled.
    coin_worse_price, perpetual_worse_price
        1 where the worse of index and posted price counts, 0 where the index does.
    perpetual_asset, perpetual_debt
        Weight of a net long's and of a net short's notional, inside the profit.
    ratio, ratio_factor
        Rate of notional beside the profit, and its premium per square root of a coin.
    profit
        Weight of what is left of a profit.
    profit_cap_usd
        The most that may be left.
    """

    asset: float = 1.0
    debt: float = 1.0
    factor: float = 0.0
    deposits_from_usd: float = math.inf
    debts_from_usd: float = math.inf
    coin_worse_price: float = 0.0
    perpetual_asset: float = 1.0
    perpetual_debt: float = 1.0
    perpetual_worse_price: float = 0.0
    ratio: float = 0.0
    ratio_factor: float = 0.0
    profit: float = 1.0
    profit_cap_usd: float = math.inf


COLUMNS = len(fields(Weights))
(
    ASSET, DEBT, FACTOR, DEPOSITS_FROM, DEBTS_FROM, COIN_WORSE, PERPETUAL_ASSET, PERPETUAL_DEBT,
    PERPETUAL_WORSE, RATIO, RATIO_FACTOR, PROFIT, PROFIT_CAP,
) = range(COLUMNS)  # fmt: skip
SETTLES_IN, FIRST_ROW = range(2)
NO_ASSET = -1
PARTS = ("cash", "coins", "positions")


def health_constants(
    assets: Sequence[tuple[Weights, Weights]], cash: tuple[Weights, Weights], settles_in: int
) -> np.ndarray:
    """Lay out the constants of `health_weights`.

    Parameters
    ----------
    assets
        For initial and for maintenance margin, per asset.
    cash
        The same for US dollars.
    settles_in
        The asset whose coins are one balance with dollars and with the profit on perpetuals,
        under the weights ``cash``; `NO_ASSET` for dollars alone.

    Returns
    -------
    numpy.ndarray
        ``(1 + 26 (A + 1),)``.
    """
    rows = (number for pair in (*assets, cash) for own in pair for number in astuple(own))
    return np.array([float(settles_in), *rows])


def health_explain(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split what equity exceeds health by into cash, coins and positions."""
    scale = float(given.parameters[0])
    shortfalls = [_shortfalls(given, market, holdings, account, margin) for margin in (0, 1)]
    shortfalls[0] = max(shortfalls[1], shortfalls[0], key=sum)
    initial, maintenance = (
        {part: scale * usd for part, usd in zip(PARTS, short, strict=True)} for short in shortfalls
    )
    return Explanation(initial=initial, maintenance=maintenance)


def health_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for equity less health, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: the scale, then the posted price of every asset, USD.
        ``constants``: from `health_constants`.
    market, holdings, accounts, requirement
        As for every requirement kernel.
    """
    scale = float(given.parameters[0])
    for account in accounts:
        initial, maintenance = (
            cash + coins + positions
            for cash, coins, positions in (
                _shortfalls(given, market, holdings, account, margin) for margin in (0, 1)
            )
        )
        # Weights that barely differ may be told apart by rounding only.
        initial = maintenance if maintenance > initial else initial
        requirement.initial[account] = scale * initial
        requirement.maintenance[account] = scale * maintenance
        requirement.worst_scenario[account] = -1


def _shortfalls(
    given: KernelInput, market: Market, holdings: Holdings, account: int, margin: int
) -> tuple[float, float, float]:
    """Return by how much cash, coins and positions are worth more than they count for."""
    assets = len(market.index)
    settles_in = int(given.constants[SETTLES_IN])
    has_cash = holdings.cash.shape[1] > 0
    balance_usd = float(holdings.cash[0, account]) if has_cash else 0.0
    coins_short = positions_short = counted_profit = 0.0
    for asset, (net, profit, paid_usd, paid_coins) in enumerate(
        _positions(market, holdings, account)
    ):
        own = _weights(given.constants, asset, margin)
        index, posted = float(market.index[asset]), float(given.parameters[1 + asset])
        if net != 0.0 or profit != 0.0:
            counted, charged = _position(own, net, profit, index, posted)
            counted_profit += counted
            positions_short += profit - counted + charged
        if not has_cash:
            continue
        balance_usd += paid_usd
        coins = float(holdings.cash[1 + asset, account]) + paid_coins
        if coins == 0.0:
            continue
        if asset == settles_in:
            balance_usd += coins * index
            continue
        value = coins * index
        weight = _coin_weight(own, market, asset, coins)
        price = _worse(own.coin_worse_price, coins, index, posted)
        coins_short += value - weight * price * value
    if not has_cash:
        return 0.0, 0.0, positions_short
    own = _weights(given.constants, assets, margin)
    balance_usd += counted_profit
    if settles_in == NO_ASSET:
        weight = own.debt if balance_usd < 0.0 else own.asset
        return balance_usd - weight * balance_usd, coins_short, positions_short
    index, posted = float(market.index[settles_in]), float(given.parameters[1 + settles_in])
    weight = _coin_weight(own, market, settles_in, balance_usd / index)
    price = _worse(own.coin_worse_price, balance_usd, index, posted)
    return balance_usd - weight * price * balance_usd, coins_short, positions_short


def _positions(
    market: Market, holdings: Holdings, account: int
) -> list[tuple[float, float, float, float]]:
    """Return net notional, profit, and what was paid in dollars and in coins, by asset."""
    sums = [[0.0, 0.0, 0.0, 0.0] for _ in market.index]
    for slot in perpetual_slots(market, holdings, account):
        i = int(holdings.instrument[slot])
        own = sums[market.asset[i]]
        quantity = float(holdings.quantity[slot])
        paid = quantity * float(holdings.entry[slot])
        own[0] += quantity * float(market.notional_usd[i])
        value = quantity * float(market.value_usd[i])
        if market.inverse[i]:
            own[1] += value - paid * float(market.index[market.asset[i]])
            own[3] += paid
        else:
            own[1] += value - paid
            own[2] += paid
    return [(net, profit, usd, coins) for net, profit, usd, coins in sums]


def _weights(constants: np.ndarray, asset: int, margin: int) -> Weights:
    at = FIRST_ROW + (2 * asset + margin) * COLUMNS
    return Weights(*constants[at : at + COLUMNS].tolist())


def _position(
    own: Weights, net: float, profit: float, index: float, posted: float
) -> tuple[float, float]:
    """Return how much of a position's profit counts, and what is charged beside it."""
    weight = own.perpetual_debt if net < 0.0 else own.perpetual_asset
    weight = weight * _worse(own.perpetual_worse_price, net, index, posted)
    left = profit + net * (weight - 1.0)
    if left > 0.0:
        left = own.profit * left
        left = own.profit_cap_usd if left > own.profit_cap_usd else left
    ratio = 0.8 * own.ratio + own.ratio_factor * math.sqrt(abs(net) / index)
    ratio = own.ratio if ratio <= own.ratio or own.ratio_factor == 0.0 else ratio
    return left, ratio * abs(net)


def _coin_weight(own: Weights, market: Market, asset: int, coins: float) -> float:
    """Return the weight of a balance of coins."""
    root = math.sqrt(abs(coins))
    if coins < 0.0:
        owed = float(market.protocol[DEBTS, asset])
        weight = own.debt
        if owed > own.debts_from_usd:
            weight *= owed / own.debts_from_usd
        premium = 0.8 * weight + own.factor * root
        return weight if premium <= weight or own.factor == 0.0 else premium
    held = float(market.protocol[DEPOSITS, asset])
    weight = own.asset
    if held > own.deposits_from_usd:
        weight *= own.deposits_from_usd / held
    discount = 1.1 / (1.0 + own.factor * root)
    return weight if discount >= weight or own.factor == 0.0 else discount


def _worse(applies: float, quantity: float, index: float, posted: float) -> float:
    """Return the price that counts over the index: the lower for what is held."""
    if applies == 0.0 or (posted <= index if quantity < 0.0 else posted >= index):
        return 1.0
    return posted / index  # also where one of them is not a number
