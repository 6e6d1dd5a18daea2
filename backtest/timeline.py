"""When something happens, and what the venue knows then: the loop's clock, made beforehand.

An *instant* is a market row, or the arrival of an oracle post between two rows. Who sees what
at an instant depends on the tape and on the venue's rules alone, never on an account, so it is
worked out once on the host and both engines read the same arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.kernels.feeds import mark_posts, space_checks

if TYPE_CHECKING:
    from backtest.rules.liquidation import Keepers
    from backtest.rules.prices import CircuitBreaker, Confidence, Funding, Oracle
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules


class Timeline(NamedTuple):
    """``E`` instants of a window, ``A`` assets; int64, read-only.

    A price, snapshot or parameter that is not known yet is row -1.
    """

    at_ms: np.ndarray  # (E,) strictly ascending
    row: np.ndarray  # (E,) market row in force
    opens_row: np.ndarray  # (E,) 1 at the market row itself, 0 at an arrival after it
    seen_row: np.ndarray  # (E, A) row whose price of an asset the venue sees
    seen_snapshot: np.ndarray  # (E,) option snapshot that the venue sees
    policy_row: np.ndarray  # (E,) row whose parameters are in force
    enforce: np.ndarray  # (E, A) 1 where the venue acts on an asset's price and trades it
    check: np.ndarray  # (E,) 1 where all accounts are checked


def build_timeline(tape: MarketTape, venue: VenueRules, rows: slice) -> Timeline:
    """Lay out the instants of a window.

    Each asset is a feed of its own, that posts index and mark of a row together. A post of row
    ``r`` can be used from ``known_ts[r] + oracle.latency``. Parameters and option snapshots
    travel with the same delay but need no post.

    Parameters
    ----------
    tape
        The market; its rows before the window count as known history.
    venue
        Rules of oracle, margin check and circuit breaker.
    rows
        Rows of the window, at least one.

    Returns
    -------
    Timeline
        Depends on no row after the window.
    """
    oracle = venue.oracle
    posted = _posted(tape, oracle)
    usable_ms = tape.known_ts + oracle.latency
    fresh = (posted == np.arange(len(tape))[:, None]).any(axis=1)
    at_ms = _instants(tape.ts[rows], usable_ms[fresh])
    row = _latest(tape.ts, at_ms)
    known_row = _latest(usable_ms, at_ms)
    seen_row = np.where(known_row[:, None] < 0, -1, posted[known_row])
    enforce = _reliable(tape, oracle, at_ms, seen_row)
    if venue.circuit_breaker:
        enforce &= ~_halted(tape, venue.circuit_breaker, at_ms, row)
    check: np.ndarray = np.all(seen_row >= 0, axis=1).astype(np.int64)
    if venue.margin_check.every:
        urgent = _expires_soon(tape, at_ms, venue.margin_check.near_expiry)
        space_checks(at_ms, urgent, venue.margin_check.every, check)
    return Timeline(
        at_ms=_frozen(at_ms),
        row=_frozen(row),
        opens_row=_frozen(tape.ts[row] == at_ms),
        seen_row=_frozen(seen_row),
        seen_snapshot=_frozen(_latest(tape.vol_known_ts + oracle.latency, at_ms)),
        policy_row=_frozen(known_row),
        enforce=_frozen(enforce),
        check=_frozen(check),
    )


def charged_funding(tape: MarketTape, funding: Funding) -> np.ndarray:
    """Collect funding to the boundaries at which a venue charges it, and cap each charge.

    Parameters
    ----------
    tape
        Its ``funding`` accrues in ``(ts[t-1], ts[t]]``.
    funding
        Interval, counted from midnight UTC, and cap.

    Returns
    -------
    numpy.ndarray
        ``(T, A)`` fraction of notional that longs pay at each row. What accrued after the
        tape's last boundary is not charged.
    """
    accrued, at = tape.funding, np.arange(len(tape))
    if funding.interval:
        boundaries = -(-tape.ts // funding.interval) * funding.interval
        due_ms, period = np.unique(boundaries, return_inverse=True)
        accrued = np.zeros((len(due_ms), len(tape.assets)))
        np.add.at(accrued, period, tape.funding)
        at = np.searchsorted(tape.ts, due_ms, side="left")
    if funding.cap is not None:
        accrued = np.clip(accrued, -funding.cap, funding.cap)
    charged = np.zeros((len(tape) + 1, len(tape.assets)))
    np.add.at(charged, at, accrued)
    return _frozen(charged[:-1])


def settlement_prices(tape: MarketTape, average_ms: int) -> np.ndarray:
    """Return the index that each instrument is settled at when it expires.

    Between two rows the index is taken to move on a straight line: half an hour before expiry
    lies inside one hourly bar, and its open alone would be an hour late.

    Parameters
    ----------
    tape
        Bars.
    average_ms
        Time before expiry over which the index is averaged, weighted by time; 0 takes the
        first row at or after expiry. Time before the tape's first row does not count.

    Returns
    -------
    numpy.ndarray
        ``(I,)`` US dollars; NaN where expiry lies beyond the tape.
    """
    table, ts = tape.instruments, tape.ts
    price_usd = np.full(len(table), np.nan)
    due = table.expiry_ms <= ts[-1]
    for asset, expiry_ms in np.unique(np.stack((table.asset[due], table.expiry_ms[due])), axis=1).T:
        index = tape.index[:, asset]
        settled = float(index[np.searchsorted(ts, expiry_ms)])
        begins = max(expiry_ms - average_ms, ts[0])
        if begins < expiry_ms:
            inside = ts[(ts > begins) & (ts < expiry_ms)]
            corners_ms = np.concatenate(([begins], inside, [expiry_ms]))
            # Differences from one price, so that a flat index settles at itself to the bit.
            moves = np.interp(corners_ms, ts, index - settled)
            settled += float(np.trapezoid(moves, corners_ms)) / float(expiry_ms - begins)
        price_usd[(table.asset == asset) & (table.expiry_ms == expiry_ms)] = settled
    return _frozen(price_usd)


def keeper_costs(tape: MarketTape, keepers: Keepers) -> np.ndarray:
    """Return what one liquidation costs whoever carries it out.

    Parameters
    ----------
    tape
        The largest index move of any asset since the previous row raises the cost.
    keepers
        Cost in a calm market, and its rise per unit of that move.

    Returns
    -------
    numpy.ndarray
        ``(T,)`` US dollars.
    """
    move = np.zeros(len(tape))
    move[1:] = np.abs(tape.index[1:] / tape.index[:-1] - 1.0).max(axis=1)
    return _frozen(keepers.cost_usd * (1.0 + keepers.cost_per_move * move))


def doubt(tape: MarketTape, confidence: Confidence) -> np.ndarray:
    """Return the half-width of the oracle's own uncertainty, ``(T, A)`` shares of the price."""
    spread = confidence.range_share * (tape.high - tape.low) / tape.mark
    width: np.ndarray = confidence.width + spread
    return width


