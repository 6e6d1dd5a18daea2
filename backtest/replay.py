"""`replay`: the product. Everything left of it prepares its four inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest.arrays import build_world, prepare
from backtest.book import AccountBook
from backtest.errors import LedgerError, PolicyError
from backtest.instruments import PERPETUAL
from backtest.kernels.probe import probe_instants
from backtest.kernels.records import (
    LEDGER_NAMES,
    LEVEL_NAMES,
    LIQUIDATION_NAMES,
    SERIES_NAMES,
    WORST_NAMES,
)
from backtest.kernels.replay import replay_instants
from backtest.kernels.state import ADL_LOGGED, LOGGED
from backtest.requirement import refuse_look_ahead
from backtest.result import ADL_DTYPE, LIQUIDATION_DTYPE, MarginPath, ReplayResult
from backtest.units import iso_utc

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.arrays import Prepared
    from backtest.kernels.blocks import Block
    from backtest.requirement import Policy, RequirementLayer
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules

LEDGER_TOLERANCE = 1e-12
"""Largest imbalance, relative to the gross sum of all money, that rounding can explain."""
INSTANTS_PER_CALL = 512
"""Instants replayed between two chances to report progress or to stop."""


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
    layers = policy.layers(tape)
    for layer in layers:
        if len(layer.parameters) != len(tape):
            raise PolicyError(
                f"{layer.rule.name}: {len(layer.parameters)} rows of parameters for "
                f"{len(tape)} rows of the tape."
            )
    refuse_look_ahead(policy, tape, layers)
    run = run_loop(tape, book, layers, venue, rows, progress)
    _refuse_undefined(tape.ts[rows], run.series)
    _refuse_leak(tape.ts[rows], run.series)
    begins = (
        tape.ts[rows.start - 1] if rows.start else 2 * tape.ts[0] - tape.ts[min(1, len(tape) - 1)]
    )
    return ReplayResult(
        ts=tape.ts[rows],
        interval_ms=np.diff(tape.ts[rows], prepend=begins),
        assets=tape.assets,
        index=tape.index[rows],
        series=run.series,
        liquidation_log=_liquidations(tape, run.log, venue.recovery_window),
        adl_log=_named(run.adl_log, ADL_DTYPE),
        account_ledger=run.ledger,
        margin=margin_path(tape, layers, venue, rows),
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


class LoopRecords(NamedTuple):
    """What the compiled loop recorded, by bar of the window and by event."""

    series: dict[str, np.ndarray]  # (bars,) each, named by `SERIES_NAMES`
    log: np.ndarray  # (L, LIQUIDATION_COLUMNS); rows are bars of the tape, accounts the book's
    adl_log: np.ndarray  # (W, ADL_COLUMNS), likewise
    ledger: np.ndarray  # (accounts of the book, LEDGER_NAMES), US dollars
    instants: int


def run_loop(
    tape: MarketTape,
    book: AccountBook,
    layers: tuple[RequirementLayer, ...],
    venue: VenueRules,
    rows: slice,
    progress: Callable[[int, int], None] | None = None,
) -> LoopRecords:
    """Run the compiled loop over a window of bars.

    Parameters
    ----------
    tape, book, venue
        As in `replay`.
    layers
        The policy's, one row of parameters per bar.
    rows
        Bars of the window.
    progress
        As in `replay`, in instants.
    """
    prepared, bar_of_row = prepare(tape, book, layers, venue, rows)
    kernels = tuple(layer.rule.kernel for layer in prepared.layers)
    room = max(4096, 8 * len(prepared.book.owner))
    while True:
        try:
            world, logs, adl_logs = _run(prepared, book, kernels, room, progress)
            break
        except _LogFullError as full:
            room = 2 * full.needed
    used = prepared.timeline.row
    inside = slice(int(used[0]), int(used[-1]) + 1)
    log, adl_log = np.concatenate(logs), np.concatenate(adl_logs)
    owner, bars = prepared.book.owner, bar_of_row
    for table, account in ((log, 1), (adl_log, 2)):
        table[:, 0] = bars[table[:, 0].astype(np.int64)]
        table[:, account] = owner[table[:, account].astype(np.int64)]
    ledger = np.zeros((len(book), len(LEDGER_NAMES)))
    np.add.at(ledger, owner, world.records.ledger)
    return LoopRecords(
        series=_by_bar(world.records.series[inside], bars[inside]),
        log=log,
        adl_log=adl_log,
        ledger=ledger,
        instants=len(used),
    )


class _LogFullError(Exception):
    """A stretch of the replay liquidated more often than its log has rows."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


def _run(
    prepared: Prepared,
    book: AccountBook,
    kernels: tuple[Any, ...],
    room: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Block, list[np.ndarray], list[np.ndarray]]:
    world = build_world(prepared, book, room)
    counter = world.state.counter
    instants = len(prepared.timeline.at_ms)
    logs, adl_logs = [], []
    for first in range(0, instants, INSTANTS_PER_CALL):
        last = min(first + INSTANTS_PER_CALL, instants)
        replay_instants(world, kernels, first, last)
        needed = int(max(counter[LOGGED], counter[ADL_LOGGED]))
        if needed > room:
            raise _LogFullError(needed)
        logs.append(world.records.log[: counter[LOGGED]].copy())
        adl_logs.append(world.records.adl_log[: counter[ADL_LOGGED]].copy())
        counter[[LOGGED, ADL_LOGGED]] = 0
        if progress:
            progress(last, instants)
    return world, logs, adl_logs


