from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backtest.book import CROSS, ISOLATED, OPEN
from backtest.book_files import load_book, save_book
from backtest.errors import ConfigError, DataError
from data_ingest.accounts import open_accounts, pull_accounts, read_addresses
from data_ingest.clients import ExchangeClient, FeedError
from data_ingest.simulator import ExchangeSimulator, FaultPlan, MarketParameters

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-01-20")
ADDRESSES = tuple("0x" + hashlib.sha256(bytes([i])).hexdigest()[:40] for i in range(40))


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(PARAMETERS.end)
    yield running
    running.set_clock(PARAMETERS.end)


def patient(url: str) -> ExchangeClient:
    """Open a client that waits for nobody: the simulator has no limit of its own."""
    client = open_accounts("hyperliquid", url)
    client.ccxt.enableRateLimit = False
    client.sleep = lambda _seconds: None
    return client


@pytest.fixture
def client(simulator: ExchangeSimulator) -> ExchangeClient:
    return patient(simulator.url)


def states(simulator: ExchangeSimulator) -> dict[str, dict[str, Any]]:
    """Read what the exchange says of every address, past the client."""
    now_ms = simulator.now_ms
    return {
        user: simulator.hyperliquid.call({"type": "clearinghouseState", "user": user}, now_ms)
        for user in ADDRESSES
    }


def unified(simulator: ExchangeSimulator) -> set[str]:
    kinds = {
        user: simulator.hyperliquid.call({"type": "userAbstraction", "user": user}, 0)
        for user in ADDRESSES
    }
    return {user for user, kind in kinds.items() if kind == "unifiedAccount"}


def test_a_book_holds_what_the_exchange_shows(
    simulator: ExchangeSimulator, client: ExchangeClient
) -> None:
    taken = pull_accounts(client, ADDRESSES)
    book, shown = taken.book, states(simulator)
    assert book.mode == "recorded"
    assert book.assets == ("BTC", "ETH")
    assert book.symbols == ("BTC-PERP", "ETH-PERP")
    assert np.all(book.order_ts == PARAMETERS.end)
    assert np.all(book.order_kind == OPEN)
    held = {
        (taken.names[account].partition(" ")[0], book.symbols[symbol][:3]): quantity
        for account, symbol, quantity in zip(
            book.order_account, book.order_instrument, book.order_quantity, strict=True
        )
    }
    expected = {
        (user, row["position"]["coin"]): float(row["position"]["szi"])
        for user, state in shown.items()
        if user not in taken.aside
        for row in state["assetPositions"]
    }
    assert len(expected) > 30
    assert held == expected


def test_the_collateral_of_an_address_is_its_account_value(
    simulator: ExchangeSimulator, client: ExchangeClient
) -> None:
    taken = pull_accounts(client, ADDRESSES)
    shown = states(simulator)
    total: dict[str, float] = {}
    for name, wallet in zip(taken.names, taken.book.wallet.tolist(), strict=True):
        user = name.partition(" ")[0]
        total[user] = total.get(user, 0.0) + wallet
    both = 0
    for user, wallet in total.items():
        state = shown[user]
        alone = [n for n in taken.names if n.startswith(user) and " " in n]
        if user in taken.names:
            assert wallet == pytest.approx(float(state["marginSummary"]["accountValue"]))
            both += bool(alone)
        else:  # what no position uses is not at risk and not in the book
            used = sum(float(row["position"]["marginUsed"]) for row in state["assetPositions"])
            assert wallet == pytest.approx(used)
    assert both > 0


def test_isolated_positions_are_accounts_of_their_own(client: ExchangeClient) -> None:
    taken = pull_accounts(client, ADDRESSES)
    scheme = dict(zip(taken.names, taken.book.scheme.tolist(), strict=True))
    assert {scheme[name] for name in scheme if " " in name} == {ISOLATED}
    assert {scheme[name] for name in scheme if " " not in name} == {CROSS}


def test_who_cannot_be_imported_is_put_aside_with_the_reason(
    simulator: ExchangeSimulator, client: ExchangeClient
) -> None:
    taken = pull_accounts(client, ADDRESSES)
    reasons = set(taken.aside.values())
    empty = {user for user, state in states(simulator).items() if not state["assetPositions"]}
    spot = unified(simulator)
    assert spot
    assert {u for u, why in taken.aside.items() if "spot balances" in why} == spot
    assert {u for u, why in taken.aside.items() if "no position" in why} == empty - spot
    assert not set(taken.aside) & {name.partition(" ")[0] for name in taken.names}
    assert all(reason for reason in reasons)


def test_an_address_with_a_foreign_asset_is_put_aside_whole(client: ExchangeClient) -> None:
    everything = pull_accounts(client, ADDRESSES)
    only = pull_accounts(client, ADDRESSES, assets=["BTC"])
    assert only.book.assets == ("BTC",)
    assert only.book.symbols == ("BTC-PERP",)
    foreign = {u for u, why in only.aside.items() if why == "it holds ETH, which the book does not"}
    assert foreign
    assert foreign.isdisjoint(everything.aside)
    assert foreign.isdisjoint(name.partition(" ")[0] for name in only.names)


