from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from backtest.book_files import load_book
from backtest.generate import BookSpec
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from remargin.__main__ import main
from tests.remargin.desk import Desk, bars

ADDRESSES = ["0x" + hashlib.sha256(bytes([i])).hexdigest()[:40] for i in range(4)]


def say(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run a command that knows no store."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_a_preset_is_calibrated_and_written_as_another(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "own.yaml"
    words = ("book", "calibrate", "retail-isolated", "--trials", "1", "--out", out)
    code, said, _ = desk.run(*words)
    assert code == 0
    assert "stands still" in said
    assert "below 1 a typical target" in said
    assert "leverage, mean by notional" in said
    first = out.read_text().splitlines()[0]
    assert first == (
        "# Made by: remargin book calibrate retail-isolated --trials 1 --books 3 --seed 0"
    )
    # One trial is the settings as they were given.
    given = BookSpec.model_validate({"preset": "retail-isolated"})
    back = BookSpec.model_validate({"preset": str(out)})
    assert back.model_dump(exclude={"preset"}) == given.model_dump(exclude={"preset"})
    assert "own.yaml: exists; choose another name" in desk.refuses(*words)


def test_a_config_is_calibrated_on_its_own_market_from_its_own_accounts(desk: Desk) -> None:
    desk.write_data(bars())
    desk.import_data()
    code, said, _ = desk.run("book", "calibrate", desk.config, "--trials", "2", "--json")
    told = json.loads(said)
    assert code == 0
    assert told["trials"] == 2
    assert told["distance"] <= told["start_distance"]
    assert told["spec"]["accounts"] == 20
    facts = {row["name"]: row for row in told["fit"]}
    assert facts["accounts"]["achieved"] == 20
    assert facts["hill index of equity"]["target"] == 0.78


def test_what_cannot_be_calibrated_is_refused(desk: Desk) -> None:
    assert "Did you mean 'retail-isolated'?" in desk.refuses("book", "calibrate", "retail-isolatd")
    desk.write_config({"book": {"import": "accounts"}})
    said = desk.refuses("book", "calibrate", desk.config)
    assert "book.import: observed accounts are not calibrated" in said
    own = desk.folder / "own.yaml"
    own.write_text(yaml.safe_dump({"gini": 2}))
    assert "own.yaml" in desk.refuses("book", "calibrate", own)


def test_public_accounts_become_a_recorded_book(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "addresses.txt"
    listed.write_text("\n".join(["# four of them", *ADDRESSES]))
    out = tmp_path / "book"
    span = MarketParameters(start="2024-01-01", end="2024-01-20")
    with ExchangeSimulator(span) as simulator:
        words = ("book", "pull", "--addresses", listed, "--out", out, "--simulator", simulator.url)
        code, said, _ = say(capsys, *words, "--json")
        told = json.loads(said)
        assert code == 0
        book = load_book(out)
        assert (book.digest, len(book)) == (told["digest"], told["accounts"])
        assert book.mode == "recorded"
        assert "of 4 addresses of exchange simulator (hyperliquid)" in book.origin
        assert ADDRESSES[0] in {*told["aside"], *_names(out)}
        asked = simulator.requests
        code, _, error = say(capsys, *words)
        assert code == 2
        assert "is not an empty folder" in error
        # Nothing is asked for before it is known where to put it.
        assert simulator.requests == asked


def _names(folder: Path) -> set[str]:
    from pyarrow import parquet

    accounts = parquet.read_table(folder / "accounts.parquet")["account"].to_pylist()
    return {name.partition(" ")[0] for name in accounts}


def test_an_exchange_that_shows_no_accounts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "addresses.txt"
    listed.write_text(ADDRESSES[0])
    words = ("book", "pull", "--addresses", listed, "--out", tmp_path / "book")
    code, _, error = say(capsys, *words, "--exchange", "deribit")
    assert code == 2
    assert "'deribit' shows no public accounts" in error
    assert not (tmp_path / "book").exists()
