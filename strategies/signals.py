"""Causal estimators of how far a price may move: volatility, and tails of its returns.

Row ``t`` of every signal reads rows ``<= t`` of the tape, and elapsed time is read off the
clock, so irregular rows weigh as much as they last. Before there is history, an estimator says
what its ``prior`` says; the prior then fades as evidence comes in. `Outside` raises any of them by
what a signal from outside the market says.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numba
import numpy as np
from pydantic import BeforeValidator, Field

from backtest.kernels.black76 import STRICT
from backtest.settings import TIME
from backtest.units import MS_PER_YEAR
from strategies.choice import Choice, read_choice
from strategies.knobs import Knob, knob
from strategies.surface_signals import Implied

if TYPE_CHECKING:
    from backtest.tape import MarketTape


def _prior() -> Any:
    return knob(
        0.8, low=0.05, high=5.0, unit="annualised", doc="volatility believed before any history"
    )


class EWMA(Choice):
    """Exponentially weighted volatility: each squared return fades with a half-life.

    The RiskMetrics recursion (J.P. Morgan, 1996) in continuous time: after ``dt`` the old
    variance keeps the weight ``2 ** (-dt / halflife)``.
    """

    name: ClassVar[str] = "ewma"

    halflife: Knob = knob(
        "3d", low="1h", high="180d", unit=TIME, doc="after which a return counts half", log=True
    )
    prior: Knob = _prior()

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return annualised volatility of the index, ``(T, A)``, as a fraction."""
        return np.asarray(_ewma(tape.ts, tape.index, self.halflife, self.prior))


class Rolling(Choice):
    """Root mean square return over a window, the prior standing in for what is missing."""

    name: ClassVar[str] = "rolling"

    window: Knob = knob(
        "14d", low="1h", high="720d", unit=TIME, doc="how far back returns count", log=True
    )
    prior: Knob = _prior()

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return annualised volatility of the index, ``(T, A)``, as a fraction."""
        return np.asarray(_rolling(tape.ts, tape.index, self.window, self.prior))


_OF_THE_MARKET: tuple[type[Any], ...] = (EWMA, Rolling, Implied)


class Outside(Choice):
    """An estimate that rises with a signal from outside the market: a credit spread, a fear index.

    Twice the estimate where ``gain * (signal - calm)`` is one; never less than the estimate.
    """

    name: ClassVar[str] = "outside"

    signal: str = Field("", description="name of the tape's signal, one of market.signals")
    calm: Knob = knob(
        0.0,
        low=-1e3,
        high=1e5,
        unit="its own",
        doc="value up to which it changes nothing",
        stress="down",
    )
    gain: Knob = knob(
        1.0,
        low=0.0,
        high=1e4,
        unit="per unit of the signal",
        doc="relative rise for each unit above calm",
        stress="up",
    )
    most: Knob = knob(
        3.0, low=1.0, high=20.0, unit="times the estimate", doc="highest multiple", stress="up"
    )
    estimator: Annotated[
        EWMA | Rolling | Implied,
        BeforeValidator(read_choice("volatility estimator", _OF_THE_MARKET)),
    ] = EWMA()

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return annualised volatility of the index, ``(T, A)``, as a fraction.

        While the signal is not yet known the estimate stands as it is.

        Raises
        ------
        DataError
            If the tape does not carry the signal.
        """
        value = tape.signal(self.signal)[:, None]
        excess = np.where(np.isnan(value), 0.0, self.gain * (value - self.calm))
        return np.asarray(self.estimator(tape) * np.clip(1.0 + excess, 1.0, self.most))


VOLATILITY_ESTIMATORS: tuple[type[Any], ...] = (*_OF_THE_MARKET, Outside)
VolatilityEstimator = Annotated[
    EWMA | Rolling | Implied | Outside,
    BeforeValidator(read_choice("volatility estimator", VOLATILITY_ESTIMATORS)),
]
"""The field type of a policy's ``estimator``."""


@numba.njit(**STRICT)
def _ewma(ts: np.ndarray, index: np.ndarray, halflife_ms: float, prior: float) -> np.ndarray:
    sigma = np.empty_like(index)
    for a in range(index.shape[1]):
        variance = prior * prior
        for t in range(len(ts)):
            if t > 0:
                elapsed_ms = float(ts[t] - ts[t - 1])
                keep = 2.0 ** (-elapsed_ms / halflife_ms)
                move = math.log(index[t, a] / index[t - 1, a])
                variance = keep * variance + (1.0 - keep) * (move * move * MS_PER_YEAR / elapsed_ms)
            sigma[t, a] = math.sqrt(variance)
    return sigma


