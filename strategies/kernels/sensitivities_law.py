"""Margin from sensitivities in plain Python: constants, exposures and how they are aggregated.

`strategies.kernels.sensitivities` states the law and compiles the functions below, which are
plain Python first; strict IEEE arithmetic gives both the same bits.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import exp_negative
from backtest.requirement import Explanation

if TYPE_CHECKING:
    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement

MAINTENANCE_RATIO, VOLATILITY_RATIO, TENORS = range(3)
FIRST_TENOR = 3
DELTA, VEGA, CURVATURE = range(3)
LOWER, SHARE = 3, 4
"""Columns of the scratch: three exposures of a contract, and between which factors they lie."""
EXPOSURES = 5

TAIL = NormalDist().inv_cdf(0.995) ** 2 - 1.0
_DENSITY_AT_ZERO = 0.3989422804014327
_CURVED_DAYS = 14.0


def sensitivities_constants(
    *,
    maintenance_ratio: float,
    volatility_ratio: float,
    tenors: np.ndarray,
    factors: np.ndarray,
    assets: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """Lay out the constants of `sensitivities`.

    Parameters
    ----------
    maintenance_ratio
        Maintenance over initial margin, 0 to 1.
    volatility_ratio
        On vega exposures; curvature is divided by its square.
    tenors
        ``(N - 1,)`` years to expiry, ascending.
    factors
        ``(N, N)`` correlations within an asset: perpetuals first, then each tenor.
    assets
        ``(A, A)`` correlations of assets.
    thresholds
        ``(2, A)`` US dollars of net delta and net vega where concentration begins.

    Returns
    -------
    numpy.ndarray
        ``(3 + (N - 1) + N * N + A * A + 2 * A,)``.
    """
    head = [maintenance_ratio, volatility_ratio, float(len(tenors))]
    tables = [np.asarray(table).ravel() for table in (tenors, factors, assets, thresholds)]
    return np.concatenate([head, *tables])


def relative_vega(forward: float, strike: float, sigma: float, years: float) -> float:
    """Return the change of a Black-76 price per unit relative change of its volatility, USD."""
    deviation = sigma * math.sqrt(years)
    if deviation <= 0.0:
        return 0.0
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    return forward * (_DENSITY_AT_ZERO * exp_negative(-0.5 * d1 * d1)) * deviation


def curvature_share(years: float) -> float:
    """Return the part of vega that stands for curvature: a half up to 14 days, then fading."""
    days = years * 365.0
    return 0.5 * _CURVED_DAYS / days if days > _CURVED_DAYS else 0.5


def place(years: float, constants: np.ndarray) -> tuple[int, float]:
    """Return the factor at or before a time to expiry, and the share that lies on the next."""
    count = int(constants[TENORS])
    above = 0
    while above < count and constants[FIRST_TENOR + above] < years:
        above += 1
    if above == 0:
        return 1, 0.0
    if above == count:
        return count, 0.0
    lower, upper = constants[FIRST_TENOR + above - 1], constants[FIRST_TENOR + above]
    return above, (years - lower) / (upper - lower)


def aggregate(
    exposures: np.ndarray,
    weights: np.ndarray,
    thresholds: np.ndarray,
    factors: np.ndarray,
    assets: np.ndarray,
    held: np.ndarray,
    power: int,
    work: np.ndarray,
) -> tuple[float, float]:
    """Aggregate weighted exposures within assets, then across them.

    Parameters
    ----------
    exposures
        ``(A, N)`` US dollars; rows of assets that are not held are not read.
    weights, thresholds
        ``(A,)`` risk weights, and exposures in US dollars where concentration begins.
    factors, assets
        ``(N, N)`` and ``(A, A)`` correlations.
    held
        Numbers of the assets that are held, ascending.
    power
        Exponent of the correlations: 2 for curvature, else 1.
    work
        ``(A,)`` room for what is carried from within assets to across them.

    Returns
    -------
    tuple
        The aggregate and the plain sum of all weighted exposures, US dollars.
    """
    width = factors.shape[0]
    squares = total = 0.0
    for n in range(len(held)):
        asset = held[n]
        net = 0.0
        for k in range(width):
            net += exposures[asset, k]
        crowded = abs(net) / thresholds[asset]
        weight = weights[asset] * (math.sqrt(crowded) if crowded > 1.0 else 1.0)
        square = 0.0
        for k in range(width):
            for m in range(width):
                correlation = factors[k, m] if power == 1 else factors[k, m] * factors[k, m]
                square += correlation * (
                    (weight * exposures[asset, k]) * (weight * exposures[asset, m])
                )
        square = 0.0 if square < 0.0 else square
        root = math.sqrt(square)
        weighted = weight * net
        carried = root if weighted > root else weighted
        work[n] = -root if carried < -root else carried
        squares += square
        total += weighted
    for n in range(len(held)):
        for m in range(len(held)):
            if n != m:
                correlation = assets[held[n], held[m]]
                correlation = correlation if power == 1 else correlation * correlation
                squares += correlation * (work[n] * work[m])
    return math.sqrt(0.0 if squares < 0.0 else squares), total


def curvature_margin(aggregated: float, total: float, magnitude: float) -> float:
    """Return the curvature margin: mean plus tail of a quadratic form, never below nothing.

    Parameters
    ----------
    aggregated, total
        What `aggregate` says of curvature exposures, short options positive.
    magnitude
        Sum of their magnitudes, US dollars.
    """
    if magnitude == 0.0:
        return 0.0
    theta = total / magnitude
    theta = 0.0 if theta > 0.0 else theta
    asked = total + (TAIL * (1.0 + theta) - theta) * aggregated
    return 0.0 if asked < 0.0 else asked


def sensitivities_reference(
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
        ``parameters``: delta weight of every asset, then its vega weight. ``constants``: from
        `sensitivities_constants`. The scratch table is not used.
    market, holdings, accounts, requirement
        As for every requirement kernel; a leg whose volatility is NaN makes its account's
        requirement NaN.
    """
    ratio = float(given.constants[MAINTENANCE_RATIO])
    for account in accounts:
        delta, vega, curvature = margins_usd(given, market, holdings, int(account))
        asked = delta + vega + curvature
        requirement.initial[account] = asked
        requirement.maintenance[account] = ratio * asked
        requirement.worst_scenario[account] = -1


