"""Margin from sensitivities and correlations, the form of ISDA's standard model (SIMM).

A portfolio is read as exposures, US dollars per unit relative change, of risk factors: of each
asset its perpetuals' price, and its forward price and its volatility at each *tenor* of a table.
A contract between two tenors counts at both, in proportion to time. Per asset, with ``s`` the
exposures to its factors and ``rho`` their correlations::

    WS = risk weight * concentration * s,   concentration = max(1, sqrt(|sum s| / threshold))
    K  = sqrt(sum rho WS WS),               S = sum WS, not beyond K on either side
    delta = sqrt(sum K^2 + sum over pairs of assets of gamma S S)

*Delta* exposures are those of the table of instruments. *Vega* exposures, ``sigma dV/dsigma``,
are aggregated in the same way and multiplied by the historical volatility ratio ``HVR``.
*Curvature* is read off vega, ``CVR = -SF(t) sigma dV/dsigma`` with ``SF`` the lesser of 1/2 and
``7 days / t``; the sign is that of whoever posts margin, since short options bend the wrong way.
It is aggregated without weights and with squared correlations::

    theta = min(0, sum CVR / sum |CVR|),   lambda = (z^2 - 1)(1 + theta) - theta
    curvature = max(0, sum CVR + lambda * aggregate) / HVR^2

where ``z`` is the normal quantile of 99.5 %. The margin is the sum of the three.

It is homogeneous of degree 1 as long as no exposure reaches its threshold, and grows by the power
1.5 beyond. It is no bound of losses: a long option may ask for more than it can lose.

Source: ISDA, SIMM methodology, versions 2.x, for the form. Its weights, correlations and
thresholds are licensed; whoever may use them gives them as a table.
"""

from __future__ import annotations

import numba
import numpy as np

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import INLINED, STRICT
from backtest.kernels.types import (
    Holdings,
    KernelInput,
    Market,
    Requirement,
    requirement_kernel,
)
from backtest.requirement import RequirementRule
from strategies.kernels.sensitivities_law import (
    CURVATURE,
    DELTA,
    EXPOSURES,
    LOWER,
    MAINTENANCE_RATIO,
    SHARE,
    TENORS,
    VEGA,
    VOLATILITY_RATIO,
    aggregate,
    curvature_margin,
    curvature_share,
    explain_sensitivities,
    place,
    relative_vega,
    sensitivities_constants,
    sensitivities_reference,
    tables,
)

__all__ = ["sensitivities", "sensitivities_constants"]

_inlined = numba.extending.register_jitable(**INLINED)
_curvature_margin, _curvature_share = _inlined(curvature_margin), _inlined(curvature_share)
_place, _relative_vega, _tables = _inlined(place), _inlined(relative_vega), _inlined(tables)
_aggregate = numba.njit(**STRICT)(aggregate)


@numba.extending.register_jitable(**INLINED)
def _expose(given: KernelInput, market: Market, i: int) -> None:
    """Fill the scratch row of an instrument: what one contract is exposed to, and where."""
    row = given.scratch[i]
    row[DELTA], row[VEGA], row[CURVATURE] = market.delta_usd[i], 0.0, 0.0
    row[LOWER], row[SHARE] = 0.0, 0.0
    years = market.years[i]
    if market.kind[i] != PERPETUAL:
        row[LOWER], row[SHARE] = _place(years, given.constants)
    if market.kind[i] == OPTION:
        scale, forward = market.contract_size[i], market.forward[i]
        if market.inverse[i] == 1:
            scale *= market.index[np.uint64(market.asset[i])] / forward
        row[VEGA] = scale * _relative_vega(forward, market.strike[i], market.sigma[i], years)
        row[CURVATURE] = -(_curvature_share(years) * row[VEGA])


@numba.extending.register_jitable(**INLINED)
def _add_legs(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    account: int,
    exposures: np.ndarray,
    held: np.ndarray,
) -> int:
    """Add up an account's exposures; list the assets that it holds, and return how many."""
    now = market.tick[0]
    found = 0
    first = holdings.start[account]
    for slot in range(first, first + holdings.count[account]):
        i = np.uint64(holdings.instrument[slot])
        if given.scratch_tick[i] != now:
            given.scratch_tick[i] = now
            _expose(given, market, i)
        asset = np.int64(market.asset[i])
        # Insertion keeps the list in order; accounts hold few assets.
        at = 0
        while at < found and held[at] < asset:
            at += 1
        if at == found or held[at] != asset:
            for k in range(found, at, -1):
                held[k] = held[k - 1]
            held[at] = asset
            found += 1
            exposures[:, asset] = 0.0
        lower, share = np.uint64(given.scratch[i, LOWER]), given.scratch[i, SHARE]
        for kind in range(3):
            whole = holdings.quantity[slot] * given.scratch[i, kind]
            upper = whole * share
            exposures[kind, asset, lower] += whole - upper
            if share > 0.0:
                exposures[kind, asset, lower + np.uint64(1)] += upper
    return found


@requirement_kernel
def sensitivities_kernel(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Fill ``requirement`` as the module describes; see `sensitivities_law`."""
    constants, assets = given.constants, len(market.index)
    width = 1 + int(constants[TENORS])
    factors, correlations, thresholds = _tables(constants, assets)
    weights = given.parameters.reshape(2, assets)
    ones, free, work = np.ones(assets), np.full(assets, np.inf), np.empty(assets)
    exposures, listed = np.empty((3, assets, width)), np.empty(assets, np.int64)
    ratio = constants[VOLATILITY_RATIO]
    for account in accounts:
        held = listed[: _add_legs(given, market, holdings, account, exposures, listed)]
        magnitude = bent = 0.0
        for asset in held:
            for k in range(width):
                magnitude += abs(exposures[CURVATURE, asset, k])
                bent += abs(exposures[VEGA, asset, k])
        delta, _ = _aggregate(
            exposures[DELTA], weights[0], thresholds[0], factors, correlations, held, 1, work
        )
        asked = delta
        if bent + magnitude != 0.0:
            vega, _ = _aggregate(
                exposures[VEGA], weights[1], thresholds[1], factors, correlations, held, 1, work
            )
            curved, total = _aggregate(
                exposures[CURVATURE], ones, free, factors, correlations, held, 2, work
            )
            curvature = _curvature_margin(curved, total, magnitude) / (ratio * ratio)
            asked = delta + ratio * vega + curvature
        requirement.initial[account] = asked
        requirement.maintenance[account] = constants[MAINTENANCE_RATIO] * asked
        requirement.worst_scenario[account] = -1


sensitivities = RequirementRule(
    "sensitivities",
    sensitivities_kernel,
    sensitivities_reference,
    scratch_columns=lambda constants: EXPOSURES,
    explain=explain_sensitivities,
)
"""Delta, vega and curvature margin from exposures, risk weights and correlations."""
