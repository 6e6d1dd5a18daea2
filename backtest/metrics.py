"""Every number a decision rests on: one key, one unit, one definition.

Additive metrics are functions of sums over days, so that a bootstrap may draw days, add them
up and ask the same function again. The others are paths' extremes and have no such form.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.definitions import CASCADE, METRICS, Metric
from backtest.kernels.records import TAKEOVER
from backtest.units import MS_PER_DAY, MS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backtest.result import ReplayResult

__all__ = [
    "CASCADE",
    "METRICS",
    "Metric",
    "compute_metrics",
    "daily_sums",
    "from_sums",
    "metrics_that_tell",
]

_FLOWS = {
    "gross_bad_debt_usd": "gross_bad_debt_usd",
    "insurance_drawdown_usd": "insurance_drawdown_usd",
    "residual_bad_debt_usd": "residual_bad_debt_usd",
    "adl_usd": "adl_usd",
    "adl_accounts": "adl_accounts",
    "socialised_usd": "socialised_usd",
    "liquidations": "liquidations",
    "liquidated_notional_usd": "liquidated_notional_usd",
    "takeovers": "takeovers",
    "declined_liquidations": "declined",
    "keeper_cost_usd": "keeper_cost_usd",
    "frozen_breaches": "frozen",
    "missed_triggers": "missed_triggers",
    "needless_triggers": "needless_triggers",
    "rejected_notional_usd": "rejected_notional_usd",
    "margin_calls_usd": "margin_calls_usd",
}
"""Metrics that are sums of a recorded series, and the name of that series."""
_ROUNDING_USD = 1e-6
"""A smaller deficit is what rounding leaves of one that was paid."""
_REFILLED = 1.0 - 1e-12
"""A fund that is filled up in parts may end a rounding below where it was."""


def metrics_that_tell(results: Iterable[ReplayResult]) -> list[str]:
    """List the metrics that say something about replays, in the order of `METRICS`.

    A metric of a rule that none of their venues has is left out while it is zero.
    """
    among = list(results)

    def tells(key: str, metric: Metric) -> bool:
        if metric.rule is None or any(metric.rule(result.venue) for result in among):
            return True
        return any(abs(result.metrics[key]) > 0.0 for result in among)

    return [key for key, metric in METRICS.items() if tells(key, metric)]


def daily_sums(result: ReplayResult) -> dict[str, np.ndarray]:
    """Add up a replay per UTC day.

    Returns
    -------
    dict of str to numpy.ndarray
        ``(D,)`` arrays: hours, notional and collateral and margin times hours, flows, false
        liquidations, breaches and observations. Days without a row are left out.
    """
    _, day = np.unique(result.ts // MS_PER_DAY, return_inverse=True)
    days = int(day.max()) + 1

    def total(values: np.ndarray, where: np.ndarray = day) -> np.ndarray:
        return np.bincount(where, weights=values, minlength=days)

    hours = result.interval_ms / MS_PER_HOUR
    series = result.series
    sums = {
        "hours": total(hours),
        "notional_hours": total(series["open_notional_usd"] * hours),
        "collateral_hours": total(series["locked_collateral_usd"] * hours),
        "margin_hours": total(series["required_initial_usd"] * hours),
    }
    sums |= {key: total(series[name]) for key, name in _FLOWS.items()}
    log = result.liquidation_log[result.liquidation_log["kind"] != TAKEOVER]
    at = np.searchsorted(result.ts, log["ts"])
    sums["false_liquidations"] = total(log["false"].astype(np.float64), day[at])
    observed = ~np.isnan(result.margin.loss) & ~np.isnan(result.margin.maintenance)
    breached = observed & (result.margin.loss > result.margin.maintenance)
    sums["observations"] = total(observed.sum(axis=(1, 2)).astype(np.float64))
    sums["breaches"] = total(breached.sum(axis=(1, 2)).astype(np.float64))
    return sums


def _ratio(numerator: Any, denominator: Any, empty: float = 0.0) -> Any:
    top = np.asarray(numerator, dtype=np.float64)
    bottom = np.asarray(denominator, dtype=np.float64)
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    result = np.divide(top, bottom, out=np.full(shape, empty), where=bottom != 0.0)
    return result if result.ndim else float(result)


def from_sums(sums: dict[str, Any]) -> dict[str, Any]:
    """Compute every additive metric from sums over days.

    Parameters
    ----------
    sums
        The keys of `daily_sums`, each a number, or an array of one number per resample.

    Returns
    -------
    dict
        Metric key to number or array, in the order of `METRICS`.
    """
    open_notional = _ratio(sums["notional_hours"], sums["hours"])
    computed = {
        "capital_efficiency": _ratio(sums["notional_hours"], sums["collateral_hours"]),
        "open_notional_usd": open_notional,
        "locked_collateral_usd": _ratio(sums["collateral_hours"], sums["hours"]),
        "margin_to_notional": _ratio(sums["margin_hours"], sums["notional_hours"]),
        "residual_bad_debt_bps": _ratio(1e4 * sums["residual_bad_debt_usd"], open_notional),
        "false_liquidation_share": _ratio(sums["false_liquidations"], sums["liquidations"]),
        "coverage": 1.0 - _ratio(sums["breaches"], sums["observations"]),
        "breaches": sums["breaches"],
        **{key: sums[key] for key in _FLOWS},
    }
    return {key: computed[key] for key, metric in METRICS.items() if metric.additive}


def compute_metrics(result: ReplayResult) -> dict[str, float]:
    """Compute every metric of a replay, in the order of `METRICS`.

    The cascade multiplier is NaN: it takes a second replay, see `backtest.cascade`.
    """
    sums = {key: float(values.sum()) for key, values in daily_sums(result).items()}
    values = from_sums(sums)
    rate = result.margin.initial.reshape(len(result.ts), -1)
    values["peak_to_trough_margin"] = _peak_to_trough(rate)
    values["max_margin_rise_1d"] = _max_rise(rate, result.ts, MS_PER_DAY)
    values["max_adl_haircut"] = result.adl_log["share"].max(initial=0.0)
    deficit_usd = float(result.series["deficit_usd"][-1])
    values["deficit_usd"] = deficit_usd if deficit_usd > _ROUNDING_USD else 0.0
    start_usd = result.venue.insurance_fund.start_usd
    values["fund_replenishment_days"] = _longest_below(
        result.series["fund_usd"], start_usd, result.ts / MS_PER_DAY
    )
    values["largest_shift"] = float(result.series["shift"].max())
    values[CASCADE] = math.nan
    values["ledger_imbalance_usd"] = float(result.series["ledger_imbalance_usd"].max())
    return {key: float(values[key]) for key in METRICS}


def _longest_below(level: np.ndarray, start: float, days: np.ndarray) -> float:
    """Return the longest time that a level stood below one of its own from before, in days."""
    peak = np.maximum(np.maximum.accumulate(level), start)
    edges = np.diff((level < _REFILLED * peak).astype(np.int8), prepend=0)
    begins, ends = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    if len(begins) > len(ends):
        return math.inf
    return float(np.max(days[ends] - days[begins], initial=0.0))


def _peak_to_trough(rate: np.ndarray) -> float:
    known = rate[:, ~np.all(np.isnan(rate), axis=0)]
    if known.size == 0:
        return 1.0
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    # A margin that falls to nothing has no worst ratio; one that is always nothing never moves.
    return float(np.max(_ratio(high, low, empty=np.inf), where=high > 0.0, initial=1.0))


def _max_rise(rate: np.ndarray, ts: np.ndarray, window_ms: int) -> float:
    """Largest ``rate[t] / min(rate[s]) - 1`` over ``s`` within the window before ``t``."""
    largest = 0.0
    for column in rate.T:
        lows: deque[int] = deque()
        for t in np.flatnonzero(~np.isnan(column)):
            while lows and column[lows[-1]] >= column[t]:
                lows.pop()
            lows.append(int(t))
            while ts[lows[0]] < ts[t] - window_ms:
                lows.popleft()
            if column[lows[0]] > 0.0:
                largest = max(largest, column[t] / column[lows[0]] - 1.0)
            elif column[t] > 0.0:
                return float("inf")
    return float(largest)
