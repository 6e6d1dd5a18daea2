"""Short options in plain Python: how the constants are laid out, and what they mean.

`strategies.kernels.short_options` states the law and compiles it; this is its specification,
with which it must agree bit for bit. The margin of one contract is written once, for both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba.extending import register_jitable

from backtest.instruments import OPTION
from backtest.kernels.black76 import INLINED
from backtest.requirement import Explanation
from strategies.kernels.order import greater, lesser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement

INITIAL_RATE = 0
INITIAL_FLOOR = 1
MAINTENANCE_CALL = 2
MAINTENANCE_PUT = 3
MARK_CALL = 4
MARK_PUT = 5
FEE = 6
INITIAL_OVER_MAINTENANCE = 7
MAX_LOSS = 8
UNPAIRED_INITIAL = 9
UNPAIRED_MAINTENANCE = 10
SPOT_SHOCK = 11
FIRST_BOUND = 12

PARTS = ("long options", "short options", "largest loss at expiry")


def short_options_constants(
    rates: Sequence[float],
    max_loss: bool = False,
    unpaired: tuple[float, float] = (1.2, 1.1),
    spot_shock: float = 0.75,
    bounds: Iterable[tuple[float, float]] = (),
) -> np.ndarray:
    """Lay out the constants of `short_options`.

    Parameters
    ----------
    rates
        Of the index: initial margin at the money, its floor, maintenance of a call and of a
        put; of the option's mark: maintenance of a call and of a put at least; the fee, of the
        index; initial margin of a put over its maintenance, both with the mark.
    max_loss
        Whether an expiry may be charged for its largest loss instead.
    unpaired
        Of the forward, for calls sold beyond those bought: initial and maintenance.
    spot_shock
        Factor on the index of the stressed price; in force with ``bounds``.
    bounds
        ``(years to expiry, share of the underlying)``, ascending in time. Where given, they and
        the shock replace the rates.

    Returns
    -------
    numpy.ndarray
        ``(12 + 2 * bounds,)``.
    """
    table = [number for bound in bounds for number in bound]
    return np.array([*rates, float(max_loss), *unpaired, spot_shock, *table])


@register_jitable(**INLINED)
def short_contract_usd(
    constants: Sequence[float],
    is_call: int,
    strike: float,
    index: float,
    years: float,
    notional: float,
    mark: float,
) -> tuple[float, float]:
    """Return initial and maintenance margin of one contract sold, beyond its mark, in USD.

    Parameters
    ----------
    constants
        From `short_options_constants`.
    is_call
        1 for a call, 0 for a put.
    strike, index
        US dollars.
    years
        To expiry.
    notional, mark
        Of one contract, US dollars.
    """
    if len(constants) > FIRST_BOUND:
        share = 1.0
        for k in range(len(constants) - 2, FIRST_BOUND - 1, -2):
            if years <= constants[k]:
                share = constants[k + 1]
        # Calls by K s against S, puts by s S against K: the same form with the sides exchanged.
        stressed = constants[SPOT_SHOCK] * (strike if is_call == 1 else index)
        at_most = index if is_call == 1 else strike
        alone = share * lesser(at_most, stressed) + greater(at_most - stressed, 0.0)
        naked = greater(notional / index * alone - mark, 0.0)
        return naked, naked
    out = greater(strike - index if is_call == 1 else index - strike, 0.0)
    rate = greater(constants[INITIAL_RATE] - out / index, constants[INITIAL_FLOOR])
    side = 0 if is_call == 1 else 1
    maintenance = (
        greater(constants[MAINTENANCE_CALL + side] * notional, constants[MARK_CALL + side] * mark)
        + constants[FEE] * notional
    )
    initial = greater(rate * notional, maintenance)
    if is_call != 1:
        multiple = constants[INITIAL_OVER_MAINTENANCE]
        initial = greater(initial, multiple * (maintenance + mark) - mark)
    return initial, maintenance


class _Expiry(NamedTuple):
    """What options of one expiry and settlement ask, two ways; pairs of initial, maintenance."""

    longs: float
    shorts: tuple[float, float]
    alone: tuple[float, float]
    at_expiry: tuple[float, float]

    def asked(self, kind: int) -> float:
        return float(lesser(self.alone[kind], greater(self.at_expiry[kind], 0.0)))


def _expiries(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> list[_Expiry]:
    """Charge an account's options expiry by expiry, in the order they are first met."""
    first, constants = int(holdings.start[account]), given.constants.tolist()
    groups: dict[tuple[int, float, int], list[int]] = {}
    for slot in range(first, first + int(holdings.count[account])):
        i = int(holdings.instrument[slot])
        if market.kind[i] == OPTION:
            key = (int(market.asset[i]), float(market.years[i]), int(market.inverse[i]))
            together = key if constants[MAX_LOSS] > 0.5 else (0, 0.0, 0)
            groups.setdefault(together, []).append(slot)
    return [_expiry(constants, market, holdings, slots) for slots in groups.values()]


