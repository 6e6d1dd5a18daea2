from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_ingest.coverage import Shortfall
from data_ingest.pull_report import PullReport
from data_ingest.simulator import ExchangeSimulator, Fault, FaultSchedule, MarketParameters
from data_ingest.store import DataStore
from remargin.__main__ import main
from remargin.pull_bars import write_coverage

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"


def study(folder: Path) -> Path:
    """Write the demo's config for two days of its market."""
    config: dict[str, Any] = yaml.safe_load(DEMO.read_text())
    config["market"] |= {"end": "2024-01-03", "assets": ["BTC"], "feeds": ["open_interest"]}
    config["windows"] = {
        "search": ["2024-01-01", "2024-01-01"],
        "holdout": ["2024-01-02", "2024-01-02"],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_pull_ends_with_what_is_there_what_is_not_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    faults = FaultSchedule(faults=(Fault(kind="451", path="*markPriceKlines", times=1),))
    parameters = MarketParameters(start="2024-01-01", end="2024-01-15")
    store = tmp_path / "store.duckdb"
    with ExchangeSimulator(parameters, faults=faults) as simulator:
        words = ["data", "pull", str(study(tmp_path)), "--store", str(store),
                 "--simulator", simulator.url]  # fmt: skip
        codes, said = [], []
        for _ in range(2):
            simulator.set_clock(parameters.end)
            with pytest.raises(SystemExit) as left:
                main(words)
            codes.append(int(left.value.code or 0))
            said.append(capsys.readouterr().out.splitlines())
    assert codes == [1, 0]
    assert said[0][1].split() == ["binanceusdm"]
    table = {line.split()[0]: line.split() for line in said[0]}
    assert table["trade_candles"][-4:] == ["48", "48", "48", "0"]
    assert table["mark_candles"][-5:] == ["0", "48", "0", "48", "refused"]
    assert "451 Unavailable For Legal Reasons" in " ".join(" ".join(said[0]).split())
    again = {line.split()[0]: line.split() for line in said[1]}
    assert again["mark_candles"][-4:] == ["48", "48", "48", "0"]
    # The simulated funding begins eight hours in, which no retry can change.
    assert [line for line in said[1] if line.startswith("  missing")] == [
        "  missing   binanceusdm BTC/USDT:USDT funding, 2024-01-01 00:00 to 2024-01-01 08:00 UTC, "
        "not served: the exchange has no rows there, asked three times"
    ]
    with DataStore(store, read_only=True) as opened:
        assert opened.rows("SELECT feed FROM shortfalls") == [("funding",)]


@pytest.mark.parametrize("columns", [80, 100])
def test_every_line_of_the_coverage_fits_a_narrow_screen(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    hour, start = 3_600_000, 1_704_067_200_000
    lost = Shortfall(start, start + hour, "not served", "the exchange has no rows there " * 6)
    polls = tuple(Shortfall(start + n, start + n + 1, "unanswered", "x") for n in range(2))
    write_coverage(
        [
            PullReport("binanceusdm", "BTC/USDT:USDT", "trade_candles", 8_760, 8_760, 1, hour,
                       8_760, 8_759, (lost,)),
            PullReport("deribit", "BTC", "option_trades", 9, 9, 0, 0, None, 123_456, (lost,)),
            PullReport("binanceusdm", "BTC/USDT:USDT", "depth", 9, 9, 0, shortfalls=polls),
        ]
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    # A name may go on below itself; numbers and reasons do not.
    cells = [line.split() for line in lines if line.split() != ["1h"]]
    assert [row[0] for row in cells[:6]] == [
        "feed", "binanceusdm", "trade_candles", "depth", "deribit", "option_trades"
    ]  # fmt: skip
    assert cells[2][-5:] == ["8,760", "8,759", "1", "not", "served"]
    assert cells[3][-3:] == ["2", "polls", "unanswered"]
    assert cells[5][-4:] == ["123,456", "1h", "not", "served"]
    assert lines[-1].endswith("put aside in quarantine: 1")


def test_ctrl_c_says_that_nothing_is_lost_and_the_same_command_goes_on(tmp_path: Path) -> None:
    parameters = MarketParameters(start="2024-01-01", end="2024-01-15")
    store = tmp_path / "store.duckdb"
    # The first candles hang, so that Ctrl-C comes in the middle of one.
    hang = Fault(kind="timeout", path="*/klines", first=1, times=1, hang_s=30)
    with ExchangeSimulator(parameters, faults=FaultSchedule(faults=(hang,))) as simulator:
        words = [sys.executable, "-m", "remargin", "data", "pull", str(study(tmp_path)),
                 "--store", str(store), "--simulator", simulator.url]  # fmt: skip
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while not simulator.fired and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said.splitlines()) == (
            130,
            ["interrupted; what was pulled is stored, and the same command goes on there"],
        )
        simulator.set_clock(parameters.end)
        again = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "trade_candles" in again.stdout
