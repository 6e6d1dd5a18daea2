"""Option strategies on what the tape lists and quotes at the time of the order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.instruments import OPTION
from backtest.units import MS_PER_HOUR, MS_PER_YEAR

if TYPE_CHECKING:
    from backtest.tape import MarketTape

LEGS = 4
_SHORTEST_LIFE_MS = 6 * MS_PER_HOUR
_CHUNK = 8_192


class Leg(NamedTuple):
    """One leg: what, on which side, and how far out in standard deviations to expiry.

    ``beyond`` asks for a strike strictly farther out than the leg before.
    """

    kind: str
    side: int
    deviations: float = 0.0
    beyond: bool = False


STRATEGIES: dict[str, tuple[Leg, ...]] = {
    "perpetual": (Leg("perpetual", 1),),
    "long_call": (Leg("call", 1, 0.5),),
    "short_call": (Leg("call", -1, 0.8),),
    "long_put": (Leg("put", 1, -0.5),),
    "short_put": (Leg("put", -1, -0.8),),
    "covered_call": (Leg("perpetual", 1), Leg("call", -1, 0.8)),
    "covered_put": (Leg("perpetual", -1), Leg("put", -1, -0.8)),
    "protective_put": (Leg("perpetual", 1), Leg("put", 1, -0.8)),
    "protective_call": (Leg("perpetual", -1), Leg("call", 1, 0.8)),
    "call_spread": (Leg("call", 1, 0.0), Leg("call", -1, 1.0, beyond=True)),
    "put_spread": (Leg("put", 1, 0.0), Leg("put", -1, -1.0, beyond=True)),
    "long_straddle": (Leg("call", 1), Leg("put", 1)),
    "short_straddle": (Leg("call", -1), Leg("put", -1)),
    "long_strangle": (Leg("call", 1, 0.8), Leg("put", 1, -0.8)),
    "short_strangle": (Leg("call", -1, 0.8), Leg("put", -1, -0.8)),
    "iron_condor": (
        Leg("put", -1, -0.7),
        Leg("put", 1, -1.5, beyond=True),
        Leg("call", -1, 0.7),
        Leg("call", 1, 1.5, beyond=True),
    ),
}
"""Legs of each strategy; the notional of all its legs together is the intended notional."""
NAMES = tuple(STRATEGIES)
PERPETUAL_ONLY = NAMES.index("perpetual")
OPTION_LEG_SHARE = np.array(
    [np.mean([leg.kind != "perpetual" for leg in legs]) for legs in STRATEGIES.values()]
)


@dataclass(frozen=True)
class Chain:
    """Options of one asset and settlement: ``E`` expiries with up to ``K`` strikes each.

    ``instrument[k, e, s]`` is the put (``k = 0``) or call (``k = 1``), -1 where there is none.
    ``quoted[s, e]`` tells whether any of an expiry had a volatility in snapshot ``s``.
    """

    expiry_ms: np.ndarray
    expiry_column: np.ndarray
    strike: np.ndarray
    instrument: np.ndarray
    quoted: np.ndarray


def chain_of(tape: MarketTape, asset: int, inverse: int) -> Chain | None:
    """Arrange an asset's options by expiry and strike; None where there are none."""
    table = tape.instruments
    ids = np.flatnonzero(
        (table.kind == OPTION) & (table.asset == asset) & (table.inverse == inverse)
    )
    if not len(ids):
        return None
    expiries = np.unique(table.expiry_ms[ids])
    ladders = [np.unique(table.strike[ids[table.expiry_ms[ids] == e]]) for e in expiries]
    shape = (len(expiries), max(map(len, ladders)))
    strike = np.full(shape, np.nan)
    instrument = np.full((2, *shape), -1, np.int64)
    expiry_column = np.empty(len(expiries), np.int64)
    quoted = np.empty((len(tape.vol_ts), len(expiries)), bool)
    known = np.isfinite(tape.iv)
    for e, (expiry, ladder) in enumerate(zip(expiries, ladders, strict=True)):
        own = ids[table.expiry_ms[ids] == expiry]
        strike[e, : len(ladder)] = ladder
        place = np.searchsorted(ladder, table.strike[own])
        instrument[table.is_call[own], e, place] = own
        expiry_column[e] = table.expiry_column[own[0]]
        quoted[:, e] = known[:, table.iv_column[own]].any(axis=1)
    return Chain(expiries, expiry_column, strike, instrument, quoted)


