from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ccxt
import pytest

from backtest.errors import ConfigError
from data_ingest.simulator import ExchangeSimulator, FaultPlan, MarketParameters
from tests.data_ingest.exchange_clients import client_of

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-03-11")
START, END = PARAMETERS.start, PARAMETERS.end


@pytest.fixture(scope="module")
def running() -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator(PARAMETERS) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: ExchangeSimulator) -> Iterator[ExchangeSimulator]:
    running.set_clock(END)
    yield running
    running.set_clock(END)


def test_the_clock_can_be_posted_and_refuses_what_lies_outside(
    simulator: ExchangeSimulator,
) -> None:
    def post(body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(f"{simulator.url}/simulator/clock", data=body)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    assert post(json.dumps({"now_ms": START + 5}).encode()) == {"now_ms": START + 5}
    assert simulator.now_ms == START + 5
    for wrong in (b"{}", b"nonsense", json.dumps({"now_ms": END + 1}).encode()):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(wrong)
        assert refused.value.code == 400
        refused.value.close()
    assert simulator.now_ms == START + 5
    with pytest.raises(ConfigError, match="outside the simulated span"):
        simulator.set_clock(END + 1)


def test_a_connection_is_kept_alive(simulator: ExchangeSimulator) -> None:
    url = urlsplit(simulator.url)
    connection = HTTPConnection(str(url.hostname), url.port)
    connection.request("GET", "/fapi/v1/time")
    assert json.loads(connection.getresponse().read()) == {"serverTime": END}
    first = connection.sock
    connection.request("GET", "/fapi/v1/ping")
    assert connection.getresponse().read() == b"{}"
    assert connection.sock is first
    connection.close()


def test_faults_come_in_order_and_stop_at_their_limit() -> None:
    plan = FaultPlan(every=2, kinds=("429", "502", "empty", "malformed", "truncated"), limit=5)
    short = MarketParameters(start="2024-01-01", end="2024-01-20")
    with ExchangeSimulator(short, faults=plan) as simulator:
        client = client_of(simulator, "binanceusdm")
        outcomes = []
        for _request in range(14):
            try:
                answer = client.fapiPublicGetTime()
                outcomes.append("good" if isinstance(answer, dict) else "no json")
            except ccxt.BaseError as error:
                outcomes.append(type(error).__name__)
                if isinstance(error, ccxt.DDoSProtection):
                    assert client.last_response_headers["Retry-After"] == "1"
    assert outcomes[::2] == ["good"] * 7
    assert outcomes[1::2] == [
        "DDoSProtection",
        "ExchangeNotAvailable",
        "no json",
        "no json",
        "NetworkError",
        "good",
        "good",
    ]


def test_a_taken_port_is_a_users_mistake_in_one_sentence() -> None:
    short = MarketParameters(start="2024-01-01", end="2024-01-20")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
            ExchangeSimulator(short, port=port).start()


def test_a_stopped_simulator_frees_its_port_and_can_start_again() -> None:
    simulator = ExchangeSimulator(MarketParameters(start="2024-01-01", end="2024-01-20"))
    for _turn in range(2):
        with simulator:
            assert urllib.request.urlopen(simulator.url + "/fapi/v1/ping").read() == b"{}"
        with pytest.raises(RuntimeError, match="not running"):
            _ = simulator.url


def test_the_command_serves_all_exchanges_with_the_faults_of_a_file(tmp_path: Path) -> None:
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults: [{kind: 503, path: '*/ping', times: 1}]", encoding="utf-8")
    command = ("simulate-exchange", "--end", "2024-01-20", "--port", "0", "--faults", str(faults))
    with subprocess.Popen(
        [sys.executable, "-m", "remargin", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = ""
            while "fail on purpose: 503" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            found = re.search(r"http://\S+", said)
            assert found is not None
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{found[0]}/fapi/v1/ping")
            assert refused.value.code == 503
            refused.value.close()
            for path in ("/dapi/v1/ping", "/api/v5/public/time", "/v5/market/time",
                         "/api/v2/public/get_time"):  # fmt: skip
                with urllib.request.urlopen(found[0] + path) as answer:
                    assert answer.status == 200
        finally:
            process.terminate()
