"""The benchmarks: option prices, account-ticks, compilation, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numba
import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.black76 import STRICT, stressed_prices
from backtest.kernels.types import empty_requirement
from backtest.replay import replay
from backtest.venue import VenueRules
from benchmarks import rivals, workload
from benchmarks.exact import black76_exactly
from benchmarks.measure import Measurement, interleaved
from strategies.kernels.scenario_grid import scenario_grid

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.tape import MarketTape
    from strategies.contract import MarginPolicy

ROOT = Path(__file__).resolve().parent.parent


@numba.njit(**STRICT)
def _price_all(
    forward: np.ndarray,
    strike: np.ndarray,
    is_call: np.ndarray,
    moves: np.ndarray,
    log_moves: np.ndarray,
    deviation: np.ndarray,
    out: np.ndarray,
) -> None:
    for i in range(len(forward)):
        stressed_prices(forward[i], strike[i], is_call[i], moves, log_moves, deviation[i], out[i])


def option_prices(repeats: int = 15) -> list[Measurement]:
    """Reprice 1,200 options under 32 scenarios with each library."""
    market, _ = workload.make_portfolios(*_tape_and_book(4))
    options = np.flatnonzero(market.kind == OPTION)
    forward, strike = market.forward[options], market.strike[options]
    is_call = market.is_call[options].astype(float)
    moves = np.linspace(0.7, 1.3, workload.SCENARIOS)
    shocks = np.linspace(0.7, 1.5, workload.SCENARIOS)
    log_moves = np.log(moves)
    deviation = (market.sigma * np.sqrt(market.years))[options][:, None] * shocks
    ours = np.empty(deviation.shape)
    theirs = np.empty(deviation.shape)
    few = slice(0, 40)
    grid = np.broadcast_to(forward[few, None] * moves, (40, workload.SCENARIOS)).ravel()
    strikes = np.repeat(strike[few], workload.SCENARIOS)
    kinds = np.repeat(is_call[few] > 0.5, workload.SCENARIOS)
    third = np.empty(grid.shape)

    def price_ours() -> None:
        _price_all(forward, strike, is_call, moves, log_moves, deviation, ours)

    def price_numpy() -> None:
        theirs[:] = rivals.numpy_black76(
            forward[:, None] * moves,
            strike[:, None],
            deviation,
            is_call[:, None] > 0.5,
        )

    def price_quantlib() -> None:
        third[:] = rivals.quantlib_black76(grid, strikes, deviation[few].ravel(), kinds)

    seconds = interleaved(
        {"ours": price_ours, "numpy": price_numpy, "quantlib": price_quantlib}, repeats
    )
    tolerance = 1e-12 * float(forward.max())
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=tolerance)
    np.testing.assert_allclose(ours[few].ravel(), third, rtol=0.0, atol=tolerance)
    rate = ours.size / seconds["ours"]
    numpy_rate = theirs.size / seconds["numpy"]
    quantlib_rate = third.size / seconds["quantlib"]
    exact = _price_exactly(forward[few], strike[few], is_call[few], moves, deviation[few])
    errors = {
        name: 1e15 * float(np.abs((found - exact) / forward[few, None]).max())
        for name, found in (
            ("remargin", ours[few]),
            ("NumPy + SciPy", theirs[few]),
            ("QuantLib", third.reshape(exact.shape)),
        )
    }
    unit, parts = "M prices/s", "1e-15 of forward"
    return [
        Measurement("Black-76, remargin", rate / 1e6, unit, aim=200.0),
        Measurement("Black-76, NumPy + SciPy", numpy_rate / 1e6, unit, rate / numpy_rate, 5.0),
        Measurement(
            "Black-76, QuantLib from Python", quantlib_rate / 1e6, unit, rate / quantlib_rate, 200.0
        ),
        Measurement(
            "Black-76, remargin, largest error",
            errors.pop("remargin"),
            parts,
            aim=1e3,
            at_most=True,
        ),
        *(
            Measurement(f"Black-76, {name}, largest error", error, parts)
            for name, error in errors.items()
        ),
    ]


def _price_exactly(
    forward: np.ndarray,
    strike: np.ndarray,
    is_call: np.ndarray,
    moves: np.ndarray,
    deviation: np.ndarray,
) -> np.ndarray:
    """Price some options with fifty digits: what the same doubles would be worth."""
    return np.array(
        [
            [
                float(black76_exactly(Decimal(f) * Decimal(x), Decimal(k), Decimal(d), call > 0.5))
                for x, d in zip(moves.tolist(), row, strict=True)
            ]
            for f, k, call, row in zip(
                forward.tolist(), strike.tolist(), is_call.tolist(), deviation.tolist(), strict=True
            )
        ]
    )


def account_ticks(repeats: int = 15, rows: int = 64) -> list[Measurement]:
    """Ask the scenario margin of 10,000 accounts, alone and inside the event loop."""
    tape, book = _tape_and_book(rows)
    policy = workload.make_policy()
    market, holdings = workload.make_portfolios(tape, book)
    given = workload.make_input(policy.layers(tape)[0], len(tape.instruments))
    accounts = np.arange(workload.ACCOUNTS)
    asked = empty_requirement(workload.ACCOUNTS)
    portfolios = rivals.sparse_portfolios(market, holdings)
    theirs = np.empty(workload.ACCOUNTS)

    def ask_ours() -> None:
        market.tick[0] += 1
        scenario_grid.kernel(given, market, holdings, accounts, asked)

    def ask_numpy() -> None:
        theirs[:] = rivals.numpy_requirement(given, market, portfolios)

    seconds = interleaved({"ours": ask_ours, "numpy": ask_numpy}, repeats)
    np.testing.assert_allclose(asked.initial, theirs, rtol=1e-9, atol=1e-6)
    loop_rate = workload.ACCOUNTS / _seconds_per_row(tape, book, policy)
    rate = workload.ACCOUNTS / seconds["ours"]
    numpy_rate = workload.ACCOUNTS / seconds["numpy"]
    unit = "M account-ticks/s"
    return [
        Measurement("requirement, remargin", rate / 1e6, unit, rate / numpy_rate),
        Measurement(
            "whole event loop, remargin", loop_rate / 1e6, unit, loop_rate / numpy_rate, 4.0
        ),
        Measurement("whole event loop, against its aim", loop_rate / 1e6, unit, aim=15.0),
        Measurement("requirement, NumPy + SciPy sparse", numpy_rate / 1e6, unit),
    ]


def linear_account_ticks(repeats: int = 101, rows: int = 2_048) -> list[Measurement]:
    """Replay 10,000 isolated accounts of one linear perpetual, funding every eighth hour."""
    tape = workload.make_tape(rows, options=0, funding_rows=8)
    book = workload.make_book(tape, legs=1)
    rate = np.full(len(tape.assets), 0.05)
    asset, quantity = np.array(book.order_instrument), np.array(book.order_quantity)
    cash = 1e5 - quantity * tape.mark[1][asset]
    totals: list[float] = []

    def tick_numpy() -> None:
        totals[:] = rivals.numpy_linear_tick(rate, tape.mark[2], cash, asset, quantity)

    seconds = interleaved({"numpy": tick_numpy}, repeats)
    per_row = _seconds_per_row(tape, book, workload.make_linear_policy(), tuple(totals[1:3]))
    loop_rate, numpy_rate = (workload.ACCOUNTS / each for each in (per_row, seconds["numpy"]))
    unit = "M account-ticks/s"
    return [
        Measurement(
            "linear isolated book, whole event loop", loop_rate / 1e6, unit, loop_rate / numpy_rate
        ),
        Measurement("linear isolated book, against its aim", loop_rate / 1e6, unit, aim=500.0),
        Measurement("linear isolated book, check alone in NumPy", numpy_rate / 1e6, unit),
    ]


def _seconds_per_row(
    tape: MarketTape,
    book: AccountBook,
    policy: MarginPolicy,
    margins_at_row_2: tuple[float, ...] = (),
    repeats: int = 5,
) -> float:
    """Return what one more row costs the loop: a long replay less a short one."""
    venue = VenueRules()
    rows = len(tape)
    short = (int(tape.ts[0]), int(tape.ts[3]))
    whole = (int(tape.ts[0]), int(tape.ts[-1]) + 1)
    replay(tape, book, policy, venue, window=short)
    costs = []
    for _ in range(repeats):
        marks = [time.thread_time()]
        for window in (short, whole):
            result = replay(tape, book, policy, venue, window=window)
            marks.append(time.thread_time())
        if result.series["accounts_open"][-1] < 0.99 * workload.ACCOUNTS:
            raise RuntimeError("the benchmark's accounts did not stay open")
        for name, expected in zip(("initial", "maintenance"), margins_at_row_2, strict=False):
            np.testing.assert_allclose(result.series[f"required_{name}_usd"][2], expected, 1e-9)
        costs.append(((marks[2] - marks[1]) - (marks[1] - marks[0])) / (rows - 3))
    return sorted(costs)[repeats // 2]


def start() -> list[Measurement]:
    """Time a process from nothing to its first result: kernels to compile, and compiled."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (
            float(_run("benchmarks.start", environment={"REMARGIN_CACHE": folder}))
            for _ in range(2)
        )
    return [
        Measurement("first result, nothing compiled", cold, "seconds", aim=30.0, at_most=True),
        Measurement("first result, kernels on disk", warm, "seconds", aim=2.0, at_most=True),
    ]


def years_in_memory() -> list[Measurement]:
    """Replay one year of hours and four, each in a process of its own, and read peak memory."""
    one, four = (
        [float(word) for word in _run("benchmarks.year", str(years)).split()] for years in (1, 4)
    )
    return [
        Measurement(
            "year of hours, 5,000 accounts, peak memory", one[1], "MB", aim=2_000.0, at_most=True
        ),
        Measurement(
            "four years instead, peak memory",
            four[1] / one[1],
            "of one year",
            aim=1.25,
            at_most=True,
        ),
        Measurement("year of hours, 5,000 accounts, replay", one[0], "seconds"),
    ]


def _run(module: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def _tape_and_book(rows: int) -> tuple[MarketTape, AccountBook]:
    tape = workload.make_tape(rows)
    return tape, workload.make_book(tape)