def choose_expiries(
    tape: MarketTape,
    chain: Chain,
    start_ms: np.ndarray,
    row: np.ndarray,
    tenor_ms: np.ndarray,
) -> np.ndarray:
    """Choose the quoted expiry nearest to a wanted life; -1 where there is none.

    Parameters
    ----------
    tape, chain
        What is listed.
    start_ms, row
        ``(n,)`` instant of the order and the row the trader sees.
    tenor_ms
        ``(n,)`` wanted life.
    """
    chosen = np.full(len(start_ms), -1, np.int64)
    snapshot = known_snapshot(tape, row)
    # The order is filled at the next row, and what it buys must live beyond that.
    filled = tape.ts[np.minimum(row + 1, len(tape) - 1)]
    for first in range(0, len(start_ms), _CHUNK):
        part = slice(first, first + _CHUNK)
        open_ = chain.quoted[np.maximum(snapshot[part], 0)] & (snapshot[part] >= 0)[:, None]
        open_ &= chain.expiry_ms > filled[part][:, None] + _SHORTEST_LIFE_MS
        distance = np.abs(chain.expiry_ms - (start_ms[part] + tenor_ms[part])[:, None])
        distance = np.where(open_, distance, np.inf)
        nearest = np.argmin(distance, axis=1)
        found = np.isfinite(distance[np.arange(len(nearest)), nearest])
        chosen[part] = np.where(found, nearest, -1)
    return chosen


def known_snapshot(tape: MarketTape, row: np.ndarray) -> np.ndarray:
    """Last option snapshot known at each row's own time, -1 before the first."""
    return np.asarray(np.searchsorted(tape.vol_known_ts, tape.ts[row], side="right") - 1)


def choose_legs(
    tape: MarketTape,
    chain: Chain,
    legs: tuple[Leg, ...],
    row: np.ndarray,
    expiry: np.ndarray,
    width: np.ndarray,
    perpetual: int,
) -> np.ndarray:
    """Choose the instruments of one strategy for many orders.

    Parameters
    ----------
    tape, chain
        What is listed and quoted.
    legs
        The strategy.
    row, expiry
        ``(n,)`` row that the trader sees, and row of the chain.
    width
        ``(n,)`` factor on each leg's distance from the forward.
    perpetual
        Instrument of a perpetual leg.

    Returns
    -------
    numpy.ndarray
        ``(n, LEGS)`` instruments, -1 for a leg that the strategy lacks; all -1 where a leg
        could not be found among the listed and quoted strikes.
    """
    table = tape.instruments
    chosen = np.full((len(row), LEGS), -1, np.int64)
    for first in range(0, len(row), _CHUNK):
        part = slice(first, first + _CHUNK)
        rows, e = row[part], expiry[part]
        here = np.arange(len(rows))
        now = tape.ts[rows]
        snapshot = known_snapshot(tape, rows)
        years = (chain.expiry_ms[e] - now) / MS_PER_YEAR
        asset = table.asset[perpetual]
        ratio = tape.forward_ratio[snapshot, chain.expiry_column[e]]
        forward = tape.index[rows, asset] * ratio
        distance_out = np.log(chain.strike[e] / forward[:, None])
        ids = chain.instrument[:, e]
        safe = np.maximum(ids, 0)
        sigma = tape.iv[snapshot[:, None], table.iv_column[safe]]
        usable = (ids >= 0) & np.isfinite(sigma)
        usable &= (table.listed_ms[safe] <= now[:, None]) & (table.expiry_ms[safe] > now[:, None])
        level = np.sum(np.where(usable, sigma, 0.0), axis=(0, 2))
        level /= np.maximum(usable.sum(axis=(0, 2)), 1)
        deviation = level * np.sqrt(years) * width[part]
        complete = np.ones(len(rows), bool)
        before = np.zeros(len(rows), np.int64)
        for slot, leg in enumerate(legs):
            if leg.kind == "perpetual":
                chosen[part, slot] = perpetual
                continue
            call = int(leg.kind == "call")
            open_ = usable[call]
            if leg.beyond:
                open_ = open_ & _beyond(distance_out, distance_out[here, before], call)
            elif slot + 1 < len(legs) and legs[slot + 1].beyond:
                # The outermost strike is left to the leg that must lie beyond this one.
                outermost = np.where(open_, distance_out, -np.inf if call else np.inf)
                outermost = outermost.max(axis=1) if call else outermost.min(axis=1)
                open_ = open_ & _beyond(-distance_out, -outermost, call)
            miss = np.abs(distance_out - (leg.deviations * deviation)[:, None])
            miss = np.where(open_, miss, np.inf)
            before = np.argmin(miss, axis=1)
            complete &= np.isfinite(miss[here, before])
            chosen[part, slot] = ids[call][here, before]
        chosen[part][~complete] = -1
    return chosen


def _beyond(distance: np.ndarray, inner: np.ndarray, call: int) -> np.ndarray:
    """Tell which strikes lie strictly farther out: above for calls, below for puts."""
    other = inner[:, None]
    return np.asarray(distance > other if call else distance < other)
