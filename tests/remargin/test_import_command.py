"""``remargin data import`` and ``formats``: named layouts, what is left out, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from remargin.__main__ import main
from tests.remargin.desk import START, Desk, bars

HEADER = "ts,open,high,low,close,volume"


def write_bars(desk: Desk, name: str = "BTCUSDT_1h.csv") -> Path:
    path = desk.folder / name
    path.write_text("\n".join([HEADER, *(",".join(map(str, row)) for row in bars())]) + "\n")
    return path


def words(desk: Desk, *more: object) -> tuple[object, ...]:
    return ("data", "import", "--format", "ohlcv", "--data", desk.folder, *more)


def listed(capsys: pytest.CaptureFixture[str], *said: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "formats", *said])
    return capsys.readouterr().out


def test_a_named_layout_is_imported_without_a_mapping(desk: Desk) -> None:
    write_bars(desk)
    code, out, err = desk.run(*words(desk, "--exchange", "binanceusdm", "--json"))
    assert code == 0, err
    (report,) = json.loads(out)
    assert (report["market"], report["rows_added"]) == ("BTC/USDT:USDT", len(bars()))
    assert report["windows"][0][0] == START


def test_the_table_of_an_import_fits_a_narrow_terminal(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_bars(desk)
    _, out, _ = desk.run(*words(desk, "--exchange", "binanceusdm"))
    assert max(map(len, out.splitlines())) <= 80
    assert out.splitlines()[1].split()[-6:] == ["BTC/USDT:USDT", "96", "96", "0", "0", "0"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ((), "BTCUSDT_1h.csv: does not say whose it is; write --exchange NAME."),
        (("--exchange", "bnance"), "how 'bnance' names its markets is not known"),
        (("--exchange", "okx"), "'BTCUSDT' is not a name that okx gives to a market"),
        (("--exchange", "okx", "--market", "BTCUSDT"), "--market BTCUSDT: write NATIVE=SYMBOL"),
    ],
)
def test_a_mistake_about_a_layout_is_one_sentence(
    desk: Desk, more: tuple[str, ...], sentence: str
) -> None:
    write_bars(desk)
    assert sentence in desk.refuses(*words(desk, *more))


def test_a_config_and_a_format_exclude_each_other(desk: Desk) -> None:
    assert "either a CONFIG or --format" in desk.refuses("data", "import")
    said = desk.refuses("data", "import", desk.config, "--format", "ohlcv")
    assert "either a CONFIG or --format" in said
    said = desk.refuses("data", "import", desk.config, "--exchange", "okx")
    assert "a mapping says both itself" in said
    assert "Did you mean 'ohlcv'?" in desk.refuses(
        "data", "import", "--format", "ohlc", "--data", desk.folder
    )


def test_a_folder_that_is_no_export_is_told_how_recorded_files_are_imported(desk: Desk) -> None:
    code, _, err = desk.run("data", "import", desk.folder)
    assert code == 2
    assert "is a folder without manifest.json" in err
    assert f"--data {desk.folder}" in err


def test_formats_lists_each_layout_with_its_feeds(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["format"]: row for row in json.loads(listed(capsys, "--json"))}
    assert {"binance-vision", "tardis", "ohlcv"} <= set(rows)
    assert {one["feed"] for one in rows["tardis"]["files"]} >= {"trades", "chain", "funding"}
    assert "cryptodatadownload" in listed(capsys)


def test_a_printed_format_can_be_edited_and_imported_as_a_mapping(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bars(desk, "bitcoin.csv")
    mine = yaml.safe_load(listed(capsys, "ohlcv"))
    mine |= {"exchange": "okx", "some": False}
    mine["files"] = [
        mine["files"][0]
        | {"path": "bitcoin.csv", "timeframe": "1h", "markets": {"x": "BTC/USDT:USDT"}}
    ]
    mapping = desk.folder / "mine.yaml"
    mapping.write_text(yaml.safe_dump(mine))
    code, out, err = desk.run("data", "import", mapping, "--data", desk.folder, "--json")
    assert code == 0, err
    assert json.loads(out)[0]["rows_added"] == len(bars())
