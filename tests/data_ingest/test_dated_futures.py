"""Dated futures, from the simulated exchanges through the real clients into a tape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest import pull as pull_module
from data_ingest.build import build_tape
from data_ingest.clients import ExchangeClient
from data_ingest.expired import read_name
from data_ingest.polls import pull_instruments
from data_ingest.pull import pull_market
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore
from data_ingest.symbols import native_future, parse_future
from tests.data_ingest.exchange_clients import client_of

PARAMETERS = MarketParameters(start="2024-03-10", end="2024-04-10")
START, END = PARAMETERS.start, PARAMETERS.end
DELIVERED = START + 19 * MS_PER_DAY + 8 * MS_PER_HOUR
"""The last Friday of March 2024, 08:00 UTC."""
SYMBOLS = {
    "deribit": ("BTC/USD:BTC-240329", "BTC/USD:BTC-240628", "BTC-29MAR24"),
    "binanceusdm": ("BTC/USDT:USDT-240329", "BTC/USDT:USDT-240628", "BTCUSDT_240329"),
    "binancecoinm": ("BTC/USD:BTC-240329", "BTC/USD:BTC-240628", "BTCUSD_240329"),
    "okx": ("BTC/USDT:USDT-240329", "BTC/USDT:USDT-240628", "BTC-USDT-240329"),
    "bybit": ("BTC/USD:BTC-240329", "BTC/USD:BTC-240628", "BTCUSDH24"),
}


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator, monkeypatch: pytest.MonkeyPatch) -> ExchangeSimulator:
    running.set_clock(END)

    def at_once(exchange: str, *_: Any, **__: Any) -> ExchangeClient:
        client = client_of(running, exchange)
        return ExchangeClient(client, "simulator", is_synthetic=True, sleep=lambda _: None)

    monkeypatch.setattr(pull_module, "open_exchange", at_once)
    return running


def market(exchange: str, end: int = END, **more: Any) -> MarketSpec:
    usd = exchange in ("binancecoinm", "bybit")
    return MarketSpec.model_validate({
        "exchange": exchange, "assets": ["BTC"], "start": START, "end": end, "clock": "1h",
        "depth": {"usd": {"BTC": "20M"}}, "futures": list(SYMBOLS[exchange][:2]),
        "symbols": {"BTC": "BTC/USD:BTC"} if usd else {}, **more,
    })  # fmt: skip


@pytest.mark.parametrize("exchange", SYMBOLS)
def test_a_config_s_futures_are_pulled_until_they_are_delivered(
    simulator: ExchangeSimulator, exchange: str
) -> None:
    # OKX answers for what it lists only, and while it does.
    end = DELIVERED - 8 * MS_PER_HOUR if exchange == "okx" else END
    simulator.set_clock(end)
    expired, alive, _ = SYMBOLS[exchange]
    with DataStore(":memory:") as store:
        reports = pull_market(store, market(exchange, end), simulator.url)
        assert not any(report.failure for report in reports)
        spans = {
            row[0]: row[1:]
            for row in store.rows(
                "SELECT symbol, min(open_ms), max(open_ms), count(*) FROM candles "
                "WHERE kind = 'trade' GROUP BY 1"
            )
        }
        last = min(end, DELIVERED) - MS_PER_HOUR
        assert spans[expired] == (START, last, (last - START) // MS_PER_HOUR + 1)
        assert spans[alive] == (START, end - MS_PER_HOUR, (end - START) // MS_PER_HOUR)
        candles = [report for report in reports if report.feed == "trade_candles"]
        assert [report.shortfalls for report in candles] == [()] * 3
        tape = build_tape(store, market(exchange, end))
        again = pull_market(store, market(exchange, end), simulator.url)
        assert not any(r.rows_read for r in again if r.feed == "trade_candles")
    assert list(tape.instruments.symbols) == ["BTC-PERP", "BTC-29MAR24", "BTC-28JUN24"]
    assert list(tape.instruments.expiry_ms[1:]) == [DELIVERED, 1_719_561_600_000]


def test_a_future_converges_to_spot_and_pays_carry_before(simulator: ExchangeSimulator) -> None:
    path = simulator.market.assets["BTC"]
    client = client_of(simulator, "binanceusdm")
    rows = np.array(
        client.fapiPublicGetKlines(
            {"symbol": "BTCUSDT_240329", "interval": "5m", "startTime": START, "limit": 1500}
        ),
        dtype=float,
    )
    steps = ((rows[:, 0] - START) // 300_000).astype(int)
    years = (DELIVERED - rows[:, 0]) / (365 * MS_PER_DAY)
    carry = np.log(rows[:, 4] / path.index[steps, 3]) / years
    assert np.allclose(carry, path.carry[steps], atol=2e-3)
    last = client.fapiPublicGetKlines(
        {"symbol": "BTCUSDT_240329", "interval": "5m", "endTime": END, "limit": 1}
    )
    assert int(last[0][0]) == DELIVERED - 300_000
    spot = path.index[(DELIVERED - START) // 300_000 - 1, 3]
    assert float(last[0][4]) == pytest.approx(spot, rel=1e-5)


@pytest.mark.parametrize("exchange", SYMBOLS)
def test_ccxt_lists_a_future_from_listing_to_delivery_under_the_symbol_of_a_config(
    simulator: ExchangeSimulator, exchange: str
) -> None:
    expired, alive, native = SYMBOLS[exchange]

    def listed(at_ms: int) -> dict[str, Any]:
        simulator.set_clock(at_ms)
        client = client_of(simulator, exchange)
        found: dict[str, Any] = client.load_markets()
        return found

    before, after = listed(DELIVERED - 1), listed(DELIVERED + MS_PER_DAY)
    assert before[expired]["id"] == native == native_future(exchange, parse_future(expired))
    assert before[expired]["expiry"] == DELIVERED
    assert expired not in after
    assert alive in before
    assert alive in after


def test_symbols_of_futures_become_the_names_that_exchanges_use() -> None:
    named = {
        ("bybit", "BTC/USDC:USDC-240329"): "BTC-29MAR24",
        ("bybit", "BTC/USDT:USDT-250103"): "BTCUSDT-3JAN25",
        ("deribit", "ETH/USDC:USDC-240329"): "ETH_USDC-29MAR24",
        ("okx", "BTC/USD:BTC-240329"): "BTC-USD-240329",
    }
    for (exchange, symbol), native in named.items():
        assert native_future(exchange, parse_future(symbol)) == native


@pytest.mark.parametrize("exchange", ["okx", "bybit", "binanceusdm", "binancecoinm"])
def test_what_has_expired_is_known_by_its_delivery_and_its_unknown_terms_stay_open(
    simulator: ExchangeSimulator, exchange: str
) -> None:
    options = {"options": {"exchange": exchange}} if exchange in ("okx", "bybit") else {}
    with DataStore(":memory:") as store:
        spec = market(exchange, **options)
        if options:
            spec = spec.model_copy(update={"futures": ()})
        pull_market(store, spec, simulator.url)
        rows = store.rows(
            "SELECT native_id, symbol, kind, settlement, strike, is_call, expiry_ms, "
            "contract_size, tick_size, listed_ms, settle_asset FROM instruments "
            "WHERE expiry_ms <= ? ORDER BY native_id",
            [END],
        )
        assert rows
        assert {row[7:10] for row in rows} == {(None, None, None)}
        assert store.rows("SELECT count(*) FROM quarantine") == [(0,)]
        delivered = store.rows("SELECT DISTINCT native_id FROM delivery_prices ORDER BY 1")
        assert [row[0] for row in rows] == [row[0] for row in delivered]
        if not options:
            (row,) = rows
            assert row[:3] == (SYMBOLS[exchange][2], SYMBOLS[exchange][0], "future")
            assert row[4:7] == (None, None, DELIVERED)
            return
        # Names agree with what ccxt makes of the same options while they live.
        simulator.set_clock(DELIVERED - 1)
        with DataStore(":memory:") as living:
            client = ExchangeClient(client_of(simulator, exchange), "simulator", True)
            pull_instruments(living, client, ["BTC"])
            known = {
                row[0]: row[1:]
                for row in living.rows(
                    "SELECT native_id, symbol, kind, settlement, strike, is_call, expiry_ms, "
                    "settle_asset FROM instruments WHERE expiry_ms = ?",
                    [DELIVERED],
                )
            }
        found = {row[0]: (*row[1:7], row[10]) for row in rows if row[6] == DELIVERED}
        shared = found.keys() & {name for name, one in known.items() if one[1] == "option"}
        assert len(shared) > 20
        # ccxt quotes a living option of Bybit in USD and an expired one in USDC.
        first = 1 if exchange == "bybit" else 0
        assert {name: found[name][first:] for name in shared} == {
            name: known[name][first:] for name in shared
        }


def test_a_name_of_another_form_is_left_alone() -> None:
    assert read_name("okx", "BTC-USD-SWAP", "BTC", DELIVERED) is None
    assert read_name("bybit", "BTC-99MAR24-60000-C", "BTC", DELIVERED) is None
    assert read_name("hyperliquid", "BTC", "BTC", DELIVERED) is None


def test_deribit_lists_the_futures_that_have_expired(simulator: ExchangeSimulator) -> None:
    with DataStore(":memory:") as store:
        client = ExchangeClient(client_of(simulator, "deribit"), "simulator", True)
        pull_instruments(store, client, ["BTC"])
        rows = store.rows(
            "SELECT native_id, contract_size, expiry_ms FROM instruments "
            "WHERE kind = 'future' AND expiry_ms <= ? ORDER BY expiry_ms",
            [END],
        )
    assert ("BTC-29MAR24", 10.0, DELIVERED) in rows
    assert len(rows) == 4


def test_a_delisted_coin_of_hyperliquid_stays_among_the_instruments(
    simulator: ExchangeSimulator,
) -> None:
    with DataStore(":memory:") as store:
        client = ExchangeClient(client_of(simulator, "hyperliquid"), "simulator", True)
        pull_instruments(store, client, ["BTC", "RNDR"])
        rows = store.rows("SELECT native_id, symbol, kind FROM instruments ORDER BY 1")
    assert rows == [("BTC", "BTC/USDC:USDC", "perp"), ("RNDR", "RNDR/USDC:USDC", "perp")]
    assert not client.market("RNDR/USDC:USDC")["active"]
