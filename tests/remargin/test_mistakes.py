"""A user's mistake is answered in one sentence, with exit code 2 and without a traceback."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backtest.units import MS_PER_DAY, MS_PER_HOUR, parse_utc_ms
from remargin.__main__ import main

START = parse_utc_ms("2023-11-15")
HOURS = 96
BAR = ("open_ms", "open", "high", "low", "close", "volume")
QUOTE = (
    "ts_ms", "asset", "name", "kind", "strike", "expiry_ms", "mark", "iv", "forward", "index",
)  # fmt: skip
MAPPING: dict[str, Any] = {
    "name": "sample",
    "exchange": "binanceusdm",
    "files": [
        {
            "feed": "candles",
            "path": "candles.csv",
            "markets": {"BTCUSDT": "BTC/USDT:USDT"},
            "timeframe": "1h",
            "time": {"column": "open_ms", "means": "bar_open"},
            "columns": {
                "open": "open", "high": "high", "low": "low", "close": "close",
                "volume_base": "volume",
            },
        }
    ],
}  # fmt: skip
CHAIN: dict[str, Any] = {
    "name": "chain",
    "exchange": "deribit",
    "files": [
        {
            "feed": "chain",
            "path": "chain.csv",
            "time": {"column": "ts_ms", "means": "instant"},
            "columns": {
                "native_id": "name", "asset": "asset", "strike": "strike", "option_type": "kind",
                "expiry": "expiry_ms", "mark_coin": "mark", "mark_iv": "iv",
                "forward_price": "forward", "index_price": "index",
            },
        }
    ],
}  # fmt: skip


def bars() -> list[list[float]]:
    rows = []
    for i in range(HOURS):
        close = 37_000.0 + 50.0 * ((7 * i) % 13)
        row = [START + i * MS_PER_HOUR, close, close + 60, close - 60, close, 900.0 + i % 5]
        rows.append(row)
    return rows


class Desk:
    """A folder with a config, a mapping and data, and a command line that is watched."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.store = folder / "store.duckdb"
        self.config = folder / "study.yaml"
        self.capsys = capsys
        self.write_config({})

    def write_config(self, changes: dict[str, Any]) -> None:
        config: dict[str, Any] = {
            "name": "sample",
            "market": {
                "exchange": "binanceusdm",
                "assets": ["BTC"],
                "start": "2023-11-15",
                "end": "2023-11-19",
                "clock": "1h",
                "max_gap": "3h",
                "depth": {"usd": {"BTC": "40M"}},
                "imports": ["mapping.yaml"],
            },
            "book": {
                "generate": {
                    "preset": "cross-margin-dex", "accounts": 20, "option_share": 0,
                    "coin_share": 0,
                }
            },
            "incumbent": {"policy": "fixed"},
            "candidate": {"policy": "volatility"},
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump({**config, **changes}))

    def write_data(
        self, rows: list[list[float]], mapping: dict[str, Any] = MAPPING, header: Any = BAR
    ) -> None:
        (self.folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
        name = mapping["files"][0]["path"]
        with (self.folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    def import_data(self) -> tuple[int, str, str]:
        return self.run("data", "import", self.config, "--data", self.folder)

    def run(self, *words: object) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error of a command."""
        texts = [str(word) for word in words]
        if texts[0] in {"data", "replay", "optimize", "book"}:
            texts += ["--store", str(self.store)]
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(texts)
        said = self.capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    def refuses(self, *words: object) -> str:
        """Demand one sentence and exit code 2; return the sentence."""
        code, out, err = self.run(*words)
        assert code == 2, (out, err)
        assert "Traceback" not in out + err
        assert err.count("\n") == 1, err
        assert err.rstrip().endswith((".", "?"))
        return err


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    monkeypatch.setenv("REMARGIN_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Desk(tmp_path, capsys)


def test_what_is_right_is_accepted(desk: Desk) -> None:
    """Every other test changes one thing here, so this one shows that nothing else was wrong."""
    desk.write_data(bars())
    code, out, err = desk.import_data()
    assert (code, err) == (0, "")
    assert "96" in out
    code, out, err = desk.run("data", "tape", desk.config, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["rows"] == HOURS


def test_an_unknown_policy_is_named_with_the_nearest_one(desk: Desk) -> None:
    desk.write_config({"candidate": {"policy": "volatilty"}})
    said = desk.refuses("replay", desk.config)
    assert str(desk.config) in said
    assert "there is no policy 'volatilty'" in said
    assert "Did you mean 'volatility'?" in said


def test_an_unknown_config_key_is_named_with_the_nearest_one(desk: Desk) -> None:
    desk.write_config({"canditate": {"policy": "fixed"}})
    said = desk.refuses("replay", desk.config)
    assert "canditate" in said
    assert "'candidate'" in said


def test_an_unknown_knob_is_named_with_the_nearest_one(desk: Desk) -> None:
    desk.write_config({"candidate": {"policy": "volatility", "multiplyer": 4}})
    said = desk.refuses("replay", desk.config)
    assert "candidate.multiplyer" in said
    assert "'multiplier'" in said


def test_a_parameter_out_of_range_is_named_with_value_bound_and_unit(desk: Desk) -> None:
    desk.write_config({"candidate": {"policy": "volatility", "multiplier": 40}})
    said = desk.refuses("replay", desk.config)
    assert (
        "candidate.multiplier: 40 is above the highest allowed value, 12 sigmas. "
        "Did you mean 4.0?" in said
    )


@pytest.mark.parametrize("command", ["replay", "optimize"])
def test_a_missing_config_is_named(desk: Desk, command: str) -> None:
    said = desk.refuses(command, desk.folder / "nowhere.yaml")
    assert "nowhere.yaml" in said


def test_a_missing_data_file_is_named(desk: Desk) -> None:
    desk.write_data(bars())
    (desk.folder / "candles.csv").unlink()
    said = desk.refuses("data", "import", desk.config, "--data", desk.folder)
    assert "candles.csv" in said


def test_a_missing_data_folder_is_asked_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMARGIN_DATA", raising=False)
    desk.write_data(bars())
    assert "--data DIR" in desk.refuses("data", "import", desk.config)


def test_a_missing_vector_file_is_named(desk: Desk) -> None:
    assert "none.json" in desk.refuses("vectors", desk.folder / "none.json")


def test_a_store_that_is_not_there_is_named_with_what_to_do(desk: Desk) -> None:
    said = desk.refuses("replay", desk.config)
    assert str(desk.store) in said
    assert "remargin data" in said


def test_an_empty_store_is_named_with_what_to_do(desk: Desk) -> None:
    from data_ingest.store import DataStore

    DataStore(desk.store).close()
    said = desk.refuses("replay", desk.config)
    assert str(desk.store) in said
    assert "empty" in said


def test_a_window_with_a_gap_is_refused_with_the_gap(desk: Desk) -> None:
    rows = bars()
    desk.write_data(rows[:40] + rows[50:])
    assert desk.import_data()[0] == 0
    said = desk.refuses("replay", desk.config)
    assert "2023-11-16 16:00 for 10h" in said
    assert "longer than 3h" in said


def test_a_negative_price_is_refused_with_file_and_row(desk: Desk) -> None:
    rows = bars()
    rows[7][3] = -1.0
    desk.write_data(rows)
    said = desk.refuses("data", "import", desk.config, "--data", desk.folder)
    assert "candles.csv" in said
    assert "row 8" in said
    assert "low is not positive" in said


def test_duplicate_timestamps_are_refused_with_file_and_row(desk: Desk) -> None:
    rows = bars()
    rows.insert(9, [rows[8][0], *(1.01 * value for value in rows[8][1:])])
    desk.write_data(rows)
    said = desk.refuses("data", "import", desk.config, "--data", desk.folder)
    assert "candles.csv" in said
    assert "row 9" in said
    assert "repeats" in said


def test_a_refused_import_leaves_the_store_as_it_was(desk: Desk) -> None:
    desk.write_data(bars())
    desk.import_data()
    before = desk.run("data", "status", "--json")[1]
    rows = bars()
    rows[7][3] = -1.0
    desk.write_data(rows)
    desk.refuses("data", "import", desk.config, "--data", desk.folder)
    assert desk.run("data", "status", "--json")[1] == before
    assert json.loads(before)[0]["rows"] == HOURS


def test_an_option_that_expires_before_its_first_mark_is_refused(desk: Desk) -> None:
    late = [START, "BTC", "BTC-14NOV23-40000-C", "call", 40_000.0, START - MS_PER_DAY,
            0.01, 0.6, 37_100.0, 37_000.0]  # fmt: skip
    desk.write_data([late], CHAIN, QUOTE)
    said = desk.refuses("data", "import", desk.config, "--data", desk.folder)
    assert "chain.csv" in said
    assert "expiry" in said
    assert "row 1" in said


def test_a_book_with_an_instrument_that_the_tape_lacks_is_refused(desk: Desk) -> None:
    desk.write_data(bars())
    desk.import_data()
    folder = desk.folder / "book"
    folder.mkdir()
    (folder / "book.json").write_text(json.dumps({"mode": "recorded", "assets": ["BTC"]}))
    (folder / "accounts.csv").write_text("account,wallet\nalice,1000\n")
    (folder / "orders.csv").write_text(
        f"ts_ms,account,instrument,quantity\n{START + 5 * MS_PER_HOUR},alice,BTC-PREP,0.1\n"
    )
    desk.write_config({"book": {"import": str(folder)}})
    said = desk.refuses("replay", desk.config)
    assert "BTC-PREP" in said
    assert "the tape lacks" in said


def test_a_run_that_does_not_exist_is_named(desk: Desk) -> None:
    assert "'beef'" in desk.refuses("reproduce", "beef")
    assert "no" in desk.refuses("report", "latest")


def test_a_fault_of_the_program_keeps_its_traceback(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("experiments.config.load_config", broken)
    with pytest.raises(ZeroDivisionError):
        main(["replay", str(desk.config)])
