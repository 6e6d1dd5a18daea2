from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from data_ingest.coverage import LedgerKey
from data_ingest.downloader import download
from data_ingest.feed import NEWEST, OLDEST, Feed, Paging
from data_ingest.paging import complete_parts, pieces, split
from data_ingest.pull_report import PullReport
from data_ingest.store import DataStore
from tests.data_ingest.fake_exchange import (
    CALL_FAULTS,
    EVENT_FAULTS,
    GRID_FAULTS,
    MINUTE_MS,
    ORDERS,
    PAGE_FAULTS,
    SYMBOL,
    FakeExchange,
    fake_client,
    fake_feed,
)

BARS = 24
WINDOW = (100 * MINUTE_MS, (100 + BARS) * MINUTE_MS)
WALKING = (Paging.FORWARD, Paging.BACKWARD, Paging.CONTINUATION, Paging.OFFSET)


# Without shrinking: a failing case is small already, and shrinking takes minutes.
PATIENCE = settings(
    max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


def fault_schedules(kinds: tuple[str, ...], apart: int = 2) -> st.SearchStrategy[dict[int, str]]:
    """Draw what fails at which request; never two in a row, or nothing could be told apart."""
    return st.lists(
        st.tuples(st.integers(apart, 5), st.sampled_from(kinds)), max_size=20
    ).map(_spaced)  # fmt: skip


def _spaced(drawn: list[tuple[int, str]]) -> dict[int, str]:
    at, found = 0, {}
    for step, kind in drawn:
        at += step
        found[at] = kind
    return found


def pull(store: DataStore, exchange: FakeExchange, feed: Feed) -> PullReport:
    grid = feed.periods is not None
    target = SYMBOL if grid else "BTC"
    return download(
        store, fake_client(exchange), feed, target, WINDOW, MINUTE_MS if grid else 0
    )  # fmt: skip


def stored_bars(store: DataStore) -> list[int]:
    return [row[0] for row in store.rows("SELECT open_ms FROM candles ORDER BY 1")]


def bars(minutes: range | list[int]) -> list[tuple[int, str]]:
    return [(minute * MINUTE_MS, "bar") for minute in minutes]


@PATIENCE
@given(
    missing=st.sets(st.integers(95, 128), max_size=8),
    paging=st.sampled_from([Paging.WINDOW, *WALKING]),
    order=st.sampled_from(ORDERS),
    limit=st.integers(2, 12),
    declared=st.integers(2, 12),
    says_more=st.booleans(),
    faults=fault_schedules((*CALL_FAULTS, *PAGE_FAULTS, *GRID_FAULTS)),
)
def test_whatever_the_pages_bars_stored_are_bars_served_and_the_rest_is_said_to_be_missing(
    missing: set[int],
    paging: Paging,
    order: str,
    limit: int,
    declared: int,
    says_more: bool,
    faults: dict[int, str],
) -> None:
    there = [minute for minute in range(95, 130) if minute not in missing]
    exchange = FakeExchange(bars(there), paging, order, limit, says_more, faults)
    feed = fake_feed(exchange, declared, grid=True)
    with DataStore(":memory:") as store:
        report = pull(store, exchange, feed)
        stored = stored_bars(store)
        assert set(stored) <= {minute * MINUTE_MS for minute in there}
        lacking = {
            at for one in report.shortfalls for at in range(*one.window, MINUTE_MS)
        }  # fmt: skip
        window = set(range(*WINDOW, MINUTE_MS))
        # Nothing is lost in silence: a bar of the window is stored or said to be missing.
        assert set(stored) | lacking == window
        assert set(stored).isdisjoint(lacking)
        assert (report.expected, report.stored) == (BARS, len(stored))
        noted = store.rows("SELECT start_ms, end_ms, reason FROM shortfalls ORDER BY 1")
        assert noted == [(*one.window, one.reason) for one in report.shortfalls]
        served = [m * MINUTE_MS for m in there if WINDOW[0] <= m * MINUTE_MS < WINDOW[1]]
        if len(faults) <= 2 and not report.failure:
            assert stored == served
        # Faults enough can hide a bar from every question of one pull; the next one brings it.
        exchange.faults = {}
        if not pull(store, exchange, feed).failure:
            assert stored_bars(store) == served


trades = st.lists(st.integers(WINDOW[0] - 20, WINDOW[0] + 400), min_size=10, max_size=40).map(
    lambda times: [(at, f"{place}") for place, at in enumerate(sorted(times))]
)


@PATIENCE
@given(
    history=trades,
    paging=st.sampled_from(WALKING),
    order=st.sampled_from(ORDERS),
    limit=st.integers(2, 12),
    says_more=st.booleans(),
    # Two readings of a page tell the truth if not both of every pair of them lie.
    faults=fault_schedules((*CALL_FAULTS, *PAGE_FAULTS, *EVENT_FAULTS), apart=3),
)
def test_whatever_the_pages_trades_stored_are_trades_served(
    history: list[tuple[int, str]],
    paging: Paging,
    order: str,
    limit: int,
    says_more: bool,
    faults: dict[int, str],
) -> None:
    exchange = FakeExchange(history, paging, order, limit, says_more, faults)
    feed = fake_feed(exchange, limit, grid=False)
    with DataStore(":memory:") as store:
        report = pull(store, exchange, feed)
        rows = store.rows("SELECT trade_id FROM option_trades WHERE ts_ms >= ?", [WINDOW[0]])
        served = {name for at, name in history if WINDOW[0] <= at < WINDOW[1]}
        said = [one.window for one in report.shortfalls]
        unsaid = {
            name for at, name in history
            if name in served and not any(start <= at < end for start, end in said)
        }  # fmt: skip
        assert unsaid <= {row[0] for row in rows} <= served
        crowd = max((sum(at == other for other, _ in history) for at, _ in history), default=0)
        if crowd < limit:
            assert not report.failure
            assert {row[0] for row in rows} == served


@pytest.mark.parametrize("paging", WALKING)
def test_a_second_pull_of_a_whole_window_asks_nothing(paging: Paging) -> None:
    order = OLDEST if paging is Paging.FORWARD else NEWEST
    exchange = FakeExchange(bars(range(90, 175)), paging, order, 7)
    with DataStore(":memory:") as store:
        first = pull(store, exchange, fake_feed(exchange, 7, grid=True))
        asked = exchange.requests
        again = pull(store, exchange, fake_feed(exchange, 7, grid=True))
    assert (first.rows_added, again.rows_read) == (BARS, 0)
    assert exchange.requests == asked


def test_memory_and_transactions_are_a_page_not_a_history(tmp_path: Path) -> None:
    exchange = FakeExchange(bars(range(90, 175)), Paging.FORWARD, OLDEST, 10)
    with DataStore(tmp_path / "market.duckdb") as store:
        pull(store, exchange, fake_feed(exchange, 10, grid=True))
        sizes = [row[0] for row in store.rows("SELECT rows_read FROM batches")]
    assert len(sizes) == 3
    assert max(sizes) == 10


def failing(fault: str, requests: int = 99) -> dict[int, str]:
    return dict.fromkeys(range(1, requests), fault)


@pytest.mark.parametrize(
    ("paging", "fault", "words"),
    [
        (Paging.FORWARD, "stale", "another window"),
        (Paging.CONTINUATION, "stuck", "the mark of the next page stays 5"),
        (Paging.CONTINUATION, "stale", "the page before came again"),
        (Paging.OFFSET, "stale", "the page before came again"),
        (Paging.OFFSET, "empty", "the list moved"),
    ],
)
def test_a_cursor_that_does_not_advance_is_an_error_with_its_place(
    paging: Paging, fault: str, words: str
) -> None:
    order = OLDEST if paging is Paging.FORWARD else NEWEST
    history = [(WINDOW[0] + at, f"{at}") for at in range(40)]
    faults = {n: kind for n, kind in failing(fault).items() if n > 1}
    exchange = FakeExchange(history, paging, order, 5, faults=faults)
    with DataStore(":memory:") as store:
        report = pull(store, exchange, fake_feed(exchange, 5, grid=False))
        (shortfall,) = report.shortfalls
        kept = store.rows("SELECT count(*) FROM option_trades")[0][0]
    assert shortfall.reason == "not trusted"
    assert words in shortfall.detail
    assert f"from {shortfall.start_ms}" in shortfall.detail
    assert kept == 5


@pytest.mark.parametrize("paging", [Paging.FORWARD, Paging.BACKWARD, Paging.CONTINUATION])
def test_one_empty_answer_among_trades_is_not_believed(paging: Paging) -> None:
    order = OLDEST if paging is Paging.FORWARD else NEWEST
    history = [(WINDOW[0] + at, f"{at}") for at in range(12)]
    exchange = FakeExchange(history, paging, order, 5, faults={2: "empty", 4: "empty"})
    with DataStore(":memory:") as store:
        pull(store, exchange, fake_feed(exchange, 5, grid=False))
        assert store.rows("SELECT count(*) FROM option_trades") == [(12,)]


def test_a_changed_page_order_is_asked_in_halves_until_no_page_is_cut() -> None:
    """The newest rows of a full page where the oldest were declared: the cut is at the start."""
    history = [(WINDOW[0] + 7 * at, f"{at}") for at in range(40)]
    honest = FakeExchange(history, Paging.FORWARD, OLDEST, 5)
    turned = FakeExchange(history, Paging.BACKWARD, NEWEST, 5)
    with DataStore(":memory:") as store:
        report = pull(store, turned, fake_feed(honest, 5, grid=False))
        ((kept,),) = store.rows("SELECT count(*) FROM option_trades")
    assert (report.failure, kept) == ("", 40)


def test_no_bar_is_stored_before_the_exchange_s_own_clock_has_closed_it() -> None:
    exchange = FakeExchange(bars(range(90, 175)), Paging.FORWARD, OLDEST, 10)
    exchange.clock_ms = 110 * MINUTE_MS + 59_999
    with DataStore(":memory:") as store:
        report = pull(store, exchange, fake_feed(exchange, 10, grid=True))
        assert stored_bars(store)[-1] == 109 * MINUTE_MS
        (shortfall,) = report.shortfalls
        assert (shortfall.window, shortfall.reason) == (
            (110 * MINUTE_MS, WINDOW[1]), "not yet"
        )  # fmt: skip
        exchange.clock_ms = 200 * MINUTE_MS
        assert pull(store, exchange, fake_feed(exchange, 10, grid=True)).shortfalls == ()
        assert store.rows("SELECT count(*) FROM shortfalls") == [(0,)]
        assert stored_bars(store) == list(range(*WINDOW, MINUTE_MS))


def test_what_the_exchange_does_not_keep_is_not_asked_for_and_said_so() -> None:
    exchange = FakeExchange(bars(range(90, 175)), Paging.FORWARD, OLDEST, 10)
    exchange.clock_ms = 124 * MINUTE_MS
    declared = fake_feed(exchange, 10, grid=True)
    feed = Feed(**{**declared.__dict__, "kept_rows": 20})
    with DataStore(":memory:") as store:
        report = pull(store, exchange, feed)
        assert stored_bars(store)[0] == 104 * MINUTE_MS
    assert [(one.window, one.reason) for one in report.shortfalls] == [
        ((WINDOW[0], 104 * MINUTE_MS), "not kept")
    ]
    assert min(query["start"] for query in exchange.asked) == 104 * MINUTE_MS


def test_a_refused_feed_says_the_exchange_s_sentence_and_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ccxt

    exchange = FakeExchange([], Paging.FORWARD)

    def refuse(query: dict[str, Any]) -> Any:
        exchange.requests += 1
        raise ccxt.ExchangeNotAvailable("fake GET http://fake 451 not in your country")

    monkeypatch.setattr(exchange, "rows", refuse, raising=False)
    with DataStore(":memory:") as store:
        report = pull(store, exchange, fake_feed(exchange, 5, grid=False))
        key = LedgerKey("fake", "BTC", "option_trades")
        assert store.missing(key, WINDOW) == [WINDOW]
    assert exchange.requests == 1
    assert [one.reason for one in report.shortfalls] == ["refused"]
    assert "451 not in your country" in report.failure


def test_a_page_is_complete_only_where_no_row_is_missing() -> None:
    assert complete_parts([0, 10, 20], (0, 30), 10) == [(0, 30)]
    assert complete_parts([0, 20], (0, 30), 10) == [(0, 10), (20, 30)]
    assert complete_parts([8, 16], (3, 20), 8) == [(3, 20)]
    assert complete_parts([], (0, 30), 10) == []
    assert split(0, 25, 10) == [(0, 10), (10, 20), (20, 25)]
    assert pieces([(0, 5), (8, 10), (12, 30)], 10, 10) == [(0, 10), (12, 22), (22, 30)]
