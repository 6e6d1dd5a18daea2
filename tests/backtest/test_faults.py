"""What a venue does when everything fails at once: oracle, keepers, depth, fund, or the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backtest.book import AccountBook
from backtest.errors import BookError, ConfigError, DataError, PolicyError
from backtest.instruments import OPTION, InstrumentTable
from backtest.kernels.records import LIQUIDATION_NAMES
from backtest.replay import LEDGER_TOLERANCE, LoopRecords, run_loop
from backtest.requirement import RequirementLayer
from backtest.tape import MarketTape
from backtest.units import MS_PER_DAY, MS_PER_HOUR
from backtest.venue import VenueRules
from optimize.study import load_venue
from strategies.registry import load_policy
from tests.backtest.cases import GROSS, gross_policy
from tests.tapes import make_tape

MODES = ("full", "step", "to_target", "step_down", "proportional", "auction")


def tape_of(prices: list[float], depth_usd: float = 1e15) -> MarketTape:
    """One asset with one linear perpetual at hourly prices, so deep that nothing slips."""
    path = np.array(prices)[:, None]
    tape = make_tape(rows=len(prices), assets=("BTC",), options=False, inverse=False)
    paths = dict.fromkeys(("index", "mark", "high", "low"), path)
    return replace(
        tape, **paths, funding=np.zeros_like(path), depth_usd=np.full_like(path, depth_usd)
    )


def book_of(
    tape: MarketTape, sides: list[float], row: int = 1, accounts: int = 0, **columns: Any
) -> AccountBook:
    """Account ``n`` opens ``sides[n]`` contracts of the first instrument, and never closes."""
    orders, count = len(sides), accounts or len(sides)
    book = AccountBook(
        mode="elastic",
        assets=tape.assets,
        symbols=tape.instruments.symbols,
        collateral_currency=np.zeros(count),
        wallet=np.full(count, 1e6),
        buffer=np.ones(count),
        release=np.full(count, 1e9),
        top_up_share=np.zeros(count),
        top_up_delay_ms=np.zeros(count),
        segment=np.zeros(count),
        segments=("test",),
        order_ts=np.full(orders, tape.ts[row]),
        order_account=np.arange(orders) % count,
        order_instrument=np.zeros(orders),
        order_quantity=np.array(sides),
        order_kind=np.zeros(orders),
        order_group=np.arange(orders),
    )
    return replace(book, **columns)


def venue_of(**rules: Any) -> VenueRules:
    """A venue without fees and penalties that closes in full at the mark; and more rules."""
    liquidation = {"mode": "full", "penalty": 0, "impact": {"at_depth": 0, "cap": 0}}
    liquidation |= rules.pop("liquidation", {})
    plain = {"fees": {"taker": 0}, "margin_call": {"level": 1.0}}
    return VenueRules.model_validate({**plain, **rules, "liquidation": liquidation})


def run(tape: MarketTape, book: AccountBook, venue: VenueRules, rate: float = 0.1) -> LoopRecords:
    """Run the loop with ``rate`` as initial margin and 60 % of it as maintenance."""
    records = run_loop(tape, book, gross_policy(rate).layers(tape), venue, slice(0, len(tape)))
    series = records.series
    assert np.all(series["ledger_imbalance_usd"] <= LEDGER_TOLERANCE * series["ledger_scale_usd"])
    assert all(np.isfinite(column).all() for column in series.values())
    return records


def logged(records: LoopRecords, name: str) -> np.ndarray:
    """Return a column of the liquidation log."""
    return records.log[:, LIQUIDATION_NAMES.index(name)]


def lost(records: LoopRecords) -> float:
    """Return the gross bad debt of all rows, USD."""
    return float(records.series["gross_bad_debt_usd"].sum())


# The oracle.

CRASH = [100.0, 100.0, 100.0, 70.0, 40.0, 40.0, 40.0]


def frozen_oracle(tape: MarketTape, **rules: Any) -> VenueRules:
    """No price is posted from just after the third row until the sixth."""
    outage = [int(tape.ts[2]) + 1, int(tape.ts[5])]
    return venue_of(oracle={"outages": [outage], **rules})


def test_an_oracle_frozen_through_a_crash_liquidates_when_it_speaks_again_and_loses_more():
    tape = tape_of(CRASH)
    book = book_of(tape, [1.0])
    seen = run(tape, book, venue_of())
    # 10 USD of margin; at 70 the account misses 20, at 40 it misses 50.
    assert logged(seen, "at_ms").tolist() == [tape.ts[3]]
    assert lost(seen) == pytest.approx(20.0)
    for rules in ({}, {"stale_after": "30min", "when_stale": "halt"}):
        frozen = run(tape, book, frozen_oracle(tape, **rules))
        assert logged(frozen, "at_ms").tolist() == [tape.ts[5]]
        assert lost(frozen) == pytest.approx(50.0)


@pytest.mark.parametrize(("when_stale", "trades"), [("keep", True), ("halt", False)])
def test_a_venue_that_keeps_acting_on_a_stale_price_lets_traders_in_at_it(when_stale, trades):
    tape = tape_of(CRASH)
    book = book_of(tape, [-1.0], row=4)
    venue = frozen_oracle(tape, stale_after="30min", when_stale=when_stale)
    series = run(tape, book, venue).series
    # At 40 the margin of a contract is 4, but by the frozen price of 100 it is 10.
    assert series["deposits_usd"].sum() == (pytest.approx(70.0) if trades else 0.0)
    assert series["rejected_notional_usd"].sum() == (0.0 if trades else pytest.approx(40.0))


def test_a_halted_venue_counts_those_it_may_not_close():
    tape = tape_of([100.0, 100.0, 92.0, 92.0, 92.0, 92.0])
    venue = venue_of(
        circuit_breaker={"move": "5%", "window": "1h", "halt": "2h"}, margin_check={"mode": "full"}
    )
    records = run(tape, book_of(tape, [1.0]), venue)
    assert records.series["frozen"][2] == 1.0
    assert logged(records, "at_ms")[0] > tape.ts[2]


# The keepers.


def test_without_keepers_for_an_hour_the_account_is_closed_an_hour_later_at_that_price():
    tape = tape_of([100.0, 100.0, 80.0, 60.0, 60.0])
    outage = [int(tape.ts[2]), int(tape.ts[2]) + MS_PER_HOUR]
    venue = venue_of(liquidation={"keepers": {"outages": [outage]}})
    records = run(tape, book_of(tape, [1.0]), venue)
    assert logged(records, "at_ms").tolist() == [tape.ts[2] + MS_PER_HOUR]
    assert lost(records) == pytest.approx(30.0)
    assert lost(run(tape, book_of(tape, [1.0]), venue_of())) == pytest.approx(10.0)


def test_nobody_works_while_the_cost_of_working_is_above_the_reward():
    # The calm cost of 0.1 USD rises tenfold in bars that fall by 5 %, as it did in March 2020.
    tape = tape_of([100.0, 100.0, 95.5, 91.0, 90.95, 90.95])
    rules = {"penalty": "2%", "incentive_share": "50%"}
    keepers = {"cost_usd": 0.1, "cost_per_move": 200, "participation": True}
    willing = run(tape, book_of(tape, [1.0]), venue_of(liquidation=rules))
    assert logged(willing, "at_ms")[0] == tape.ts[2]
    records = run(tape, book_of(tape, [1.0]), venue_of(liquidation={**rules, "keepers": keepers}))
    assert records.series["declined"].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert logged(records, "at_ms").tolist() == [tape.ts[4]]
    assert records.series["keeper_cost_usd"].sum() == pytest.approx(0.1 * (1 + 200 * 0.05 / 91))


def test_an_auction_without_bidders_ends_with_the_tape_and_leaves_the_account_open():
    tape = tape_of([100.0, 100.0, *[94.5] * 6])
    keepers = {"cost_usd": 1e6, "participation": True}
    venue = venue_of(liquidation={"mode": "auction", "keepers": keepers})
    records = run(tape, book_of(tape, [1.0]), venue)
    assert len(records.log) == 0
    # Somebody looks once a minute for five hours.
    assert records.series["declined"].sum() >= 300.0
    assert records.series["accounts_open"][-1] == 1.0
    assert lost(records) == 0.0


def test_ten_thousand_accounts_fall_at_one_instant():
    tape = tape_of([100.0, 100.0, 80.0, 80.0])
    book = book_of(tape, [1.0] * 10_000)
    records = run(tape, book, venue_of())
    assert np.all(logged(records, "at_ms") == tape.ts[2])
    assert sorted(logged(records, "account")) == list(range(10_000))
    assert lost(records) == pytest.approx(10_000 * 10.0)


def test_ten_thousand_liquidations_at_fifty_a_minute_take_two_hundred_minutes():
    tape = tape_of([100.0, 100.0, 80.0, 80.0, 80.0, 80.0, 80.0, 80.0])
    book = book_of(tape, [1.0] * 10_000)
    venue = venue_of(liquidation={"keepers": {"capacity": 50, "block": "1min"}})
    records = run(tape, book, venue)
    minute = (logged(records, "at_ms") - tape.ts[2]) // 60_000
    assert np.array_equal(np.unique(minute, return_counts=True)[0], np.arange(200))
    assert np.all(np.unique(minute, return_counts=True)[1] == 50)
    assert np.array_equal(logged(records, "account"), np.arange(10_000))


# The market.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("feedback", [None, {}])
def test_a_gap_of_ninety_percent_is_paid_for_to_the_last_cent(mode, feedback):
    tape = tape_of([100.0, 100.0, 10.0, 10.0, 10.0, 10.0], depth_usd=1e5)
    sides = [*[50.0] * 20, *[-50.0] * 19]
    venue = venue_of(
        liquidation={
            "mode": mode,
            "brackets": [0, 1000],
            # Where a step has a cap, only the limit on steps ends an account that is insolvent.
            "steps_before_full": 2,
            "impact": {"at_depth": "1%", "feedback": feedback},
        },
        insurance_fund={"start_usd": 5_000},
        auto_deleveraging={"mode": "queue"},
        socialised_loss={"by": "profit"},
    )
    records = run(tape, book_of(tape, sides), venue)
    series = records.series
    # Each long paid in 500 and lost 4,500.
    assert lost(records) >= 20 * 4_000.0
    drawn = series["insurance_drawdown_usd"].sum()
    assert drawn >= 5_000.0
    covered = drawn + series["adl_usd"].sum() + series["socialised_usd"].sum()
    assert covered + series["deficit_usd"][-1] == pytest.approx(lost(records))
    assert covered == pytest.approx(lost(records))
    assert len(np.unique(logged(records, "account"))) >= 20


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("law", ["square_root", "linear"])
def test_without_any_depth_a_sale_costs_the_cap_and_not_more(mode, law):
    tape = tape_of([100.0, 100.0, 95.0, 95.0, 95.0], depth_usd=0.0)
    impact = {"law": law, "at_depth": "1%", "cap": "30%", "feedback": {}}
    venue = venue_of(liquidation={"mode": mode, "brackets": [0, 50], "impact": impact})
    records = run(tape, book_of(tape, [1.0, 1.0]), venue)
    assert len(records.log) > 0
    cost, sold = logged(records, "cost_usd"), logged(records, "notional_usd")
    np.testing.assert_allclose(cost, 0.3 * sold, rtol=1e-12)


def test_coins_that_cannot_be_sold_keep_no_account_open():
    tape = tape_of([100.0] * 4, depth_usd=0.0)
    book = book_of(tape, [1.0], collateral_currency=np.ones(1))
    for depth_impact, stands in (("5%", False), (0, True)):
        venue = venue_of(collateral={"BTC": {"depth_impact": depth_impact}})
        series = run(tape, book, venue).series
        assert bool(series["accounts_open"][-1]) is stands


def many_options(count: int, rows: int) -> MarketTape:
    """Return a tape with a perpetual and thousands of options, one volatility for all."""
    tape = make_tape(rows=rows, assets=("BTC",), options=False, inverse=False)
    strikes = np.linspace(0.5, 1.5, count) * tape.index[0, 0]
    option = {"asset": 0, "kind": OPTION, "inverse": 0, "is_call": 1, "listed_ms": int(tape.ts[0])}
    dated = {"expiry_ms": int(tape.ts[-1]) + 30 * MS_PER_DAY, "iv_column": 0, "expiry_column": 0}
    listed = [{"symbol": f"C{k}", "strike": float(s), **option, **dated}
              for k, s in enumerate(strikes)]  # fmt: skip
    perpetual = {"symbol": "BTC-PERP", "asset": 0, "contract_size": 1.0}
    one = np.ones((1, 1))
    return replace(
        tape,
        instruments=InstrumentTable.from_rows([perpetual, *listed]),
        vol_ts=tape.ts[:1],
        vol_known_ts=tape.ts[:1],
        iv=0.6 * one,
        forward_ratio=one,
    )


def test_an_account_with_ten_thousand_positions_is_margined_and_closed_in_one_go():
    count = 10_000
    tape = many_options(count, 5)
    fallen = np.array([1.0, 1.0, 1.0, 0.7, 0.7])[:, None] * tape.index[0]
    tape = replace(
        tape, **dict.fromkeys(("index", "mark", "high", "low"), fallen),
        funding=np.zeros_like(fallen),
    )  # fmt: skip
    book = book_of(
        tape,
        [1.0] * count,
        accounts=1,
        wallet=np.full(1, 1e12),
        order_instrument=1 + np.arange(count),
        order_group=np.zeros(count),
    )
    records = run(tape, book, venue_of())
    assert records.series["open_notional_usd"][2] == pytest.approx(count * tape.index[0, 0])
    assert logged(records, "row").tolist() == [3.0]
    assert logged(records, "share").tolist() == [1.0]
    assert logged(records, "notional_usd")[0] == pytest.approx(0.7 * count * tape.index[0, 0])
    assert records.series["accounts_open"][-1] == 0.0
    held = records.ledger.sum()
    assert held == pytest.approx(0.0, abs=1e-6 * np.abs(records.ledger).sum())


# Those who should pay.


def test_with_an_empty_fund_and_no_winner_the_deficit_stays_open_and_is_not_lost_sight_of():
    tape = tape_of([100.0, 100.0, 50.0, 50.0])
    venue = venue_of(
        insurance_fund={"start_usd": 0},
        auto_deleveraging={"mode": "queue"},
        socialised_loss={"by": "profit"},
    )
    # Who is long as well has nothing to give, and who holds nothing is asked for nothing.
    book = book_of(tape, [1.0, 1.0], wallet=np.array([1e6, 1e6]))
    records = run(tape, book, venue)
    series = records.series
    assert lost(records) == pytest.approx(80.0)
    assert series["deficit_usd"].tolist()[2:] == pytest.approx([80.0, 80.0])
    for flow in ("insurance_drawdown_usd", "adl_usd", "socialised_usd"):
        assert series[flow].sum() == 0.0


def test_an_exhausted_wallet_pays_what_it_has_and_the_call_is_enforced():
    tape = tape_of([100.0, 100.0, 96.5, 96.5, 96.5, 96.5])
    venue = venue_of(margin_call={"level": 1.25, "deadline": "2h"})
    columns = {"top_up_share": np.ones(1)}
    rich = run(tape, book_of(tape, [1.0], **columns), venue)
    assert len(rich.log) == 0
    poor = run(tape, book_of(tape, [1.0], wallet=np.array([10.3]), **columns), venue)
    assert logged(poor, "at_ms").tolist() == [tape.ts[2] + 2 * MS_PER_HOUR]
    assert poor.series["deposits_usd"].sum() == pytest.approx(10.3)


@pytest.mark.parametrize("gated", [True, False])
def test_withdrawals_are_shut_while_a_deficit_is_uncovered(gated):
    tape = tape_of([100.0, 100.0, 50.0, 45.0, 40.0])
    # Losses come out of withdrawals, so the deficit of the long stays open until somebody leaves.
    venue = venue_of(
        insurance_fund={"start_usd": 0},
        socialised_loss={"by": "withdrawal"},
        withdrawals={"gated_by_deficit": gated},
    )
    book = book_of(tape, [1.0, -1.0], release=np.ones(2))
    records = run(tape, book, venue)
    assert lost(records) == pytest.approx(40.0)
    taken_home = records.series["withdrawals_usd"].sum()
    # The deficit of 40 is two thirds of the 60 that the short has, so two thirds of what it wants
    # to take home stay with the venue.
    kept = records.series["socialised_usd"]
    asked = kept + records.series["withdrawals_usd"]
    assert (taken_home == 0.0) == gated
    assert kept[2] == pytest.approx(2 / 3 * asked[2])
    assert records.series["deficit_usd"][2:] == pytest.approx(40.0 - np.cumsum(kept[2:]))


# The data.


@pytest.mark.parametrize("name", ["index", "mark", "high", "low"])
@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_price_that_no_market_shows_is_refused_with_its_place(name, wrong):
    tape = make_tape(rows=6, options=False)
    prices = getattr(tape, name).copy()
    prices[4, 1] = wrong
    with pytest.raises(DataError, match=rf"{name} of ETH at 2024-01-01 04:00.* is {wrong}"):
        replace(tape, **{name: prices})


@pytest.mark.parametrize("name", ["funding", "volume_usd", "depth_usd"])
def test_a_number_of_the_market_that_is_not_one_is_refused_with_its_place(name):
    tape = make_tape(rows=6, options=False)
    column = getattr(tape, name).copy()
    column[2, 0] = np.nan
    with pytest.raises(DataError, match=rf"{name} of BTC at 2024-01-01 02:00.* is nan"):
        replace(tape, **{name: column})


@pytest.mark.parametrize(
    ("name", "wrong"), [("iv", 0.0), ("iv", np.inf), ("forward_ratio", np.nan)]
)
def test_a_volatility_or_forward_that_no_market_shows_is_refused(name, wrong):
    tape = make_tape(rows=30)
    column = getattr(tape, name).copy()
    column[0, 0] = wrong
    with pytest.raises(DataError, match=rf"tape {name} holds a value"):
        replace(tape, **{name: column})


@pytest.mark.parametrize(
    "name", ["wallet", "buffer", "release", "top_up_share", "flight", "order_quantity"]
)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_number_of_the_book_that_is_not_one_is_refused_with_its_row(name, wrong):
    book = book_of(tape_of([100.0] * 3), [1.0, 1.0, 1.0])
    column = getattr(book, name).copy()
    column[2] = wrong
    with pytest.raises(BookError, match=rf"book {name} row 2 is {wrong}; it must be finite"):
        replace(book, **{name: column})


def test_a_posted_parameter_that_is_not_a_number_is_refused_with_its_row():
    rates = np.full((6, 1), 0.1)
    rates[3] = np.nan
    with pytest.raises(PolicyError, match=r"gross: parameter 0 is nan at row 3"):
        RequirementLayer(GROSS, rates, np.empty(0))


@pytest.mark.parametrize(
    "spec",
    [
        {"policy": "fixed", "rate": np.nan},
        {"policy": "fixed", "maintenance_ratio": np.inf},
        {"policy": "fixed", "rates": {"BTC": np.nan}},
        {"policy": "volatility", "multiplier": np.nan},
    ],
)
def test_a_number_of_a_policy_that_is_not_one_is_refused_with_its_field(spec):
    with pytest.raises(ConfigError, match=rf"candidate\.{list(spec)[1]}.*must be a finite number"):
        load_policy(spec, "candidate")


def _float_fields(rules: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in rules:
        if isinstance(value, float):
            found.append((*path, name))
        elif hasattr(value, "model_dump"):
            found += _float_fields(value, (*path, name))
    return found


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1e9])
def test_no_rule_of_a_venue_takes_a_number_that_is_not_finite_or_sensible(wrong):
    fields = list(_float_fields(VenueRules()))
    assert len(fields) > 20
    for path in fields:
        raw: Any = wrong
        for name in reversed(path):
            raw = {name: raw}
        with pytest.raises(ConfigError, match=path[-1]):
            load_venue(raw)


@pytest.mark.parametrize(
    ("group", "rule", "named"),
    [
        ("oracle", {"latency": np.nan}, "oracle.latency: nan"),
        ("margin_check", {"trigger": {"refresh": np.inf}}, "margin_check.trigger.refresh: inf"),
        ("liquidation", {"brackets": [0, np.nan]}, "liquidation.brackets.1: nan"),
        ("liquidation", {"keepers": {"capacity": np.nan}}, "keepers.capacity: nan"),
        ("insurance_fund", {"target_usd": np.inf}, "insurance_fund.target_usd: inf"),
        ("insurance_fund", {"market_cap_usd": {"BTC": np.nan}}, "market_cap_usd.BTC: nan"),
        ("collateral", {"BTC": {"scale_start_usd": np.nan}}, "BTC.scale_start_usd: nan"),
        ("collateral", {"BTC": {"peg": {"usd": 0}}}, "BTC.peg.usd: 0"),
        ("circuit_breaker", {"move": np.nan}, "circuit_breaker.move: nan"),
    ],
)
def test_a_rule_that_is_left_out_by_default_is_refused_by_its_place_too(group, rule, named):
    with pytest.raises(ConfigError, match=rf"venue\.{group}.*") as refused:
        load_venue({group: rule})
    assert named in str(refused.value)
