from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.units import MS_PER_DAY
from data_ingest.simulator import MarketParameters, SimulatedMarket
from data_ingest.simulator.crowd import Crowd
from data_ingest.simulator.market import EXCHANGES, VENUE_SHARES
from data_ingest.simulator.parameters import STEP_MS
from data_ingest.simulator.perpetual import Perpetual

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-01-20")
START, END = PARAMETERS.start, PARAMETERS.end
MARKET = SimulatedMarket(PARAMETERS)
PERPETUAL = Perpetual(MARKET, Crowd(MARKET), "BTC", "okx")
INSTANTS = st.integers(START - 2 * MS_PER_DAY, END + 2 * MS_PER_DAY)


@given(
    length_ms=st.sampled_from([STEP_MS, 3 * STEP_MS, 12 * STEP_MS, MS_PER_DAY]),
    first_ms=INSTANTS,
    last_ms=INSTANTS,
    now_ms=st.integers(START, END),
    limit=st.integers(1, 400),
    oldest=st.booleans(),
    offset_ms=st.sampled_from([0, 4 * 12 * STEP_MS, 16 * 12 * STEP_MS]),
)
def test_a_page_holds_the_candles_of_its_window_that_are_known(
    length_ms: int,
    first_ms: int,
    last_ms: int,
    now_ms: int,
    limit: int,
    oldest: bool,
    offset_ms: int,
) -> None:
    known_ms = START + (now_ms - START) // STEP_MS * STEP_MS
    due = [
        opened
        for opened in range(START, known_ms, STEP_MS)
        if (opened - offset_ms) % length_ms == 0 and first_ms <= opened <= last_ms
    ]
    due = due[:limit] if oldest else due[-limit:]
    bars = PERPETUAL.bars("trade", length_ms, first_ms, last_ms, now_ms, limit, oldest, offset_ms)
    assert bars.opens.tolist() == due
    assert bars.closed.tolist() == [opened + length_ms <= now_ms for opened in due]
    steps = MARKET.venue("BTC", "okx").trade
    for opened, bar in zip(due, bars.prices, strict=True):
        end_ms = min(opened + length_ms, known_ms)
        window = steps[(opened - START) // STEP_MS : (end_ms - START) // STEP_MS]
        assert bar.tolist() == [
            window[0, 0], window[:, 1].max(), window[:, 2].min(), window[-1, 3]]  # fmt: skip


def test_a_venue_that_is_asked_for_moves_no_other() -> None:
    fresh, asked = SimulatedMarket(PARAMETERS), SimulatedMarket(PARAMETERS)
    crowd = Crowd(asked)
    for exchange in reversed(VENUE_SHARES):
        for asset in ("ETH", "BTC"):
            asked.venue(asset, exchange)
            crowd.open_interest_usd(asset, exchange)
            crowd.long_share(asset, exchange, "accounts")
            crowd.liquidations(asset, exchange, 4)
    for asset in fresh.assets:
        for exchange in VENUE_SHARES:
            one, other = fresh.venue(asset, exchange), asked.venue(asset, exchange)
            assert one.trade.tobytes() == other.trade.tobytes()
            assert one.depth_usd.tobytes() == other.depth_usd.tobytes()
        fresh_crowd = Crowd(fresh)
        assert (
            fresh_crowd.open_interest_usd(asset, "okx").tobytes()
            == crowd.open_interest_usd(asset, "okx").tobytes()
        )


def test_every_venue_trades_at_a_price_and_leans_of_its_own() -> None:
    crowd = Crowd(MARKET)
    paths = {exchange: MARKET.venue("BTC", exchange).trade[:, 3] for exchange in VENUE_SHARES}
    index = MARKET.assets["BTC"].index[:, 3]
    for exchange, path in paths.items():
        assert 0 < np.abs(path / index - 1.0).mean() < 0.005, exchange
    assert len({path.tobytes() for path in paths.values()}) == len(paths)
    leans = {crowd.long_share("BTC", name, "accounts").tobytes() for name in VENUE_SHARES}
    assert len(leans) == len(VENUE_SHARES)


@pytest.mark.parametrize("exchange", list(VENUE_SHARES))
def test_open_interest_is_the_markets_at_the_venues_size(exchange: str) -> None:
    held = Crowd(MARKET).open_interest_usd("BTC", exchange)
    whole = MARKET.share(exchange) * MARKET.assets["BTC"].open_interest_usd
    if exchange in EXCHANGES:
        assert (held == whole).all()
    else:
        assert np.abs(np.log(held / whole)).max() < 0.3
        assert np.log(held / whole).std() > 0.005


@given(hours=st.sampled_from([1, 2, 4, 8]))
def test_shorter_intervals_pay_the_same_in_a_calm_day(hours: int) -> None:
    times, rates = MARKET.funding("BTC", "okx", hours, END)
    assert (np.diff(times) == hours * 3_600_000).all()
    cap = PARAMETERS.liquidity.funding_cap * hours / 8
    assert (np.abs(rates) <= cap + 1e-15).all()
    daily = (
        rates[: len(rates) // (24 // hours) * (24 // hours)].reshape(-1, 24 // hours).sum(axis=1)
    )
    _, eight = MARKET.funding("BTC", "okx", 8, END)
    whole = eight[: len(eight) // 3 * 3].reshape(-1, 3).sum(axis=1)
    # The dampener sees shorter means, so the sums are near but not equal.
    np.testing.assert_allclose(daily, whole, atol=3e-4)
