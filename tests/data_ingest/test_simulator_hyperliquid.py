from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import ccxt
import pytest

from data_ingest.simulator import ExchangeSimulator, MarketParameters

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-01-20")
ADDRESSES = tuple("0x" + hashlib.sha256(bytes([i])).hexdigest()[:40] for i in range(30))
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(PARAMETERS.end)
    yield running
    running.set_clock(PARAMETERS.end)


@pytest.fixture
def client(simulator: ExchangeSimulator) -> Any:
    client = ccxt.hyperliquid({"enableRateLimit": False})
    client.urls["api"] = {"public": simulator.url, "private": simulator.url}
    return client


def ask(simulator: ExchangeSimulator, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(f"{simulator.url}/info", data=body)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())


def state(simulator: ExchangeSimulator, user: str) -> Any:
    return simulator.hyperliquid.call({"type": "clearinghouseState", "user": user},
                                      simulator.now_ms)  # fmt: skip


def test_ccxt_loads_the_markets_with_all_its_own_questions(client: Any) -> None:
    markets = client.load_markets()
    alive = {name for name, market in markets.items() if market["active"]}
    assert (alive, set(markets) - alive) == (
        {"BTC/USDC:USDC", "ETH/USDC:USDC"}, {"RNDR/USDC:USDC"}
    )  # fmt: skip
    assert markets["BTC/USDC:USDC"]["linear"]
    assert markets["BTC/USDC:USDC"]["contractSize"] == 1
    assert markets["BTC/USDC:USDC"]["limits"]["leverage"]["max"] == 40
    assert "USDC" in client.currencies


def test_ccxt_reads_positions_whose_numbers_belong_together(client: Any) -> None:
    client.load_markets()
    seen = set()
    for user in ADDRESSES:
        for position in client.fetch_positions(None, {"user": user}):
            coins = position["contracts"] * (1 if position["side"] == "long" else -1)
            profit = coins * (position["markPrice"] - position["entryPrice"])
            assert position["unrealizedPnl"] == pytest.approx(profit, abs=1e-4)
            assert position["notional"] == pytest.approx(
                position["contracts"] * position["markPrice"], rel=1e-6, abs=1e-5
            )
            if position["marginMode"] == "isolated":
                opened = position["contracts"] * position["entryPrice"]
                assert position["positionMargin"] == pytest.approx(
                    opened / position["leverage"], abs=1e-4
                )
            seen.add((position["side"], position["marginMode"]))
    assert len(seen) == 4


def test_an_account_is_worth_what_it_brought_in_and_what_it_has_gained(
    simulator: ExchangeSimulator, client: Any
) -> None:
    client.load_markets()
    held = [user for user in ADDRESSES if len(state(simulator, user)["assetPositions"]) == 2]
    for user in held[:4]:
        worth = []
        for back in (0, 1):
            simulator.set_clock(PARAMETERS.end - back * HOUR_MS)
            balance = client.fetch_balance({"user": user, "enableUnifiedMargin": False})
            positions = client.fetch_positions(None, {"user": user})
            worth.append((balance["USDC"]["total"], sum(p["unrealizedPnl"] for p in positions)))
            assert balance["timestamp"] == simulator.now_ms
        (now, gained), (before, gained_before) = worth
        assert now - before == pytest.approx(gained - gained_before, abs=1e-3)
        assert now != before


def test_an_address_has_the_same_account_whenever_and_however_it_is_written(
    simulator: ExchangeSimulator,
) -> None:
    for user in ADDRESSES[:5]:
        shouted = "0x" + user[2:].upper()
        assert state(simulator, user) == state(simulator, shouted)
    fresh = ExchangeSimulator(PARAMETERS)
    assert [state(fresh, u) for u in ADDRESSES] == [state(simulator, u) for u in ADDRESSES]
    other = ExchangeSimulator(PARAMETERS.model_copy(update={"seed": PARAMETERS.seed + 1}))
    assert state(other, ADDRESSES[0]) != state(simulator, ADDRESSES[0])


def test_before_its_positions_were_opened_an_address_holds_none(
    simulator: ExchangeSimulator,
) -> None:
    open_at = {}
    for now_ms in (PARAMETERS.end, PARAMETERS.start):
        simulator.set_clock(now_ms)
        open_at[now_ms] = sum(len(state(simulator, u)["assetPositions"]) for u in ADDRESSES)
    assert open_at[PARAMETERS.end] > 20
    assert open_at[PARAMETERS.start] < 3


def test_what_the_exchange_does_not_understand_is_refused_as_it_does(
    simulator: ExchangeSimulator,
) -> None:
    said = "Failed to deserialize the JSON body into the target type"
    bodies: tuple[Any, ...] = (
        {"type": "candles"},
        {"user": ADDRESSES[0]},
        [],
        {"type": "clearinghouseState"},
        {"type": "clearinghouseState", "user": "0x12"},
    )
    for body in bodies:
        assert ask(simulator, json.dumps(body).encode()) == (422, said)
    status, _ = ask(simulator, b"{")
    assert status == 400
    assert ask(simulator, b'{"type": "allMids"}')[0] == 200
