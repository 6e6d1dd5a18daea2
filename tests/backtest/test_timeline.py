"""Who knows what, and when: the vectorised clock against the plain reading of its rules."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backtest.instruments import NEVER_MS
from backtest.rules.liquidation import Keepers
from backtest.rules.prices import Funding
from backtest.seeds import stream
from backtest.tape import MarketTape
from backtest.timeline import (
    Timeline,
    build_timeline,
    charged_funding,
    keeper_costs,
    settlement_prices,
)
from backtest.units import MS_PER_HOUR
from backtest.venue import VenueRules
from tests.tapes import START_MS, make_tape

MINUTE_MS = 60_000
GRID_MS = 5 * MINUTE_MS
"""Times and durations of the random cases are multiples of this, so that they often coincide."""


def irregular(tape: MarketTape, seed: int) -> MarketTape:
    """Move rows to irregular times, and let each be known after a delay of its own."""
    draw = stream(seed, "irregular clock")
    ts = START_MS + np.cumsum(draw.integers(1, 18, len(tape)) * GRID_MS)
    known = np.maximum.accumulate(ts + draw.integers(0, 8, len(tape)) * GRID_MS)
    vol_ts = ts[:: max(len(ts) // max(len(tape.vol_ts), 1), 1)][: len(tape.vol_ts)]
    vol_known = np.maximum.accumulate(vol_ts + draw.integers(0, 40, len(vol_ts)) * GRID_MS)
    return replace(tape, ts=ts, known_ts=known, vol_ts=vol_ts, vol_known_ts=vol_known)


def plain_timeline(tape: MarketTape, venue: VenueRules, rows: slice) -> Timeline:
    """Follow every rule as it is said, one instant and one asset after the other."""
    oracle, breaker, checks = venue.oracle, venue.circuit_breaker, venue.margin_check
    ts = [int(t) for t in tape.ts]
    usable = [int(t) + oracle.latency for t in tape.known_ts]
    posts: list[list[int]] = []
    for price in tape.index.T:
        mine: list[int] = []
        for r, t in enumerate(ts):
            if any(start <= t < end for start, end in oracle.outages):
                continue
            always = oracle.heartbeat is None and oracle.deviation == 0.0
            beat = mine and oracle.heartbeat is not None and t - ts[mine[-1]] >= oracle.heartbeat
            moved = abs(price[r] / price[mine[-1]] - 1.0) if mine else 0.0
            if not mine or always or beat or (0.0 < oracle.deviation <= moved):
                mine.append(r)
        posts.append(mine)
    trips: list[list[int]] = [[] for _ in posts]
    for a, price in enumerate(tape.index.T):
        for r, t in enumerate(ts):
            if breaker and any(
                abs(price[r] / price[s] - 1.0) >= breaker.move
                for s in range(r)
                if t - ts[s] <= breaker.window
            ):
                trips[a].append(t)
    window = ts[rows]
    arrivals = {usable[r] for mine in posts for r in mine}
    at_ms = sorted(set(window) | {t for t in arrivals if window[0] < t < window[-1]})
    lines = []
    last_check = None
    for at in at_ms:
        seen = [max((r for r in mine if usable[r] <= at), default=-1) for mine in posts]
        enforce = []
        for a, r in enumerate(seen):
            stale = oracle.stale_after is not None and at - ts[r] > oracle.stale_after
            confidence = oracle.confidence
            spread = confidence.range_share * (tape.high[r, a] - tape.low[r, a]) / tape.mark[r, a]
            wide = confidence.limit is not None and confidence.width + spread > confidence.limit
            halted = breaker is not None and any(t <= at < t + breaker.halt for t in trips[a])
            stopped = (stale and oracle.when_stale == "halt") or wide or halted
            enforce.append(int(r >= 0 and not stopped))
        due = (
            last_check is None
            or at - last_check >= checks.every
            or any(at < t <= at + checks.near_expiry for t in tape.instruments.expiry_ms.tolist())
        )
        check = min(seen) >= 0 and due
        last_check = at if check else last_check
        row = max(r for r, t in enumerate(ts) if t <= at)
        lines.append(
            (
                at,
                row,
                int(ts[row] == at),
                seen,
                sum(int(t) + oracle.latency <= at for t in tape.vol_known_ts) - 1,
                sum(t <= at for t in usable) - 1,
                enforce,
                int(check),
            )
        )
    return Timeline(*(np.array(column) for column in zip(*lines, strict=True)))


def minutes(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low // 5, high // 5).map(lambda n: f"{5 * n}min")


@st.composite
def venues(draw: st.DrawFn) -> VenueRules:
    def maybe(made: st.SearchStrategy) -> object:
        return draw(st.none() | made)

    edges = sorted(draw(st.lists(st.integers(0, 600), max_size=6, unique=True)))
    edges = [START_MS + GRID_MS * edge for edge in edges[: len(edges) // 2 * 2]]
    oracle = {
        "latency": draw(minutes(0, 200)),
        "heartbeat": maybe(minutes(5, 400)),
        "deviation": draw(st.sampled_from([0.0, 0.005, 0.02])),
        "outages": list(zip(edges[::2], edges[1::2], strict=True)),
        "stale_after": maybe(minutes(5, 300)),
        "when_stale": draw(st.sampled_from(["halt", "keep"])),
        "confidence": {
            "width": 0.001,
            "range_share": 0.5,
            "limit": draw(st.none() | st.just(0.01)),
        },
    }
    breaker = {"move": 0.02, "window": draw(minutes(5, 300)), "halt": draw(minutes(5, 300))}
    check = {"every": draw(minutes(0, 300)), "near_expiry": draw(minutes(0, 6_300))}
    return VenueRules.model_validate(
        {
            "oracle": oracle,
            "margin_check": check,
            "circuit_breaker": draw(st.sampled_from([None, breaker])),
        }
    )


@settings(max_examples=300, deadline=None)
@given(venue=venues(), seed=st.integers(0, 40), length=st.integers(1, 40), data=st.data())
def test_the_timeline_is_the_plain_reading_of_the_rules(venue, seed, length, data):
    tape = irregular(make_tape(rows=length, seed=seed, volatility=2.0, snapshot_rows=4), seed)
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first + 1, length))
    expected = plain_timeline(tape, venue, slice(first, last))
    made = build_timeline(tape, venue, slice(first, last))
    for name, array in zip(Timeline._fields, made, strict=True):
        np.testing.assert_array_equal(array, getattr(expected, name), err_msg=name)
        assert array.dtype == np.int64
        assert array.flags.c_contiguous
        assert not array.flags.writeable


@settings(max_examples=60, deadline=None)
@given(venue=venues(), seed=st.integers(0, 40), length=st.integers(2, 30))
def test_no_row_after_the_window_changes_what_was_known_in_it(venue, seed, length):
    tape = irregular(make_tape(rows=40, seed=seed, volatility=2.0, options=False), seed)
    whole = build_timeline(tape, venue, slice(0, length))
    cut = build_timeline(tape.head(length), venue, slice(0, length))
    for ours, theirs in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_frozen_oracle_shows_the_last_price_while_the_market_moves():
    tape = make_tape(rows=10, options=False)
    outage = (int(tape.ts[4]), int(tape.ts[7]))
    venue = VenueRules.model_validate({"oracle": {"outages": [outage], "stale_after": "2h"}})
    made = build_timeline(tape, venue, slice(0, 10))
    assert made.seen_row[:, 0].tolist() == [0, 1, 2, 3, 3, 3, 3, 7, 8, 9]
    assert made.policy_row.tolist() == list(range(10))
    assert made.enforce[:, 1].tolist() == [1, 1, 1, 1, 1, 1, 0, 1, 1, 1]


def test_a_post_that_arrives_between_rows_is_an_instant_of_its_own():
    tape = make_tape(rows=4, options=False)
    venue = VenueRules.model_validate({"oracle": {"latency": "10min"}})
    made = build_timeline(tape, venue, slice(0, 4))
    assert made.opens_row.tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert made.row.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert made.seen_row[:, 0].tolist() == [-1, 0, 0, 1, 1, 2, 2]
    assert made.check.tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_checks_are_spaced_except_shortly_before_an_expiry():
    tape = make_tape(rows=120)
    expiry = int(tape.instruments.expiry_ms.min())
    assert expiry == tape.ts[104]
    rules = {"margin_check": {"every": "5h", "near_expiry": "3h"}}
    made = build_timeline(tape, VenueRules.model_validate(rules), slice(0, 120))
    assert np.flatnonzero(made.check[:107]).tolist() == [*range(0, 101, 5), 101, 102, 103]


def test_a_quarter_of_a_million_rows_are_laid_out_in_seconds():
    tape = make_tape(rows=250_000, options=False, interval_ms=MINUTE_MS)
    venue = VenueRules.model_validate(
        {
            "oracle": {"latency": "5s", "deviation": "0.1%", "heartbeat": "1h"},
            "margin_check": {"every": "90s"},
            "circuit_breaker": {"move": "5%", "window": "1d"},
        }
    )
    build_timeline(tape.head(10), venue, slice(0, 10))
    began = time.perf_counter()
    build_timeline(tape, venue, slice(0, len(tape)))
    assert time.perf_counter() - began < 5.0


def test_funding_is_charged_at_its_boundary_and_capped_per_interval():
    tape = make_tape(rows=12, assets=("BTC",), options=False)
    hourly = replace(tape, funding=np.full((12, 1), 0.001))
    charged = charged_funding(hourly, Funding.model_validate({"interval": "4h"}))[:, 0]
    expected = np.zeros(12)
    expected[0], expected[[4, 8]] = 0.001, 0.004
    np.testing.assert_allclose(charged, expected, rtol=1e-15)
    capped = charged_funding(hourly, Funding.model_validate({"interval": "4h", "cap": "0.2%"}))
    assert capped[:, 0].max() == 0.002
    as_recorded = charged_funding(hourly, Funding())
    np.testing.assert_array_equal(as_recorded, hourly.funding)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 200), hours=st.integers(1, 12), cap=st.none() | st.just(2e-5))
def test_every_charge_is_what_accrued_since_the_boundary_before(seed, hours, cap):
    tape = irregular(make_tape(rows=40, options=False, seed=seed), seed)
    step = hours * MS_PER_HOUR
    charged = charged_funding(tape, Funding.model_validate({"interval": f"{hours}h", "cap": cap}))
    expected = np.zeros_like(tape.funding)
    first = int(tape.ts[0]) // step * step - step
    for begins, ends in pairwise(range(first, int(tape.ts[-1]) + 1, step)):
        inside = (tape.ts > begins) & (tape.ts <= ends)
        row = int(np.flatnonzero(tape.ts >= ends)[0])
        for a in range(2):
            total = 0.0
            for accrued in tape.funding[inside, a]:
                total += accrued
            expected[row, a] += total if cap is None else min(max(total, -cap), cap)
    np.testing.assert_array_equal(charged, expected)


def test_an_option_is_settled_at_the_index_averaged_over_the_last_half_hour():
    tape = make_tape(rows=1_500, assets=("BTC",), interval_ms=5 * MINUTE_MS)
    table = tape.instruments
    price = settlement_prices(tape, 30 * MINUTE_MS)
    expiry = int(table.expiry_ms[table.expiry_ms <= tape.ts[-1]].min())
    held = tape.index[(tape.ts >= expiry - 30 * MINUTE_MS) & (tape.ts <= expiry), 0]
    assert len(held) == 7
    due = table.expiry_ms == expiry
    mean = (held[0] / 2 + held[1:-1].sum() + held[-1] / 2) / 6
    np.testing.assert_allclose(price[due], mean, rtol=1e-14)
    assert np.isnan(price[table.expiry_ms == NEVER_MS]).all()
    assert np.isnan(price[table.expiry_ms > tape.ts[-1]]).all()
    at_once = settlement_prices(tape, 0)[due]
    assert (at_once == tape.index[np.searchsorted(tape.ts, expiry), 0]).all()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 200), average=st.integers(0, 5_000))
@example(seed=0, average=0)
def test_the_settlement_price_is_the_mean_of_straight_lines_between_rows(seed, average):
    tape = irregular(make_tape(rows=170, seed=seed), seed)
    price = settlement_prices(tape, average * MINUTE_MS)
    table = tape.instruments
    for i in np.flatnonzero(table.expiry_ms < 2**60)[:: 1 + len(table) // 8]:
        expiry, index = int(table.expiry_ms[i]), tape.index[:, table.asset[i]]
        if expiry > tape.ts[-1]:
            assert math.isnan(price[i])
            continue
        begins = max(expiry - average * MINUTE_MS, int(tape.ts[0]))
        if begins >= expiry:
            assert price[i] == index[np.searchsorted(tape.ts, expiry)]
            continue
        every_minute = np.arange(begins, expiry, MINUTE_MS) + MINUTE_MS / 2
        held = np.interp(every_minute, tape.ts, index)
        assert price[i] == pytest.approx(held.mean(), rel=1e-12)


def test_a_flat_index_settles_at_itself_to_the_bit():
    tape = make_tape(rows=200)
    flat = np.full_like(tape.index, 41_234.567)
    price = settlement_prices(replace(tape, index=flat), 8 * MS_PER_HOUR)
    assert set(price[~np.isnan(price)]) == {41_234.567}


def test_a_liquidation_costs_more_after_the_largest_move_of_any_asset():
    tape = make_tape(rows=3, options=False)
    index = np.array([[100.0, 10.0], [90.0, 10.1], [90.0, 10.1]])
    keepers = Keepers.model_validate({"cost_usd": 20, "cost_per_move": 5.0})
    costs = keeper_costs(replace(tape, index=index), keepers)
    np.testing.assert_allclose(costs, [20.0, 20.0 * 1.5, 20.0], rtol=1e-15)
