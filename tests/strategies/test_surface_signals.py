"""What options say of volatility to come: known answers, causality, what is not quoted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import DataError
from backtest.instruments import OPTION, InstrumentTable
from backtest.tape import MarketTape
from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from strategies.registry import policy
from strategies.signals import EWMA
from strategies.surface_signals import SHORTEST_MS, Implied, at_the_money_volatility, skew
from tests.tapes import START_MS, make_tape

FORWARD_RATIO = 1.02
DAYS = (10, 20, 40)
STRIKES = np.arange(60.0, 145.0, 5.0)


def smile(days: float, strike: np.ndarray, level: float = 0.6) -> np.ndarray:
    """Variance falls linearly in log-moneyness, more so when expiry is near."""
    years = days * MS_PER_DAY / MS_PER_YEAR
    k = np.log(strike / (100.0 * FORWARD_RATIO))
    return np.asarray(np.sqrt(level**2 + 5.0 / days**2 - 0.05 * k / np.sqrt(years)))


def quoted_tape(rows: int = 5, known_late_ms: int = 0, **changes: Any) -> MarketTape:
    """One asset at 100 USD, three expiries, a snapshot every second row, all known late."""
    table: list[dict[str, Any]] = [{"symbol": "A-PERP", "asset": 0}]
    volatility = []
    for e, days in enumerate(DAYS):
        for strike, sigma in zip(STRIKES, smile(days, STRIKES), strict=True):
            for is_call in (1, 0):
                table.append(
                    {
                        "symbol": f"A-{days}-{strike:g}-{'PC'[is_call]}",
                        "asset": 0,
                        "kind": OPTION,
                        "strike": strike,
                        "is_call": is_call,
                        "expiry_ms": START_MS + days * MS_PER_DAY,
                        "iv_column": len(volatility),
                        "expiry_column": e,
                    }
                )
                # What call and put say of one strike is worth their mean.
                volatility.append(sigma + (0.001 if is_call else -0.001))
    ts = START_MS + MS_PER_HOUR * np.arange(rows, dtype=np.int64)
    vol_ts = ts[::2]
    price = np.full((rows, 1), 100.0)
    held: dict[str, Any] = {
        "assets": ("A",),
        "instruments": InstrumentTable.from_rows(table),
        "ts": ts,
        "known_ts": ts,
        **dict.fromkeys(("index", "mark", "high", "low"), price),
        **dict.fromkeys(("funding", "volume_usd", "depth_usd"), np.zeros((rows, 1))),
        "vol_ts": vol_ts,
        "vol_known_ts": vol_ts + known_late_ms,
        "iv": np.tile(volatility, (len(vol_ts), 1)) + 0.1 * np.arange(len(vol_ts))[:, None],
        "forward_ratio": np.full((len(vol_ts), len(DAYS)), FORWARD_RATIO),
    }
    return MarketTape(**held | changes)


def at_the_money(days: float) -> float:
    return float(smile(days, np.array([100.0 * FORWARD_RATIO]))[0])


@pytest.mark.parametrize("days", DAYS)
def test_volatility_of_a_listed_maturity_is_what_its_strikes_enclose(days: int) -> None:
    # Variance is linear in log-moneyness here, so that no interpolation error is left but the
    # thousandth by which calls and puts differ.
    told = at_the_money_volatility(quoted_tape(), days)
    assert told[0, 0] == pytest.approx(at_the_money(days), abs=1e-6)


def test_between_expiries_total_variance_is_linear_in_time() -> None:
    told = at_the_money_volatility(quoted_tape(), 25)[0, 0]
    expected = 0.75 * at_the_money(20) ** 2 * 20 + 0.25 * at_the_money(40) ** 2 * 40
    assert told == pytest.approx(np.sqrt(expected / 25), abs=1e-6)


@pytest.mark.parametrize(("days", "nearest"), [(2, 10), (300, 40)])
def test_beyond_the_listed_maturities_the_nearest_volatility_holds(days: int, nearest: int) -> None:
    told = at_the_money_volatility(quoted_tape(), days)[0, 0]
    assert told == pytest.approx(at_the_money(nearest), abs=1e-6)


def test_an_expiry_about_to_pass_is_left_out() -> None:
    ts = START_MS + 10 * MS_PER_DAY - SHORTEST_MS + np.arange(2, dtype=np.int64)
    tape = quoted_tape(2, ts=ts, known_ts=ts, vol_ts=ts[:1], vol_known_ts=ts[:1])
    kept, left_out = at_the_money_volatility(tape, 0.25)[:, 0]
    assert kept == pytest.approx(at_the_money(10), abs=1e-6)
    assert left_out == pytest.approx(at_the_money(20), abs=1e-6)


def test_a_move_of_the_index_moves_the_money_along_the_smile() -> None:
    index = np.array([[100.0], [110.0]])
    told = at_the_money_volatility(quoted_tape(2, index=index), 20)[:, 0]
    moved = smile(20, np.array([110.0 * FORWARD_RATIO]))[0]
    assert told == pytest.approx([at_the_money(20), moved], abs=1e-4)


def test_skew_is_the_put_less_the_call_at_equal_deviations() -> None:
    deviation = at_the_money(20) * np.sqrt(20 * MS_PER_DAY / MS_PER_YEAR)
    for size in (0.5, 1.0):
        strikes = 100.0 * FORWARD_RATIO * np.exp(np.array([-1.0, 1.0]) * size * deviation)
        put, call = smile(20, strikes)
        assert put - call > 0.01
        told = skew(quoted_tape(), 20, size)[0, 0]
        assert told == pytest.approx(put - call, abs=1e-6)


def test_a_strike_farther_than_any_quote_has_no_skew_to_tell() -> None:
    assert np.isnan(skew(quoted_tape(), 40, deviations=4.0)).all()


def test_a_snapshot_counts_from_the_row_at_which_it_is_known() -> None:
    told = at_the_money_volatility(quoted_tape(5, known_late_ms=MS_PER_HOUR), 20)[:, 0]
    assert np.isnan(told[0])
    assert told[1:3] == pytest.approx([at_the_money(20)] * 2, abs=2e-4)
    assert told[3:] == pytest.approx([at_the_money(20) + 0.1] * 2, abs=5e-4)


def test_a_row_that_is_known_late_sees_what_was_known_by_then() -> None:
    late = quoted_tape(5, known_late_ms=MS_PER_HOUR)
    both = replace(late, known_ts=late.ts + MS_PER_HOUR)
    prompt = at_the_money_volatility(quoted_tape(5), 20)
    assert np.array_equal(at_the_money_volatility(both, 20), prompt)
    assert not np.isnan(prompt).any()


def test_where_nothing_is_quoted_the_prior_stands() -> None:
    tape = quoted_tape(3, known_late_ms=MS_PER_HOUR)
    told = Implied(maturity="20d", prior=0.55)(tape)[:, 0]
    assert told[0] == 0.55
    assert told[1:] == pytest.approx([at_the_money(20)] * 2, abs=2e-4)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 299), seed=st.integers(0, 99), days=st.floats(1, 30))
def test_no_row_changes_when_the_future_is_hidden(rows: int, seed: int, days: float) -> None:
    tape = make_tape(300, seed=seed, latency_ms=90 * 60_000)
    for signal in (lambda held: at_the_money_volatility(held, days),
                   lambda held: skew(held, days, 0.5)):  # fmt: skip
        whole, cut = signal(tape)[:rows], signal(tape.head(rows))
        assert np.array_equal(whole, cut, equal_nan=True)


def test_an_option_counts_from_its_listing_on() -> None:
    tape = quoted_tape()
    table = tape.instruments
    late = np.where(table.expiry_column == DAYS.index(20), tape.ts[2], table.listed_ms)
    told = at_the_money_volatility(
        replace(tape, instruments=replace(table, listed_ms=late)), 20
    )[:, 0]  # fmt: skip
    between = 2 / 3 * at_the_money(10) ** 2 * 10 + 1 / 3 * at_the_money(40) ** 2 * 40
    assert told[:2] == pytest.approx([np.sqrt(between / 20)] * 2, abs=2e-4)
    assert told[2] == pytest.approx(at_the_money(20) + 0.1, abs=1e-4)


def test_every_asset_reads_its_own_options() -> None:
    tape = make_tape(100, seed=5)
    both = at_the_money_volatility(tape, 10)
    shifted = tape.iv.copy()
    eth = np.unique(tape.instruments.iv_column[
        (tape.instruments.kind == OPTION) & (tape.instruments.asset == 1)
    ])  # fmt: skip
    shifted[:, eth] += 0.5
    moved = at_the_money_volatility(replace(tape, iv=shifted), 10)
    assert np.array_equal(moved[:, 0], both[:, 0])
    assert (moved[:, 1] > both[:, 1] + 0.4).all()


def test_a_policy_takes_it_as_its_estimator_and_follows_it() -> None:
    calm = policy("volatility", estimator={"implied": {"maturity": "20d"}})
    tape = make_tape(100)
    rates = calm.parameters(calm.signals(tape))
    assert rates.shape == tape.index.shape
    assert calm.estimator == Implied(maturity="20d")
    past = policy("volatility", estimator=EWMA())
    assert not np.allclose(rates, past.parameters(past.signals(tape)))


def test_a_tape_without_options_is_refused_by_the_assets_name() -> None:
    with pytest.raises(DataError, match="implied needs options of BTC, and the tape lists none"):
        Implied()(make_tape(10, options=False))
