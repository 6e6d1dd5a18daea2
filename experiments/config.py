"""The study config: one YAML file that a governance analyst can read aloud.

A config holds specs as they are written, searched leaves included. What is made of them
(policies, venue rules, search space, goal) is built and checked when the file is loaded, so
that a mistake is one sentence now and not a traceback in an hour.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from backtest.cascade import refuse_without_feedback
from backtest.errors import ConfigError, RemarginError
from backtest.generate import BookSpec
from backtest.metrics import CASCADE
from backtest.mistakes import first_mistake
from backtest.units import MS_PER_DAY, parse_utc_ms
from backtest.venue import VenueRules
from backtest.yaml_files import read_yaml
from data_ingest.spec import MarketSpec
from optimize.goal import Goal, make_goal
from optimize.space import Dimension, Value, corners, fill, find_dimensions, searchable_knobs
from optimize.study import Spec, Window, load_venue
from strategies.contract import MarginPolicy
from strategies.registry import full_name, load_policy, policy_class

if TYPE_CHECKING:
    from collections.abc import Mapping

OBJECTIVES = ("capital_efficiency", "residual_bad_debt_bps")


def _window(value: Any) -> Any:
    """Read ``[first, last]``; a last day without a time of day belongs to the window."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("write a window as [first day, last day]")
    first, last = parse_utc_ms(value[0]), parse_utc_ms(value[1])
    whole_day = (isinstance(value[1], date) and not isinstance(value[1], datetime)) or (
        isinstance(value[1], str) and len(value[1].strip()) == len("2022-10-31")
    )
    if whole_day:
        last += MS_PER_DAY
    if last <= first:
        raise ValueError(f"the window ends, {value[1]}, before it starts, {value[0]}")
    return first, last


DayWindow = Annotated[tuple[int, int], BeforeValidator(_window)]
"""A half-open range in milliseconds UTC, written as first and last day."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Windows(_Frozen):
    """What is searched, and what the search never sees."""

    search: DayWindow
    holdout: DayWindow

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.search[0] < self.holdout[1] and self.holdout[0] < self.search[1]:
            raise ValueError("search and holdout overlap; the hold-out must be unseen")
        return self


class BookSource(_Frozen):
    """Accounts that are generated, or the folder of a recorded book; exactly one."""

    generate: BookSpec | None = None
    recorded: str | None = Field(None, alias="import")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.generate is None) == (self.recorded is None):
            raise ValueError("write either generate: {...} or import: FOLDER")
        return self


class RunConfig(_Frozen):
    """One question about one market, and how to answer it.

    Parameters
    ----------
    name
        Short name; runs are listed under it.
    question
        What is voted on, as a sentence.
    market
        Which market, from which exchange, over which window.
    store
        DuckDB file; the workspace's own if not given.
    book
        Generated or recorded accounts.
    venue
        Rules of enforcement; searched leaves need a ``start``, today's value.
    incumbent, candidate
        Policy specs; the candidate's searched leaves make the space.
    objectives
        Metrics, the leading one first; or ``minimise`` a single one.
    constraints, subject_to
        Limits by metric, such as ``coverage: ">= 99%"``; two words for one thing.
    windows
        Search and hold-out; compulsory for a search.
    trials, batch, seed
        Candidates in all, candidates asked for at a time, and the seed of everything.
    """

    name: str = Field(min_length=1)
    question: str = Field("Should the proposed margin policy replace the current one?")
    market: MarketSpec
    store: str | None = None
    book: BookSource
    venue: dict[str, Any] = Field(default_factory=dict)
    incumbent: Spec
    candidate: Spec
    objectives: tuple[str, ...] | None = None
    minimise: str | None = None
    constraints: dict[str, Any] = Field(default_factory=dict)
    subject_to: dict[str, Any] = Field(default_factory=dict)
    windows: Windows | None = None
    trials: int = Field(64, ge=1, le=100_000)
    batch: int = Field(8, ge=1, le=1_024)
    seed: int = Field(0, ge=0, lt=2**63)

    _file: Path = PrivateAttr(default=Path("config"))
    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if self.minimise is not None and self.objectives is not None:
            raise ValueError("give either objectives or minimise, not both")
        return self

    @property
    def file(self) -> Path:
        """Where it was read from."""
        return self._file

    @property
    def raw(self) -> dict[str, Any]:
        """The YAML as plain JSON values, enough to load the config again."""
        return self._raw

    @property
    def digest(self) -> str:
        """Sha256 of the canonical JSON of everything it resolves to, defaults included."""
        return hashlib.sha256(canonical_json(self.resolved()).encode()).hexdigest()

    def resolved(self) -> dict[str, Any]:
        """Return the config with every default written out."""
        return {
            **self.model_dump(mode="json", by_alias=True, exclude={"store"}),
            "incumbent": self.incumbent_policy().identity(),
            "candidate_start": self.candidate_policy().identity(),
            "venue_start": self.venue_rules().model_dump(mode="json"),
        }

    def dimensions(self) -> tuple[Dimension, ...]:
        """Return the search space: leaves of the candidate, then of the venue."""
        return (
            *find_dimensions(
                self.candidate, "candidate", policy_class(self.candidate, "candidate")
            ),
            *find_dimensions(self.venue, "venue", VenueRules),
        )

    def goal(self) -> Goal:
        """Return objectives and limits."""
        limits = {**self.constraints, **self.subject_to}
        where = "subject_to" if self.subject_to else "constraints"
        objectives = self.objectives or (() if self.minimise else OBJECTIVES)
        return make_goal(objectives, self.minimise, limits, where)

    def incumbent_policy(self) -> MarginPolicy:
        """Build the policy in force."""
        return load_policy(self.incumbent, "incumbent")

    def candidate_policy(self, values: Mapping[str, Value] | None = None) -> MarginPolicy:
        """Build the candidate; each searched number that is not given takes its start value."""
        spec = fill(self.candidate, values or {}, self.dimensions(), "candidate")
        return load_policy(spec, "candidate")

    def venue_rules(self, values: Mapping[str, Value] | None = None) -> VenueRules:
        """Build the venue; each searched rule that is not given takes today's value."""
        return load_venue(fill(self.venue, values or {}, self.dimensions(), "venue"))

    def searched(self) -> tuple[tuple[Dimension, ...], Windows]:
        """Return what a search needs and a replay does not.

        Raises
        ------
        ConfigError
            If nothing is searched or the windows are missing.
        """
        dimensions = self.dimensions()
        if not dimensions:
            knobs = ", ".join(searchable_knobs(policy_class(self.candidate, "candidate")))
            raise ConfigError(
                f"{self.file}: candidate: nothing is searched; write {{search: [lowest, highest]}} "
                f"for one of {knobs}."
            )
        if self.windows is None:
            raise ConfigError(
                f"{self.file}: windows: is missing; a search needs search: [first day, last day] "
                "and holdout: [first day, last day]."
            )
        return dimensions, self.windows


