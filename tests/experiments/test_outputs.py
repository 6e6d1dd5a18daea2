"""What a run keeps adds up, reads back to the bit, and is what the document says it is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from backtest.errors import RunError
from backtest.kernels.records import LEDGER_NAMES
from backtest.reference import replay_reference
from backtest.replay import replay
from backtest.rules.waterfall import SocialisedLoss
from backtest.venue import VenueRules
from experiments.archive import load_result, save_result, stored_arrays
from experiments.outputs import COLUMNS, SCHEMES, TABLES
from tests.backtest.cases import gross_policy, random_book
from tests.tapes import make_tape

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.result import ReplayResult

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "outputs.md"
VENUE = VenueRules(
    oracle={"heartbeat": "30min", "outages": [["2024-01-02", "2024-01-02T03:00"]]},
    collateral={"BTC": {"haircut": "5%", "peg": {"usd": 40_000}}},
    circuit_breaker={"move": "30%", "window": "1h"},
    liquidation={"mode": "full", "backstop": {"below": "50%"}, "impact": {"at_depth": "20%"}},
    insurance_fund={"start_usd": 0, "market_cap_usd": {"ETH": "1k"}},
    auto_deleveraging={"mode": "queue"},
)


@pytest.fixture(scope="module")
def played() -> tuple[ReplayResult, AccountBook]:
    tape = make_tape(rows=24 * 6, seed=8, volatility=3.0, jump_share=0.1)
    book = random_book(tape, 8, accounts=40, groups=160, plain=False)
    return replay(tape, book, gross_policy(0.03), VENUE), book


def columns_of(table: str) -> list[str]:
    """List the columns that the document names for a table."""
    text = DOCUMENT.read_text(encoding="utf-8")
    part = text.split(f"## `NAME.{table}.parquet`")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| [\w ]+ \| .+ \|$", part, re.MULTILINE)


@pytest.mark.parametrize("table", TABLES)
def test_the_document_names_every_column_in_order(table: str) -> None:
    assert columns_of(table) == list(COLUMNS[table])


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_columns_that_are_documented(
    played: tuple[ReplayResult, AccountBook], table: str, tmp_path: Path
) -> None:
    save_result(*played, tmp_path)
    assert pq.read_schema(tmp_path / f"replay.{table}.parquet").names == list(COLUMNS[table])


def test_a_result_with_every_kind_of_event_reads_back_to_the_bit(
    played: tuple[ReplayResult, AccountBook], tmp_path: Path
) -> None:
    result, book = played
    assert len(result.adl_log) > 0
    assert set(result.liquidation_log["kind"]) == {0, 1}
    assert set(result.liquidation_log["side"]) == {-1, 1}
    save_result(result, book, tmp_path)
    again = load_result(tmp_path)
    assert again.venue == result.venue
    assert again.ts.tobytes() == result.ts.tobytes()
    assert again.adl_log.tobytes() == result.adl_log.tobytes()
    assert again.liquidation_log.tobytes() == result.liquidation_log.tobytes()
    stored = stored_arrays(again)
    for ending, arrays in stored_arrays(result).items():
        for key, values in arrays.items():
            assert stored[ending][key].tobytes() == np.ascontiguousarray(values).tobytes()


def test_the_same_result_is_written_to_the_same_bytes(
    played: tuple[ReplayResult, AccountBook], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        save_result(*played, tmp_path / name)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_accounts_are_named_and_their_rows_add_up(
    played: tuple[ReplayResult, AccountBook], tmp_path: Path
) -> None:
    result, book = played
    save_result(result, book, tmp_path)
    table = pq.read_table(tmp_path / "replay.accounts.parquet").to_pydict()
    assert table["account"] == list(range(len(book)))
    assert table["scheme"] == [SCHEMES[code] for code in book.scheme]
    assert len(set(table["scheme"])) == 3
    for n in range(len(book)):
        assert sum(table[key][n] for key in LEDGER_NAMES) == pytest.approx(table["left_usd"][n])
    series = result.series
    for key, sign in (
        ("gross_bad_debt_usd", 1.0),
        ("adl_usd", -1.0),
        ("socialised_usd", -1.0),
        ("deposits_usd", 1.0),
    ):
        column = key.replace("gross_", "")
        assert sum(table[column]) == pytest.approx(sign * series[key].sum())
        assert series[key].sum() > 0.0 or key == "socialised_usd"


def test_an_account_in_dollars_that_ends_without_positions_has_nothing_left() -> None:
    tape = make_tape(rows=24 * 6, seed=8, options=False, inverse=False, volatility=3.0)
    book = random_book(tape, 8, accounts=40, groups=160)
    book = replace(book, collateral_currency=np.zeros(40, np.int64))
    result = replay(tape, book, gross_policy(0.03), VENUE)
    world = replay_reference(tape, book, gross_policy(0.03), VENUE)[2].world
    flat = [n for n, account in enumerate(world.accounts) if not account.positions]
    assert 3 < len(flat) < 40
    left = result.account_ledger.sum(axis=1)
    moved = np.abs(result.account_ledger).sum(axis=1)
    assert np.all(np.abs(left[flat]) <= 1e-12 * moved[flat])
    assert np.all(np.abs(np.delete(left, flat)) > 1.0)


@pytest.mark.parametrize("by", ["equity", "profit", "funding", "withdrawal"])
def test_residual_bad_debt_is_what_winners_and_others_paid_and_what_is_open(by: str) -> None:
    tape = make_tape(rows=24 * 6, seed=8, volatility=3.0, jump_share=0.1)
    book = random_book(tape, 8, accounts=40, groups=160, plain=False)
    venue = VENUE.model_copy(update={"socialised_loss": SocialisedLoss(by=by)})
    metrics = replay(tape, book, gross_policy(0.03), venue).metrics
    paid = metrics["adl_usd"] + metrics["socialised_usd"] + metrics["deficit_usd"]
    assert metrics["residual_bad_debt_usd"] == pytest.approx(paid, rel=1e-9)
    assert min(metrics["adl_usd"], metrics["socialised_usd"]) > 0.0
    assert (by == "withdrawal") <= (metrics["deficit_usd"] > 0.0)


def test_the_haircut_of_a_winner_is_what_was_taken_of_its_gain(
    played: tuple[ReplayResult, AccountBook], tmp_path: Path
) -> None:
    save_result(*played, tmp_path)
    rows = pq.read_table(tmp_path / "replay.deleveraging.parquet").to_pylist()
    for row in rows:
        assert 0.0 < row["taken_usd"] <= row["gain_usd"]
        assert row["share"] == pytest.approx(row["taken_usd"] / row["gain_usd"])
        assert row["asset"] in played[0].assets


def test_a_missing_table_is_one_sentence(
    played: tuple[ReplayResult, AccountBook], tmp_path: Path
) -> None:
    save_result(*played, tmp_path)
    (tmp_path / "replay.protocol.parquet").unlink()
    with pytest.raises(RunError, match=r"replay\.protocol\.parquet of the run cannot be read"):
        load_result(tmp_path)


def test_rules_of_another_version_are_one_sentence(
    played: tuple[ReplayResult, AccountBook], tmp_path: Path
) -> None:
    save_result(*played, tmp_path)
    path = tmp_path / "replay.json"
    path.write_text(path.read_text().replace('"circuit_breaker"', '"fuse"'))
    with pytest.raises(RunError, match=r"replay\.json of the run cannot be read: venue\.fuse"):
        load_result(tmp_path)
