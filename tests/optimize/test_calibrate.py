from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backtest.errors import ConfigError
from backtest.generate import BookSpec, preset_names
from backtest.generator.spec import Fact, Target
from backtest.tape import MarketTape
from optimize.calibrate import calibrate_book, still_market
from optimize.preset_file import write_preset
from tests.tapes import make_tape


def aim(value: float, tolerance: float) -> dict[str, Any]:
    return {"value": value, "tolerance": tolerance, "source": "test"}


FACTS = {
    "gini of intended notional": aim(0.9, 0.04),
    "correlation of log equity and log leverage": aim(-0.4, 0.1),
    "notional below 3x": aim(0.4, 0.1),
}


def far_off(**changes: Any) -> BookSpec:
    """Accounts that agree with none of the facts."""
    return BookSpec.model_validate(
        {
            "accounts": 200,
            "gini": 0.75,
            "top_percent_share": 0.2,
            "size_leverage_correlation": 0.2,
            "targets": FACTS,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def still() -> MarketTape:
    return still_market(days=20)


def test_a_calibration_finds_settings_that_show_the_published_facts(still: MarketTape) -> None:
    told = []
    found = calibrate_book(
        far_off(),
        tape=still,
        trials=60,
        books=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert found.start_distance > 4.0
    assert found.distance < 1.0
    assert told == [(n, 60) for n in range(1, 61)]
    for name in FACTS:
        row = found.fit[name]
        assert row.target is not None
        assert row.achieved == pytest.approx(row.target, abs=1.5 * found.fit.published[name])
    assert found.spec.sources["gini"] == "calibrated to the targets"


def test_the_same_calibration_gives_the_same_settings_and_another_seed_others(
    still: MarketTape,
) -> None:
    def settings(seed: int, spec: BookSpec) -> dict[str, Any]:
        found = calibrate_book(spec, tape=still, trials=6, books=1, seed=seed)
        return found.spec.model_dump(exclude={"seed"})

    assert settings(1, far_off()) == settings(1, far_off())
    assert settings(1, far_off()) != settings(2, far_off())
    # A spec's own seed is that of its book, not of the search.
    assert settings(1, far_off(seed=5)) == settings(1, far_off())


def test_a_calibration_is_never_worse_than_where_it_starts(still: MarketTape) -> None:
    spec = far_off()
    once = calibrate_book(spec, tape=still, trials=1, books=1)
    assert once.spec == spec
    assert once.distance == once.start_distance
    more = calibrate_book(spec, tape=still, trials=4, books=1)
    assert more.distance <= more.start_distance == once.distance


def test_what_no_target_speaks_about_stays_as_it_is(still: MarketTape) -> None:
    spec = far_off(targets={"correlation of log equity and log leverage": aim(-0.4, 0.01)})
    found = calibrate_book(spec, tape=still, trials=12, books=1)
    assert found.spec.size_leverage_correlation != spec.size_leverage_correlation
    changed = {"size_leverage_correlation", "sources"}
    assert found.spec.model_dump(exclude=changed) == spec.model_dump(exclude=changed)


def test_targets_that_are_given_replace_those_of_the_spec(still: MarketTape) -> None:
    spec = far_off()
    kept: dict[Fact, Target] = {"notional below 3x": spec.targets["notional below 3x"]}
    found = calibrate_book(spec, kept, tape=still, trials=2, books=1)
    assert set(found.spec.targets) == set(kept)
    assert found.spec.gini == spec.gini


def test_options_are_calibrated_on_a_market_that_lists_them() -> None:
    facts = {"gini of intended notional": aim(0.85, 0.02)}
    options = {"options, share of notional x time": aim(0.7, 0.01)}
    spec = far_off(preset="options-desk", targets=facts | options)
    market = make_tape(300, volume_usd=1e9)
    plain = calibrate_book(spec, {k: spec.targets[k] for k in spec.targets if k in facts},
                           tape=market, trials=1, books=1)  # fmt: skip
    both = calibrate_book(spec, tape=market, trials=1, books=1)
    assert both.distance != plain.distance
    without = calibrate_book(spec, tape=still_market(days=12), trials=1, books=1)
    assert without.fit["options, share of notional x time"].target is None


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        ({}, "there is nothing to calibrate to"),
        (
            {"longs, share of open interest": aim(0.5, 0.1)},
            "no setting answers to longs, share of open interest",
        ),
    ],
)
def test_targets_that_move_nothing_are_refused(
    still: MarketTape, targets: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        calibrate_book(far_off(targets=targets), tape=still, trials=1, books=1)


@pytest.mark.parametrize("preset", preset_names())
def test_a_preset_that_was_written_is_read_back_as_it_was(preset: str, tmp_path: Path) -> None:
    spec = BookSpec.model_validate(
        {
            "preset": preset,
            "schemes": {"cross": "25%", "isolated": "75%"},
            "coin_collateral": {"accounts": "10%", "part": "40%"},
            "resting": {"share": "20%", "life": "90min"},
            "open_interest_usd": "40M",
        }
    )
    file = tmp_path / "own.yaml"
    write_preset(spec, file, "Made by a test")
    back = BookSpec.model_validate({"preset": str(file)})
    assert back.model_dump(exclude={"preset"}) == spec.model_dump(exclude={"preset"})
    assert file.read_text().startswith("# Made by a test\nmedian_equity_usd: ")
    with pytest.raises(ConfigError, match=r"own\.yaml: exists; choose another name"):
        write_preset(spec, file, "Made again")


def test_a_preset_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_preset(far_off(), tmp_path / "nowhere" / "own.yaml", "x")
