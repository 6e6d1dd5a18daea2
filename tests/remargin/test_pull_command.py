from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_ingest.simulator import ExchangeSimulator, Fault, FaultSchedule, MarketParameters
from data_ingest.store import DataStore
from remargin.__main__ import main

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
    table = {line.split()[0]: line.split() for line in said[0]}
    assert table["trade_candles"][-4:] == ["0", "48", "48", "0"]
    assert table["mark_candles"][-4:] == ["48", "0", "48", "refused"]
    assert any("451 Unavailable For Legal Reasons" in line for line in said[0])
    again = {line.split()[0]: line.split() for line in said[1]}
    assert again["mark_candles"][-5:] == ["48", "0", "48", "48", "0"]
    # The simulated funding begins eight hours in, which no retry can change.
    assert [line for line in said[1] if line.startswith("  missing")] == [
        "  missing   funding BTC/USDT:USDT: 2024-01-01 00:00 to 2024-01-01 08:00 UTC, not served: "
        "the exchange has no rows there, asked three times"
    ]
    with DataStore(store, read_only=True) as opened:
        assert opened.rows("SELECT feed FROM shortfalls") == [("funding",)]
