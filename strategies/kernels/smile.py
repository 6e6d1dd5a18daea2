"""The quoted smile as a policy reads it: volatility of a maturity, at or away from the forward."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from backtest.kernels.black76 import STRICT
from backtest.units import MS_PER_YEAR


class Options(NamedTuple):
    """The options of a tape, one row each, ordered by asset, expiry and strike."""

    asset: np.ndarray
    expiry_column: np.ndarray
    iv_column: np.ndarray
    strike: np.ndarray
    listed_ms: np.ndarray
    expiry_ms: np.ndarray


@numba.njit(**STRICT)
def read_rows(
    ts: np.ndarray,
    snapshot: np.ndarray,
    index: np.ndarray,
    iv: np.ndarray,
    forward_ratio: np.ndarray,
    options: Options,
    maturity_ms: float,
    shortest_ms: float,
    deviations: float,
    told: np.ndarray,
) -> None:
    """Write the volatility of a maturity, some deviations from the forward, into ``told``.

    Parameters
    ----------
    ts, index
        ``(T,)`` and ``(T, A)``: the tape's rows.
    snapshot
        ``(T,)`` the last option snapshot known at each row, -1 before the first.
    iv, forward_ratio
        ``(S, V)`` and ``(S, E)``.
    options
        The options.
    maturity_ms, shortest_ms
        The maturity, and the least time left of an expiry that counts.
    deviations
        Log-moneyness in units of an expiry's deviation at the money.
    told
        ``(T, A)``; what cannot be told becomes NaN.
    """
    count = len(options.strike)
    for t in range(len(ts)):
        told[t, :] = np.nan
        s = snapshot[t]
        first = 0
        while s >= 0 and first < count:
            a = options.asset[first]
            # The expiries about the maturity: time left, and total variance.
            before_ms, before, after_ms, after = 0.0, np.nan, np.inf, np.nan
            while first < count and options.asset[first] == a:
                column = options.expiry_column[first]
                last = first
                while (
                    last < count
                    and options.asset[last] == a
                    and options.expiry_column[last] == column
                ):
                    last += 1
                left_ms = float(options.expiry_ms[first] - ts[t])
                if left_ms >= shortest_ms:
                    forward = forward_ratio[s, column] * index[t, a]
                    sigma = _away(iv[s], options, first, last, ts[t], forward, deviations, left_ms)
                    if not math.isnan(sigma):
                        total = sigma * sigma * left_ms
                        if before_ms < left_ms <= maturity_ms:
                            before_ms, before = left_ms, total
                        elif maturity_ms < left_ms < after_ms:
                            after_ms, after = left_ms, total
                first = last
            told[t, a] = _between(before_ms, before, after_ms, after, maturity_ms)


@numba.njit(**STRICT)
def _between(
    before_ms: float, before: float, after_ms: float, after: float, maturity_ms: float
) -> float:
    """Return volatility at a maturity between two expiries, or beyond the only one."""
    if math.isnan(before):
        return math.sqrt(after / after_ms)
    if math.isnan(after):
        return math.sqrt(before / before_ms)
    share = (maturity_ms - before_ms) / (after_ms - before_ms)
    return math.sqrt((before + share * (after - before)) / maturity_ms)


@numba.njit(**STRICT)
def _away(
    iv: np.ndarray,
    options: Options,
    first: int,
    last: int,
    now_ms: int,
    forward: float,
    deviations: float,
    left_ms: float,
) -> float:
    """Return one expiry's volatility some deviations from its forward."""
    sigma = _at(iv, options, first, last, now_ms, forward)
    if deviations == 0.0 or math.isnan(sigma):
        return sigma
    distance = deviations * sigma * math.sqrt(left_ms / MS_PER_YEAR)
    return _at(iv, options, first, last, now_ms, forward * math.exp(distance))


@numba.njit(**STRICT)
def _at(
    iv: np.ndarray, options: Options, first: int, last: int, now_ms: int, price: float
) -> float:
    """Return one expiry's volatility at a price, NaN unless quoted strikes enclose it."""
    below_usd, below, above_usd, above = 0.0, np.nan, np.inf, np.nan
    i = first
    while i < last and math.isnan(above):
        strike, total, count = options.strike[i], 0.0, 0
        while i < last and options.strike[i] == strike:
            sigma = iv[options.iv_column[i]]
            if options.listed_ms[i] <= now_ms and not math.isnan(sigma):
                total += sigma
                count += 1
            i += 1
        if count > 0 and strike <= price:
            below_usd, below = strike, total / count
        elif count > 0:
            above_usd, above = strike, total / count
    if below_usd == price:
        return below
    if math.isnan(below) or math.isnan(above):
        return np.nan
    share = math.log(price / below_usd) / math.log(above_usd / below_usd)
    return math.sqrt(below * below + share * (above * above - below * below))
