"""`replay`: the product. Everything left of it prepares its four inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.arrays import (
    book_arrays,
    fill_slots,
    holdings_of,
    kernel_inputs,
    opening_state,
    slots_needed,
    tape_arrays,
)
from backtest.errors import LedgerError, PolicyError
from backtest.instruments import PERPETUAL
from backtest.kernels.probe import PROBE_NOTIONAL_USD, probe_rows
from backtest.kernels.replay import replay_rows
from backtest.kernels.state import LIQUIDATION_NAMES, SERIES_NAMES, TapeArrays
from backtest.kernels.types import Holdings, empty_market, empty_requirement
from backtest.requirement import refuse_look_ahead
from backtest.result import LIQUIDATION_DTYPE, MarginPath, ReplayResult
from backtest.units import iso_utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.book import AccountBook
    from backtest.requirement import Policy, RequirementLayer
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules

LEDGER_TOLERANCE = 1e-12
"""Largest imbalance, relative to the gross sum of all money, that rounding can explain."""
ROWS_PER_CALL = 512
"""Rows replayed between two chances to report progress or to stop."""


def replay(
    tape: MarketTape,
    book: AccountBook,
    policy: Policy,
    venue: VenueRules,
    seed: int = 0,
    *,
    window: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayResult:
    """Replay a book on a tape under a margin policy and a venue's rules.

    Parameters
    ----------
    tape
        What the market did.
    book
        Who traded.
    policy
        What is asked for. It sees the tape up to the window's end, and its parameters of one
        row are refused if they change when later rows are hidden.
    venue
        How it is enforced.
    seed
        Named in the manifest; nothing in the present venue rules draws from it.
    window
        Half-open range in milliseconds UTC; the whole tape if not given. All accounts start
        flat at its first row, and the policy has seen everything before it.
    progress
        Called with rows done and rows in all, every few hundred rows.

    Returns
    -------
    ReplayResult
        Series, liquidations, margin path and metrics.

    Raises
    ------
    DataError
        If the window holds no row.
    BookError
        If the book trades what the tape lacks.
    LookAheadError
        If the policy's parameters depend on the future.
    LedgerError
        If money appeared or vanished.
    """
    rows = tape.rows_between(*window) if window else slice(0, len(tape))
    tape_digest = tape.digest
    if rows.stop < len(tape):
        tape = tape.head(
            rows.stop, int(np.searchsorted(tape.vol_ts, tape.ts[rows.stop - 1], "right"))
        )
    arrays = tape_arrays(tape, venue)
    layers = policy.layers(tape)
    for layer in layers:
        if len(layer.parameters) != len(tape):
            raise PolicyError(
                f"{layer.rule.name}: {len(layer.parameters)} rows of parameters for "
                f"{len(tape)} rows of the tape."
            )
    refuse_look_ahead(policy, tape, layers)
    layers = fill_slots(layers, len(tape))
    series, log = _run(tape, arrays, book, layers, venue, rows, progress)
    named = {name: series[rows, k] for k, name in enumerate(SERIES_NAMES)}
    _refuse_leak(tape.ts[rows], named)
    begins = (
        tape.ts[rows.start - 1] if rows.start else 2 * tape.ts[0] - tape.ts[min(1, len(tape) - 1)]
    )
    return ReplayResult(
        ts=tape.ts[rows],
        interval_ms=np.diff(tape.ts[rows], prepend=begins),
        assets=tape.assets,
        index=tape.index[rows],
        series=named,
        liquidation_log=_liquidations(tape, log, venue.recovery_window),
        margin=margin_path(tape, arrays, layers, venue, rows),
        tape_digest=tape_digest,
        book_digest=book.digest,
        policy=policy.identity(),
        venue=venue,
        seed=seed,
        window=(int(tape.ts[rows.start]), int(tape.ts[rows.stop - 1]) + 1),
        synthetic_market=tape.synthetic,
        synthetic_book=book.synthetic,
        notes=tape.notes,
    )


def _run(
    tape: MarketTape,
    arrays: TapeArrays,
    book: AccountBook,
    layers: tuple[RequirementLayer, ...],
    venue: VenueRules,
    rows: slice,
    progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    orders = book_arrays(book, tape, rows)
    state = opening_state(
        book, tape, venue, slots_needed(orders, len(book), max(len(tape.instruments), 1))
    )
    series = np.zeros((len(tape), len(SERIES_NAMES)))
    market = empty_market(tape.instruments, len(tape.assets))
    requirement = empty_requirement(len(book) + 1)
    given = kernel_inputs(layers, len(tape.instruments))
    kernels = tuple(layer.rule.kernel for layer in layers)
    paths = tuple(layer.parameters for layer in layers)
    logs = []
    for first in range(rows.start, rows.stop, ROWS_PER_CALL):
        last = min(first + ROWS_PER_CALL, rows.stop)
        logs.append(
            replay_rows(
                arrays,
                orders,
                venue.numbers(),
                kernels,
                paths,
                given,
                market,
                state,
                holdings_of(state),
                requirement,
                series,
                first,
                last,
            )
        )
        if progress:
            progress(last - rows.start, rows.stop - rows.start)
    return series, np.concatenate(logs)


def _refuse_leak(ts: np.ndarray, series: dict[str, np.ndarray]) -> None:
    leaked, gross = series["ledger_imbalance_usd"], series["ledger_scale_usd"]
    bad = ~(leaked <= LEDGER_TOLERANCE * gross)
    for row in np.flatnonzero(bad)[:1]:
        raise LedgerError(
            f"{leaked[row]:.6g} of {gross[row]:.6g} USD appeared or vanished at "
            f"{iso_utc(int(ts[row]))} UTC."
        )


def _liquidations(tape: MarketTape, log: np.ndarray, recovery_ms: int) -> np.ndarray:
    """Name the columns of the log and judge which steps the market took back."""
    named = np.zeros(len(log), LIQUIDATION_DTYPE)
    row = log[:, 0].astype(np.int64)
    for k, name in enumerate(("row", "account", "asset", "side")):
        named[name] = log[:, k].astype(np.int64)
    for k, name in enumerate(LIQUIDATION_NAMES[4:], start=4):
        named[name] = log[:, k]
    named["ts"] = tape.ts[row]
    until = np.searchsorted(tape.ts, tape.ts[row] + recovery_ms, side="right")
    for n, (at, last) in enumerate(zip(row, until, strict=True)):
        after = tape.index[at + 1 : last, named["asset"][n]]
        if at > 0 and after.size:
            level = tape.index[at - 1, named["asset"][n]]
            back = after.max() >= level if named["side"][n] > 0 else after.min() <= level
            named["false"][n] = back
    return named


def margin_path(
    tape: MarketTape,
    arrays: TapeArrays,
    layers: tuple[RequirementLayer, ...],
    venue: VenueRules,
    rows: slice,
) -> MarginPath:
    """Probe a policy with a long and a short perpetual of each asset.

    Parameters
    ----------
    tape, arrays, layers, venue
        As prepared for a replay; ``layers`` fill every kernel slot.
    rows
        Rows of the window; losses that would end after it are left open.

    Returns
    -------
    MarginPath
        Rates and losses per unit of notional.
    """
    table = tape.instruments
    assets = len(tape.assets)
    perpetual = np.full(assets, -1)
    for i in np.flatnonzero(table.kind == PERPETUAL)[::-1]:
        perpetual[table.asset[i]] = i
    probed = np.flatnonzero(perpetual >= 0)
    count = 2 * len(probed)
    sides = np.tile([1.0, -1.0], len(probed))
    holdings = Holdings(
        np.arange(count, dtype=np.int64),
        np.ones(count, np.int64),
        np.repeat(perpetual[probed], 2).astype(np.int64),
        sides * PROBE_NOTIONAL_USD,
    )
    initial = np.full((len(tape), count), np.nan)
    maintenance = np.full((len(tape), count), np.nan)
    probe_rows(
        arrays,
        tuple(layer.rule.kernel for layer in layers),
        tuple(layer.parameters for layer in layers),
        kernel_inputs(layers, len(table)),
        empty_market(table, assets),
        holdings,
        empty_requirement(count),
        initial,
        maintenance,
        rows.start,
        rows.stop,
    )
    shape = (rows.stop - rows.start, assets, 2)
    rates = []
    for path in (initial, maintenance):
        rate = np.full(shape, np.nan)
        rate[:, probed] = path[rows].reshape(shape[0], len(probed), 2)
        rates.append(rate)
    return MarginPath(rates[0], rates[1], _losses(tape, venue.margin_period, rows))


def _losses(tape: MarketTape, period_ms: int, rows: slice) -> np.ndarray:
    """Loss of a long and a short over the margin period that starts at each row."""
    ts, mark = tape.ts[rows], tape.mark[rows]
    end = np.searchsorted(ts, ts + period_ms, side="left")
    loss = np.full((*mark.shape, 2), np.nan)
    inside = np.flatnonzero(end < len(ts))
    move = mark[end[inside]] / mark[inside] - 1.0
    loss[inside, :, 0] = -move
    loss[inside, :, 1] = move
    return loss
