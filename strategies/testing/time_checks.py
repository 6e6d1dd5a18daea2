"""Checks of a policy along time: it may not peek, and it may not depend on threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from backtest.units import iso_utc
from strategies.testing.markets import equal_bits, random_accounts
from strategies.testing.verdict import Verdict, broken, kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backtest.tape import MarketTape
    from strategies.testing.subject import Subject

CUTS = 12
REPLACED = 5
THREADS = 4
ROUNDS = 8


def no_look_ahead(subject: Subject) -> Verdict:
    """Hide the future, then put another one in its place: what was posted must not change."""
    whole = _said(subject, subject.tape)
    rows = len(subject.tape)
    tried = 0
    for how, cut, tape in _shorter_and_other(subject.tape):
        seen = _said(subject, tape)
        tried += 1
        for what, values in whole.items():
            before, after = values, seen[what]
            if "constants" not in what:
                before, after = before[:cut], after[:cut]
            if np.array_equal(before, after, equal_nan=True):
                continue
            instant = iso_utc(int(subject.tape.ts[cut - 1]))
            if before.shape != after.shape or "constants" in what:
                return broken(
                    f"{what} change when the market after {instant} UTC is {how}; what follows "
                    "the market belongs into the parameters, row by row.",
                    cut_row=cut,
                )
            row, column = np.argwhere((before != after) & ~(np.isnan(before) & np.isnan(after)))[0]
            return broken(
                f"{what} of {iso_utc(int(subject.tape.ts[row]))} UTC change when the market "
                f"after {instant} UTC is {how}: column {column} is "
                f"{before[row, column]:.9g} with it and {after[row, column]:.9g} without.",
                row=int(row),
                column=int(column),
                cut_row=cut,
                whole=float(before[row, column]),
                cut=float(after[row, column]),
            )
    return kept(f"{rows} rows, {tried} markets with another future or none: the same to the bit.")


def _said(subject: Subject, tape: MarketTape) -> dict[str, np.ndarray]:
    """Collect signals, posted parameters and constants of every layer."""
    said: dict[str, np.ndarray] = {}
    layers = subject.policy.layers(tape)
    for k, (layer, posted) in enumerate(zip(subject.risk_layers, layers, strict=True)):
        name = f" of {layer.name}" if k else ""
        said["the signals" + name] = np.atleast_2d(np.asarray(layer.signals(tape), dtype=float))
        said["the parameters" + name] = posted.parameters
        said["the constants" + name] = posted.constants
    return said


def _shorter_and_other(tape: MarketTape) -> Iterator[tuple[str, int, MarketTape]]:
    rows = len(tape)
    places = {1, 2, rows - 1, *(rows * k // (CUTS + 1) for k in range(1, CUTS + 1))}
    cuts = sorted(places, reverse=True)
    for cut in cuts:
        yield "hidden", cut, tape.head(cut)
    for cut in cuts[:: max(1, len(cuts) // REPLACED)]:
        yield "replaced by a crash", cut, with_other_future(tape, cut, 0.5)
        yield "replaced by a rally", cut, with_other_future(tape, cut, 3.0)


def with_other_future(tape: MarketTape, cut: int, factor: float) -> MarketTape:
    """Return the same past with everything that is known after a row times a factor."""
    changes: dict[str, Any] = {}
    snapshots = int(np.searchsorted(tape.vol_known_ts, tape.known_ts[cut - 1], side="right"))
    kept_rows = {"iv": snapshots, "forward_ratio": snapshots}
    for f in fields(tape):
        value = getattr(tape, f.name)
        if isinstance(value, np.ndarray) and value.ndim == 2:
            other = value.copy()
            other[kept_rows.get(f.name, cut) :] *= factor
            changes[f.name] = other
    return replace(tape, **changes)


def same_bits_on_threads(subject: Subject) -> Verdict:
    """Post and ask on one thread, on all of them, and on several at once."""
    most = numba.config.NUMBA_NUM_THREADS
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = _said(subject, subject.tape)
        numba.set_num_threads(most)
        together = _said(subject, subject.tape)
    finally:
        numba.set_num_threads(before)
    for what, values in alone.items():
        if not np.array_equal(values, together[what], equal_nan=True):
            return broken(
                f"{what} differ between 1 and {most} threads, by up to "
                f"{np.nanmax(np.abs(values - together[what])):.3g}; sums have to be taken in an "
                "order that does not depend on the number of threads.",
                threads=most,
            )
    for what, values in _said(subject.wearing(subject.make()), subject.tape).items():
        if not np.array_equal(values, alone[what], equal_nan=True):
            return broken(f"{what} differ between two runs of the same policy.")
    scene = subject.scenes[1]
    holdings = random_accounts(scene.market, scene.tradable, subject.seed, accounts=64)
    expected = subject.ask(scene, holdings)
    with ThreadPoolExecutor(THREADS) as pool:
        asked = list(pool.map(lambda _: subject.ask(scene, holdings), range(THREADS * ROUNDS)))
    for answer in asked:
        if not equal_bits(answer, expected):
            differs = answer.initial != expected.initial
            account = int(np.flatnonzero(differs | (answer.maintenance != expected.maintenance))[0])
            return broken(
                f"asked on {THREADS} threads at once, an account of "
                f"{subject.words(scene, holdings, account)} is asked for "
                f"{answer.initial[account]:,.6f} USD instead of "
                f"{expected.initial[account]:,.6f} USD."
            )
    return kept(f"1 and {most} threads, twice, and {THREADS} asking at once: the same to the bit.")
