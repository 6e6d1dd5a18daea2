"""Hand-made replays for the report's tests: a calm market, one crash, two margin policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from backtest.generate import FitRow
from backtest.kernels.records import SERIES_NAMES
from backtest.result import LIQUIDATION_DTYPE, MarginPath, ReplayResult
from backtest.seeds import stream
from backtest.tape import DataSource
from backtest.units import MS_PER_HOUR, parse_utc_ms
from backtest.venue import VenueRules
from experiments.report import Pair, ReportInput
from optimize.bootstrap import compare_paired
from optimize.goal import make_goal
from optimize.search import Trial

TAPE = "5e1c" + "0" * 58 + "9a"
BOOK = "7d0f" + "0" * 58 + "22"
CURRENT = {"policy": "fixed", "version": "1", "initial": 0.05, "maintenance": 0.03}
PROPOSED = {
    "policy": "volatility",
    "version": "1",
    "multiplier": 4.0,
    "floor": 0.01,
    "update": {"keeper": {"threshold": 0.05, "latency": 30_000}},
}
SEARCH = ("2022-07-01", "2022-09-29")
HOLDOUT = ("2022-10-01", "2022-12-30")


def market(
    window: tuple[str, str], crash: str, size: float, seed: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Return a clock of hours and two indices with one crash over half a day."""
    start, end = (parse_utc_ms(day) for day in window)
    ts = np.arange(start, end, MS_PER_HOUR)
    noise = stream(seed, "report", window[0]).standard_normal((len(ts), 2)) * 0.004
    at = int(np.searchsorted(ts, parse_utc_ms(crash)))
    noise[at : at + 12] += np.log1p(size) / 12
    noise[at : at + 72] *= 2.0
    return ts, np.array([20_000.0, 1_500.0]) * np.exp(np.cumsum(noise, axis=0))


def make_result(
    window: tuple[str, str],
    policy: dict[str, Any],
    *,
    crash: str,
    size: float = -0.18,
    margin: float = 0.05,
    follows: float = 0.0,
    loss_usd: float = 0.0,
    liquidated_usd: float = 2e6,
    synthetic_market: bool = False,
    tape_digest: str = TAPE,
) -> ReplayResult:
    """Make a replay: margin follows volatility as told, the crash costs what it is told."""
    ts, index = market(window, crash, size)
    rows = len(ts)
    at = int(np.searchsorted(ts, parse_utc_ms(crash))) + 12
    change = np.diff(np.log(index), axis=0, prepend=np.log(index[:1]))
    volatility = np.sqrt(
        np.stack([np.convolve(c**2, np.ones(48) / 48)[:rows] for c in change.T], axis=1)
    )
    level = margin * (1 - follows) + follows * np.maximum(0.012, 6.0 * volatility)
    rate = np.repeat(level[:, :, None], 2, axis=2)
    move = np.vstack([index[1:] / index[:-1] - 1.0, np.full((1, 2), np.nan)])
    series = {name: np.zeros(rows) for name in SERIES_NAMES}
    open_notional = 4e8 * (1 + 0.1 * np.sin(np.arange(rows) / 200))
    series["open_notional_usd"] = open_notional
    series["locked_collateral_usd"] = open_notional * level.mean(axis=1) * 2.5
    series["required_initial_usd"] = open_notional * level.mean(axis=1)
    series["rejected_notional_usd"] = np.full(rows, 1e4 * margin)
    series["gross_bad_debt_usd"][at] = loss_usd
    series["insurance_drawdown_usd"][at] = 0.7 * loss_usd
    series["residual_bad_debt_usd"][at] = loss_usd - 0.7 * loss_usd
    series["fund_usd"] = 5e6 - np.cumsum(series["insurance_drawdown_usd"])
    steps = (np.abs(change).max(axis=1) > 0.016).astype(float)
    series["liquidations"] = steps
    series["liquidated_notional_usd"] = steps * liquidated_usd
    series["margin_calls_usd"] = steps * 0.3 * liquidated_usd
    log = np.zeros(int(steps.sum()), LIQUIDATION_DTYPE)
    log["ts"] = ts[steps > 0]
    log["row"] = np.flatnonzero(steps)
    log["false"] = np.arange(len(log)) % 5 == 0
    return ReplayResult(
        ts=ts,
        interval_ms=np.full(rows, MS_PER_HOUR),
        assets=("BTC", "ETH"),
        index=index,
        series=series,
        liquidation_log=log,
        margin=MarginPath(rate, 0.6 * rate, np.stack([-move, move], axis=2)),
        tape_digest=tape_digest,
        book_digest=BOOK,
        policy=policy,
        venue=VenueRules(),
        seed=11,
        window=(int(ts[0]), int(ts[-1]) + MS_PER_HOUR),
        synthetic_market=synthetic_market,
        synthetic_book=True,
    )


