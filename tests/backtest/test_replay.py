"""What a replay promises: money is conserved, nobody looks ahead, rules do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.book import CLOSE, OPEN, AccountBook
from backtest.errors import BookError, LookAheadError
from backtest.reference import replay_reference
from backtest.reference.quotes import quote
from backtest.replay import replay
from backtest.requirement import RequirementLayer
from backtest.tape import MarketTape
from backtest.units import MS_PER_HOUR
from backtest.venue import VenueRules
from tests.backtest.cases import GROSS, gross_policy, random_book
from tests.tapes import make_tape

FREE = {
    "liquidation": {"penalty": 0, "impact": {"at_depth": 0, "cap": 0}},
    "fees": {"taker": 0},
}


def flat_tape(rows: int = 50) -> MarketTape:
    """A market that does not move and pays no funding."""
    tape = make_tape(rows=rows, options=False, inverse=False)
    still = np.tile(tape.index[:1], (rows, 1))
    return replace(
        tape, index=still, mark=still, high=still, low=still, funding=np.zeros_like(still)
    )


def priced_tape(prices: list[float], depth_usd: float = 1e12) -> MarketTape:
    """One asset, one linear perpetual, hourly rows at the given prices."""
    path = np.array(prices)[:, None]
    tape = make_tape(rows=len(prices), assets=("BTC",), options=False, inverse=False)
    return replace(
        tape,
        index=path,
        mark=path,
        high=path,
        low=path,
        funding=np.zeros_like(path),
        depth_usd=np.full_like(path, depth_usd),
    )


def one_trade_book(
    tape: MarketTape, sides: list[float], wallets: list[float], **columns: object
) -> AccountBook:
    """Account ``n`` opens ``sides[n]`` contracts of the first instrument at the second row."""
    count = len(sides)
    book = AccountBook(
        mode="elastic",
        assets=tape.assets,
        symbols=tape.instruments.symbols,
        collateral_currency=np.zeros(count),
        wallet=np.array(wallets),
        buffer=np.ones(count),
        release=np.full(count, 1e9),
        top_up_share=np.zeros(count),
        top_up_delay_ms=np.zeros(count),
        segment=np.zeros(count),
        segments=("test",),
        order_ts=np.full(count, tape.ts[1]),
        order_account=np.arange(count),
        order_instrument=np.zeros(count),
        order_quantity=np.array(sides),
        order_kind=np.full(count, OPEN),
        order_group=np.arange(count),
    )
    return replace(book, **columns)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), fund=st.sampled_from([0.0, 1e3, 1e7]))
def test_no_money_appears_or_vanishes_and_every_loss_finds_a_payer(seed, fund):
    tape = make_tape(rows=80, seed=seed, volatility=2.0, jump_share=0.1)
    venue = VenueRules(insurance_fund={"start_usd": fund}, liquidation={"mode": "full"})
    result = replay(tape, random_book(tape, seed), gross_policy(0.02), venue)
    scale = result.series["ledger_scale_usd"]
    assert np.all(result.series["ledger_imbalance_usd"] <= 1e-12 * scale)
    metrics = result.metrics
    paid = metrics["insurance_drawdown_usd"] + metrics["residual_bad_debt_usd"]
    assert paid == pytest.approx(metrics["gross_bad_debt_usd"], rel=1e-12, abs=1e-9)
    assert np.all(result.series["fund_usd"] >= 0.0)


def test_socialised_loss_sums_to_the_deficit_and_leaves_nothing_uncovered():
    tape = priced_tape([100.0, 100.0, 50.0, 50.0])
    book = one_trade_book(tape, [10.0, -10.0], [1_000.0, 1_000.0])
    venue = VenueRules(insurance_fund={"start_usd": 30.0}, **FREE)
    series, _, twin = replay_reference(tape, book, gross_policy(0.1), venue)
    world = twin.world
    result = replay(tape, book, gross_policy(0.1), venue)
    # Bought 1,000 USD of notional on 100 USD of margin; the market halved: 400 are missing.
    assert result.metrics["gross_bad_debt_usd"] == pytest.approx(400.0)
    assert result.metrics["insurance_drawdown_usd"] == pytest.approx(30.0)
    assert result.metrics["residual_bad_debt_usd"] == pytest.approx(370.0)
    assert world.deficit == pytest.approx(0.0, abs=1e-9)
    assert world.fund == 0.0
    # The short had made 500 on its 100 and pays the 370.
    assert world.equity_now(world.accounts[1]) == pytest.approx(600.0 - 370.0)
    assert series["residual_bad_debt_usd"].sum() == pytest.approx(370.0)


def test_bad_debt_is_counted_once_per_account():
    tape = priced_tape([100.0, 100.0, 50.0, 40.0, 30.0, 20.0])
    book = one_trade_book(tape, [10.0], [1_000.0])
    result = replay(tape, book, gross_policy(0.1), VenueRules(**FREE))
    assert np.count_nonzero(result.series["gross_bad_debt_usd"]) == 1
    assert result.metrics["liquidations"] == 1


def test_a_flat_market_liquidates_nobody():
    tape = flat_tape()
    book = random_book(tape, 3)
    result = replay(tape, book, gross_policy(0.1), VenueRules(**FREE))
    assert result.metrics["open_notional_usd"] > 0
    assert result.metrics["liquidations"] == 0
    assert result.metrics["gross_bad_debt_usd"] == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), extra=st.floats(0.05, 5.0))
def test_more_collateral_never_brings_a_liquidation_earlier(seed, extra):
    tape = make_tape(rows=80, assets=("BTC",), options=False, inverse=False, seed=seed)
    venue = VenueRules(margin_call={"level": 1.0}, **FREE)
    first = []
    for buffer in (1.0, 1.0 + extra):
        book = one_trade_book(tape, [1.0], [1e9], buffer=np.array([buffer]))
        log = replay(tape, book, gross_policy(0.02), venue).liquidation_log
        first.append(log["row"][0] if len(log) else len(tape))
    assert first[1] >= first[0]


def test_to_target_liquidation_restores_the_target():
    tape = priced_tape([100.0, 100.0, 95.5, 95.5])
    book = one_trade_book(tape, [10.0], [1_000.0])
    venue = VenueRules(
        liquidation={
            "target": 1.5,
            "penalty": 0.02,
            "minimum_share": 0.001,
            "impact": {"at_depth": 0, "cap": 0},
        },
        fees={"taker": 0},
    )
    _, log, twin = replay_reference(tape, book, gross_policy(0.1), venue)
    result = replay(tape, book, gross_policy(0.1), venue)
    share = result.liquidation_log["share"][0]
    # equity 55, maintenance 57.3: f = (85.95 - 55) / (85.95 - 0.02 * 955)
    assert share == pytest.approx((1.5 * 57.3 - 55.0) / (1.5 * 57.3 - 0.02 * 955.0))
    after = twin.world.equity_now(twin.world.accounts[0])
    maintenance = 0.06 * abs(twin.world.accounts[0].positions[0].quantity) * 95.5
    assert after == pytest.approx(1.5 * maintenance)
    assert len(log) == 1


def test_impact_follows_the_square_root_of_volume_over_depth():
    tape = priced_tape([100.0, 100.0, 94.5], depth_usd=945.0)
    book = one_trade_book(tape, [10.0], [1_000.0])
    venue = VenueRules(
        liquidation={"mode": "full", "penalty": 0, "impact": {"at_depth": 0.01, "cap": 1}},
        fees={"taker": 0},
    )
    log = replay(tape, book, gross_policy(0.1), venue).liquidation_log
    # Volume equals depth: the last unit moves the price by 1 %, the average by two thirds.
    assert log["cost_usd"][0] == pytest.approx(945.0 * 0.01 * 2.0 / 3.0)


def test_an_unpaid_margin_call_is_enforced_at_its_deadline_and_a_paid_one_is_not():
    tape = priced_tape([100.0, 100.0, 96.5, 96.5, 96.5, 96.5, 96.5])
    venue = VenueRules(margin_call={"level": 1.25, "deadline": "2h"}, **FREE)
    for share, liquidations in ((0.0, 1), (1.0, 0)):
        book = one_trade_book(tape, [10.0], [1_000.0], top_up_share=np.array([share]))
        result = replay(tape, book, gross_policy(0.1), venue)
        assert result.metrics["margin_calls_usd"] > 0
        assert result.metrics["liquidations"] == liquidations
    unpaid = replay(
        tape, one_trade_book(tape, [10.0], [1_000.0]), gross_policy(0.1), venue
    ).liquidation_log
    assert unpaid["ts"][0] == tape.ts[2] + 2 * MS_PER_HOUR


def test_orders_that_cannot_be_funded_are_rejected_and_counted():
    tape = priced_tape([100.0, 100.0, 100.0])
    book = one_trade_book(tape, [10.0, 10.0], [99.0, 101.0])
    result = replay(tape, book, gross_policy(0.1), VenueRules(**FREE))
    assert result.metrics["rejected_notional_usd"] == pytest.approx(1_000.0)
    assert result.series["open_notional_usd"][-1] == pytest.approx(1_000.0)


def test_a_late_oracle_liquidates_later_and_loses_more():
    tape = priced_tape([100.0, 100.0, 94.0, 88.0, 82.0, 76.0, 70.0])
    book = one_trade_book(tape, [10.0], [100.0])
    losses, rows = [], []
    for latency in (0, "1h", "3h"):
        venue = VenueRules(oracle={"latency": latency}, margin_call={"level": 1.0}, **FREE)
        result = replay(_with_history(tape), book, gross_policy(0.1), venue)
        losses.append(result.metrics["gross_bad_debt_usd"])
        rows.append(int(result.liquidation_log["row"][0]))
    assert rows == sorted(set(rows))
    assert losses == sorted(set(losses))


def _with_history(tape: MarketTape, rows: int = 6) -> MarketTape:
    """Put still hours before a tape, so that a late oracle knows a price at its start."""
    before = {
        name: np.vstack([np.repeat(getattr(tape, name)[:1], rows, axis=0), getattr(tape, name)])
        for name in ("index", "mark", "high", "low", "funding", "volume_usd", "depth_usd")
    }
    ts = np.concatenate([tape.ts[0] - MS_PER_HOUR * np.arange(rows, 0, -1), tape.ts])
    return replace(tape, ts=ts, known_ts=ts, **before)


def test_closing_orders_never_open_a_position():
    tape = priced_tape([100.0] * 5)
    book = one_trade_book(tape, [10.0, -5.0], [1_000.0, 1_000.0])
    closing = replace(book, order_kind=np.array([CLOSE, CLOSE]))
    result = replay(tape, closing, gross_policy(0.1), VenueRules())
    assert result.series["open_notional_usd"].max() == 0.0


def test_an_inverse_perpetual_pays_profit_in_coin():
    tape = make_tape(rows=4, assets=("BTC",), options=False, inverse=True)
    path = np.array([100.0, 100.0, 125.0, 125.0])[:, None]
    tape = replace(tape, index=path, mark=path, high=path, low=path, funding=np.zeros_like(path))
    book = one_trade_book(
        tape,
        [10.0],
        [5.0],
        order_instrument=np.ones(1),
        collateral_currency=np.ones(1),
    )
    _, _, twin = replay_reference(tape, book, gross_policy(0.5), VenueRules(**FREE))
    # 10 contracts of 10 USD: 100 USD bought at 100, worth 1/100 - 1/125 coin more per dollar.
    coins = twin.world.accounts[0].cash[1] - 10 * 10 / 125.0
    posted = 5.0 - twin.world.wallets[0]
    assert coins - posted == pytest.approx(100.0 * (1 / 100.0 - 1 / 125.0))


def test_funding_is_paid_by_longs_on_notional():
    tape = flat_tape(4)
    rate = np.zeros_like(tape.funding)
    rate[3] = 0.001
    tape = replace(tape, funding=rate)
    book = one_trade_book(tape, [1.0, -1.0], [1e6, 1e6])
    _, _, twin = replay_reference(tape, book, gross_policy(0.1), VenueRules(**FREE))
    price = tape.mark[0, 0]
    equity = [twin.world.equity_now(account) for account in twin.world.accounts]
    assert equity[0] == pytest.approx(0.1 * price - 0.001 * price)
    assert equity[1] == pytest.approx(0.1 * price + 0.001 * price)


@pytest.mark.parametrize("inverse", [False, True])
def test_options_settle_at_expiry_for_what_they_are_worth_at_the_index(inverse):
    tape = make_tape(rows=24 * 9, assets=("BTC",), inverse=True, seed=5)
    table = tape.instruments
    listed = (table.inverse == inverse) & (table.expiry_ms < tape.ts[-3])
    option = int(np.flatnonzero(listed & (table.kind == 1) & (table.is_call == 1))[0])
    start = int(np.searchsorted(tape.ts, table.listed_ms[option])) + 2
    book = one_trade_book(
        tape, [1.0], [1e6], order_instrument=np.array([option]), order_ts=tape.ts[[start]]
    )
    venue = VenueRules(settlement={"average": 0}, **FREE)
    result = replay(tape, book, gross_policy(0.5), venue)
    row = int(np.searchsorted(tape.ts, table.expiry_ms[option]))
    payoff = max(tape.index[row, 0] - table.strike[option], 0.0)
    assert result.series["accounts_open"][row - 1] == 1
    assert result.series["accounts_open"][row] == 0
    world = replay_reference(tape, book, gross_policy(0.5), venue)[2].world
    index, mark, at_ms = tape.index[start, 0], tape.mark[start, 0], int(tape.ts[start])
    snapshot = int(world.tape.snapshot[start])
    premium = quote(world.tape, option, index, mark, snapshot, at_ms, world.venue).value_usd
    if inverse:
        # The premium was paid in coin, and the coins that were owed for it have moved since.
        premium *= tape.index[row, 0] / tape.index[start, 0]
    gained = result.series["withdrawals_usd"].sum() - result.series["deposits_usd"].sum()
    assert gained == pytest.approx(payoff - premium, abs=1e-6)


def test_a_window_starts_flat_and_knows_the_history_before_it():
    tape = make_tape(rows=100, options=False, seed=2)
    book = random_book(tape, 2)
    window = (int(tape.ts[40]), int(tape.ts[80]))
    result = replay(tape, book, gross_policy(0.1), VenueRules(), window=window)
    assert len(result.ts) == 40
    assert result.series["accounts_open"][0] == 0
    assert result.tape_digest == tape.digest
    assert np.all(result.interval_ms == MS_PER_HOUR)


def test_progress_is_reported_and_cutting_the_loop_changes_nothing(monkeypatch):
    tape = make_tape(rows=90, seed=4)
    book = random_book(tape, 4)
    whole = replay(tape, book, gross_policy(0.05), VenueRules())
    monkeypatch.setattr("backtest.replay.INSTANTS_PER_CALL", 7)
    seen: list[tuple[int, int]] = []
    cut = replay(tape, book, gross_policy(0.05), VenueRules(), progress=lambda *at: seen.append(at))
    assert seen[-1] == (90, 90)
    for name, series in whole.series.items():
        np.testing.assert_array_equal(cut.series[name], series)


class _Peeking:
    """A policy that posts tomorrow's volatility."""

    def layers(self, tape: MarketTape) -> tuple[RequirementLayer, ...]:
        rate = np.full((len(tape), 1), 0.1)
        rate[:-1, 0] += np.abs(np.diff(np.log(tape.index[:, 0])))
        return (RequirementLayer(GROSS, rate, np.empty(0)),)

    def identity(self) -> dict[str, str]:
        return {"policy": "peeking"}


def test_a_policy_that_looks_ahead_is_refused():
    tape = make_tape(rows=60)
    with pytest.raises(LookAheadError, match="look ahead"):
        replay(tape, random_book(tape, 1), _Peeking(), VenueRules())


class _KnowsTheEnd(_Peeking):
    """A policy whose constant is the last price that there will ever be."""

    def layers(self, tape: MarketTape) -> tuple[RequirementLayer, ...]:
        last = tape.index[-1, :1]
        return (RequirementLayer(GROSS, np.full((len(tape), 1), 0.1), last),)


def test_a_policy_whose_constants_read_the_future_is_refused():
    tape = make_tape(rows=60)
    with pytest.raises(LookAheadError, match="constants change"):
        replay(tape, random_book(tape, 1), _KnowsTheEnd(), VenueRules())


def test_a_book_with_an_instrument_the_tape_lacks_is_refused_by_name():
    tape = make_tape(rows=10)
    book = random_book(tape, 1)
    foreign = replace(book, symbols=("BTC-PERPETUA", *book.symbols[1:]))
    with pytest.raises(BookError, match="BTC-PERPETUA"):
        replay(tape, foreign, gross_policy(), VenueRules())
