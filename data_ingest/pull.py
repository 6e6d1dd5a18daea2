"""Pull everything one market's tape needs, in one call, resuming where the last one stopped."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from data_ingest.clients import open_exchange, simulator_clock
from data_ingest.coverage import LedgerKey
from data_ingest.feeds import (
    poll_chain,
    poll_depth,
    pull_candles,
    pull_funding,
    pull_instruments,
    pull_option_trades,
)
from data_ingest.symbols import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.clients import ExchangeClient
    from data_ingest.pager import PullReport
    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore


def pull_market(
    store: DataStore,
    market: MarketSpec,
    base_url: str | None = None,
    *,
    simulate_clock: bool = False,
    progress: Callable[[PullReport], None] | None = None,
) -> list[PullReport]:
    """Pull candles, funding, instruments, and polled chains and books of a market.

    An exchange serves its option chain and its order book for the present only. With
    ``simulate_clock`` the simulator's clock is moved through the window, so that a whole
    history is polled as a patient collector would have; without it one poll is made now.

    Parameters
    ----------
    store : DataStore
        An open store.
    market : MarketSpec
        What to pull.
    base_url : str, optional
        Where to pull from instead of the exchange itself.
    simulate_clock : bool
        Drive the exchange simulator's clock.
    progress : callable, optional
        Called with the report of each feed.

    Returns
    -------
    list of PullReport
        One per feed and market; polls of one feed are summed.

    Raises
    ------
    FeedError
        If an exchange does not answer; what was stored stays, and the next call resumes.
    """
    reports: list[PullReport] = []

    def done(report: PullReport) -> None:
        reports.append(report)
        if progress:
            progress(report)

    set_clock = simulator_clock(base_url) if simulate_clock and base_url else None
    perpetuals = open_exchange(market.exchange, base_url)
    chain = open_exchange(market.options.exchange, base_url) if market.options else None
    if isinstance(market.clock, int):
        _pull_history(store, market, perpetuals, market.clock, done)
    if market.options and market.options.trades:
        archive = open_exchange(market.options.exchange, base_url, archive=True)
        for asset in market.assets:
            done(pull_option_trades(store, archive, asset, (market.start, market.end)))
    _poll(store, market, perpetuals, chain, set_clock, done)
    # Last, with the clock at the window's end: only now has every polled option been listed.
    done(pull_instruments(store, perpetuals, market.assets))
    if chain and chain.exchange_id != perpetuals.exchange_id:
        done(pull_instruments(store, chain, market.assets))
    return reports


def _pull_history(
    store: DataStore,
    market: MarketSpec,
    client: ExchangeClient,
    clock_ms: int,
    done: Callable[[PullReport], None],
) -> None:
    now_ms = time.time_ns() // 1_000_000
    # A bar that has not ended is not a fact yet.
    window = (market.start, min(market.end, now_ms // clock_ms * clock_ms))
    for asset in market.assets:
        symbol = market.symbol(asset)
        for kind in EXCHANGES[market.exchange].candle_kinds:
            done(pull_candles(store, client, symbol, kind, clock_ms, window))
        # The payment at the very end belongs to the last bar.
        done(pull_funding(store, client, symbol, (window[0], window[1] + 1)))


def _poll(
    store: DataStore,
    market: MarketSpec,
    perpetuals: ExchangeClient,
    chain: ExchangeClient | None,
    set_clock: Callable[[int], None] | None,
    done: Callable[[PullReport], None],
) -> None:
    """Take the snapshots that are due and not yet stored, each feed on its own schedule."""
    due: dict[int, list[Callable[[int], PullReport]]] = {}
    now_ms = time.time_ns() // 1_000_000

    def plan(
        client: ExchangeClient,
        markets: tuple[str, ...],
        feed: str,
        every_ms: int,
        poll: Callable[[int], PullReport],
    ) -> None:
        instants = range(market.start, market.end + 1, every_ms) if set_clock else (now_ms,)
        keys = [LedgerKey(client.exchange_id, name, feed) for name in markets]
        for at_ms in instants:
            if any(store.missing(key, (at_ms, at_ms + 1)) for key in keys):
                due.setdefault(at_ms, []).append(poll)

    if chain and market.options:
        take_chain = partial(poll_chain, store, chain, market.assets)
        plan(chain, market.assets, "chain", market.options.poll, take_chain)
    if market.depth.recorded:
        for symbol in map(market.symbol, market.assets):
            take_book = partial(poll_depth, store, perpetuals, symbol)
            plan(perpetuals, (symbol,), "depth", market.depth.poll, take_book)
    totals: dict[LedgerKey, PullReport] = {}
    for at_ms, polls in sorted(due.items()):
        if set_clock:
            set_clock(at_ms)
        for poll in polls:
            report = poll(at_ms)
            key = LedgerKey(report.exchange, report.market, report.feed)
            totals[key] = totals[key] + report if key in totals else report
    if set_clock:
        set_clock(market.end)
    for total in totals.values():
        done(total)
