"""What is odd about option chains: quotes, volatilities, arbitrage, and snapshots as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.units import MS_PER_YEAR, iso_utc
from data_ingest.quality.bounds import (
    BUTTERFLY_COIN,
    FEWEST_ALIKE,
    FLAT_SHARE,
    FORWARD_APART,
    FORWARD_APART_A_YEAR,
    HIGHEST_IV,
    INDEX_APART,
    LONGEST_STEP_MS,
    LOWEST_IV,
    OFF_MODEL_COIN,
    OUTSIDE_COIN,
    PARITY_COIN,
    REPEATED_SHARE,
    STALE_INTEREST_MS,
    STALE_MOVE,
    STALE_SNAPSHOTS,
)
from data_ingest.quality.places import Series, Stretch, counted, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from data_ingest.quality.findings import Finding
    from data_ingest.store import DataStore


@dataclass(frozen=True)
class Chain:
    """All marks of one asset, by snapshot, expiry, strike, puts before calls.

    Parameters
    ----------
    series : Series
        What its findings are about.
    ts_ms, expiry_ms : numpy.ndarray
        ``(n,)`` milliseconds UTC.
    strike, forward, index : numpy.ndarray
        ``(n,)`` USD.
    is_call : numpy.ndarray
        ``(n,)`` boolean.
    mark, bid, ask : numpy.ndarray
        ``(n,)`` coins; NaN where there is no quote.
    iv, open_interest, volume : numpy.ndarray
        ``(n,)`` a year, coins, coins in 24 hours.
    native_id : numpy.ndarray
        ``(n,)`` names.
    """

    series: Series
    ts_ms: np.ndarray
    expiry_ms: np.ndarray
    strike: np.ndarray
    is_call: np.ndarray
    forward: np.ndarray
    index: np.ndarray
    mark: np.ndarray
    bid: np.ndarray
    ask: np.ndarray
    iv: np.ndarray
    open_interest: np.ndarray
    volume: np.ndarray
    native_id: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """First row of each snapshot."""
        return np.flatnonzero(np.append(True, np.diff(self.ts_ms) > 0))

    def name(self, row: int) -> str:
        """Name an option and its snapshot."""
        return f"{self.native_id[row]} at {iso_utc(int(self.ts_ms[row]))} UTC"


def load_chain_rows(store: DataStore, exchange: str, asset: str) -> Chain:
    """Read every mark of an asset whose terms are known."""
    rows = store.columns(
        """
        SELECT ts_ms, expiry_ms, strike, is_call, forward_price AS forward, index_price AS index,
               mark_coin AS mark, bid_coin AS bid, ask_coin AS ask, mark_iv AS iv, open_interest,
               volume_24h AS volume, native_id
        FROM chain JOIN instruments USING (exchange, native_id)
        WHERE exchange = ? AND kind = 'option' AND asset = ?
        ORDER BY ts_ms, expiry_ms, strike, is_call, native_id
        """,
        [exchange, asset],
    )
    return Chain(Series("chain", exchange, asset), **rows)


def chain_findings(store: DataStore, exchange: str, asset: str) -> Iterator[Finding]:
    """Judge the chain of one asset."""
    chain = load_chain_rows(store, exchange, asset)
    if not len(chain.ts_ms):
        return
    yield from _snapshots(chain)
    yield from _quotes(chain)
    yield from _volatilities(chain)
    yield from _model(chain)
    yield from _shape(chain)
    yield from _stands_still(chain)


def _by_snapshot(chain: Chain, odd: np.ndarray, size: np.ndarray) -> list[Stretch]:
    """Gather odd rows by snapshot; the worst row stands for each."""
    rows = np.flatnonzero(odd)
    if not len(rows):
        return []
    parts = np.split(rows, np.flatnonzero(np.diff(chain.ts_ms[rows])) + 1)
    found = []
    for part in parts:
        worst = int(part[np.argmax(size[part])])
        ts_ms = int(chain.ts_ms[worst])
        found.append(Stretch(ts_ms, ts_ms + 1, len(part), worst, float(size[worst])))
    return found


def _rows_told(
    chain: Chain, rule: str, odd: np.ndarray, size: np.ndarray, tell: Callable[[int], str]
) -> Iterator[Finding]:
    def sentence(each: Stretch) -> str:
        more = f" ({counted(each.rows - 1, 'option')} more then)" if each.rows > 1 else ""
        return f"{chain.name(each.worst)}: {tell(each.worst)}{more}."

    yield from told(chain.series, rule, _by_snapshot(chain, odd, size), sentence)


def _snapshots(chain: Chain) -> Iterator[Finding]:
    times = chain.ts_ms[chain.starts]
    steps = np.diff(times)
    late = [
        Stretch(int(times[at]), int(times[at + 1]), 1, at, float(steps[at]))
        for at in np.flatnonzero(steps > LONGEST_STEP_MS).tolist()
    ]
    yield from told(
        chain.series, "snapshot_gap", late,
        lambda each: f"No snapshot for {each.length} after "
        f"{iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip
    starts = chain.starts
    high = np.maximum.reduceat(chain.index, starts)
    low = np.minimum.reduceat(chain.index, starts)
    apart = high / low - 1.0
    lag = [
        Stretch(int(times[at]), int(times[at]) + 1, 1, at, float(apart[at]))
        for at in np.flatnonzero(apart > INDEX_APART).tolist()
    ]
    yield from told(
        chain.series, "index_lag", lag,
        lambda each: f"Index prices from {low[each.worst]:,.0f} to {high[each.worst]:,.0f} USD, "
        f"{each.size:.2%} apart, at {iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip
    years = (chain.expiry_ms - chain.ts_ms) / MS_PER_YEAR
    median = np.repeat(
        [np.median(part) for part in np.split(chain.index, starts[1:])],
        np.diff(np.append(starts, len(chain.ts_ms))),
    )
    basis = np.log(chain.forward / median)
    with np.errstate(divide="ignore"):
        far = (np.abs(basis) > FORWARD_APART) & (np.abs(basis) / years > FORWARD_APART_A_YEAR)
    yield from _rows_told(
        chain, "forward_off_index", far, np.abs(basis),
        lambda row: f"forward {chain.forward[row]:,.0f} USD, index {median[row]:,.0f} USD",
    )  # fmt: skip


def _quotes(chain: Chain) -> Iterator[Finding]:
    # Deribit writes a missing quote as 0 in some answers and leaves it out in others.
    bid = np.where(chain.bid > 0, chain.bid, np.nan)
    ask = np.where(chain.ask > 0, chain.ask, np.nan)
    no_bid, no_ask = np.isnan(bid), np.isnan(ask)
    if (no_bid | no_ask).any():
        yield chain.series.finding(
            "no_quote", chain.ts_ms[0], chain.ts_ms[-1] + 1, int((no_bid | no_ask).sum()),
            f"{no_bid.mean():.1%} of {len(bid):,} marks have no bid, {no_ask.mean():.1%} no ask, "
            f"{(no_bid & no_ask).mean():.1%} neither.",
        )  # fmt: skip
    yield from _rows_told(
        chain, "crossed_quotes", bid >= ask, np.nan_to_num(bid - ask),
        lambda row: f"bid {bid[row]:g}, ask {ask[row]:g} coins",
    )  # fmt: skip
    outside = np.fmax(np.nan_to_num(bid - chain.mark, nan=-np.inf),
                      np.nan_to_num(chain.mark - ask, nan=-np.inf))  # fmt: skip
    yield from _rows_told(
        chain, "mark_outside_quotes", outside > OUTSIDE_COIN, outside,
        lambda row: f"mark {chain.mark[row]:g} coins, bid {_quote(bid[row])}, "
        f"ask {_quote(ask[row])}",
    )  # fmt: skip


def _quote(price: float) -> str:
    return "none" if np.isnan(price) else f"{price:g}"


def _volatilities(chain: Chain) -> Iterator[Finding]:
    odd = (chain.iv < LOWEST_IV) | (chain.iv > HIGHEST_IV)
    yield from _rows_told(
        chain, "iv_extreme", odd, np.abs(np.log(chain.iv)),
        lambda row: f"mark volatility {chain.iv[row]:.1%}",
    )  # fmt: skip
    yield from _flat(chain)
    gone = chain.expiry_ms <= chain.ts_ms
    yield from _rows_told(
        chain, "expired_mark", gone, (chain.ts_ms - chain.expiry_ms).astype(np.float64),
        lambda row: f"expired at {iso_utc(int(chain.expiry_ms[row]))} UTC",
    )  # fmt: skip


def _flat(chain: Chain) -> Iterator[Finding]:
    """Find expiries of a snapshot of which most options share one volatility."""
    order = np.lexsort((chain.iv, chain.expiry_ms, chain.ts_ms))
    ts, expiry, iv = chain.ts_ms[order], chain.expiry_ms[order], chain.iv[order]
    new_slice = np.append(True, (np.diff(ts) > 0) | (np.diff(expiry) != 0))
    alike = np.flatnonzero(new_slice | np.append(True, np.diff(iv) != 0))
    length = np.diff(np.append(alike, len(iv)))
    slices = np.flatnonzero(new_slice)
    options = np.diff(np.append(slices, len(iv)))
    most = np.maximum.reduceat(length, np.searchsorted(alike, slices))
    flat = np.flatnonzero((options >= FEWEST_ALIKE) & (most > FLAT_SHARE * options))
    found = []
    for at in flat.tolist():
        runs = np.arange(*np.searchsorted(alike, [slices[at], slices[at] + options[at]]))
        row = int(order[alike[runs[np.argmax(length[runs])]]])
        ts_ms = int(chain.ts_ms[row])
        found.append(Stretch(ts_ms, ts_ms + 1, int(most[at]), row, most[at] / options[at]))
    yield from told(
        chain.series, "flat_smile", found,
        lambda each: f"{each.size:.0%} of the options of "
        f"{iso_utc(int(chain.expiry_ms[each.worst]))[:10]} are marked at "
        f"{chain.iv[each.worst]:.1%} at {iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip


def reprice(chain: Chain) -> np.ndarray:
    """Return what Black-76 makes of mark volatility and forward, less the mark, in coins."""
    from data_ingest.simulator.surface import black_76_coin

    years = np.maximum(chain.expiry_ms - chain.ts_ms, 0) / MS_PER_YEAR
    deviation = chain.iv * np.sqrt(years)
    price: np.ndarray = black_76_coin(chain.forward, chain.strike, deviation, chain.is_call)
    return np.asarray(price - chain.mark)


def _model(chain: Chain) -> Iterator[Finding]:
    error = reprice(chain)
    size = np.abs(error)
    yield from _rows_told(
        chain, "mark_off_model", size > OFF_MODEL_COIN, size,
        lambda row: f"mark {chain.mark[row]:g}, {chain.mark[row] + error[row]:.4f} coins by "
        f"Black-76 at {chain.iv[row]:.1%} and forward {chain.forward[row]:,.0f} USD",
    )  # fmt: skip


def _shape(chain: Chain) -> Iterator[Finding]:
    put, call = slice(None, -1), slice(1, None)
    pair = ~chain.is_call[put] & chain.is_call[call] & _same_strike(chain)
    parity = chain.mark[call] - chain.mark[put] - (1.0 - chain.strike[call] / chain.forward[call])
    size = np.append(0.0, np.where(pair, np.abs(parity), 0.0))
    yield from _rows_told(
        chain, "parity", size > PARITY_COIN, size,
        lambda row: f"call less put is {chain.mark[row] - chain.mark[row - 1]:.4f} coins, "
        f"forward less strike {1.0 - chain.strike[row] / chain.forward[row]:.4f}",
    )  # fmt: skip
    yield from _butterflies(chain)


def _butterflies(chain: Chain) -> Iterator[Finding]:
    """Hold each out-of-the-money mark to the line between its neighbours, as a call's price."""
    rows = np.flatnonzero(chain.is_call == (chain.strike >= chain.forward))
    if len(rows) < 3:
        return
    ts, expiry, strike = chain.ts_ms[rows], chain.expiry_ms[rows], chain.strike[rows]
    moneyness = 1.0 - strike / chain.forward[rows]
    price = chain.mark[rows] + np.where(chain.is_call[rows], 0.0, moneyness)
    low, mid, high = slice(None, -2), slice(1, -1), slice(2, None)
    one = (ts[low] == ts[high]) & (expiry[low] == expiry[high]) & (strike[low] < strike[mid])
    one &= strike[mid] < strike[high]
    width = np.where(one, strike[high] - strike[low], 1.0)
    share = (strike[high] - strike[mid]) / width
    above = price[mid] - share * price[low] - (1.0 - share) * price[high]
    size = np.zeros(len(chain.ts_ms))
    size[rows[mid]] = np.where(one, above, 0.0)
    yield from _rows_told(
        chain, "butterfly", size > BUTTERFLY_COIN, size,
        lambda row: f"its mark is {size[row]:.4f} coins above the line between its neighbours",
    )  # fmt: skip


