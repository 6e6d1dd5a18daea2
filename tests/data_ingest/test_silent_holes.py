"""Events leave no hole in a grid: what a server leaves out of them must be found otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from backtest.units import MS_PER_DAY
from data_ingest.clients import ExchangeClient
from data_ingest.coverage import LedgerKey
from data_ingest.downloader import download
from data_ingest.feed import NEWEST, OLDEST, Feed, Paging
from data_ingest.feed_table import find_feed
from data_ingest.pull_report import PullReport
from data_ingest.simulator import ExchangeSimulator, Fault, FaultSchedule, MarketParameters
from data_ingest.simulator.parameters import AssetParameters
from data_ingest.store import DataStore
from tests.data_ingest.exchange_clients import client_of
from tests.data_ingest.fake_exchange import (
    FakeExchange,
    fake_client,
    fake_feed,
    instrument,
    number,
)

BUSY = AssetParameters(option_trades_per_day=4_000.0)
PARAMETERS = MarketParameters(start="2024-01-01", end="2024-01-20", assets=(BUSY,))
START = PARAMETERS.start
OPTION_DAYS = (START + 3 * MS_PER_DAY, START + 6 * MS_PER_DAY)
SETTLED = (START, START + 18 * MS_PER_DAY)
WINDOW = (1_000_000, 1_000_400)
KEY = LedgerKey("fake", "BTC", "option_trades")


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.faults = FaultSchedule()
    yield running
    running.faults = FaultSchedule()


def pull(
    simulator: ExchangeSimulator, store: DataStore, name: str, window: tuple[int, int], *faults: Any
) -> PullReport:
    simulator.faults = FaultSchedule(faults=faults)
    client = client_of(simulator, "deribit")
    patient = ExchangeClient(client, "simulator", is_synthetic=True, sleep=lambda _: None)
    return download(store, patient, find_feed("deribit", name), "BTC", window)


def keys_of(store: DataStore, feed: Feed) -> set[tuple[Any, ...]]:
    return set(store.rows(f"SELECT {', '.join(feed.table.key)} FROM {feed.table.name}"))


@pytest.fixture(scope="module")
def clean(running: ExchangeSimulator) -> dict[str, set[tuple[Any, ...]]]:
    found = {}
    for name, window in (("option_trades", OPTION_DAYS), ("settlements", SETTLED)):
        with DataStore(":memory:") as store:
            assert not pull(running, store, name, window).shortfalls
            found[name] = keys_of(store, find_feed("deribit", name))
    return found


@pytest.mark.parametrize("kind", ["missing_row", "missing_rows", "other_end"])
@pytest.mark.parametrize("first", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["option_trades", "settlements"])
def test_a_page_that_lacks_rows_once_ends_in_no_hole(
    simulator: ExchangeSimulator,
    clean: dict[str, set[tuple[Any, ...]]],
    name: str,
    first: int,
    kind: Any,
) -> None:
    window = OPTION_DAYS if name == "option_trades" else SETTLED
    path = "*last_trades*" if name == "option_trades" else "*last_settlements*"
    with DataStore(":memory:") as store:
        fault = Fault(kind=kind, path=path, first=first, every=5, times=3)
        report = pull(simulator, store, name, window, fault)
        fired = {one.kind for one in simulator.fired}
        assert keys_of(store, find_feed("deribit", name)) == clean[name]
        assert (fired or {kind}, report.shortfalls) == ({kind}, ())


def test_a_server_that_always_leaves_out_a_row_is_not_trusted(
    simulator: ExchangeSimulator, clean: dict[str, set[tuple[Any, ...]]]
) -> None:
    with DataStore(":memory:") as store:
        fault = Fault(kind="missing_row", path="*currency_and_time")
        report = pull(simulator, store, "option_trades", OPTION_DAYS, fault)
        assert report.stored < len(clean["option_trades"])
        (shortfall,) = report.shortfalls
        assert (shortfall.window, shortfall.reason) == (OPTION_DAYS, "not trusted")
        assert "two readings of one page differ" in report.failure


def test_a_server_that_always_cuts_at_the_other_end_is_asked_in_halves(
    simulator: ExchangeSimulator, clean: dict[str, set[tuple[Any, ...]]]
) -> None:
    with DataStore(":memory:") as store:
        fault = Fault(kind="other_end", path="*currency_and_time")
        report = pull(simulator, store, "option_trades", OPTION_DAYS, fault)
        assert keys_of(store, find_feed("deribit", "option_trades")) == clean["option_trades"]
        assert report.shortfalls == ()
        assert len(simulator.fired) > 20


trades = st.lists(st.integers(WINDOW[0], WINDOW[1] - 1), min_size=8, max_size=40).map(
    lambda times: [(at, f"{place}") for place, at in enumerate(sorted(times))]
)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@example(
    # The jump from 9 to 18 spans the window from which 13 was taken out a pull before.
    history=[(WINDOW[0] + 18 * place, f"{place}") for place in range(20)],
    lost={12, 13, 15},
    gone={13},
    limit=12,
    paging=Paging.BACKWARD,
    seams={WINDOW[0] + 18 * 16 - 2, WINDOW[0] + 18 * 18 - 2},
)
@given(
    history=trades,
    lost=st.sets(st.integers(0, 40), max_size=6),
    gone=st.sets(st.integers(0, 40), max_size=6),
    limit=st.integers(6, 12),
    paging=st.sampled_from([Paging.FORWARD, Paging.BACKWARD]),
    seams=st.sets(st.integers(*WINDOW), max_size=3),
)
def test_a_number_passed_over_is_asked_for_and_if_it_stays_away_the_window_is_not_complete(
    history: list[tuple[int, str]],
    lost: set[int],
    gone: set[int],
    limit: int,
    paging: Paging,
    seams: set[int],
) -> None:
    """Rows that no window ever shows, in pulls whose windows meet at any place."""
    order = OLDEST if paging is Paging.FORWARD else NEWEST
    exchange = FakeExchange(history, paging, order, limit, says_more=True)
    exchange.lost = frozenset(map(str, lost))
    exchange.gone = frozenset(map(str, lost & gone))
    feed = fake_feed(exchange, limit, grid=False, numbered=True)
    edges = sorted({*WINDOW, *seams})
    with DataStore(":memory:") as store:
        reports = [
            download(store, fake_client(exchange), feed, "BTC", (start, end))
            for start, end in pairwise(edges)
        ]
        if any("share millisecond" in report.failure for report in reports):
            return
        # Whatever lacks, nothing vouches for it.
        assert not any(within(at, store.covered(KEY)) for at, _ in lacking(store, history))
        # A seam beside a window that is not trusted is looked at once that window is asked again.
        download(store, fake_client(exchange), feed, "BTC", WINDOW)
        left = lacking(store, history)
        assert {name for _, name in left} <= exchange.gone
        assert not any(within(at, store.covered(KEY)) for at, _ in left)


def within(at_ms: int, windows: list[tuple[int, int]]) -> bool:
    return any(start <= at_ms < end for start, end in windows)


def lacking(store: DataStore, history: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """List the trades that are not stored although some before and after them are."""
    stored = {row[0] for row in store.rows("SELECT trade_id FROM option_trades")}

    def is_between(name: str) -> bool:
        numbers = [number(n) for n in stored if instrument(n) == instrument(name)]
        return bool(numbers) and min(numbers) < number(name) < max(numbers)

    return [(at, name) for at, name in history if name not in stored and is_between(name)]


def test_a_jump_in_the_numbers_is_said_with_its_instrument_and_heals_once_served() -> None:
    history = [(WINDOW[0] + 10 * at, f"{at}") for at in range(30)]
    exchange = FakeExchange(history, Paging.FORWARD, OLDEST, 7, says_more=True)
    exchange.lost = exchange.gone = frozenset({"12", "15"})
    feed = fake_feed(exchange, 7, grid=False, numbered=True)
    with DataStore(":memory:") as store:
        report = download(store, fake_client(exchange), feed, "BTC", WINDOW)
        (shortfall,) = report.shortfalls
        # Numbers 5 and 6 of BTC-0, between its trades 9 and 18.
        assert shortfall.window == (history[9][0], history[18][0] + 1)
        assert shortfall.reason == "not trusted"
        assert "trade_seq of BTC-0 passes over 2 from 5 on" in shortfall.detail
        assert store.missing(KEY, WINDOW) == [shortfall.window]
        exchange.gone = frozenset()
        again = download(store, fake_client(exchange), feed, "BTC", WINDOW)
        assert (again.shortfalls, again.rows_added) == ((), 2)
        assert store.missing(KEY, WINDOW) == []
        assert store.rows("SELECT count(*) FROM shortfalls") == [(0,)]


def test_a_jump_left_by_a_killed_pull_is_found_though_the_ledger_calls_all_complete() -> None:
    history = [(WINDOW[0] + 10 * at, f"{at}") for at in range(30)]
    exchange = FakeExchange(history, Paging.FORWARD, OLDEST, 7, says_more=True)
    exchange.lost = frozenset({"12"})
    unnumbered = fake_feed(exchange, 7, grid=False)
    numbered = fake_feed(exchange, 7, grid=False, numbered=True)
    reading = Feed(**{**numbered.__dict__, "numbering": None})
    assert unnumbered.numbering is None
    with DataStore(":memory:") as store:
        # As a pull leaves it that is killed after its last page: all rows, no look at numbers.
        assert download(store, fake_client(exchange), reading, "BTC", WINDOW).shortfalls == ()
        report = download(store, fake_client(exchange), numbered, "BTC", WINDOW)
        assert (report.rows_added, report.shortfalls) == (1, ())
        assert store.missing(KEY, WINDOW) == []


def test_a_window_that_lacks_all_trades_of_an_instrument_is_a_jump_between_its_neighbours() -> None:
    history = [(WINDOW[0] + 10 * at, f"{at}") for at in range(30)]
    exchange = FakeExchange(history, Paging.FORWARD, OLDEST, 7, says_more=True)
    exchange.lost = exchange.gone = frozenset({"12", "15"})
    feed = fake_feed(exchange, 7, grid=False, numbered=True)
    middle = (history[11][0], history[17][0])
    first, last = (WINDOW[0], middle[0]), (middle[1], WINDOW[1])
    with DataStore(":memory:") as store:
        for window in (first, last):
            assert download(store, fake_client(exchange), feed, "BTC", window).shortfalls == ()
        report = download(store, fake_client(exchange), feed, "BTC", middle)
        assert [one.reason for one in report.shortfalls] == ["not trusted"]
        assert store.missing(KEY, middle) == [middle]
