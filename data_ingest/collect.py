"""A collector: what exchanges serve of the present only, asked for on a schedule, day after day.

No exchange serves what its chain, its books or its brackets were, and some forget their statistics
after a month. Whoever wants that history has to be there. Slots are multiples of each feed's
interval since 1970, so a collector that was stopped goes on with the same instants; a slot at which
nobody asked is gone for good, and the ledger says so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from backtest.units import MS_PER_DAY
from data_ingest.clients import FeedError, open_exchange, simulator_clock
from data_ingest.coverage import LedgerKey, Shortfall, write_shortfalls
from data_ingest.downloader import download
from data_ingest.feed import Paging
from data_ingest.feed_table import FEEDS, find_feed
from data_ingest.polls import poll_brackets, poll_chain, poll_depth, take_or_note
from data_ingest.store import DataStore, StoreInUseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from data_ingest.clients import ExchangeClient
    from data_ingest.pull_report import PullReport
    from data_ingest.spec import MarketSpec

RETRY_MS = 15 * 60_000
"""When what an exchange did not answer is asked for again, if its slot is not over by then."""

SLICE_S = 1.0
"""A wait is slept in slices, so that a laptop that slept through a slot notices when it wakes."""


class Clock(Protocol):
    """What the collector waits by."""

    def now_ms(self) -> int:
        """Return the time, milliseconds UTC."""

    def wait_until(self, at_ms: int) -> None:
        """Return once it is ``at_ms``."""


class WallClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Return the time, milliseconds UTC."""
        return time.time_ns() // 1_000_000

    def wait_until(self, at_ms: int) -> None:
        """Sleep until it is ``at_ms``."""
        while (left_ms := at_ms - self.now_ms()) > 0:
            time.sleep(min(left_ms / 1000, SLICE_S))


class SimulatedClock:
    """The clock of the exchange simulator, which is moved instead of waited for.

    Parameters
    ----------
    base_url : str
        Where the simulator is.
    start_ms : int
        What time it shall be.
    """

    def __init__(self, base_url: str, start_ms: int) -> None:
        self._set_clock = simulator_clock(base_url)
        self.wait_until(start_ms)

    def now_ms(self) -> int:
        """Return the time, milliseconds UTC."""
        return self._now_ms

    def wait_until(self, at_ms: int) -> None:
        """Make it ``at_ms``."""
        self._set_clock(at_ms)
        self._now_ms = at_ms


@dataclass(frozen=True)
class Schedule:
    """One thing to ask for again and again.

    Parameters
    ----------
    client : ExchangeClient
        Whom.
    keys : tuple of LedgerKey
        What one answer is about.
    every_ms : int
        Length of a slot.
    take : callable
        Asks, at an instant, and stores.
    remembered : bool
        The exchange can still be asked for a slot that was missed.
    """

    client: ExchangeClient
    keys: tuple[LedgerKey, ...]
    every_ms: int
    take: Callable[[DataStore, int], PullReport]
    remembered: bool = False

    def slot(self, at_ms: int) -> int:
        """Return the start of the slot of an instant."""
        return at_ms // self.every_ms * self.every_ms

    def is_due(self, store: DataStore, at_ms: int) -> bool:
        """Tell whether the slot of an instant has no answer, or the history before it a hole."""
        start_ms = self.slot(at_ms)
        if self.remembered:
            before = (start_ms - self.every_ms, start_ms)
            return any(store.missing(key, before) for key in self.keys)
        slot = (start_ms, start_ms + self.every_ms)
        return any(store.missing(key, slot) == [slot] for key in self.keys)


def collect(
    path: Path,
    market: MarketSpec,
    base_url: str | None = None,
    *,
    until_ms: int | None = None,
    clock: Clock | None = None,
    progress: Callable[[int, PullReport], None] | None = None,
) -> None:
    """Take every snapshot that a market asks for when it is due, until told to stop.

    The store is open only while something is asked for, so others may read and write it in
    between; while another process writes, the collector waits for it.

    Parameters
    ----------
    path : pathlib.Path
        The store.
    market : MarketSpec
        Its option chain every ``options.poll``, its books every ``depth.poll`` where depth is
        recorded, and once a day those of its ``feeds`` that are served for the present only or
        forgotten by the exchange. ``start`` and ``end`` do not matter here.
    base_url : str, optional
        Where to ask instead of the exchange itself.
    until_ms : int, optional
        Stop before this instant; without it only an interrupt stops.
    clock : Clock, optional
        The machine's by default.
    progress : callable, optional
        Called with the instant and the report of everything taken.

    Raises
    ------
    DataError
        If the market asks for nothing that has to be collected.
    """
    clock = clock or WallClock()
    schedules = plan(market, base_url)
    if not schedules:
        raise FeedError(
            "nothing of this market has to be collected: it names neither options, nor "
            "depth: {recorded: true}, nor feeds that an exchange forgets; pull it instead."
        )
    while True:
        unanswered = False
        for schedule in schedules:
            now_ms = clock.now_ms()
            with _when_free(path) as store:
                if not schedule.is_due(store, now_ms):
                    continue
                if not schedule.remembered:
                    _note_missed_slots(store, schedule, now_ms)
                # An exchange that makes us wait keeps no reader out.
                schedule.client.sleep = store.rest
                report = take_or_note(store, schedule.keys, partial(schedule.take, store), now_ms)
            unanswered |= any(one.reason == "unanswered" for one in report.shortfalls)
            if progress:
                progress(now_ms, report)
        now_ms = clock.now_ms()
        due_ms = min(each.slot(now_ms) + each.every_ms for each in schedules)
        if unanswered:
            due_ms = min(due_ms, now_ms + RETRY_MS)
        if until_ms is not None and due_ms >= until_ms:
            return
        clock.wait_until(due_ms)