def _latest(times_ms: np.ndarray, at_ms: np.ndarray) -> np.ndarray:
    """Find the last of some ascending times at or before each instant; -1 for none."""
    after: np.ndarray = np.searchsorted(times_ms, at_ms, side="right")
    return after - 1


def _posted(tape: MarketTape, oracle: Oracle) -> np.ndarray:
    """Find the latest row that each feed posted, up to each row; ``(T, A)``, -1 for none."""
    windows = np.array(oracle.outages, np.int64).reshape(-1, 2)
    silent = _latest(windows[:, 0].copy(), tape.ts) > _latest(windows[:, 1].copy(), tape.ts)
    posted = np.empty(tape.index.shape, np.int64)
    mark_posts(tape.ts, tape.index, silent, oracle.heartbeat or 0, oracle.deviation, posted)
    return posted


def _instants(ts: np.ndarray, arrivals_ms: np.ndarray) -> np.ndarray:
    inside = arrivals_ms[(arrivals_ms > ts[0]) & (arrivals_ms < ts[-1])]
    return np.union1d(ts, inside)


def _reliable(
    tape: MarketTape, oracle: Oracle, at_ms: np.ndarray, seen_row: np.ndarray
) -> np.ndarray:
    """Tell whether each price is there, fresh, and as narrow as the venue asks."""
    reliable = seen_row >= 0
    if oracle.stale_after is not None and oracle.when_stale == "halt":
        reliable &= at_ms[:, None] - tape.ts[seen_row] <= oracle.stale_after
    confidence = oracle.confidence
    if confidence.limit is not None:
        wide = doubt(tape, confidence) > confidence.limit
        reliable &= ~np.take_along_axis(wide, np.maximum(seen_row, 0), axis=0)
    return reliable


def _halted(
    tape: MarketTape, breaker: CircuitBreaker, at_ms: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Tell whether a large move of the index has stopped trading; ``(E, A)``."""
    first = np.searchsorted(tape.ts, tape.ts - breaker.window, side="left")
    rise = tape.index / _extreme_before(tape.index, first, np.minimum) - 1.0
    fall = tape.index / _extreme_before(tape.index, first, np.maximum) - 1.0
    trips = np.maximum(rise, -fall) >= breaker.move
    trip_ms = np.where(trips, tape.ts[:, None], tape.ts[0] - breaker.halt - 1)
    last_trip_ms = np.maximum.accumulate(trip_ms, axis=0)[row]
    halted: np.ndarray = at_ms[:, None] - last_trip_ms < breaker.halt
    return halted


def _extreme_before(values: np.ndarray, first: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    """Return the extreme of the rows ``first[t] .. t - 1``; row ``t`` itself where none is.

    Any stretch of rows is the union of two, of the largest power of two that fits: one that
    begins where it begins and one that ends where it ends.
    """
    rows = np.arange(len(values))
    length = rows - first
    found, level, width = values.copy(), values, 1
    while width <= length.max():
        here = np.flatnonzero((length >= width) & (length < 2 * width))
        found[here] = extreme(level[first[here]], level[here - width])
        level = extreme(level[:-width], level[width:])
        width *= 2
    return found


def _expires_soon(tape: MarketTape, at_ms: np.ndarray, within_ms: int) -> np.ndarray:
    expiries = np.unique(tape.instruments.expiry_ms)
    return _latest(expiries, at_ms + within_ms) > _latest(expiries, at_ms)


def _frozen(array: np.ndarray) -> np.ndarray:
    dtype = np.float64 if array.dtype.kind == "f" else np.int64
    block = np.ascontiguousarray(array, dtype)
    block.flags.writeable = False
    return block
