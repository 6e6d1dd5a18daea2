from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from remargin.__main__ import main
from tests.data_ingest.test_svi_surfaces import MARKET as CHAIN_MARKET
from tests.data_ingest.test_svi_surfaces import chain_rows, chain_store
from tests.remargin.desk import Desk, bars

NAME = "2023-q4"


def name_snapshot(desk: Desk, name: str = NAME) -> None:
    config: dict[str, Any] = yaml.safe_load(desk.config.read_text())
    desk.write_config({"market": {**config["market"], "snapshot": name}})


def run(desk: Desk, *words: object) -> tuple[int, str, str]:
    """Run without ``--store``, which `Desk.run` always gives."""
    desk.capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = desk.capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def tape(desk: Desk) -> dict[str, Any]:
    code, out, err = run(desk, "data", "tape", desk.config, "--json")
    assert code == 0, err
    return dict(json.loads(out))


@pytest.fixture
def frozen(desk: Desk) -> Path:
    desk.write_data(bars())
    assert desk.import_data()[0] == 0
    code, _, err = desk.run("data", "snapshot", NAME)
    assert code == 0, err
    return desk.folder / "out" / "snapshots" / NAME


def test_a_market_is_read_from_the_snapshot_that_its_config_names(desk: Desk, frozen: Path) -> None:
    before = json.loads(desk.run("data", "tape", desk.config, "--json")[1])
    desk.store.unlink()
    name_snapshot(desk)
    read = tape(desk)
    assert read["digest"] == before["digest"]
    said = json.loads((frozen / "manifest.json").read_text())
    assert read["sources"][0]["feed"] == "snapshot"
    assert (read["sources"][0]["market"], read["sources"][0]["sha256"]) == (NAME, said["digest"])
    assert read["sources"][1:] == before["sources"]


@pytest.mark.parametrize("place", ["beside", "workspace", "absolute"])
def test_a_snapshot_is_found_wherever_it_lies_and_is_called_what_it_was(
    desk: Desk, frozen: Path, place: str
) -> None:
    moved = desk.folder / "kept" / "other"
    moved.parent.mkdir()
    named = {"beside": "kept/other", "workspace": NAME, "absolute": str(moved)}[place]
    if place != "workspace":
        shutil.move(frozen, moved)
    name_snapshot(desk, named)
    assert tape(desk)["sources"][0]["market"] == NAME


@pytest.mark.parametrize("name", ["store.duckdb", "manifest.json"])
def test_a_changed_byte_stops_everything_that_would_read_it(
    desk: Desk, frozen: Path, name: str
) -> None:
    raw = bytearray((frozen / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (frozen / name).chmod(0o644)
    (frozen / name).write_bytes(raw)
    name_snapshot(desk)
    for words in (
        ("data", "tape", desk.config),
        ("replay", desk.config),
        ("data", "snapshot", "--check", NAME),
        ("data", "status", "--store", frozen),
    ):
        code, out, err = run(desk, *words)
        assert code == 2, (words, out, err)
        assert err.count("\n") == 1
        assert name in err
        assert "changed" in err or "damaged" in err


def test_a_snapshot_that_is_not_there_is_asked_for(desk: Desk, frozen: Path) -> None:
    name_snapshot(desk, "2023-q3")
    code, _, err = run(desk, "data", "tape", desk.config)
    assert code == 2
    assert "market.snapshot: there is no snapshot 2023-q3" in err
    assert "'remargin data snapshot 2023-q3' makes one" in err


def test_a_store_does_not_stand_in_for_a_snapshot_but_a_moved_one_does(
    desk: Desk, frozen: Path
) -> None:
    name_snapshot(desk)
    said = desk.refuses("data", "tape", desk.config)
    assert "market.snapshot: is 2023-q4, so it is not read from the store" in said
    moved = desk.folder / "moved"
    shutil.move(frozen, moved)
    code, out, err = run(desk, "data", "tape", desk.config, "--store", moved, "--json")
    assert code == 0, err
    assert json.loads(out)["sources"][0]["market"] == NAME


def test_the_command_shows_what_was_frozen_and_checks_it(desk: Desk, frozen: Path) -> None:
    said = json.loads((frozen / "manifest.json").read_text())
    code, out, err = run(desk, "data", "snapshot", "--check", NAME)
    assert code == 0, err
    assert said["digest"] in out
    assert "96 rows, 2023-11-15 00:00 to 2023-11-18 23:00 UTC" in out
    assert "candles" in out
    code, out, err = run(desk, "data", "snapshot", NAME, "--check", "--json")
    assert json.loads(out) == {"folder": frozen.as_posix(), **said}
    assert "exists; a snapshot is never overwritten" in desk.refuses("data", "snapshot", NAME)
    code, out, err = run(desk, "data", "status", "--store", frozen)
    assert code == 0, err
    assert "trade candles 1h" in out


def test_an_export_is_imported_by_the_same_verb_as_any_data(desk: Desk, frozen: Path) -> None:
    folder = desk.folder / "export"
    code, out, err = desk.run("data", "export", folder)
    assert code == 0, err
    said = json.loads((frozen / "manifest.json").read_text())
    assert said["digest"] in out
    again = desk.folder / "again.duckdb"
    code, out, err = run(desk, "data", "import", folder, "--store", again, "--json")
    assert code == 0, err
    assert json.loads(out)["digest"] == said["digest"]
    first, second = (
        json.loads(run(desk, "data", "tape", desk.config, "--store", store, "--json")[1])
        for store in (desk.store, again)
    )
    assert first == second
    assert "is not empty; an export is a whole store" in desk.refuses("data", "import", folder)
    file = next(folder.rglob("2023-11.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    code, _, err = run(desk, "data", "import", folder, "--store", desk.folder / "new.duckdb")
    assert code == 2
    assert f"{file} was changed since it was written" in err


def test_a_snapshot_is_exported_like_a_store(desk: Desk, frozen: Path) -> None:
    code, _, err = run(desk, "data", "export", desk.folder / "one", "--store", frozen)
    assert code == 0, err
    assert desk.run("data", "export", desk.folder / "two")[0] == 0
    one, two = (
        json.loads((desk.folder / name / "manifest.json").read_text()) for name in ("one", "two")
    )
    assert one["files"] == two["files"]


def test_surfaces_of_a_snapshot_are_fitted_and_not_stored(desk: Desk) -> None:
    chain_store(desk.folder, chain_rows()).close()
    (desk.folder / "market.duckdb").rename(desk.store)
    desk.write_config({"market": CHAIN_MARKET})
    assert desk.run("data", "snapshot", NAME)[0] == 0
    folder = desk.folder / "out" / "snapshots" / NAME
    from_store = json.loads(desk.run("data", "surface", desk.config, "--json")[1])
    desk.store.unlink()
    name_snapshot(desk)
    before = (folder / "store.duckdb").read_bytes()
    code, out, err = run(desk, "data", "surface", desk.config, "--json")
    assert code == 0, err
    assert json.loads(out) == from_store
    code, out, err = run(desk, "data", "verify", "--store", folder)
    assert "not stored: a snapshot never changes" in out + err
    assert code == 0, err
    assert (folder / "store.duckdb").read_bytes() == before