def _when_free(path: Path) -> DataStore:
    while True:
        try:
            return DataStore(path)
        except StoreInUseError:
            time.sleep(SLICE_S)


def plan(market: MarketSpec, base_url: str | None = None) -> list[Schedule]:
    """List what has to be asked for again and again, and how often."""
    perpetuals = open_exchange(market.exchange, base_url)
    options = market.options
    chain = perpetuals
    if options and options.exchange != market.exchange:
        chain = open_exchange(options.exchange, base_url)
    schedules = []
    if options:
        schedules.append(
            Schedule(
                chain,
                tuple(LedgerKey(chain.exchange_id, asset, "chain") for asset in market.assets),
                options.poll,
                lambda store, at_ms: poll_chain(store, chain, market.assets, at_ms),
            )
        )
    if market.depth.recorded:
        schedules += [
            Schedule(
                perpetuals,
                (LedgerKey(perpetuals.exchange_id, symbol, "depth"),),
                market.depth.poll,
                partial(_book, client=perpetuals, symbol=symbol),
            )
            for symbol in map(market.symbol, market.assets)
        ]
    for name in market.feeds:
        client = perpetuals if (perpetuals.exchange_id, name) in FEEDS else chain
        schedules += _daily(market, client, name)
    return schedules


def _book(store: DataStore, at_ms: int, client: ExchangeClient, symbol: str) -> PullReport:
    return poll_depth(store, client, symbol, at_ms)


def _daily(market: MarketSpec, client: ExchangeClient, name: str) -> list[Schedule]:
    """Plan a feed that is gone if it is not asked for: brackets, or statistics soon forgotten."""
    feed = find_feed(client.exchange_id, name)
    targets = market.assets if feed.per_asset else tuple(map(market.symbol, market.assets))
    if feed.paging is Paging.NOW:
        keys = tuple(LedgerKey(client.exchange_id, target, name) for target in targets)
        return [
            Schedule(
                client,
                keys,
                MS_PER_DAY,
                lambda store, at_ms: poll_brackets(store, client, targets, at_ms),
            )
        ]
    if feed.kept_ms is None and feed.kept_rows is None:
        return []
    clock_ms = market.clock if isinstance(market.clock, int) else 3_600_000
    period_ms = feed.period(clock_ms)

    kept_ms = feed.kept_ms or (feed.kept_rows or 0) * period_ms

    def all_kept(store: DataStore, at_ms: int, target: str) -> PullReport:
        # The ledger knows what of this is stored; only the rest is asked for.
        window = (at_ms - kept_ms, at_ms)
        return download(store, client, feed, target, window, period_ms)

    return [
        Schedule(
            client,
            (LedgerKey(client.exchange_id, target, name, period_ms),),
            MS_PER_DAY,
            partial(all_kept, target=target),
            remembered=True,
        )
        for target in targets
    ]


def _note_missed_slots(store: DataStore, schedule: Schedule, now_ms: int) -> None:
    """Write down since when nobody has asked, if slots went by since the last question."""
    slot_ms = schedule.slot(now_ms)
    for key in schedule.keys:
        # A question that was refused, or not answered, was asked too, and is noted as that.
        noted = store.rows(
            "SELECT end_ms FROM shortfalls WHERE exchange = ? AND market = ? AND feed = ? "
            "AND timeframe_ms = ?",
            key.values,
        )
        ends = [*(end for _, end in store.covered(key)), *(end for (end,) in noted)]
        before = [end for end in ends if end <= slot_ms]
        if not before:
            continue
        first_ms = schedule.slot(max(before) - 1) + schedule.every_ms
        if first_ms >= slot_ms:
            continue
        said = "nobody asked while the exchange could have answered"
        missed = (Shortfall(first_ms, slot_ms, "not asked", said),)
        with store.transaction() as cursor:
            write_shortfalls(cursor, key, (first_ms, slot_ms), missed, now_ms)
