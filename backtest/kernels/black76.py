"""Black's 1976 formula, undiscounted, written so that a compiler can run eight at a time.

No branch, no library call inside the scenario loop: an exponential of our own, Hart's rational
for the normal tail, and the identity ``strike * phi(d2) == forward * phi(d1)``, so that an
option costs one exponential, two rationals and three divisions. Every function here is plain
Python first and compiled second; strict IEEE arithmetic gives both the same bits.

Sources: F. Black, "The pricing of commodity contracts", J. Financial Economics 3 (1976);
J. F. Hart et al., "Computer Approximations" (1968), algorithm 5666, as tabulated by G. West,
"Better approximations to cumulative normal functions", Wilmott (2005).
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic, overload, register_jitable

STRICT: dict[str, Any] = {"error_model": "numpy", "cache": True, "nogil": True}
"""Compiler options of every kernel: no contraction, and divisions that do not raise."""
INLINED: Any = {"error_model": "numpy", "forceinline": True}
"""Options of the small functions: a call left inside a loop would keep it from vectorising."""

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_ROUND = 6755399441055744.0
"""1.5 * 2**52: adding it leaves the nearest integer in the low bits of the sum."""
_EXP_LOWEST = -708.0
_D_FARTHEST = 37.5
"""Beyond it a normal tail is below 1e-307."""
_LEAST_DEVIATION = 1e-300

_HART_P = (
    3.52624965998911e-02,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
_HART_Q = (
    8.83883476483184e-02,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = _HART_P
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7 = _HART_Q
_T2, _T3, _T4, _T5, _T6, _T7, _T8, _T9, _T10, _T11, _T12, _T13 = (
    1.0 / math.factorial(n) for n in range(2, 14)
)


def _power_of_two(rounded: float) -> float:
    """Return ``2**n`` for ``rounded == _ROUND + n``, ``-1022 <= n <= 1023``."""
    return math.ldexp(1.0, int(rounded - _ROUND)) if rounded == rounded else math.nan


def _bitcast(source: Any, target: Any) -> Any:
    def declare(_typing: Any, _value: Any) -> Any:
        def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), emit

    return intrinsic(declare)


_bits_of = _bitcast(types.float64, types.int64)
_float_of = _bitcast(types.int64, types.float64)
_BITS_OF_ONE = 1023 << 52


@overload(_power_of_two, jit_options=INLINED)
def _compiled_power_of_two(rounded: Any) -> Any:
    def shift(rounded: Any) -> Any:
        # The low 12 bits of the sum are n; moved into the exponent field they scale one.
        return _float_of((_bits_of(rounded) << 52) + _BITS_OF_ONE)

    return shift


@register_jitable(**INLINED)
def exp_negative(x: float) -> float:
    """Return ``e**x`` for ``x <= 0`` (or small), within 2 units in the last place.

    Parameters
    ----------
    x
        Exponent; below -708 the result stays at ``e**-708``, which is 3e-308. NaN gives NaN.

    Returns
    -------
    float
        By reduction to ``|r| <= ln(2)/2`` and the Taylor polynomial of degree 13.
    """
    return _exp_in_range(_EXP_LOWEST if x < _EXP_LOWEST else x)


@register_jitable(**INLINED)
def _exp_in_range(x: float) -> float:
    rounded = x * _LOG2_E + _ROUND
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    # Even and odd powers apart: two short chains of dependent sums instead of a long one.
    square = r * r
    even = _T12 * square + _T10
    odd = _T13 * square + _T11
    even = even * square + _T8
    odd = odd * square + _T9
    even = even * square + _T6
    odd = odd * square + _T7
    even = even * square + _T4
    odd = odd * square + _T5
    even = even * square + _T2
    odd = odd * square + _T3
    even = even * square + 1.0
    odd = odd * square + 1.0
    p = odd * r + even
    return p * _power_of_two(rounded)


@register_jitable(**INLINED)
def _tail_ratio(x: float) -> float:
    """Return ``Phi(-x) / exp(-x*x/2)`` for ``x >= 0``; its limit, 1/(x sqrt(2 pi)), is kept."""
    p = _P0 * x + _P1
    p = p * x + _P2
    p = p * x + _P3
    p = p * x + _P4
    p = p * x + _P5
    p = p * x + _P6
    q = _Q0 * x + _Q1
    q = q * x + _Q2
    q = q * x + _Q3
    q = q * x + _Q4
    q = q * x + _Q5
    q = q * x + _Q6
    q = q * x + _Q7
    return p / q


@register_jitable(**INLINED)
def normal_cdf_reference(x: float) -> float:
    """Return the standard normal distribution function, absolute error below 1e-15; NaN of NaN."""
    distance = abs(x)
    distance = _D_FARTHEST if distance > _D_FARTHEST else distance
    tail = exp_negative(-0.5 * distance * distance) * _tail_ratio(distance)
    return tail if x < 0.0 else 1.0 - tail


@register_jitable(**INLINED)
def price_from_moneyness(
    forward: float, strike: float, log_moneyness: float, deviation: float, is_call: float
) -> float:
    """Return the undiscounted Black-76 price from already taken logarithm and root.

    Parameters
    ----------
    forward, strike
        US dollars, positive.
    log_moneyness
        ``log(forward / strike)``, which scenario loops obtain by one addition.
    deviation
        ``sigma * sqrt(years)``; zero or less gives the intrinsic value.
    is_call
        1 for a call, 0 for a put.

    Returns
    -------
    float
        US dollars per coin; NaN in gives NaN out.
    """
    # A deviation of nothing sends both distances to the far end, where the tails are equal and
    # cancel: what is left is the intrinsic value, with no branch taken.
    deviation = _LEAST_DEVIATION if deviation < _LEAST_DEVIATION else deviation
    side = 1.0 if is_call > 0.5 else -1.0
    spread = log_moneyness / deviation
    d1 = side * (spread + 0.5 * deviation)
    d2 = side * (spread - 0.5 * deviation)
    far1 = abs(d1)
    far2 = abs(d2)
    far1 = _D_FARTHEST if far1 > _D_FARTHEST else far1
    far2 = _D_FARTHEST if far2 > _D_FARTHEST else far2
    density = forward * _exp_in_range(-0.5 * far1 * far1)
    tail1 = density * _tail_ratio(far1)
    tail2 = density * _tail_ratio(far2)
    asset = tail1 if d1 < 0.0 else forward - tail1
    cash = tail2 if d2 < 0.0 else strike - tail2
    price = side * (asset - cash)
    return 0.0 if price < 0.0 else price


def black76_reference(
    forward: float, strike: float, sigma: float, years: float, is_call: float
) -> float:
    """Return the undiscounted Black-76 price of one option on one coin.

    Parameters
    ----------
    forward, strike
        US dollars, positive.
    sigma
        Annualised volatility as a fraction.
    years
        Time to expiry.
    is_call
        1 for a call, 0 for a put.

    Returns
    -------
    float
        US dollars per coin; the intrinsic value where ``sigma`` or ``years`` is not positive.
    """
    deviation = sigma * math.sqrt(years) if years > 0.0 else 0.0
    return price_from_moneyness(forward, strike, math.log(forward / strike), deviation, is_call)


def black76_delta_reference(
    forward: float, strike: float, sigma: float, years: float, is_call: float
) -> float:
    """Return the change of the price per unit of the forward, -1 to 1.

    Parameters
    ----------
    forward, strike, sigma, years, is_call
        As for `black76_reference`.

    Returns
    -------
    float
        ``Phi(d1)`` for calls, ``Phi(d1) - 1`` for puts; at expiry 0 or 1 by moneyness.
    """
    deviation = sigma * math.sqrt(years) if years > 0.0 else 0.0
    put = 0.0 if is_call > 0.5 else 1.0
    if deviation <= 0.0:
        return (1.0 if forward > strike else 0.0) - put
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return normal_cdf_reference(d1) - put


def stressed_prices_reference(
    forward: float,
    strike: float,
    is_call: float,
    moves: np.ndarray,
    log_moves: np.ndarray,
    deviations: np.ndarray,
    out: np.ndarray,
) -> None:
    """Price one option under ``K`` moves of its forward and of its volatility.

    Parameters
    ----------
    forward, strike, is_call
        As for `black76_reference`.
    moves, log_moves
        ``(K,)`` factors on the forward and their logarithms.
    deviations
        ``(K,)`` shocked ``sigma * sqrt(years)``.
    out
        ``(K,)`` filled with US dollars per coin.
    """
    log_moneyness = math.log(forward / strike)
    for k in range(len(out)):
        out[k] = price_from_moneyness(
            forward * moves[k], strike, log_moneyness + log_moves[k], deviations[k], is_call
        )


_F8 = types.float64
_ROW = types.Array(_F8, 1, "C")
_SCALAR = _F8(_F8, _F8, _F8, _F8, _F8)
black76: Any = numba.njit(_SCALAR, **STRICT)(black76_reference)
"""Compiled `black76_reference`, the same bits."""
black76_delta: Any = numba.njit(_SCALAR, **STRICT)(black76_delta_reference)
"""Compiled `black76_delta_reference`, the same bits."""
normal_cdf: Any = numba.njit(_F8(_F8), **STRICT)(normal_cdf_reference)
"""Compiled `normal_cdf_reference`, the same bits."""
stressed_prices: Any = numba.njit(types.void(_F8, _F8, _F8, _ROW, _ROW, _ROW, _ROW), **STRICT)(
    stressed_prices_reference
)
"""Compiled `stressed_prices_reference`, the same bits; the loop over scenarios is vectorised."""
