"""What every preset costs, on the same accounts as the plain scenario grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
from numba import types

from backtest.errors import RemarginError
from backtest.instruments import OPTION
from backtest.kernels.black76 import STRICT
from backtest.kernels.types import (
    HOLDINGS_TYPE,
    KERNEL_INPUT_TYPE,
    KERNEL_SIGNATURE,
    MARKET_TYPE,
    REQUIREMENT_TYPE,
    Holdings,
    Market,
    Requirement,
    empty_requirement,
)
from benchmarks import workload
from benchmarks.measure import Measurement, interleaved
from strategies.registry import PRESETS, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from backtest.kernels.types import KernelInput
    from backtest.tape import MarketTape
    from strategies.contract import MarginPolicy

DEAREST = 5.0
"""No preset may cost more than this many plain scenario grids."""
LEGS = 50
CALLS = 200
MICROSECONDS = 50.0


class _Layer(NamedTuple):
    """One kernel of a policy, and its numbers."""

    kernel: Any
    given: KernelInput


def preset_costs(repeats: int = 9) -> list[Measurement]:
    """Ask the margin of 10,000 accounts under every preset, repriced each time."""
    tape = workload.make_tape(4)
    market, holdings = workload.make_portfolios(tape, workload.make_book(tape))
    accounts, asked = np.arange(workload.ACCOUNTS), empty_requirement(workload.ACCOUNTS)
    plain = "plain scenario grid"
    runs: dict[str, Callable[[], object]] = {
        plain: _asking(_layers(workload.make_policy(), tape), market, holdings, asked)
    }
    skipped = []
    for path in sorted(PRESETS.glob("*.yaml")):
        name = path.stem
        try:
            layers = _layers(policy(f"preset:{name}"), tape)
        except RemarginError as error:
            skipped.append(Measurement(f"preset {name}", None, f"skipped: {error}"))
            continue
        runs[name] = _asking(layers, market, holdings, asked)
        runs[name]()
        if not np.all(np.isfinite(asked.initial[accounts])):
            raise RuntimeError(f"preset {name} asks for a margin that is not finite")
    seconds = interleaved(runs, repeats)
    unit = "ns/account-tick"
    lines = [Measurement(plain, seconds[plain] / len(accounts) * 1e9, unit)]
    for name, spent in list(seconds.items())[1:]:
        cost = spent / len(accounts) * 1e9
        times = spent / seconds[plain]
        lines.append(Measurement(f"preset {name}", cost, unit, times, DEAREST, at_most=True))
    return lines + skipped


def one_portfolio(preset: str = "derive-pmrm2", repeats: int = 15) -> list[Measurement]:
    """Ask one account of 50 legs on one asset, repriced at every call, as the loop calls it."""
    name = f"one portfolio of {LEGS} legs, {preset}"
    tape = workload.make_tape(4)
    try:
        layers = _layers(policy(f"preset:{preset}"), tape)
    except RemarginError as error:
        return [Measurement(name, None, f"skipped: {error}")]
    market, _ = workload.make_portfolios(tape, workload.make_book(tape))
    bitcoin = np.flatnonzero((market.asset == 0) & (market.inverse == 0))[:LEGS]
    if np.count_nonzero(market.kind[bitcoin] == OPTION) != LEGS - 1:
        raise RuntimeError("the portfolio should hold one perpetual and options")
    side = np.where(np.arange(LEGS) % 2 == 0, 1.0, -1.0)
    holdings = Holdings(
        np.zeros(1, np.int64),
        np.full(1, LEGS),
        bitcoin,
        side,
        np.array(market.value_usd[bitcoin]),
        np.zeros((1 + len(tape.assets), 1)),
    )
    asked = empty_requirement(1)

    def ask_often() -> None:
        for kernel, given in layers:
            _ask_often(kernel, given, market, holdings, np.zeros(1, np.int64), asked, CALLS)

    seconds = interleaved({"ours": ask_often}, repeats)["ours"]
    if not math.isfinite(asked.initial[0]):
        raise RuntimeError(f"{preset} asks for a margin that is not finite")
    cost = seconds / CALLS * 1e6
    return [Measurement(name, cost, "microseconds", aim=MICROSECONDS, at_most=True)]


@numba.njit(
    types.void(
        types.FunctionType(KERNEL_SIGNATURE),
        KERNEL_INPUT_TYPE,
        MARKET_TYPE,
        HOLDINGS_TYPE,
        types.int64[::1],
        REQUIREMENT_TYPE,
        types.int64,
    ),
    **STRICT,
)
def _ask_often(
    kernel: Any,
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    asked: Requirement,
    calls: int,
) -> None:
    for _ in range(calls):
        market.tick[0] += 1
        kernel(given, market, holdings, accounts, asked)


def _layers(chosen: MarginPolicy, tape: MarketTape) -> list[_Layer]:
    return [
        _Layer(layer.rule.kernel, workload.make_input(layer, len(tape.instruments)))
        for layer in chosen.layers(tape)
    ]


def _asking(
    layers: list[_Layer], market: Market, holdings: Holdings, asked: Requirement
) -> Callable[[], None]:
    accounts = np.arange(len(holdings.start))

    def ask() -> None:
        market.tick[0] += 1
        for kernel, given in layers:
            kernel(given, market, holdings, accounts, asked)

    return ask
