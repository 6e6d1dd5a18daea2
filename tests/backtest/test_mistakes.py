from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backtest.mistakes import first_mistake
from backtest.rules.base import Windows
from backtest.units import DurationMs, Fraction, Usd


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Trader(Strict):
    share: Fraction = Field(0.5, gt=0.0, le=0.5)
    habits: dict[Literal["buys", "sells"], float] = Field(default_factory=dict)


class Fuse(Strict):
    wire: Literal["copper", "steel"]


class Venue(Strict):
    name: str = "venue"
    penalty: Fraction = Field(0.01, ge=0.0, le=0.2)
    delay: DurationMs | None = Field(None, ge=1_000)
    fund: Usd = Field(1e6, ge=0.0, le=1e9)
    mode: Literal["full", "partial"] = "full"
    levels: Annotated[int, Field(ge=1, le=300)] = 3
    first: int = 0
    last: int = 9
    source: str | None = Field(None, alias="import")
    traders: dict[str, Trader] = Field(default_factory=dict)
    tiers: list[Trader] = Field(default_factory=list)
    fuse: Fuse | None = None
    closed: Windows = ()

    @model_validator(mode="after")
    def _ordered(self) -> Venue:
        if self.first > self.last:
            raise ValueError("first must not follow last")
        return self


MISTAKES = [
    (
        {"penalty": "150%"},
        "venue.penalty: 150% is above the highest allowed value, 20%. Did you mean 15%?",
    ),
    (
        {"penalty": 1.5},
        "venue.penalty: 1.5 is above the highest allowed value, 20%. Did you mean 1.5%?",
    ),
    (
        {"delay": "10ms"},
        "venue.delay: 10ms is below the lowest allowed value, 1s. Did you mean 1s?",
    ),
    (
        {"fund": "5bn"},
        "venue.fund: 5bn is above the highest allowed value, 1bn USD. Did you mean 500M USD?",
    ),
    ({"mode": "ful"}, "venue.mode: 'ful' is not a choice. Did you mean 'full'?"),
    (
        {"levels": 1000},
        "venue.levels: 1000 is above the highest allowed value, 300. Did you mean 100?",
    ),
    ({"levels": "many"}, "venue.levels: 'many' must be a valid integer."),
    (
        {"first": 8, "last": 5},
        "venue: first must not follow last.",
    ),
    ({"imports": "x"}, "venue.imports: there is no such key. Did you mean 'import'?"),
    (
        {"traders": {"whales": {"share": 0}}},
        "venue.traders.whales.share: 0 is too low; it must be above 0%.",
    ),
    (
        {"traders": {"whales": {"shar": 0}}},
        "venue.traders.whales.shar: there is no such key. Did you mean 'share'?",
    ),
    (
        {"traders": {"whales": {"habits": {"buy": 1.0}}}},
        "venue.traders.whales.habits: 'buy' is not a choice. Did you mean 'buys'?",
    ),
    (
        {"tiers": [{"share": "90%"}]},
        "venue.tiers.0.share: 90% is above the highest allowed value, 50%. Did you mean 9%?",
    ),
    ({"delay": 30}, "venue.delay: 30 has no unit; write a duration such as 30s, 1h or 3d."),
    ({"fuse": {}}, "venue.fuse.wire: is missing."),
    (
        {"fuse": "thick"},
        "venue.fuse: thick must be a group of settings, such as fuse: {wire: steel}.",
    ),
    (
        {"traders": {"whales": "5%"}},
        "venue.traders.whales: 5% must be a group of settings.",
    ),
    (
        {"closed": [[date(2020, 3, 13), "2020-03-12"]]},
        "venue.closed: [[2020-03-13, 2020-03-12]]: must end after it starts.",
    ),
    (
        {"closed": ["2020-03-12"]},
        "venue.closed.0: 2020-03-12 must be a list in brackets, [first, second].",
    ),
]


@pytest.mark.parametrize(("written", "sentence"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_refused_value_is_one_sentence_with_its_place_and_a_likely_right_one(
    written: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Venue.model_validate(written)
    assert first_mistake(caught.value, "venue", Venue, written) == sentence


def test_a_whole_config_has_no_place() -> None:
    written = {"first": 8, "last": 5}
    with pytest.raises(ValidationError) as caught:
        Venue.model_validate(written)
    assert first_mistake(caught.value, "", Venue, written) == "first must not follow last."