def load_config(path: str | Path) -> RunConfig:
    """Read a study config and check everything that can be checked without data.

    Parameters
    ----------
    path
        A YAML file.

    Raises
    ------
    ConfigError
        One sentence with file, field, value and the nearest valid choice.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such config file.")
    return config_from(read_yaml(file), file)


def with_policy(
    config: RunConfig, name: str, role: Literal["incumbent", "candidate"], *, search: bool = False
) -> RunConfig:
    """Put another policy into a config, as if it had been written there.

    Parameters
    ----------
    config
        Read from a file or from plain values.
    name
        A policy as configs name it, a preset also without its prefix.
    role
        Which of the two policies is replaced.
    search
        Search every number that the policy's own class declares, between the bounds that it
        declares.

    Raises
    ------
    ConfigError
        As `load_config`; also if a search is wanted and the class declares no number.
    """
    spec: dict[str, Any] = {"policy": full_name(name)}
    if search:
        cls = policy_class(spec, role)
        own = [key for key in searchable_knobs(cls) if key in cls.__annotations__]
        if not own:
            raise ConfigError(f"{name} declares no number with bounds that could be searched.")
        spec |= {key: {"search": True} for key in own}
    return config_from({**config.raw, role: spec}, config.file)


def config_from(raw: Any, file: Path) -> RunConfig:
    """Build a config from plain values; ``file`` is named in messages and kept.

    Raises
    ------
    ConfigError
        As `load_config`.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: a config is a mapping of keys to values.")
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_mistake(error, '', RunConfig, raw)}") from None
    except RemarginError as error:
        raise type(error)(f"{file}: {error}") from None
    config._file = file
    config._raw = json.loads(json.dumps(raw, default=_iso))
    try:
        judged = config.goal().judged
        for dimension in config.dimensions():
            _refuse_venue_without_today(raw, dimension)
        venue = config.venue_rules()
        if CASCADE in judged:
            refuse_without_feedback(venue)
        config.incumbent_policy()
        config.candidate_policy()
        for corner in corners(config.dimensions()):
            config.candidate_policy(corner)
            config.venue_rules(corner)
    except RemarginError as error:
        raise type(error)(f"{file}: {error}") from None
    _refuse_outside(config)
    return config


def canonical_json(value: Any) -> str:
    """Write JSON in one way only: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _iso(value: Any) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise ConfigError(f"a config cannot hold {value!r}.")


def _refuse_venue_without_today(raw: dict[str, Any], dimension: Dimension) -> None:
    room, *keys = dimension.path.split(".")
    if room != "venue":
        return
    leaf = raw["venue"]
    for key in keys:
        leaf = leaf[key]
    if "start" not in leaf:
        raise ConfigError(
            f"{dimension.path}: a searched venue rule needs start: VALUE, today's value, "
            "because the incumbent is replayed with it."
        )


def _refuse_outside(config: RunConfig) -> None:
    if config.windows is None:
        return
    spans: dict[str, Window] = {
        "search": config.windows.search,
        "holdout": config.windows.holdout,
    }
    for name, (first, last) in spans.items():
        if last <= config.market.start or first >= config.market.end:
            raise ConfigError(
                f"{config.file}: windows.{name}: lies outside market.start to market.end."
            )
