"""Every number a decision rests on: one key, one unit, one definition.

Additive metrics are functions of sums over days, so that a bootstrap may draw days, add them
up and ask the same function again. The others are paths' extremes and have no such form.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from backtest.kernels.records import TAKEOVER
from backtest.units import MS_PER_DAY, MS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backtest.result import ReplayResult
    from backtest.venue import VenueRules

CASCADE = "cascade_multiplier"
"""Key of the one metric that takes a second replay; `backtest.cascade` computes it."""


@dataclass(frozen=True)
class Metric:
    """What a metric key means.

    Parameters
    ----------
    unit
        ``"x"`` for ratios of money to money, ``"share"``, ``"bps"``, ``"USD"``, ``"days"`` or
        ``"count"``.
    better
        Which direction is better for the venue and its users together.
    definition
        One sentence, numerator and denominator named.
    additive
        Whether `from_sums` computes it.
    rule
        Whether a venue has the rule that the metric speaks of; None where every venue has it.
    """

    unit: str
    better: Literal["higher", "lower", "neutral"]
    definition: str
    additive: bool = True
    rule: Callable[[VenueRules], bool] | None = None


def _deleverages(venue: VenueRules) -> bool:
    return venue.auto_deleveraging.mode != "none"


def _triggers(venue: VenueRules) -> bool:
    return venue.margin_check.mode == "trigger"


def _halts(venue: VenueRules) -> bool:
    oracle = venue.oracle
    stale = oracle.stale_after is not None and oracle.when_stale == "halt"
    return stale or oracle.confidence.limit is not None or venue.circuit_breaker is not None


def _keepers_pay(venue: VenueRules) -> bool:
    keepers = venue.liquidation.keepers
    return keepers.cost_usd > 0.0 or keepers.cost_per_move > 0.0


def _feeds_back(venue: VenueRules) -> bool:
    return venue.liquidation.impact.feedback is not None


METRICS: dict[str, Metric] = {
    "capital_efficiency": Metric(
        "x",
        "higher",
        "Time-weighted open notional divided by time-weighted locked collateral; 0 if nothing "
        "was open.",
    ),
    "open_notional_usd": Metric(
        "USD", "neutral", "Time-weighted mean of open notional, options at their underlying's."
    ),
    "locked_collateral_usd": Metric(
        "USD",
        "lower",
        "Time-weighted mean of the positive equity of accounts that hold positions.",
    ),
    "margin_to_notional": Metric(
        "share",
        "neutral",
        "Time-weighted initial margin required divided by time-weighted open notional.",
    ),
    "gross_bad_debt_usd": Metric(
        "USD",
        "lower",
        "Sum of the shortfalls of accounts whose last position was closed below zero equity; a "
        "flow, once per account and closing, before the insurance fund.",
    ),
    "insurance_drawdown_usd": Metric(
        "USD", "lower", "Part of gross bad debt that the insurance fund paid."
    ),
    "residual_bad_debt_usd": Metric(
        "USD",
        "lower",
        "Part of gross bad debt that the fund could not pay: it is left to winners, then to all.",
    ),
    "residual_bad_debt_bps": Metric(
        "bps",
        "lower",
        "Residual bad debt of the whole window in basis points of mean open notional.",
    ),
    "adl_usd": Metric(
        "USD",
        "lower",
        "Part of residual bad debt that auto-deleveraging took from winners.",
        rule=_deleverages,
    ),
    "adl_accounts": Metric(
        "count", "lower", "Winners deleveraged, counted once per deficit.", rule=_deleverages
    ),
    "max_adl_haircut": Metric(
        "share",
        "lower",
        "Largest part of a winner's unrealised gain in an asset that one deficit took.",
        additive=False,
        rule=_deleverages,
    ),
    "socialised_usd": Metric(
        "USD",
        "lower",
        "What other accounts were charged, or paid out less, for residual bad debt that winners "
        "did not cover.",
        rule=lambda venue: _deleverages(venue) or venue.socialised_loss.by != "equity",
    ),
    "deficit_usd": Metric(
        "USD",
        "lower",
        "Deficit that nobody had paid at the end of the window.",
        additive=False,
        rule=lambda venue: venue.socialised_loss.by == "withdrawal",
    ),
    "fund_replenishment_days": Metric(
        "days",
        "lower",
        "Longest time that the insurance fund stood below an earlier level of its own; infinite "
        "if it still does at the end, 0 if it never paid.",
        additive=False,
        rule=lambda venue: venue.insurance_fund.target_usd is not None,
    ),
    "liquidations": Metric("count", "lower", "Liquidation steps executed."),
    "liquidated_notional_usd": Metric("USD", "lower", "Notional closed by liquidation steps."),
    "false_liquidation_share": Metric(
        "share",
        "lower",
        "Share of liquidation steps after which the index of the portfolio's largest exposure "
        "was back, within the venue's recovery window, at its level of the row before the step.",
    ),
    "takeovers": Metric(
        "count",
        "lower",
        "Accounts that the backstop vault took over; they are no liquidation steps.",
        rule=lambda venue: venue.liquidation.backstop is not None,
    ),
    "declined_liquidations": Metric(
        "count",
        "lower",
        "Liquidations that no keeper carried out, because the pay was below the cost; counted at "
        "every attempt.",
        rule=lambda venue: venue.liquidation.keepers.participation,
    ),
    "keeper_cost_usd": Metric(
        "USD", "lower", "What liquidations cost those who carried them out.", rule=_keepers_pay
    ),
    "frozen_breaches": Metric(
        "count",
        "lower",
        "Checks that found an account below maintenance margin while the venue could not act on "
        "one of its prices.",
        rule=_halts,
    ),
    "missed_triggers": Metric(
        "count",
        "lower",
        "Checks at which an account was below maintenance margin and the linear trigger was "
        "silent.",
        rule=_triggers,
    ),
    "needless_triggers": Metric(
        "count",
        "lower",
        "Full checks that the linear trigger asked for and that found no breach.",
        rule=_triggers,
    ),
    "largest_shift": Metric(
        "share",
        "lower",
        "Largest distance to which liquidations moved an index from its recorded price.",
        additive=False,
        rule=_feeds_back,
    ),
    CASCADE: Metric(
        "x",
        "lower",
        "Loss with the feedback of liquidations on prices divided by the loss of the same replay "
        "without it; loss is gross bad debt and what liquidated accounts paid out of equity of "
        "their own in slippage, discounts and penalties.",
        additive=False,
        rule=_feeds_back,
    ),
    "rejected_notional_usd": Metric(
        "USD",
        "lower",
        "Notional of orders refused because the account could not fund the initial margin, or "
        "because the instrument had no price.",
    ),
    "margin_calls_usd": Metric("USD", "lower", "Sum of what margin calls asked for."),
    "peak_to_trough_margin": Metric(
        "x",
        "lower",
        "Highest over lowest initial margin rate of a perpetual probe in the window, the worst "
        "asset and side.",
        additive=False,
    ),
    "max_margin_rise_1d": Metric(
        "share",
        "lower",
        "Largest rise of a perpetual probe's initial margin rate over its lowest value of the "
        "24 hours before, the worst asset and side.",
        additive=False,
    ),
    "coverage": Metric(
        "share",
        "higher",
        "Share of observations (row, asset, side) whose loss over the venue's margin period was "
        "at most the maintenance margin asked at its start; 1 if there were none.",
    ),
    "breaches": Metric(
        "count",
        "lower",
        "Observations (row, asset, side) whose loss over the margin period exceeded the "
        "maintenance margin asked at its start.",
    ),
    "ledger_imbalance_usd": Metric(
        "USD",
        "lower",
        "Largest difference, at any step, between all money there is and all there was.",
        additive=False,
    ),
}

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
    values["deficit_usd"] = max(-float(result.series["deficit_usd"][-1]), 0.0)
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
