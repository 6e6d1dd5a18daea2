"""A user's mistake is answered in one sentence, with exit code 2 and without a traceback."""

from __future__ import annotations

import json

import pytest

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from remargin.__main__ import main
from tests.remargin.desk import CHAIN, HOURS, QUOTE, START, Desk, bars


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


@pytest.mark.parametrize(
    ("venue", "sentence"),
    [
        (
            {"liquidation": {"keepers": {"capasity": 3}}},
            "venue.liquidation.keepers.capasity: there is no such key. Did you mean 'capacity'?",
        ),
        (
            {"liquidation": {"keepers": {"outages": [["2023-11-16T11:00", "2023-11-16T10:00"]]}}},
            "venue.liquidation.keepers.outages: [[2023-11-16T11:00, 2023-11-16T10:00]]: must end "
            "after it starts.",
        ),
        (
            {"liquidation": {"mode": "step_down"}},
            "venue.liquidation: mode step_down needs brackets.",
        ),
        ({"circuit_breaker": {}}, "venue.circuit_breaker.move: is missing."),
        (
            {"liquidation": {"impact": {"feedback": {"half_life": 30}}}},
            "venue.liquidation.impact.feedback.half_life: 30 has no unit; write a duration such as "
            "30s, 1h or 3d.",
        ),
    ],
)
def test_a_mistake_deep_in_the_venue_is_named_with_its_whole_place(
    desk: Desk, venue: dict[str, object], sentence: str
) -> None:
    desk.write_config({"venue": venue})
    assert desk.refuses("replay", desk.config).strip().endswith(sentence)


@pytest.mark.parametrize(
    ("venue", "place"),
    [
        ({"collateral": {"BTX": {"haircut": "5%"}}}, "venue.collateral"),
        ({"insurance_fund": {"market_cap_usd": {"BTX": "1M"}}}, "venue.insurance_fund.market_cap"),
    ],
)
def test_a_rule_for_a_coin_that_the_tape_lacks_is_refused(
    desk: Desk, venue: dict[str, object], place: str
) -> None:
    desk.write_data(bars())
    desk.import_data()
    desk.write_config({"venue": venue})
    said = desk.refuses("replay", desk.config)
    assert place in said
    assert "names 'BTX', which the tape lacks" in said


def test_a_cascade_without_feedback_is_refused_before_any_replay(desk: Desk) -> None:
    desk.write_config({"constraints": {"cascade_multiplier": "<= 2"}})
    said = desk.refuses("replay", desk.config)
    assert "venue.liquidation.impact.feedback, which is off" in said


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


def test_a_negative_price_is_refused_with_file_row_field_value_and_unit(desk: Desk) -> None:
    rows = bars()
    rows[7][3] = -1.0
    desk.write_data(rows)
    said = desk.refuses("data", "import", desk.config, "--data", desk.folder)
    assert "candles.csv" in said
    assert "row 8" in said
    assert "low is -1.0 USD; it must be above 0" in said


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


def test_a_store_that_was_cut_off_is_named_without_a_traceback(desk: Desk) -> None:
    desk.write_data(bars())
    desk.import_data()
    with desk.store.open("r+b") as file:
        file.truncate(desk.store.stat().st_size // 3)
    said = desk.refuses("data", "status")
    assert str(desk.store) in said


def test_an_interrupted_query_ends_as_ctrl_c_does(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise RuntimeError("Query interrupted")

    desk.write_data(bars())
    monkeypatch.setattr("data_ingest.recorded.import_recorded", interrupted)
    code, _, err = desk.run("data", "import", desk.config, "--data", desk.folder)
    assert (code, err) == (130, "")