@numba.njit(**STRICT)
def _rolling(ts: np.ndarray, index: np.ndarray, window_ms: float, prior: float) -> np.ndarray:
    sigma = np.empty_like(index)
    for a in range(index.shape[1]):
        total = 0.0
        oldest = 0  # the window holds the returns that end at rows oldest + 1 .. t
        for t in range(len(ts)):
            if t > 0:
                move = math.log(index[t, a] / index[t - 1, a])
                total += move * move
            while oldest < t and float(ts[t] - ts[oldest]) > window_ms:
                gone = math.log(index[oldest + 1, a] / index[oldest, a])
                total = max(total - gone * gone, 0.0)
                oldest += 1
            if oldest == t:
                total = 0.0  # also ends the drift of adding and taking away
            seen_ms = float(ts[t] - ts[oldest])
            missing_ms = max(window_ms - float(ts[t] - ts[0]), 0.0)
            if seen_ms + missing_ms <= 0.0:  # a hole longer than the window: nothing is known
                sigma[t, a] = prior
                continue
            believed = prior * prior * missing_ms
            variance = (total * MS_PER_YEAR + believed) / (seen_ms + missing_ms)
            sigma[t, a] = math.sqrt(variance)
    return sigma


def horizon_returns(ts: np.ndarray, index: np.ndarray, horizon_ms: float) -> np.ndarray:
    """Return the simple return of each asset over the horizon that ends at each row.

    Parameters
    ----------
    ts
        ``(T,)`` milliseconds UTC, ascending.
    index
        ``(T, A)`` US dollars.
    horizon_ms
        A return starts at the last row that is at least this much older.

    Returns
    -------
    numpy.ndarray
        ``(T, A)``, NaN where no row is old enough.
    """
    start = np.searchsorted(ts, ts - math.ceil(horizon_ms), side="right") - 1
    returns = index / index[np.maximum(start, 0)] - 1.0
    returns[start < 0] = np.nan
    return np.asarray(returns)


@numba.njit(**STRICT)
def rolling_tail(
    ts: np.ndarray,
    losses: np.ndarray,
    window_ms: float,
    confidence: float,
    shortfall: bool,
    warm_up: float,
) -> np.ndarray:
    """Return the historical value at risk, or expected shortfall, of a series of losses.

    Of the ``n`` losses in the window, the ``k = floor((1 - confidence) * n) + 1`` largest are
    the tail: value at risk is the smallest of them, expected shortfall their mean.

    Parameters
    ----------
    ts
        ``(T,)`` milliseconds UTC, ascending.
    losses
        ``(T,)``, positive where money is lost; NaN is skipped.
    window_ms
        Losses in ``(ts[t] - window_ms, ts[t]]`` count.
    confidence
        For example 0.99.
    shortfall
        Mean of the tail instead of its edge.
    warm_up
        What to say while the window holds fewer than ``2 / (1 - confidence)`` losses, too few
        to know that tail.

    Returns
    -------
    numpy.ndarray
        ``(T,)``, in the unit of the losses.
    """
    tail = 1.0 - confidence
    ordered = np.empty(len(ts))
    count = 0
    oldest = 0
    out = np.empty(len(ts))
    for t in range(len(ts)):
        if not math.isnan(losses[t]):
            place = np.searchsorted(ordered[:count], losses[t])
            for k in range(count, place, -1):
                ordered[k] = ordered[k - 1]
            ordered[place] = losses[t]
            count += 1
        while float(ts[t] - ts[oldest]) >= window_ms:
            if not math.isnan(losses[oldest]):
                place = np.searchsorted(ordered[:count], losses[oldest])
                count -= 1
                for k in range(place, count):
                    ordered[k] = ordered[k + 1]
            oldest += 1
        if count * tail < 2.0 - 1e-9:
            out[t] = warm_up
            continue
        # The allowance undoes the rounding of 1 - confidence: 0.05 * 100 is five.
        size = math.floor(tail * count + 1e-9) + 1
        edge = count - min(size, count)
        if shortfall:
            total = 0.0
            for k in range(edge, count):
                total += ordered[k]
            out[t] = total / (count - edge)
        else:
            out[t] = ordered[edge]
    return out


def tail_multiple(confidence: float, shortfall: bool, degrees_of_freedom: float | None) -> float:
    """Return value at risk, or expected shortfall, in standard deviations.

    Parameters
    ----------
    confidence
        For example 0.99.
    shortfall
        Expected shortfall instead of value at risk.
    degrees_of_freedom
        Of Student's t, above 2, scaled to unit variance; ``None`` for the normal law.

    Returns
    -------
    float
        Normal: ``z`` or ``phi(z) / (1 - confidence)``. Student: the textbook forms of McNeil,
        Frey and Embrechts, "Quantitative Risk Management" (2015), section 2.2.
    """
    tail = 1.0 - confidence
    if degrees_of_freedom is None:
        normal = NormalDist()
        z = normal.inv_cdf(confidence)
        return normal.pdf(z) / tail if shortfall else z
    from scipy.special import stdtrit

    nu = degrees_of_freedom
    q = float(stdtrit(nu, confidence))
    scale = math.sqrt((nu - 2.0) / nu)
    if not shortfall:
        return q * scale
    log_density = math.lgamma((nu + 1.0) / 2.0) - math.lgamma(nu / 2.0)
    log_density -= 0.5 * math.log(nu * math.pi) + (nu + 1.0) / 2.0 * math.log1p(q * q / nu)
    return math.exp(log_density) / tail * (nu + q * q) / (nu - 1.0) * scale
