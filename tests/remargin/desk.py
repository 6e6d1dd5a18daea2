"""A small market on disk, and a command line that is watched."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from backtest.units import MS_PER_HOUR, parse_utc_ms
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
