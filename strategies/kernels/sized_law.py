"""The rate that grows with size in plain Python: its constants, and what they mean.

`strategies.kernels.sized_rate` states the law and compiles it; this is its specification, with
which it must agree bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from backtest.kernels.types import NET_NOTIONAL, OPEN_NOTIONAL
from backtest.requirement import Explanation
from strategies.kernels.perpetual_legs import net_notional_by_asset, perpetual_slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement

AT_ENTRY, OWN_SIDE, FIRST_RATE = range(3)
PARTS = ("net notional at its rate", "cost of closing", "for any position")


@dataclass(frozen=True)
class GrowingRate:
    """A rate of net notional and what makes it grow; one for each margin of each asset.

    Parameters
    ----------
    base
        Rate of a position of no size in a market of no open interest.
    per_coin, per_root_coin
        Added per coin of the net position, and per square root of its coins.
    per_root_usd, root_from_usd
        Added per square root of a dollar of notional beyond so many.
    per_open_usd, open_from_usd
        Added per dollar of open interest beyond so many.
    least, most
        The rate is at least and at most this.
    fee
        Added to the rate whatever it is: what closing the position will cost.
    flat_usd
        Added for a position of any size.
    """

    base: float = 0.0
    per_coin: float = 0.0
    per_root_coin: float = 0.0
    per_root_usd: float = 0.0
    root_from_usd: float = 0.0
    per_open_usd: float = 0.0
    open_from_usd: float = 0.0
    least: float = 0.0
    most: float = math.inf
    fee: float = 0.0
    flat_usd: float = 0.0


COLUMNS = len(fields(GrowingRate))
(
    BASE, PER_COIN, PER_ROOT_COIN, PER_ROOT_USD, ROOT_FROM_USD, PER_OPEN_USD, OPEN_FROM_USD,
    LEAST, MOST, FEE, FLAT_USD,
) = range(COLUMNS)  # fmt: skip


def sized_rate_constants(
    rates: Sequence[tuple[GrowingRate, GrowingRate]],
    at_entry: bool = False,
    own_side: bool = False,
) -> np.ndarray:
    """Lay out the constants of `sized_rate`.

    Parameters
    ----------
    rates
        Of initial and of maintenance margin, per asset.
    at_entry
        Charge the notional that was paid instead of the one it is worth now.
    own_side
        Open interest is that of the position's own side instead of the larger one's.

    Returns
    -------
    numpy.ndarray
        ``(2 + 22 A,)``.
    """
    head = [float(at_entry), float(own_side)]
    return np.array([*head, *(n for pair in rates for rate in pair for n in astuple(rate))])


def sized_rate_explain(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split an account's requirement into rate, fees and what any position asks."""
    parts: list[dict[str, float]] = [dict.fromkeys(PARTS, 0.0) for _ in range(2)]
    scale = float(given.parameters[0])
    for asset, net in enumerate(net_notional_by_asset(market, holdings, account)):
        if net == 0.0:
            continue
        charges = _charges(given, market, holdings, account, asset, net)
        charges[0] = max(charges[1], charges[0], key=sum)
        for told, charged in zip(parts, charges, strict=True):
            for part, usd in zip(PARTS, charged, strict=True):
                told[part] += scale * usd
    return Explanation(initial=parts[0], maintenance=parts[1])


def sized_rate_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for margin as the module describes, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: the scale. ``constants``: from `sized_rate_constants`.
    market, holdings, accounts, requirement
        As for every requirement kernel.
    """
    scale = float(given.parameters[0])
    for account in accounts:
        initial = maintenance = 0.0
        for asset, net in enumerate(net_notional_by_asset(market, holdings, account)):
            if net == 0.0:
                continue
            asked = [
                rate + fee + flat
                for rate, fee, flat in _charges(given, market, holdings, account, asset, net)
            ]
            initial += asked[1] if asked[1] > asked[0] else asked[0]
            maintenance += asked[1]
        requirement.initial[account] = scale * initial
        requirement.maintenance[account] = scale * maintenance
        requirement.worst_scenario[account] = -1


def _charges(
    given: KernelInput, market: Market, holdings: Holdings, account: int, asset: int, net: float
) -> list[tuple[float, float, float]]:
    """Return what a net position is charged: rate, fee and flat part, for both margins."""
    constants = [float(number) for number in given.constants]
    coins = abs(net) / float(market.index[asset])
    open_usd = float(market.protocol[OPEN_NOTIONAL, asset])
    tilt_usd = float(market.protocol[NET_NOTIONAL, asset])
    against = net < 0.0 if constants[OWN_SIDE] > 0.5 else tilt_usd < 0.0
    tilt_usd = -tilt_usd if against else tilt_usd
    interest = _positive(0.5 * (open_usd + tilt_usd))
    notional = abs(net)
    if constants[AT_ENTRY] > 0.5:
        notional *= _entry_over_present(market, holdings, account, asset)
    charges = []
    for margin in range(2):
        at = FIRST_RATE + (2 * asset + margin) * COLUMNS
        own = GrowingRate(*constants[at : at + COLUMNS])
        rate = own.base + own.per_coin * coins
        rate += own.per_root_coin * math.sqrt(coins)
        rate += own.per_root_usd * math.sqrt(_positive(notional - own.root_from_usd))
        rate += own.per_open_usd * _positive(interest - own.open_from_usd)
        rate = own.least if rate < own.least else rate
        rate = own.most if rate > own.most else rate
        charges.append((rate * notional, own.fee * notional, own.flat_usd))
    return charges


def _entry_over_present(market: Market, holdings: Holdings, account: int, asset: int) -> float:
    """Return what an asset's legs cost over what they are worth; a fixed notional in USD is 1."""
    paid = worth = 0.0
    for slot in perpetual_slots(market, holdings, account):
        i = int(holdings.instrument[slot])
        if market.asset[i] != asset:
            continue
        quantity = float(holdings.quantity[slot])
        now = abs(quantity * float(market.notional_usd[i]))
        paid += now if market.inverse[i] else abs(quantity * float(holdings.entry[slot]))
        worth += now
    return paid / worth


def _positive(x: float) -> float:
    """Return ``max(x, 0)``; what is not a number stays so."""
    return 0.0 if x <= 0.0 else x