def explain_sensitivities(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split the margin of one account into delta, vega and curvature."""
    ratio = float(given.constants[MAINTENANCE_RATIO])
    parts = margins_usd(given, market, holdings, account)
    initial = dict(zip(("delta", "vega", "curvature"), parts, strict=True))
    return Explanation(initial, {name: ratio * usd for name, usd in initial.items()})


def margins_usd(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> tuple[float, float, float]:
    """Return what one account is asked for delta, vega and curvature, USD."""
    constants, assets = given.constants, len(market.index)
    width = 1 + int(constants[TENORS])
    exposures = np.zeros((3, assets, width))
    found = set()
    magnitude = 0.0
    first = int(holdings.start[account])
    for slot in range(first, first + int(holdings.count[account])):
        i, quantity = int(holdings.instrument[slot]), float(holdings.quantity[slot])
        asset = int(market.asset[i])
        found.add(asset)
        lower, share = 0, 0.0
        unit = [float(market.delta_usd[i]), 0.0, 0.0]
        if market.kind[i] != PERPETUAL:
            lower, share = place(float(market.years[i]), constants)
        if market.kind[i] == OPTION:
            scale = float(market.contract_size[i])
            if market.inverse[i]:
                scale *= float(market.index[asset]) / float(market.forward[i])
            vega = scale * relative_vega(
                float(market.forward[i]),
                float(market.strike[i]),
                float(market.sigma[i]),
                float(market.years[i]),
            )
            unit[VEGA], unit[CURVATURE] = vega, -(curvature_share(float(market.years[i])) * vega)
        for kind in range(3):
            upper = quantity * unit[kind] * share
            exposures[kind, asset, lower] += quantity * unit[kind] - upper
            if share > 0.0:
                exposures[kind, asset, lower + 1] += upper
    held = np.array(sorted(found), dtype=np.int64)
    for asset in held:
        for k in range(width):
            magnitude += abs(float(exposures[CURVATURE, asset, k]))
    factors, correlations, thresholds = tables(constants, assets)
    ones, free, work = np.ones(assets), np.full(assets, np.inf), np.empty(assets)
    weights = given.parameters.reshape(2, assets)
    ratio = float(constants[VOLATILITY_RATIO])
    delta, _ = aggregate(
        exposures[DELTA], weights[0], thresholds[0], factors, correlations, held, 1, work
    )
    vega, _ = aggregate(
        exposures[VEGA], weights[1], thresholds[1], factors, correlations, held, 1, work
    )
    curved, total = aggregate(
        exposures[CURVATURE], ones, free, factors, correlations, held, 2, work
    )
    curvature = curvature_margin(curved, total, magnitude) / (ratio * ratio)
    return float(delta), float(ratio * vega), float(curvature)


def tables(constants: np.ndarray, assets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return factor correlations, asset correlations and thresholds as arrays."""
    width = 1 + int(constants[TENORS])
    start = FIRST_TENOR + width - 1
    end = start + width * width
    last = end + assets * assets
    return (
        constants[start:end].reshape(width, width),
        constants[end:last].reshape(assets, assets),
        constants[last : last + 2 * assets].reshape(2, assets),
    )
