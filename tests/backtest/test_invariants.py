"""What holds in every replay, whatever the venue's rules, the market and the accounts."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import backtest.replay as replay_module
from backtest.arrays import build_world, prepare
from backtest.book import CROSS, ISOLATED, PORTFOLIO, AccountBook
from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.records import (
    ADL_NAMES,
    ADL_USD,
    GROSS_BAD_DEBT,
    IN_ADL,
    IN_BAD_DEBT,
    IN_SOCIALISED,
    INSURANCE_DRAWDOWN,
    LIQUIDATION_NAMES,
    SOCIALISED,
    TAKEOVER,
)
from backtest.kernels.replay import replay_instants
from backtest.kernels.state import DEFICIT, DRAWN, FUND, TRUE_INDEX, VAULT
from backtest.replay import LEDGER_TOLERANCE, LoopRecords, run_loop
from backtest.rules.prices import Confidence
from backtest.units import MS_PER_HOUR
from backtest.venue import VenueRules
from strategies.kernels.scenario_grid import scenario_grid, scenario_grid_constants
from tests.backtest.cases import LayeredPolicy, gross_policy, random_book
from tests.backtest.venues import venues
from tests.tapes import make_tape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backtest.tape import MarketTape

RATE = 0.05
"""Initial margin of the simplest policy; maintenance is 60 % of it."""
SCENARIOS = [(move, vol, 1.0) for move in (-1.0, -0.5, 0.0, 0.5, 1.0) for vol in (-1, 0, 1)]

wild_tapes = st.builds(
    make_tape,
    rows=st.integers(2, 60),
    assets=st.sampled_from([("BTC",), ("BTC", "ETH")]),
    options=st.booleans(),
    inverse=st.booleans(),
    futures=st.booleans(),
    seed=st.integers(0, 2**31),
    volatility=st.sampled_from([0.7, 4.0]),
    jump_share=st.sampled_from([0.0, 0.2]),
)
seeds = st.integers(0, 2**31)
cases = settings(
    max_examples=int(os.environ.get("REMARGIN_INVARIANT_EXAMPLES", "40")),
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)


def changed(rules: Any, **changes: Any) -> Any:
    """Return rules with some of them changed; a dict changes the rules of a group."""
    update = {}
    for name, change in changes.items():
        now = getattr(rules, name)
        nested = isinstance(change, dict) and isinstance(now, BaseModel)
        update[name] = changed(now, **change) if nested else change
    return rules.model_copy(update=update)


def whole_run(
    tape: MarketTape, book: AccountBook, venue: VenueRules, rate: float = RATE
) -> LoopRecords:
    """Run the compiled loop over all of a tape under the simplest policy."""
    return run_loop(tape, book, gross_policy(rate).layers(tape), venue, slice(0, len(tape)))


def each_instant(
    tape: MarketTape, book: AccountBook, venue: VenueRules, rate: float = RATE
) -> Iterator[Any]:
    """Run the compiled loop one instant at a time, and show the world after each."""
    layers = gross_policy(rate).layers(tape)
    prepared, _ = prepare(tape, book, layers, venue, slice(0, len(tape)))
    world = build_world(prepared, book, 0)
    kernels = tuple(layer.rule.kernel for layer in prepared.layers)
    for instant in range(len(prepared.timeline.at_ms)):
        replay_instants(world, kernels, instant, instant + 1)
        yield world


def equities(world: Any) -> np.ndarray:
    """Return the true equity of every margin account at this instant, USD."""
    state = world.state
    accounts = state.cash.shape[1] - 1
    equity = state.cash[0, :accounts] + state.assets[TRUE_INDEX] @ state.cash[1:, :accounts]
    for account in range(accounts):
        first = state.start[account]
        slots = slice(first, first + state.count[account])
        equity[account] += state.quantity[slots] @ state.value_usd[state.instrument[slots]]
    return equity


def in_dollars(book: AccountBook) -> AccountBook:
    """Return the same accounts with dollars for collateral, whatever coins they had."""
    return replace(
        book,
        collateral_currency=np.zeros(len(book)),
        transfer_currency=np.zeros(len(book.transfer_ts)),
    )


def still(tape: MarketTape) -> MarketTape:
    """Return a tape on which no price ever moves and nobody pays funding."""
    flat = np.tile(tape.index[:1], (len(tape), 1))
    return replace(tape, index=flat, mark=flat, high=flat, low=flat, funding=np.zeros_like(flat))


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds, mode=st.sampled_from(["elastic", "recorded"]))
def test_money_is_conserved_at_every_instant_and_no_purse_is_overdrawn(tape, venue, seed, mode):
    book = random_book(tape, seed, mode=mode, plain=False)
    caps = venue.insurance_fund.market_cap_usd
    most = np.array([caps.get(asset, np.inf) for asset in tape.assets])
    for world in each_instant(tape, book, venue):
        state = world.state
        assert state.purse[FUND] >= 0.0
        assert state.purse[VAULT] >= 0.0
        assert np.all(state.assets[DRAWN] <= most * (1.0 + 1e-12))
        assert state.purse[DEFICIT] <= 1e-9 * world.records.series.max()
    series = whole_run(tape, book, venue).series
    assert np.all(series["ledger_imbalance_usd"] <= LEDGER_TOLERANCE * series["ledger_scale_usd"])


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds, mode=st.sampled_from(["elastic", "recorded"]))
def test_fund_winners_everybody_and_what_stays_uncovered_add_up_to_the_bad_debt(
    tape, venue, seed, mode
):
    book = random_book(tape, seed, mode=mode, plain=False)
    paid = [INSURANCE_DRAWDOWN, ADL_USD, SOCIALISED]
    for world in each_instant(tape, book, venue):
        flows = world.records.series.sum(axis=0)
        uncovered, lost = -world.state.purse[DEFICIT], flows[GROSS_BAD_DEBT]
        assert flows[paid].sum() + uncovered == pytest.approx(lost, rel=1e-9, abs=1e-6)
    run = whole_run(tape, book, venue)
    near = 1e-9 * (1.0 + lost)
    in_all = {name: column.sum() for name, column in run.series.items()}
    ledger = run.ledger.sum(axis=0)
    assert ledger[IN_BAD_DEBT] == pytest.approx(in_all["gross_bad_debt_usd"], abs=near)
    assert -ledger[IN_ADL] == pytest.approx(in_all["adl_usd"], abs=near)
    assert -ledger[IN_SOCIALISED] == pytest.approx(in_all["socialised_usd"], abs=near)
    shortfalls = run.log[:, LIQUIDATION_NAMES.index("shortfall_usd")]
    assert shortfalls.sum() <= in_all["gross_bad_debt_usd"] + near


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds)
def test_an_account_without_positions_owes_nothing(tape, venue, seed):
    book = random_book(tape, seed, plain=False)
    for world in each_instant(tape, book, venue, rate=0.01):
        assert np.all(equities(world)[world.state.count[:-1] == 0] >= 0.0)


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds)
def test_a_recorded_account_in_dollars_owes_nothing_once_it_is_flat(tape, venue, seed):
    assume(not tape.instruments.inverse.any())
    book = in_dollars(random_book(tape, seed, mode="recorded", plain=False))
    for world in each_instant(tape, book, venue, rate=0.01):
        assert np.all(equities(world)[world.state.count[:-1] == 0] >= 0.0)


FREE_KEEPERS = {"capacity": None, "participation": False, "outages": (), "cost_usd": 0.0}
PROMPT: dict[str, Any] = {
    "oracle": {
        "latency": 0,
        "heartbeat": None,
        "deviation": 0.0,
        "confidence": Confidence(),
        "outages": (),
        "stale_after": None,
    },
    "margin_check": {"mode": "full", "every": 0},
    "collateral": {},
    "circuit_breaker": None,
    "fees": {"taker": 0.0, "maker": 0.0},
}
"""A venue that sees every price at once and always acts on it."""


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds)
def test_nobody_is_negative_after_the_waterfall_of_a_venue_that_closes_in_full_at_once(
    tape, venue, seed
):
    prompt = changed(
        venue,
        **PROMPT,
        liquidation={
            "mode": "full",
            "impact": {"feedback": None},
            "keepers": FREE_KEEPERS,
        },
    )
    book = random_book(tape, seed, plain=False)
    for world in each_instant(tape, book, prompt):
        gross = np.abs(world.state.cash[:, :-1]).max()
        assert np.all(equities(world) >= -1e-9 * (1.0 + gross))


def everybody_at_once(tape: MarketTape, seed: int) -> AccountBook:
    """Return a book whose orders all come at the second row, after which nobody pays in."""
    book = random_book(tape, seed)
    return replace(
        book,
        order_ts=np.full(len(book.order_ts), tape.ts[min(1, len(tape) - 1)]),
        top_up_share=np.zeros(len(book)),
    )


@cases
@given(
    tape=wild_tapes,
    venue=venues,
    seed=seeds,
    by=st.sampled_from(["equity", "profit", "funding"]),
    mode=st.sampled_from(["full", "step", "to_target", "proportional"]),
)
def test_socialised_loss_sums_to_the_deficit_while_anybody_can_pay(tape, venue, seed, by, mode):
    venue = changed(
        venue,
        insurance_fund={"start_usd": 0.0, "fee_share": 0.0, "market_cap_usd": {}},
        auto_deleveraging={"mode": "none"},
        socialised_loss={"by": by},
        margin_call={"level": 1.0},
        liquidation={
            "mode": mode,
            "interval": 0,
            "keepers": FREE_KEEPERS,
            "impact": {"feedback": None},
            "backstop": None,
        },
    )
    uncovered = 0.0
    for world in each_instant(tape, everybody_at_once(tape, seed), venue, rate=0.01):
        deficit = -world.state.purse[DEFICIT]
        gross = np.abs(world.state.cash[:, :-1]).max() * world.state.assets[TRUE_INDEX].max()
        if deficit > uncovered + 1e-9 * gross:
            holding = world.state.count[:-1] > 0
            assert equities(world)[holding].max(initial=0.0) <= 1e-9 * gross
        uncovered = max(uncovered, deficit)


@cases
@given(
    tape=wild_tapes,
    venue=venues,
    seed=seeds,
    mode=st.sampled_from(["queue", "pro_rata"]),
    severity=st.sampled_from([0.5, 1.0]),
)
def test_deleveraging_never_takes_more_than_a_winner_has_gained(tape, venue, seed, mode, severity):
    venue = changed(
        venue,
        insurance_fund={"start_usd": 0.0, "fee_share": 0.0},
        auto_deleveraging={"mode": mode, "severity": severity},
    )
    book = random_book(tape, seed, plain=False)
    run = whole_run(tape, book, venue, rate=0.01)
    named = dict(zip(ADL_NAMES, run.adl_log.T, strict=True))
    assert np.all(named["taken_usd"] > 0.0)
    assert np.all(named["taken_usd"] <= named["gain_usd"])
    assert np.all(named["share"] <= 1.0)
    assert named["taken_usd"].sum() == pytest.approx(run.series["adl_usd"].sum(), rel=1e-12)
    asked = severity * run.series["residual_bad_debt_usd"]
    assert np.all(run.series["adl_usd"] <= asked * (1.0 + 1e-9))
    assert len(run.adl_log) == run.series["adl_accounts"].sum()


def test_the_deleveraging_property_is_put_to_the_test_by_its_markets():
    taken = 0.0
    for seed in range(8):
        tape = make_tape(rows=60, assets=("BTC",), seed=seed, volatility=4.0, jump_share=0.2)
        venue = VenueRules.model_validate(
            {"insurance_fund": {"start_usd": 0}, "auto_deleveraging": {"mode": "queue"}}
        )
        book = random_book(tape, seed, plain=False)
        taken += whole_run(tape, book, venue, rate=0.01).series["adl_usd"].sum()
    assert taken > 1_000.0


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds, data=st.data())
def test_a_flat_market_liquidates_nobody(tape, venue, seed, data):
    # Options lose value with time and futures their carry; both need a market that moves.
    assume(not np.any(tape.instruments.kind != PERPETUAL))
    venue = changed(
        venue,
        collateral={},
        fees={"taker": 0.0, "maker": 0.0},
        margin_call={"level": data.draw(st.sampled_from([1.0, 1.25, 1.6]))},
    )
    book = random_book(tape, seed, plain=False)
    run = whole_run(still(tape), book, venue)
    assert len(run.log) == 0
    for flow in ("gross_bad_debt_usd", "adl_usd", "socialised_usd", "margin_calls_usd"):
        assert run.series[flow].sum() == 0.0


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds, more=st.floats(1.001, 4.0))
def test_more_collateral_never_brings_an_accounts_liquidation_earlier(tape, venue, seed, more):
    # Left out: what makes collateral count for less the more there is of it, keepers who come
    # only where there is something to earn, and a linear trigger that is set anew when it fires.
    venue = changed(
        venue,
        collateral={},
        margin_check={"mode": "full"},
        liquidation={"impact": {"feedback": None}, "keepers": {"participation": False}},
    )
    book = random_book(tape, seed, accounts=1, groups=6, mode="recorded")
    book = replace(book, transfer_amount=np.abs(book.transfer_amount))
    at_ms = LIQUIDATION_NAMES.index("at_ms")
    first = [
        run.log[0, at_ms] if len(run.log) else np.inf
        for run in (
            whole_run(tape, replace(book, wallet=book.wallet * times), venue)
            for times in (1.0, more)
        )
    ]
    assert first[1] >= first[0]


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds, pieces=st.sampled_from([1, 7, 32]))
def test_a_replay_cut_into_pieces_gives_the_same_bits(tape, venue, seed, pieces):
    book = random_book(tape, seed, plain=False)
    whole = whole_run(tape, book, venue, rate=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_module, "INSTANTS_PER_CALL", pieces)
        cut = whole_run(tape, book, venue, rate=0.01)
    for name, column in whole.series.items():
        np.testing.assert_array_equal(cut.series[name], column, err_msg=name)
    for name in ("log", "adl_log", "ledger"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name), err_msg=name)


@cases
@given(
    tape=wild_tapes,
    venue=venues,
    seed=seeds,
    capacity=st.integers(1, 3),
    block_ms=st.sampled_from([60_000, MS_PER_HOUR, 5 * MS_PER_HOUR]),
)
def test_keepers_never_work_in_an_outage_nor_beyond_their_capacity(
    tape, venue, seed, capacity, block_ms
):
    venue = changed(
        venue,
        liquidation={
            "keepers": {"capacity": capacity, "block": block_ms, "participation": False},
            "mode": "full" if venue.liquidation.mode == "auction" else venue.liquidation.mode,
        },
    )
    log = whole_run(tape, random_book(tape, seed, plain=False), venue, rate=0.01).log
    named = dict(zip(LIQUIDATION_NAMES, log.T, strict=True))
    worked = named["at_ms"][named["kind"] != TAKEOVER]
    if len(worked):
        assert np.unique(worked // block_ms, return_counts=True)[1].max() <= capacity
    for start, end in venue.liquidation.keepers.outages:
        assert not np.any((worked >= start) & (worked < end))


def trade_book(
    tape: MarketTape, legs: list[tuple[int, float]], scheme: int, together: bool = True
) -> AccountBook:
    """One rich account that opens all legs at the second row and holds them."""
    count = len(legs)
    return AccountBook(
        mode="elastic",
        assets=tape.assets,
        symbols=tape.instruments.symbols,
        collateral_currency=np.zeros(1),
        wallet=np.full(1, 1e9),
        buffer=np.ones(1),
        release=np.full(1, 1e9),
        top_up_share=np.zeros(1),
        top_up_delay_ms=np.zeros(1),
        segment=np.zeros(1),
        segments=("test",),
        order_ts=np.full(count, tape.ts[1]),
        order_account=np.zeros(count),
        order_instrument=np.array([i for i, _ in legs]),
        order_quantity=np.array([q for _, q in legs]),
        order_kind=np.zeros(count),
        order_group=np.arange(count) * (not together),
        scheme=np.full(1, scheme),
    )


def grid_policy() -> LayeredPolicy:
    """Worst loss over price moves of 15 % and shocks of volatility; no floor for short options."""
    constants = tuple(scenario_grid_constants(0.7, SCENARIOS, short_floor=0.0))
    return LayeredPolicy(((scenario_grid, (0.15, 0.4, 0.25), constants),))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, size=st.floats(0.01, 50.0))
def test_netted_opposite_positions_carry_no_scan_risk(seed, size):
    tape = make_tape(rows=3, assets=("BTC",), inverse=False, seed=seed)
    table, snapshot = tape.instruments, np.searchsorted(tape.vol_ts, tape.ts[1], "right") - 1
    call = int(np.flatnonzero((table.kind == OPTION) & (table.is_call == 1))[0])
    put = call + 1
    assert table.strike[put] == table.strike[call]
    forward = tape.index[1, 0] * tape.forward_ratio[snapshot, table.expiry_column[call]]
    # Put-call parity: a call less a put of one strike is the forward, which the perpetual hedges.
    hedge = -size * forward / tape.mark[1, 0]
    parity = [(call, size), (put, -size), (0, hedge)]
    layers = grid_policy().layers(tape)
    venue = VenueRules.model_validate({"fees": {"taker": 0}})

    def required(legs: list[tuple[int, float]], scheme: int, together: bool = True) -> float:
        book = trade_book(tape, legs, scheme, together)
        series = run_loop(tape, book, layers, venue, slice(0, 3)).series
        assert series["rejected_notional_usd"].sum() == 0.0
        return float(series["required_initial_usd"][2])

    gross = size * forward
    moved = size * abs(tape.index[2, 0] * tape.forward_ratio[snapshot, table.expiry_column[call]]
                       - forward * tape.mark[2, 0] / tape.mark[1, 0])  # fmt: skip
    assert required([(0, size), (0, -size)], PORTFOLIO, together=False) == 0.0
    assert required([(0, size), (0, -size)], CROSS, together=False) == 0.0
    assert required(parity, PORTFOLIO) <= 0.15 * moved + 1e-9 * gross
    assert required(parity, CROSS) > 0.15 * gross


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds, drop=st.floats(0.3, 0.9))
def test_a_loss_in_one_isolated_position_never_takes_collateral_of_another(tape, venue, seed, drop):
    assume(len(tape.assets) == 2 and len(tape) > 6)
    half = len(tape) // 2
    fallen = {}
    for name in ("index", "mark", "high", "low"):
        path = getattr(tape, name).copy()
        path[half:, 0] *= 1.0 - drop
        fallen[name] = path
    tape = replace(tape, **fallen)
    # The fund pays for everything: what is socialised is taken from everybody by intention.
    venue = changed(
        venue,
        collateral={},
        oracle=PROMPT["oracle"],
        circuit_breaker=None,
        insurance_fund={"start_usd": 1e12, "market_cap_usd": {}, "fee_share": 0.0},
        auto_deleveraging={"mode": "none"},
        liquidation={
            "impact": {"feedback": None},
            "keepers": {"capacity": None, "outages": ()},
        },
    )
    draw = np.random.default_rng(seed)
    legs = [(0, float(draw.uniform(0.5, 5.0))), (1, float(draw.choice([-20.0, 20.0])))]
    kept = []
    for held in (legs, legs[1:]):
        book = trade_book(tape, held, ISOLATED)
        cash = [world.state.cash[:, -2].copy() for world in each_instant(tape, book, venue)]
        kept.append(np.array(cash))
    np.testing.assert_array_equal(kept[0], kept[1])
    log = whole_run(tape, trade_book(tape, legs, ISOLATED), venue).log
    assert len(log) > 0 or venue.liquidation.keepers.participation


@cases
@given(tape=wild_tapes, venue=venues, seed=seeds)
def test_an_accounts_ledger_in_dollars_adds_up_to_what_it_holds(tape, venue, seed):
    assume(not tape.instruments.inverse.any())
    venue = changed(venue, collateral={})
    book = in_dollars(random_book(tape, seed, plain=False))
    run = whole_run(tape, book, venue, rate=0.01)
    for world in each_instant(tape, book, venue, rate=0.01):
        final = world
    held = np.zeros(len(book))
    np.add.at(held, final.book.owner, final.state.cash[0, :-1])
    scale = np.abs(run.ledger).sum(axis=1)
    assert np.all(np.abs(run.ledger.sum(axis=1) - held) <= 1e-9 * (1.0 + scale))