def _same_strike(chain: Chain) -> np.ndarray:
    """Tell where a row and the next share snapshot, expiry and strike."""
    same = chain.ts_ms[1:] == chain.ts_ms[:-1]
    same &= chain.expiry_ms[1:] == chain.expiry_ms[:-1]
    return np.asarray(same & (chain.strike[1:] == chain.strike[:-1]))


def _stands_still(chain: Chain) -> Iterator[Finding]:
    """Follow each option from snapshot to snapshot."""
    order = np.lexsort((chain.ts_ms, chain.is_call, chain.strike, chain.expiry_ms))
    snapshot = np.cumsum(np.append(False, np.diff(chain.ts_ms) > 0))
    before, after = order[:-1], order[1:]
    followed = (
        (chain.expiry_ms[before] == chain.expiry_ms[after])
        & (chain.strike[before] == chain.strike[after])
        & (chain.is_call[before] == chain.is_call[after])
        & (snapshot[after] == snapshot[before] + 1)
    )
    same_iv = followed & (chain.iv[before] == chain.iv[after])
    same_interest = followed & (chain.open_interest[before] == chain.open_interest[after])
    same_mark = followed & (chain.mark[before] == chain.mark[after])
    yield from _repeated(chain, snapshot[after], followed, same_iv & same_interest & same_mark)
    moved = _runs(chain, order, same_iv)
    stale = [
        each for each, first, last in moved
        if each.rows >= STALE_SNAPSHOTS
        and abs(chain.index[last] / chain.index[first] - 1.0) > STALE_MOVE
    ]  # fmt: skip
    yield from told(
        chain.series, "stale_iv", stale,
        lambda each: f"{chain.native_id[each.worst]} stands at {chain.iv[each.worst]:.1%} for "
        f"{each.rows} snapshots from {iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip
    traded = same_interest & (chain.volume[after] > 0) & (chain.open_interest[after] > 0)
    still = [
        each for each, _, _ in _runs(chain, order, traded)
        if each.end_ms - each.start_ms >= STALE_INTEREST_MS
    ]  # fmt: skip
    yield from told(
        chain.series, "open_interest_stale", still,
        lambda each: f"{chain.native_id[each.worst]} stands at "
        f"{chain.open_interest[each.worst]:g} coins for {each.rows} snapshots from "
        f"{iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip


def _runs(chain: Chain, order: np.ndarray, same: np.ndarray) -> list[tuple[Stretch, int, int]]:
    """Cut where a row is the same as the one before into runs, with first and last row."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
    found = []
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        first, last = int(order[start]), int(order[stop])
        start_ms, end_ms = int(chain.ts_ms[first]), int(chain.ts_ms[last]) + 1
        rows = stop - start + 1
        found.append((Stretch(start_ms, end_ms, rows, first, float(rows)), first, last))
    return found


def _repeated(
    chain: Chain, snapshot: np.ndarray, followed: np.ndarray, same: np.ndarray
) -> Iterator[Finding]:
    total = np.bincount(snapshot[followed], minlength=1)
    equal = np.bincount(snapshot[same], minlength=len(total))
    times = chain.ts_ms[chain.starts]
    stuck = [
        Stretch(int(times[at]), int(times[at]) + 1, int(equal[at]), at, equal[at] / total[at])
        for at in np.flatnonzero(equal > REPEATED_SHARE * np.maximum(total, 1)).tolist()
    ]
    yield from told(
        chain.series, "chain_repeated", stuck,
        lambda each: f"{each.size:.0%} of {total[each.worst]:,} options repeat mark, volatility "
        f"and open interest of the snapshot before {iso_utc(each.start_ms)} UTC.",
    )  # fmt: skip