def _expiry(constants: np.ndarray, market: Market, holdings: Holdings, slots: list[int]) -> _Expiry:
    value = longs = calls = initial = maintenance = shorts_initial = shorts_maintenance = 0.0
    legs = []
    for slot in slots:
        i, quantity = int(holdings.instrument[slot]), float(holdings.quantity[slot])
        mark, size = float(market.value_usd[i]), float(market.contract_size[i])
        terms = int(market.is_call[i]), float(market.strike[i])
        legs.append((quantity, size, *terms))
        value += quantity * mark
        if terms[0]:
            calls += quantity * (size * float(market.forward[i]))
        if quantity > 0.0:
            longs += quantity * mark
            initial += quantity * mark
            maintenance += quantity * mark
            continue
        each = short_contract_usd(
            constants, *terms, float(market.index[market.asset[i]]), float(market.years[i]),
            float(market.notional_usd[i]), mark,
        )  # fmt: skip
        initial -= quantity * each[0]
        maintenance -= quantity * each[1]
        shorts_initial -= quantity * each[0]
        shorts_maintenance -= quantity * each[1]
    at_expiry = math.inf, math.inf
    if constants[MAX_LOSS] > 0.5:
        lowest = min(0.0, *(_payoff(legs, price) for price in (0.0, *(leg[3] for leg in legs))))
        lost, unpaired = value - lowest, max(-calls, 0.0)
        at_expiry = (
            lost + constants[UNPAIRED_INITIAL] * unpaired,
            lost + constants[UNPAIRED_MAINTENANCE] * unpaired,
        )
    return _Expiry(longs, (shorts_initial, shorts_maintenance), (initial, maintenance), at_expiry)


def _payoff(legs: list[tuple[float, float, int, float]], price: float) -> float:
    total = 0.0
    for quantity, size, is_call, strike in legs:
        total += quantity * max(size * (price - strike if is_call else strike - price), 0.0)
    return total


def short_options_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Add the module's charge, in plain Python.

    Parameters
    ----------
    given
        No parameters. ``constants``: from `short_options_constants`. The scratch table is not
        used.
    market, holdings, accounts, requirement
        As for every requirement kernel; this one adds.
    """
    for account in accounts:
        initial = maintenance = 0.0
        for expiry in _expiries(given, market, holdings, account):
            initial += expiry.asked(0)
            maintenance += expiry.asked(1)
        requirement.initial[account] += initial
        requirement.maintenance[account] += maintenance


def explain_short_options(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split the charge of one account into long options, short ones and losses at expiry."""
    told = Explanation(dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0))
    for expiry in _expiries(given, market, holdings, account):
        for kind, split in enumerate((told.initial, told.maintenance)):
            asked = expiry.asked(kind)
            if asked == expiry.alone[kind]:
                split[PARTS[0]] += expiry.longs
                split[PARTS[1]] += expiry.shorts[kind]
            else:
                split[PARTS[2]] += asked
    return told
