from __future__ import annotations

import json
from pathlib import Path

import pytest

from backtest.units import MS_PER_HOUR
from data_ingest.snapshot import freeze
from data_ingest.store import DataStore
from tests.remargin.desk import Desk, bars


def fill(desk: Desk, *, lacking: int = 40) -> None:
    """Import four days of bars but two."""
    desk.write_data(bars()[:lacking] + bars()[lacking + 2 :])
    assert desk.import_data()[0] == 0


def stored(desk: Desk) -> list[tuple[str, str]]:
    with DataStore(desk.store, read_only=True) as store:
        return store.rows("SELECT rule, severity FROM findings ORDER BY rowid")


def test_findings_are_printed_by_rule_and_market_and_stored(desk: Desk) -> None:
    fill(desk)
    code, out, err = desk.run("data", "verify")
    assert code == 0
    assert "gap" in out
    assert "2 bars missing, 2 h from 2023-11-16 16:00 UTC." in out
    assert "0 errors, 1 warning, 1 note" in out
    assert stored(desk) == [("gap", "warning"), ("funding_unknown", "note")]
    assert "not stored" not in err


def test_a_verification_replaces_the_findings_of_the_one_before(desk: Desk) -> None:
    fill(desk)
    desk.run("data", "verify")
    desk.write_data(bars())
    desk.import_data()
    code, out, _ = desk.run("data", "verify")
    assert code == 0
    assert "0 errors, 0 warnings, 1 note" in out
    assert stored(desk) == [("funding_unknown", "note")]


def test_an_error_ends_with_status_one(desk: Desk) -> None:
    fill(desk)
    with DataStore(desk.store) as store:
        store.connection.execute("UPDATE candles SET close = -close WHERE open_ms % 86400000 = 0")
    code, out, _ = desk.run("data", "verify")
    assert code == 1
    assert "close is -" in out
    assert ("stored_row", "error") in stored(desk)


def test_json_holds_every_finding_with_its_place(desk: Desk) -> None:
    fill(desk)
    code, out, err = desk.run("data", "verify", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["errors"], told["warnings"], told["notes"], told["rows"]) == (0, 1, 1, 94)
    gap = told["findings"][0]
    assert (gap["rule"], gap["severity"], gap["market"]) == ("gap", "warning", "BTC/USDT:USDT")
    assert gap["end_ms"] - gap["start_ms"] == 2 * MS_PER_HOUR


def test_a_read_only_store_is_verified_and_left_as_it_is(desk: Desk) -> None:
    fill(desk)
    desk.store.chmod(0o444)
    before = desk.store.read_bytes()
    code, out, err = desk.run("data", "verify")
    assert code == 0
    assert "1 warning" in out
    assert "not stored: the store is read-only" in err
    assert desk.store.read_bytes() == before


def test_a_snapshot_is_verified_like_its_store_and_left_as_it_is(desk: Desk) -> None:
    fill(desk)
    desk.run("data", "verify")
    frozen = desk.folder / "frozen"
    freeze(desk.store, frozen)
    _, of_store, _ = desk.run("data", "verify", "--json")
    before = (frozen / "store.duckdb").read_bytes()
    desk.store = frozen
    code, out, err = desk.run("data", "verify", "--json")
    assert code == 0
    assert json.loads(out)["findings"] == json.loads(of_store)["findings"]
    assert "not stored: a snapshot never changes" in err
    assert (frozen / "store.duckdb").read_bytes() == before


def test_a_config_limits_the_verification_to_its_markets(desk: Desk) -> None:
    fill(desk)
    market = {
        "exchange": "binanceusdm", "assets": ["ETH"], "start": "2023-11-15", "end": "2023-11-19",
        "clock": "1h", "max_gap": "3h", "depth": {"usd": {"ETH": "40M"}},
    }  # fmt: skip
    desk.write_config({"market": market})
    code, out, err = desk.run("data", "verify", "--config", desk.config)
    assert code == 0
    assert "0 errors, 0 warnings, 0 notes" in out
    assert "not stored" in err
    assert stored(desk) == []


def test_the_page_holds_findings_and_coverage_and_needs_nothing_else(desk: Desk) -> None:
    fill(desk)
    page = desk.folder / "pages" / "quality.html"
    code, _, _ = desk.run("data", "verify", "--html", page)
    text = page.read_text()
    assert code == 0
    assert "2 bars missing, 2 h from 2023-11-16 16:00 UTC." in text
    assert text.count('<rect class="held"') == 2
    assert text.count('<rect class="lost"') == 1
    assert "src=" not in text
    assert "href=" not in text


@pytest.mark.parametrize("columns", [80, 100])
def test_the_tables_fit_the_screen(
    desk: Desk, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    fill(desk)
    _, out, _ = desk.run("data", "verify")
    assert max(map(len, out.splitlines())) <= columns


def test_a_store_without_data_is_refused_in_one_sentence(desk: Desk, tmp_path: Path) -> None:
    assert "there is no store at" in desk.refuses("data", "verify")
    DataStore(desk.store).close()
    assert "is empty" in desk.refuses("data", "verify")
