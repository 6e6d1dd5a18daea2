"""Accounts: how large, how levered, calibrated to how concentrated real venues are.

Equity is a lognormal body with a truncated Pareto tail; leverage follows its target quantiles
and is tied to equity through a Gaussian copula. Quantiles and copula leave three numbers open,
and each is solved for one target: the body's spread for the Gini coefficient, the truncation
for the share of the largest hundredth, the copula's weight for the correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from backtest.seeds import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.generator.spec import BookSpec, LeverageQuantiles

_NORMAL = NormalDist()
_PASSES = 8
_STEPS = 30


@dataclass(frozen=True)
class Population:
    """Wallet in USD and leverage of each account, ``(N,)``.

    Leverage is intended notional over equity, equity the wallet over ``wallet_multiple``.
    """

    wallet_usd: np.ndarray
    leverage: np.ndarray


def gini(values: np.ndarray) -> float:
    """Gini coefficient of non-negative values: 0 all alike, 1 one holds everything."""
    ordered = np.sort(values)
    total = ordered.sum()
    if total <= 0.0:
        return 0.0
    count = len(ordered)
    ranks = np.arange(1, count + 1)
    return float(2.0 * (ranks @ ordered) / (count * total) - (count + 1) / count)


def top_share(values: np.ndarray, count: int) -> float:
    """Share of the total that the largest values hold."""
    total = values.sum()
    return float(np.sort(values)[-count:].sum() / total) if total > 0.0 else 0.0


def hill_index(values: np.ndarray, count: int) -> float:
    """Hill's estimator of the Pareto index from the largest ``count`` values.

    Source: B. M. Hill, "A simple general approach to inference about the tail of a
    distribution", Annals of Statistics 3 (1975). NaN where there are too few values.
    """
    ordered = np.sort(values[values > 0.0])
    count = min(count, len(ordered) - 1)
    if count < 2:
        return float("nan")
    excess = np.log(ordered[-count:] / ordered[-count - 1])
    return float(1.0 / excess.mean()) if excess.mean() > 0.0 else float("inf")


def _normal_quantiles(probabilities: np.ndarray) -> np.ndarray:
    return np.array([_NORMAL.inv_cdf(p) for p in probabilities.tolist()])


def _bisect(error: Callable[[float], float], low: float, high: float) -> float:
    """Find where a rising error crosses zero; the nearer bound where it does not."""
    if error(low) >= 0.0:
        return low
    if error(high) <= 0.0:
        return high
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if error(middle) < 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def _ordered_leverages(targets: LeverageQuantiles, count: int) -> np.ndarray:
    """Leverages of ``count`` accounts, ascending, that follow the target quantiles.

    Between two points, and beyond the last, log leverage is linear in the normal score, so
    that a lognormal distribution is reproduced exactly.
    """
    scores = _normal_quantiles((np.arange(count) + 0.5) / count)
    points = targets.points()
    x = np.array([_NORMAL.inv_cdf(p) for p, _ in points])
    y = np.log([value for _, value in points])
    ordered = np.interp(scores, x, y)
    for side, first, last in ((scores < x[0], 0, 1), (scores > x[-1], -1, -2)):
        slope = (y[last] - y[first]) / (x[last] - x[first])
        ordered[side] = y[first] + slope * (scores[side] - x[first])
    return np.asarray(np.minimum(np.exp(ordered), targets.maximum))


def draw_population(spec: BookSpec, seed: int) -> Population:
    """Draw accounts whose notionals meet the spec's concentration and correlation.

    Parameters
    ----------
    spec
        Targets.
    seed
        Root seed; the draws come from its streams ``book/equity`` and ``book/leverage``.

    Returns
    -------
    Population
        In random order. Wallets are scaled so that the median (or, where
        ``open_interest_usd`` is given, the mean open notional) is met exactly.
    """
    count = spec.accounts
    draws = stream(seed, "book", "equity")
    # One uniform draw per stratum: the shape of the distribution is the same for every seed,
    # and only who is where inside a stratum, and how levered, differs.
    upper = (np.arange(count) + draws.random(count)) / count
    upper = 1.0 - np.clip(draws.permutation(upper), 0.1 / count, 1.0 - 0.1 / count)
    score = -_normal_quantiles(upper)
    noise = stream(seed, "book", "leverage").standard_normal(count)

    hundredth = max(1, round(0.01 * count))
    threshold = -_NORMAL.inv_cdf(spec.tail_share)
    tail = upper < spec.tail_share

    def log_equity(spread: float, log_limit: float) -> np.ndarray:
        """Lognormal up to the threshold, then Pareto cut at ``exp(log_limit)`` times it."""
        body = spread * np.minimum(score, threshold)
        beyond = upper[tail] / spec.tail_share
        floor = np.exp(-spec.tail_index * log_limit)
        body[tail] -= np.log(floor + (1.0 - floor) * beyond) / spec.tail_index
        return np.asarray(body)

    ordered = _ordered_leverages(spec.leverage, count)

    def leverage_of(weight: float) -> np.ndarray:
        latent = weight * score + np.sqrt(1.0 - weight * weight) * noise
        leverage = np.empty(count)
        leverage[np.argsort(latent, kind="stable")] = ordered
        return leverage

    def correlation_miss(size: np.ndarray, weight: float) -> float:
        achieved = np.corrcoef(size, np.log(leverage_of(weight)))[0, 1]
        return float(achieved) - spec.size_leverage_correlation

    def gini_miss(leverage: np.ndarray, log_limit: float, spread: float) -> float:
        return gini(np.exp(log_equity(spread, log_limit)) * leverage) - spec.gini

    def top_miss(leverage: np.ndarray, spread: float, log_limit: float) -> float:
        notional = np.exp(log_equity(spread, log_limit)) * leverage
        return top_share(notional, hundredth) - spec.top_percent_share

    # The three are nearly independent, so solving them in turn settles within a few passes.
    spread, log_limit = 2.0, 8.0
    for _ in range(_PASSES):
        size = log_equity(spread, log_limit)
        leverage = leverage_of(_bisect(partial(correlation_miss, size), -0.99, 0.99))
        spread = _bisect(partial(gini_miss, leverage, log_limit), 0.05, 6.0)
        log_limit = _bisect(partial(top_miss, leverage, spread), 0.01, 25.0)
    size = log_equity(spread, log_limit)
    wallet_usd = np.exp(size - np.median(size)) * spec.median_equity_usd
    if spec.open_interest_usd is not None:
        notional = (wallet_usd / spec.wallet_multiple) @ leverage * spec.time_in_market
        wallet_usd *= spec.open_interest_usd / notional
    return Population(wallet_usd=wallet_usd, leverage=leverage)
