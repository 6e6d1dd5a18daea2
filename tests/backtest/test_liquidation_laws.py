"""How much is closed, at which auction price, and at what cost of execution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backtest.kernels.laws.auction import (
    buffered_margin,
    insolvent_pay,
    insolvent_payout,
    largest_fraction,
    price_share,
)
from backtest.kernels.laws.impact import LINEAR, SQUARE_ROOT, execution_cost, price_move
from backtest.kernels.laws.liquidation_size import (
    disposal_size,
    proportional_share,
    quantity_to_restore,
    share_in_steps,
    share_of_remaining,
    share_to_bracket,
    share_to_target,
)

amounts = st.floats(1.0, 1e9)
ratios = st.floats(0.0, 1.0)
laws = st.sampled_from([SQUARE_ROOT, LINEAR])


@settings(deadline=None)
@given(
    equity=st.floats(-1e6, 1e6), maintenance=amounts, target=st.floats(1.0, 3.0),
    penalty=st.floats(0.0, 1e6), least=st.floats(0.01, 1.0),
)  # fmt: skip
def test_a_partial_liquidation_restores_the_target_or_closes_everything(
    equity: float, maintenance: float, target: float, penalty: float, least: float
) -> None:
    assume(equity < maintenance)
    share = share_to_target(equity, maintenance, target, penalty, least)
    assert least <= share <= 1.0
    if share == 1.0 > least:
        # Only where the penalty would eat up what is left is everything closed.
        assert equity <= penalty + 1e-9 * target * maintenance
    if share < 1.0:
        after = equity - share * penalty
        wanted = target * maintenance * (1.0 - share)
        assert after >= wanted * (1.0 - 1e-9) - 1e-6
    if least < share < 1.0:
        assert equity - share * penalty == pytest.approx(
            target * maintenance * (1.0 - share), rel=1e-6, abs=1e-3
        )


@settings(deadline=None)
@given(
    equity=st.floats(-1e6, 1e6), maintenance=amounts, target=st.floats(1.0, 3.0),
    penalty=st.floats(0.0, 1e6), step=st.floats(0.01, 1.0),
)  # fmt: skip
def test_steps_stop_at_the_first_that_restores(
    equity: float, maintenance: float, target: float, penalty: float, step: float
) -> None:
    share = share_in_steps(equity, maintenance, target, penalty, step)
    assert 0.0 < share <= 1.0
    # Written the other way round: no smaller multiple of the step would have done.
    smaller = [k * step for k in range(1, int(share / step + 0.5))]
    restores = [maintenance * (1.0 - s) * target <= equity - s * penalty for s in smaller]
    assert equity <= 0.0 or not any(restores)
    if share < 1.0:
        assert target * maintenance * (1.0 - share) <= (equity - share * penalty) * (1.0 + 1e-12)


def test_equal_steps_close_equal_parts_of_the_first_portfolio() -> None:
    left, parts = 1.0, []
    for made in range(5):
        parts.append(left * share_of_remaining(float(made), 0.2))
        left -= parts[-1]
    assert parts == pytest.approx([0.2] * 5)
    assert share_of_remaining(5.0, 0.2) == 1.0
    assert share_of_remaining(4.0, 0.2) == pytest.approx(1.0)


@settings(deadline=None)
@given(exposure=amounts, edges=st.lists(amounts, max_size=6, unique=True))
def test_stepping_down_ends_on_the_edge_below(exposure: float, edges: list[float]) -> None:
    brackets = np.array([0.0, *sorted(edges)])
    left = exposure * (1.0 - share_to_bracket(exposure, brackets))
    below = max((edge for edge in brackets if edge < exposure), default=0.0)
    assert left == pytest.approx(below, rel=1e-9, abs=1e-6 * exposure)


@settings(deadline=None)
@given(
    equity=st.floats(-1e6, 1e6), maintenance=amounts, gain=st.floats(0.01, 10.0),
    cap=st.floats(0.05, 1.0),
)  # fmt: skip
def test_the_proportional_share_grows_with_what_is_missing(
    equity: float, maintenance: float, gain: float, cap: float
) -> None:
    assume(equity < maintenance)
    share = proportional_share(equity, maintenance, gain, cap, 0.01)
    worse = proportional_share(equity - 0.1 * maintenance, maintenance, gain, cap, 0.01)
    assert 0.0 < share <= cap
    assert worse >= share or worse == cap
    assert proportional_share(maintenance, maintenance, gain, cap, 0.01) == 0.01


def test_twice_the_missing_quarter_is_a_half() -> None:
    assert proportional_share(75.0, 100.0, 2.0, 0.9, 0.01) == 0.5
    assert proportional_share(75.0, 0.0, 2.0, 0.9, 0.01) == 0.9


def test_closing_that_costs_what_it_releases_never_restores() -> None:
    assert quantity_to_restore(10.0, 0.05, 0.05) == math.inf
    assert share_to_target(50.0, 100.0, 1.0, 100.0, 0.1) == 1.0


def test_a_venue_disposes_of_what_it_took_over_as_vega_specifies() -> None:
    """Acceptance criterion 0012-POSR-013: 280 lots go as 100, 90, 45 and 45."""
    held, trades = 280.0, []
    while held > 0.0:
        trades.append(disposal_size(held, 0.5, 50.0, 10_000.0, 0.01, 1.0))
        held -= trades[-1]
    assert trades == [100.0, 90.0, 45.0, 45.0]
    # To the nearest lot, the book's share rounded up; without lots as it comes.
    assert disposal_size(275.0, 0.5, 50.0, 1e4, 1.0, 10.0) == 140.0
    assert disposal_size(275.0, 0.5, 50.0, 1e3, 0.011, 10.0) == 20.0
    assert disposal_size(275.0, 0.5, 50.0, 1e3, 0.011, 0.0) == 11.0
    assert disposal_size(3.0, 0.01, 0.0, 1e3, 1.0, 10.0) == 3.0


@settings(deadline=None)
@given(
    held=st.integers(1, 10_000), fraction=st.floats(0.01, 1.0), full=st.integers(0, 100),
    book=st.integers(1, 10_000), share=st.floats(0.01, 1.0),
)  # fmt: skip
def test_a_disposal_is_whole_lots_and_makes_progress(
    held: int, fraction: float, full: int, book: int, share: float
) -> None:
    size = disposal_size(float(held), fraction, float(full), float(book), share, 1.0)
    assert 1.0 <= size <= held
    assert size == int(size)
    assert size <= math.ceil(share * book)


def test_derives_auction_is_reproduced_at_its_start_and_half_way() -> None:
    """`SolventAuction.t.sol`: value 300, net margin -100, buffer 10 %; 31.8 % and 34.1 %."""
    assert buffered_margin(300.0, -100.0, 0.1) == -140.0
    assert price_share(0.0, 600.0, 7200.0, 1.0, 0.8) == 1.0
    half_way = price_share(300.0, 600.0, 7200.0, 1.0, 0.8)
    assert 300.0 * half_way == pytest.approx(270.0)
    assert largest_fraction(300.0, -100.0, 1.0, 0.0, 0.1) == pytest.approx(140.0 / 440.0)
    assert largest_fraction(300.0, -100.0, half_way, 0.0, 0.1) == pytest.approx(140.0 / 410.0)
    assert price_share(7_800.0, 600.0, 7200.0, 1.0, 0.8) == 0.0
    assert price_share(1e9, 600.0, 7200.0, 1.0, 0.8) == 0.0


@settings(deadline=None)
@given(
    elapsed=st.floats(0.0, 1e5), later=st.floats(0.0, 1e5), fast=st.floats(1.0, 1e4),
    slow=st.floats(1.0, 1e4), cut=st.floats(0.0, 1.0), drop=st.floats(0.0, 1.0),
)  # fmt: skip
def test_an_auction_price_only_falls(
    elapsed: float, later: float, fast: float, slow: float, cut: float, drop: float
) -> None:
    start = min(1.0, cut + drop)
    now = price_share(elapsed, fast, slow, start, cut)
    assert -1e-15 <= now <= start
    assert price_share(elapsed + later, fast, slow, start, cut) <= now + 1e-12


@settings(deadline=None)
@given(
    value=amounts, short=st.floats(0.001, 2.0), price=ratios, reserved=ratios,
    buffer=st.floats(0.0, 0.3),
)  # fmt: skip
def test_the_largest_bid_restores_the_buffered_margin(
    value: float, short: float, price: float, reserved: float, buffer: float
) -> None:
    """A bid takes a share of the margin with it, but leaves the cash reserved before."""
    net, kept = -short * value, reserved * value
    share = largest_fraction(value, net, price, kept, buffer)
    assert 0.0 <= share <= 1.0
    paid = share * price * (value - kept)
    # What is left of everything but the reserved cash, plus that cash, plus the bid.
    buffered = buffered_margin(value, net, buffer)
    after = (1.0 - share) * (buffered - kept) + kept + paid
    assert after == pytest.approx(0.0, abs=1e-6 * value) or share == 1.0


def test_pay_for_an_insolvent_account_rises_to_its_whole_requirement() -> None:
    assert insolvent_pay(200.0, 0.0, 600.0) == 0.0
    assert insolvent_pay(200.0, 150.0, 600.0) == 50.0
    assert insolvent_pay(200.0, 1e9, 600.0) == 200.0
    assert insolvent_payout(-100.0, -300.0, 0.0, 600.0) == 100.0
    assert insolvent_payout(-100.0, -300.0, 900.0, 600.0) == 300.0


@settings(deadline=None)
@given(
    volume=amounts, already=st.floats(0.0, 1e9), depth=amounts, law=laws,
    at_depth=st.floats(0.0, 0.1),
)  # fmt: skip
def test_the_cost_of_execution_is_the_integral_of_the_move(
    volume: float, already: float, depth: float, law: int, at_depth: float
) -> None:
    cost = execution_cost(volume, already, depth, law, at_depth, math.inf)
    edges = np.linspace(already, already + volume, 2_001)
    middles = 0.5 * (edges[1:] + edges[:-1])
    moves = [price_move(float(q), depth, law, at_depth) for q in middles[::20]]
    assert cost == pytest.approx(volume * float(np.mean(moves)), rel=2e-2, abs=1e-9)


@settings(deadline=None)
@given(first=amounts, second=amounts, depth=amounts, law=laws, at_depth=st.floats(1e-4, 0.1))
def test_two_executions_cost_what_one_of_their_size_does(
    first: float, second: float, depth: float, law: int, at_depth: float
) -> None:
    parts = execution_cost(first, 0.0, depth, law, at_depth, math.inf)
    parts += execution_cost(second, first, depth, law, at_depth, math.inf)
    whole = execution_cost(first + second, 0.0, depth, law, at_depth, math.inf)
    assert parts == pytest.approx(whole, rel=1e-6)


@settings(deadline=None)
@given(volume=amounts, depth=st.floats(-1.0, 1e9), law=laws, cap=ratios)
def test_no_execution_costs_more_than_the_cap(
    volume: float, depth: float, law: int, cap: float
) -> None:
    cost = execution_cost(volume, 0.0, depth, law, 0.01, cap)
    assert 0.0 <= cost <= cap * volume
    if depth <= 0.0:
        assert cost == cap * volume
        assert price_move(volume, depth, law, 0.01) == math.inf


def test_four_times_the_size_doubles_square_root_impact() -> None:
    """Donier and Bonart's law with Y = 1 and 3.5 % daily volatility: 35 and 70 bp."""
    assert price_move(0.01, 1.0, SQUARE_ROOT, 0.035) == pytest.approx(0.0035)
    assert price_move(0.04, 1.0, SQUARE_ROOT, 0.035) == pytest.approx(0.0070)
    assert price_move(0.04, 1.0, LINEAR, 0.035) == pytest.approx(0.0014)
