from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from backtest.errors import ConfigError, RemarginError
from experiments.config import RunConfig, config_from, load_config
from tests.experiments import small_study

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DAY = 86_400_000
START_2024 = 1_704_067_200_000


def refused(**changes: Any) -> str:
    with pytest.raises(RemarginError) as caught:
        config_from(small_study.raw(**changes), Path("mine.yaml"))
    sentence = str(caught.value)
    assert sentence.startswith("mine.yaml: ")
    assert "\n" not in sentence
    return sentence.removeprefix("mine.yaml: ")


@pytest.mark.parametrize(
    "path",
    [CONFIGS / "demo.yaml", *sorted(CONFIGS.glob("real/*.yaml")), *CONFIGS.glob("studies/*.yaml")],
    ids=lambda path: path.stem,
)
def test_every_shipped_config_loads_and_can_be_searched(path: Path) -> None:
    config = load_config(path)
    dimensions, windows = config.searched()
    assert dimensions
    assert windows.search[1] <= windows.holdout[0]
    assert config.question.endswith("?")


def test_ftx_lies_in_the_hold_out_of_the_recorded_perpetuals() -> None:
    from backtest.units import parse_utc_ms

    windows = load_config(CONFIGS / "real" / "perps-2020-2024.yaml").searched()[1]
    assert windows.holdout[0] <= parse_utc_ms("2022-11-08") < windows.holdout[1]


def test_a_last_day_belongs_to_its_window_and_a_last_instant_ends_it() -> None:
    windows = small_study.config().searched()[1]
    assert windows.search == (START_2024, START_2024 + 15 * DAY)
    timed = {"search": ["2024-01-01", "2024-01-15T00:00"], "holdout": ["2024-01-15", "2024-01-20"]}
    config = small_study.config(windows=timed)
    assert config.searched()[1].search == (START_2024, START_2024 + 14 * DAY)


def test_the_raw_values_load_to_the_same_config_even_through_yaml() -> None:
    config = small_study.config()
    again = config_from(yaml.safe_load(yaml.safe_dump(config.raw)), Path("again.yaml"))
    assert again.resolved() == config.resolved()
    assert again.digest == config.digest


def test_the_digest_sees_meaning_and_not_spelling() -> None:
    config = small_study.config()
    assert small_study.config(incumbent={"policy": "fixed", "rate": 0.04}).digest == config.digest
    assert small_study.config(incumbent={"policy": "fixed", "rate": 0.05}).digest != config.digest


def test_a_config_cannot_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        small_study.config().trials = 3


def test_an_out_of_range_knob_names_field_value_unit_and_a_likely_one() -> None:
    sentence = refused(candidate={"policy": "volatility", "multiplier": 40})
    assert sentence == (
        "candidate.multiplier: 40 is above the highest allowed value, 12 sigmas. Did you mean 4.0?"
    )


def test_an_out_of_range_rule_of_the_venue_names_the_bound() -> None:
    sentence = refused(venue={"margin_call": {"level": 50}})
    assert sentence == (
        "venue.margin_call.level: 50 is above the highest allowed value, 10. Did you mean 5.0?"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trails": 5}, "trails: there is no such key. Did you mean 'trials'?"),
        (
            {"venue": {"liquidation": {"penality": "1%"}}},
            "venue.liquidation.penality: there is no such key. Did you mean 'penalty'?",
        ),
        (
            {"incumbent": "fixd"},
            "incumbent.policy: there is no policy 'fixd'. Did you mean 'fixed'?",
        ),
        (
            {"candidate": {"policy": "volatilty", "multiplier": {"search": [2, 8]}}},
            "candidate.policy: there is no policy 'volatilty'. Did you mean 'volatility'?",
        ),
        ({"trials": 0}, "trials: 0 is below the lowest allowed value, 1."),
        ({"minimise": "breaches"}, "give either objectives or minimise, not both"),
        ({"objectives": ["coverag"]}, "objectives: there is no metric 'coverag'. Did you mean"),
        ({"book": {}}, "book: write either generate: {...} or import: FOLDER"),
        ({"windows": {"search": ["2024-01-01", "2024-01-15"]}}, "windows.holdout: is missing"),
        (
            {"windows": {"search": ["2024-01-01", "2024-01-15"],
                         "holdout": ["2024-01-15", "2024-01-20"]}},
            "windows: search and holdout overlap",
        ),
        (
            {"windows": {"search": ["2023-01-01", "2023-01-15"],
                         "holdout": ["2024-01-16", "2024-01-20"]}},
            "windows.search: lies outside market.start to market.end",
        ),
        (
            {"windows": {"search": ["2024-01-15", "2024-01-01"],
                         "holdout": ["2024-01-16", "2024-01-20"]}},
            "windows.search: the window ends, 2024-01-01, before it starts, 2024-01-15",
        ),
        (
            {"venue": {"fees": {"taker": {"search": ["0.01%", "0.1%"]}}}},
            "venue.fees.taker: a searched venue rule needs start",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_the_nearest_valid_choice(
    changes: dict[str, Any], sentence: str
) -> None:
    assert refused(**changes).startswith(sentence)


def test_a_search_without_leaves_names_the_knobs_that_could_be_searched() -> None:
    config = small_study.config(candidate={"policy": "volatility"})
    with pytest.raises(ConfigError, match=r"nothing is searched.*multiplier, horizon, floor"):
        config.searched()


def test_a_search_without_windows_is_refused_and_a_replay_is_not() -> None:
    config = small_study.config(windows=None)
    assert config.candidate_policy().identity()["multiplier"] == 3.0
    with pytest.raises(ConfigError, match="windows: is missing"):
        config.searched()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("- 1", "a config is a mapping"), ("a: [1", "is not readable as YAML"), ("", "a config is")],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=sentence):
        load_config(path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such config file"):
        load_config("nowhere.yaml")


def test_searched_numbers_start_where_the_config_says() -> None:
    config: RunConfig = small_study.config()
    identity = config.candidate_policy().identity()
    assert identity["multiplier"] == 3.0
    assert identity["floor"] == pytest.approx(0.0275)


def test_a_range_that_leaves_a_knobs_bounds_is_refused_before_any_data_is_read() -> None:
    said = refused(candidate={"policy": "fixed", "rate": {"search": [0.01, 3.0], "start": 0.05}})
    assert said.startswith("candidate.rate: 3.0 is above the highest allowed value, 100%")


@pytest.mark.parametrize(
    ("venue", "said"),
    [
        ({"insurance_fund": {"start_usd": float("inf")}}, "inf must be a finite number."),
        ({"insurance_fund": {"start_usd": "1e400"}}, "'1e400' must be a finite number."),
        ({"oracle": {"latency": "1e400d"}}, "'1e400' must be a finite number."),
    ],
)
def test_an_infinite_amount_or_time_is_refused(venue: dict[str, Any], said: str) -> None:
    assert said in refused(venue=venue)


def test_a_bare_year_is_not_taken_for_milliseconds() -> None:
    market = {**small_study.raw()["market"], "start": 2020}
    assert "2020 is not a date; write 2022-11-01" in refused(market=market)


def test_an_objective_that_stands_there_twice_is_refused() -> None:
    said = refused(objectives=["capital_efficiency", "capital_efficiency"])
    assert said == "objectives: capital_efficiency stands there twice."