def make_trials(pair: Pair, count: int = 40) -> list[Trial]:
    """Make the incumbent, the proposal and a cloud of candidates around them."""
    goal = make_goal(["capital_efficiency", "residual_bad_debt_bps"], None, {}, "constraints")
    draw = stream(5, "report", "trials")
    trials = []
    for number in range(count):
        metrics = dict((pair.current if number == 0 else pair.proposed).metrics)
        if number > 1:
            reach = float(draw.uniform(0.5, 1.3))
            metrics["capital_efficiency"] *= reach
            metrics["residual_bad_debt_bps"] = float(4.0 * reach**4 + draw.uniform(0.2, 4.0) ** 2)
        broken = 0.01 if number % 7 == 3 else -0.01
        trials.append(
            Trial(
                number=number,
                values={"candidate.multiplier": float(number)},
                metrics=metrics,
                objectives=goal.values(metrics),
                violations={"coverage": broken},
                defined=True,
            )
        )
    return trials


def make_input(
    *,
    worse: bool = False,
    quiet: bool = False,
    synthetic_market: bool = False,
    **changes: Any,
) -> ReportInput:
    """Make a whole report.

    Parameters
    ----------
    worse
        Whether the proposal is worse than the current policy in everything.
    quiet
        Whether nothing bad happens to anybody.
    synthetic_market
        Whether the market is a simulated one.
    changes
        Fields of the input to replace.
    """
    pairs = []
    for window, crash, size in ((SEARCH, "2022-08-18", -0.12), (HOLDOUT, "2022-11-08", -0.21)):
        common: dict[str, Any] = {
            "crash": crash,
            "size": size,
            "synthetic_market": synthetic_market,
        }
        good = make_result(
            window,
            PROPOSED,
            margin=0.05,
            follows=0.9,
            loss_usd=0.0 if quiet else 2.1e5,
            liquidated_usd=0.0 if quiet else 1.4e6,
            **common,
        )
        bad = make_result(
            window,
            CURRENT,
            margin=0.06,
            loss_usd=0.0 if quiet else 1.3e6,
            liquidated_usd=0.0 if quiet else 2.3e6,
            **common,
        )
        if worse:
            good, bad = replace(bad, policy=PROPOSED), replace(good, policy=CURRENT)
        pairs.append(Pair(bad, good, compare_paired(bad, good, 11, resamples=300)))
    search, holdout = pairs
    trials = make_trials(search)
    goal = make_goal(
        ["capital_efficiency", "residual_bad_debt_bps"], None, {"coverage": ">= 97%"}, "constraints"
    )
    feasible = [trial for trial in trials if trial.feasible]
    front = tuple(feasible[i].number for i in goal.front([t.objectives for t in feasible]))
    judged = {0: holdout.current.metrics, 1: holdout.proposed.metrics}
    for number in front:
        judged.setdefault(number, trials[number].metrics)
    fields: dict[str, Any] = {
        "run_id": "7f3a",
        "name": "Tighter in storms, looser in calm",
        "question": "Should margin follow volatility instead of a fixed 6 %?",
        "search": search,
        "holdout": holdout,
        "goal": goal,
        "trials": trials,
        "front": front,
        "front_holdout": judged,
        "proposed_trial": 1,
        "selection_rule": "Best capital_efficiency on the search window.",
        "sources": [
            DataSource(
                feed="mark candles",
                market="BTC/USDT:USDT",
                start_ms=parse_utc_ms(SEARCH[0]),
                end_ms=parse_utc_ms(HOLDOUT[1]),
                rows=4_368,
                sha256="ab" * 32,
                origin="binanceusdm, file /home/alice/data/candles.parquet",
            )
        ],
        "notes": ["Depth was estimated from volume: the exchange publishes none."],
        "book_origin": "Generated: cross-margin-dex, 5,000 accounts, seed 7.",
        "book_fit": [
            FitRow("Gini of notional", 0.97, 0.965, "", "public leaderboard"),
            FitRow("leverage, median", 2.1, 2.14, "x equity", "public leaderboard"),
            FitRow("share of ten largest", 0.32, 0.35, "of notional", "public leaderboard"),
            FitRow("accounts", None, 5_000.0, "accounts", ""),
        ],
        "manifest": {
            "tape_digest": TAPE,
            "book_digest": BOOK,
            "config_hash": "c0ffee" + "0" * 58,
            "commit": "1234567890abcdef",
            "dirty": False,
            "packages": {"numpy": "2.4.0", "numba": "0.68.1"},
            "seed": 11,
        },
        "units": {"floor": "of notional", "multiplier": "sigmas", "update.keeper.latency": "time"},
    }
    return ReportInput(**(fields | changes))