def _by_bar(series: np.ndarray, bar: np.ndarray) -> dict[str, np.ndarray]:
    """Gather the rows of each bar: flows are added, levels are those of its close."""
    first = np.flatnonzero(np.concatenate(([True], np.diff(bar) != 0)))
    last = np.append(first[1:], len(bar)) - 1
    place = np.repeat(np.arange(len(first)), last + 1 - first)
    named = {}
    for k, name in enumerate(SERIES_NAMES):
        column = series[:, k]
        if len(first) == len(bar):
            named[name] = column.copy()
        elif name in WORST_NAMES:
            named[name] = np.maximum.reduceat(column, first)
        else:
            named[name] = column[last] if name in LEVEL_NAMES else np.bincount(place, column)
    return named


def _refuse_undefined(ts: np.ndarray, series: dict[str, np.ndarray]) -> None:
    for name in ("required_initial_usd", "required_maintenance_usd"):
        for row in np.flatnonzero(~np.isfinite(series[name]))[:1]:
            raise PolicyError(
                f"the policy asked for {series[name][row]} USD in all ({name}) at "
                f"{iso_utc(int(ts[row]))} UTC; a margin must be a finite number."
            )


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
    for k, name in enumerate(LIQUIDATION_NAMES):
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


def _named(log: np.ndarray, dtype: np.dtype) -> np.ndarray:
    named = np.zeros(len(log), dtype)
    for k, name in enumerate(dtype.names or ()):
        named[name] = log[:, k]
    return named


def margin_path(
    tape: MarketTape, layers: tuple[RequirementLayer, ...], venue: VenueRules, rows: slice
) -> MarginPath:
    """Probe a policy with a long and a short perpetual of each asset.

    Parameters
    ----------
    tape, venue
        As in `replay`; coverage is judged bar by bar.
    layers
        The policy's, one row of parameters per bar.
    rows
        Bars of the window; losses that would end after it are left open.

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
    instruments = np.repeat(perpetual[probed], 2)
    bars = replace(tape, intrabar="close")
    prepared, _ = prepare(bars, _probes(tape, instruments), layers, venue, rows)
    world = build_world(prepared, _probes(tape, instruments), 0)
    state, count = world.state, len(instruments)
    state.count[:count] = 1
    state.instrument[:count] = instruments
    state.quantity[:count] = np.tile([1.0, -1.0], len(probed))
    state.holders[instruments] = 2
    initial = np.full((len(tape), count), np.nan)
    maintenance = np.full((len(tape), count), np.nan)
    kernels = tuple(layer.rule.kernel for layer in prepared.layers)
    probe_instants(world, kernels, initial, maintenance, 0, len(prepared.timeline.at_ms))
    shape = (rows.stop - rows.start, assets, 2)
    rates = []
    for path in (initial, maintenance):
        rate = np.full(shape, np.nan)
        rate[:, probed] = path[rows].reshape(shape[0], len(probed), 2)
        rates.append(rate)
    return MarginPath(rates[0], rates[1], _losses(tape, venue.margin_period, rows))


def _probes(tape: MarketTape, instruments: np.ndarray) -> AccountBook:
    """Make a book of one account per probe, each with an order for the instrument it holds."""
    count = len(instruments)
    zeros, ones = np.zeros(count), np.ones(count)
    symbols = tuple(tape.instruments.symbols[i] for i in instruments[::2])
    return AccountBook(
        mode="elastic",
        assets=tape.assets,
        symbols=symbols,
        collateral_currency=zeros,
        wallet=zeros,
        buffer=ones,
        release=ones,
        top_up_share=zeros,
        top_up_delay_ms=zeros,
        segment=zeros,
        segments=("probe",),
        order_ts=np.full(count, tape.ts[-1]),
        order_account=np.arange(count),
        order_instrument=np.arange(count) // 2,
        order_quantity=ones,
        order_kind=zeros,
        order_group=np.arange(count),
    )


def _losses(tape: MarketTape, period_ms: int, rows: slice) -> np.ndarray:
    """Loss of a long and a short over the margin period that starts at each row.

    On a tape whose bars show their extremes, the worst moment of the period counts.
    """
    ts, mark = tape.ts[rows], tape.mark[rows]
    end = np.searchsorted(ts, ts + period_ms, side="left")
    loss = np.full((*mark.shape, 2), np.nan)
    inside = np.flatnonzero(end < len(ts))
    lowest, highest = mark[end[inside]], mark[end[inside]]
    if tape.intrabar == "high_low":
        for lag in range(1, int((end[inside] - inside).max(initial=0)) + 1):
            at = np.minimum(inside + lag, end[inside])
            lowest = np.minimum(lowest, tape.low[rows][at])
            highest = np.maximum(highest, tape.high[rows][at])
    loss[inside, :, 0] = 1.0 - lowest / mark[inside]
    loss[inside, :, 1] = highest / mark[inside] - 1.0
    return loss
