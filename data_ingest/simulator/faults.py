"""Requests that fail on purpose, in a known order, so that a client's recovery can be tested."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from backtest.errors import ConfigError
from backtest.mistakes import first_mistake
from backtest.units import UtcMs

FaultName = Literal[
    "403",
    "404",
    "418",
    "429",
    "451",
    "500",
    "502",
    "503",
    "504",
    "empty",
    "html",
    "malformed",
    "truncated",
    "reset",
    "timeout",
    "reversed_page",
    "repeated_page",
    "duplicated_rows",
    "stuck_cursor",
    "missing_rows",
    "missing_row",
    "other_end",
    "clock_skew",
]
FaultKind = Annotated[
    FaultName,
    # YAML and JSON read a status as a number.
    BeforeValidator(lambda kind: str(kind) if isinstance(kind, int) else kind),
]
FAULTS: tuple[str, ...] = get_args(FaultName)
STATUS_FAULTS = frozenset(name for name in FAULTS if name.isdigit())
BODY_FAULTS = frozenset({"empty", "html", "malformed", "truncated"})
PAGE_FAULTS = frozenset(
    {
        *("reversed_page", "repeated_page", "duplicated_rows", "stuck_cursor"),
        *("missing_rows", "missing_row", "other_end"),
    }
)

REPEATING_FAULTS = frozenset({"repeated_page", "stuck_cursor"})


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Model):
    """One kind of failure: which requests it hits, and how often.

    A request is one of this fault's if its path fits ``path`` and the simulator's clock stands
    in ``[since, until)``. Of those, number ``first`` fails, then every ``every``-th after it,
    ``times`` times in all.
    """

    kind: FaultKind = Field(description="how the request fails")
    path: str = Field(
        "*", description="path pattern, * matches anything; a posted question is /info/<type>"
    )
    first: int = Field(1, ge=1, description="number of the first such request that fails")
    every: int = Field(1, ge=1, description="then every n-th fails")
    times: int | None = Field(None, ge=0, description="failures in all; null: no end")
    since: UtcMs | None = Field(None, description="only from this time of the simulator's clock")
    until: UtcMs | None = Field(None, description="only before this time of that clock")
    retry_after_s: int = Field(1, ge=0, description="Retry-After header of a 429 or 418, seconds")
    hang_s: float = Field(
        12.0, gt=0, description="how long a timeout holds the line, seconds; ccxt waits 10"
    )
    skew_ms: int = Field(60_000, description="how far ahead a skewed clock is, milliseconds")


class FaultSchedule(_Model):
    """Everything that goes wrong; where two faults hit one request, the first listed wins.

    Examples
    --------
    >>> FaultSchedule(faults=(Fault(kind="502", path="*klines", first=3, times=2),)).faults[0].kind
    '502'
    """

    faults: tuple[Fault, ...] = Field((), description="what goes wrong")

    @classmethod
    def from_yaml(cls, path: Path) -> FaultSchedule:
        """Read a schedule from a YAML file with one key, ``faults``.

        Raises
        ------
        ConfigError
            If the file cannot be read or is not a schedule.
        """
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            said = " ".join(str(error).split())
            raise ConfigError(f"{path}: cannot be read as YAML: {said}.") from error
        return cls.parse(given, str(path))

    @classmethod
    def parse(cls, given: object, source: str) -> FaultSchedule:
        """Check what a file or a request holds.

        Raises
        ------
        ConfigError
            If it is not a schedule.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            if not isinstance(given, dict):
                raise ConfigError(f"{source}: write a mapping with the key faults.") from None
            raise ConfigError(f"{source}: {first_mistake(error, '', cls, given)}") from None


class FaultPlan(_Model):
    """Every n-th request fails, each kind in turn: the simplest schedule."""

    every: int = Field(3, ge=1, description="every n-th exchange request fails")
    kinds: tuple[FaultKind, ...] = Field(
        ("429", "502", "truncated", "empty", "malformed"), min_length=1
    )
    limit: int | None = Field(None, ge=0, description="stop after so many faults; null: never")
    retry_after_s: int = Field(1, ge=0, description="Retry-After header of a 429 or 418")

    @property
    def schedule(self) -> FaultSchedule:
        """Return the schedule that this plan is short for."""
        turns = len(self.kinds)
        return FaultSchedule(
            faults=tuple(
                Fault(
                    kind=kind,
                    first=self.every * (turn + 1),
                    every=self.every * turns,
                    times=None if self.limit is None else (self.limit + turns - 1 - turn) // turns,
                    retry_after_s=self.retry_after_s,
                )
                for turn, kind in enumerate(self.kinds)
            )
        )


class FiredFault(_Model):
    """One failure that happened: the number of the request, its path and its kind."""

    request: int
    path: str
    kind: FaultKind


class FaultDesk:
    """Hands out a schedule's faults as requests come in.

    Parameters
    ----------
    schedule
        What goes wrong.

    Attributes
    ----------
    fired : list of FiredFault
        What went wrong so far.
    needs_last_page : bool
        Whether a fault serves an answer again.
    """

    def __init__(self, schedule: FaultSchedule) -> None:
        self.schedule = schedule
        self.fired: list[FiredFault] = []
        self.needs_last_page = any(fault.kind in REPEATING_FAULTS for fault in schedule.faults)
        self._requests = 0
        self._matched = [0] * len(schedule.faults)
        self._failed = [0] * len(schedule.faults)

    def next(self, path: str, now_ms: int) -> Fault | None:
        """Return how a request fails, or None."""
        self._requests += 1
        chosen = None
        for place, fault in enumerate(self.schedule.faults):
            if not _meets(fault, path, now_ms):
                continue
            self._matched[place] += 1
            late = self._matched[place] - fault.first
            spent = fault.times is not None and self._failed[place] >= fault.times
            if chosen is None and late >= 0 and late % fault.every == 0 and not spent:
                self._failed[place] += 1
                chosen = fault
        if chosen is not None:
            self.fired.append(FiredFault(request=self._requests, path=path, kind=chosen.kind))
        return chosen


def _meets(fault: Fault, path: str, now_ms: int) -> bool:
    return (
        fnmatchcase(path, fault.path)
        and (fault.since is None or now_ms >= fault.since)
        and (fault.until is None or now_ms < fault.until)
    )