def test_the_assets_of_the_tape_keep_their_order(client: ExchangeClient) -> None:
    book = pull_accounts(client, ADDRESSES, assets=["ETH", "BTC"]).book
    assert book.assets == ("ETH", "BTC")
    assert book.symbols == ("ETH-PERP", "BTC-PERP")


def test_a_snapshot_says_where_when_and_of_what_it_is(
    simulator: ExchangeSimulator, client: ExchangeClient
) -> None:
    taken = pull_accounts(client, ADDRESSES)
    there = len(ADDRESSES) - len(taken.aside)
    source = "exchange simulator (hyperliquid), 2024-01-20 00:00 UTC, by ccxt"
    assert taken.book.origin.startswith(f"{there} of 40 addresses of {source}")
    assert taken.book.synthetic
    again = pull_accounts(client, ADDRESSES)
    assert (again.book.origin, again.book.digest) == (taken.book.origin, taken.book.digest)
    simulator.set_clock(PARAMETERS.end - 3_600_000)
    earlier = pull_accounts(client, ADDRESSES)
    assert earlier.book.origin.split("sha256")[1] != taken.book.origin.split("sha256")[1]
    assert np.all(earlier.book.order_ts == PARAMETERS.end - 3_600_000)


def test_a_snapshot_is_saved_with_its_addresses_and_read_back(
    client: ExchangeClient, tmp_path: Path
) -> None:
    taken = pull_accounts(client, ADDRESSES)
    folder = save_book(taken.book, tmp_path / "book", csv=True, names=taken.names)
    assert load_book(folder).digest == taken.book.digest
    assert f'\n"{taken.names[0]}",' in (folder / "accounts.csv").read_text()


def test_an_account_that_trades_between_two_questions_is_asked_again(
    client: ExchangeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.ccxt.fetch_positions
    asked = 0

    def moving(symbols: Any, params: Any) -> Any:
        nonlocal asked
        asked += 1
        positions = answer(symbols, params)
        if asked <= trades:
            positions[0]["info"]["position"]["szi"] = "0.5"
        return positions

    monkeypatch.setattr(client.ccxt, "fetch_positions", moving)
    holder = pull_accounts(patient(client.ccxt.urls["api"]["public"]), ADDRESSES).names[0]
    trades = 2
    assert len(pull_accounts(client, [holder.partition(" ")[0]]).book) >= 1
    assert asked == 3
    asked, trades = 0, 99
    with pytest.raises(FeedError, match="trades faster than it can be asked"):
        pull_accounts(client, [holder.partition(" ")[0]])


def test_a_bad_hour_of_the_exchange_changes_nothing(client: ExchangeClient) -> None:
    plan = FaultPlan(every=3)
    with ExchangeSimulator(PARAMETERS, faults=plan) as faulty:
        taken = pull_accounts(patient(faulty.url), ADDRESSES)
    assert taken.book.digest == pull_accounts(client, ADDRESSES).book.digest


def test_addresses_that_hold_nothing_make_no_book(
    simulator: ExchangeSimulator, client: ExchangeClient
) -> None:
    spot = unified(simulator)
    empty = [
        user
        for user, state in states(simulator).items()
        if not state["assetPositions"] and user not in spot
    ]
    with pytest.raises(DataError, match="addresses can be imported: it holds no position"):
        pull_accounts(client, empty)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no address"),
        ("# nobody\n\n", "holds no address"),
        (f"{ADDRESSES[0]}\n0x12\n", r"line 2: '0x12' is not an address; write 0x and 40"),
        (f"{ADDRESSES[0]}\n{ADDRESSES[0].upper().replace('X', 'x')}\n", "stands in line 1 already"),
    ],
)
def test_a_bad_list_of_addresses_is_refused_with_its_line(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "addresses.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_addresses(file)


def test_a_list_of_addresses_may_have_remarks(tmp_path: Path) -> None:
    file = tmp_path / "addresses.txt"
    file.write_text(f"# whales\n{ADDRESSES[0]}  # the first\n\n{ADDRESSES[1]}\n")
    assert read_addresses(file) == ADDRESSES[:2]
    with pytest.raises(ConfigError, match="not a readable text file"):
        read_addresses(tmp_path / "nowhere.txt")


def test_an_exchange_without_public_accounts_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'hyperliqid' shows no public accounts\. Did you mean"):
        open_accounts("hyperliqid")
    with pytest.raises(ConfigError, match="'binanceusdm' shows no public accounts"):
        open_accounts("binanceusdm")


def test_the_exchange_itself_is_asked_where_no_address_is_given() -> None:
    client = open_accounts("hyperliquid")
    assert client.source == "https://api.hyperliquid.xyz"
    assert not client.is_synthetic
    assert client.ccxt.urls["api"]["public"].startswith("https://")
