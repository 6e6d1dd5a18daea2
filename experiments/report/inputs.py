"""What a report is made of, checked before a word is written.

A report with a hole in it is worse than none: everything it will print has to be here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from backtest.errors import RunError
from backtest.metrics import METRICS, compute_metrics
from experiments.report.units import model_units
from experiments.report.wording import flatten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from backtest.generate import FitRow
    from backtest.result import ReplayResult
    from backtest.tape import DataSource
    from optimize.bootstrap import Comparison
    from optimize.goal import Goal
    from optimize.search import Trial

MANIFEST_KEYS = ("tape_digest", "book_digest", "config_hash", "commit", "dirty", "packages", "seed")
"""What the section on reproduction prints; further keys are printed as they are."""


def _edited(result: ReplayResult) -> bool:
    return any(
        result.metrics[key] != value and not math.isnan(value)
        for key, value in compute_metrics(result).items()
    )


@dataclass(frozen=True, eq=False)
class Pair:
    """The current and the proposed policy on one window, and their paired differences.

    Parameters
    ----------
    current, proposed
        Replays of the same tape and book over the same window.
    comparison
        Paired block-bootstrap intervals of every additive metric.
    """

    current: ReplayResult
    proposed: ReplayResult
    comparison: Comparison


@dataclass(frozen=True, eq=False)
class ReportInput:
    """Everything that a report prints.

    Parameters
    ----------
    run_id
        Id of the tracked run that every number belongs to.
    name, question
        The study's name and the question that is put to the vote.
    search, holdout
        Both policies on the window that was searched and on the one that was not.
    goal
        Objectives and limits of the search.
    trials
        Every trial, also infeasible ones; empty where two given policies are compared.
    front
        Numbers of the trials on the front of the search window.
    front_holdout
        Metrics on the hold-out window of the trials that were judged there, by number.
    proposed_trial
        Number of the proposal's trial; None where there was no search.
    selection_rule
        One sentence: how the proposal was chosen from the front.
    sources, notes
        The tape's data inventory and its sentences on what was missing or assumed.
    book_origin, book_fit
        Where the accounts come from, and how close generated ones are to their targets.
    manifest
        The run's manifest, with at least `MANIFEST_KEYS`.
    units
        Unit of each setting of the policies, by dotted path; the venue's are known.
    """

    run_id: str
    name: str
    question: str
    search: Pair
    holdout: Pair
    goal: Goal
    trials: Sequence[Trial]
    front: Sequence[int]
    front_holdout: Mapping[int, Mapping[str, float]]
    proposed_trial: int | None
    selection_rule: str
    sources: Sequence[DataSource]
    notes: Sequence[str]
    book_origin: str
    book_fit: Sequence[FitRow]
    manifest: Mapping[str, Any]
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an input that would leave a blank.

        Raises
        ------
        RunError
            If a number that the report prints is absent; the sentence names it.
        """
        for missing in self._missing():
            raise RunError(
                f"run {self.short_id} has no {missing}; a report with a blank is not written."
            )

    def _missing(self) -> Iterator[str]:
        for window, pair in (("search", self.search), ("holdout", self.holdout)):
            for role, result in (("current", pair.current), ("proposed", pair.proposed)):
                for key in METRICS:
                    if key not in result.metrics:
                        yield f"metric {key!r} of the {role} policy on the {window} window"
            for key, metric in METRICS.items():
                if metric.additive and key not in pair.comparison.intervals:
                    yield f"interval of {key!r} on the {window} window"
        for key in MANIFEST_KEYS:
            if key not in self.manifest:
                yield f"{key!r} in its manifest"
        if self.proposed_trial is not None and not any(
            trial.number == self.proposed_trial for trial in self.trials
        ):
            yield f"trial {self.proposed_trial}"

    @property
    def results(self) -> tuple[ReplayResult, ...]:
        """The four replays."""
        return tuple(
            result
            for pair in (self.search, self.holdout)
            for result in (pair.current, pair.proposed)
        )

    def settings(self, role: Literal["current", "proposed"]) -> dict[str, object]:
        """Return every setting of a policy and of the venue under it, by dotted path."""
        result: ReplayResult = getattr(self.holdout, role)
        venue = flatten(result.venue.model_dump(mode="json"), "venue.")
        return flatten(result.policy) | venue

    def unit(self, path: str) -> str:
        """Return the unit of a setting, empty if it has none."""
        venue = model_units(self.holdout.proposed.venue, "venue.")
        return venue.get(path) or self.units.get(path, "")

    @property
    def span(self) -> tuple[int, int]:
        """From the start of the earlier window to the end of the later one, whichever is which."""
        windows = [result.window for result in self.results]
        return min(start for start, _ in windows), max(end for _, end in windows)

    @property
    def short_id(self) -> str:
        """As much of the run's id as a reader needs to name it."""
        return self.run_id[:8]

    @property
    def synthetic_market(self) -> bool:
        """Whether the market was simulated."""
        return any(result.synthetic_market for result in self.results)

    @property
    def synthetic_book(self) -> bool:
        """Whether the accounts were generated."""
        return any(result.synthetic_book for result in self.results)

    def warnings(self) -> list[str]:
        """Say what makes the numbers of this report doubtful as a whole."""
        found = []
        for what in ("tape", "book"):
            held = {getattr(result, f"{what}_digest") for result in self.results}
            said = str(self.manifest[f"{what}_digest"])
            noun = "market data" if what == "tape" else "account book"
            if len(held) > 1:
                found.append(f"The replays compared here did not read the same {noun}.")
            elif held != {said}:
                found.append(
                    f"The {noun} of these replays ({held.pop()[:12]}…) is not the one that the "
                    f"manifest of run {self.short_id} names ({said[:12]}…): a file was changed."
                )
        if any(_edited(result) for result in self.results):
            found.append(
                "The metrics of these replays do not follow from their series: a file, or the "
                "definition of a metric, was changed since the run."
            )
        if self.search.current.window[1] > self.holdout.current.window[0] and (
            self.holdout.current.window[1] > self.search.current.window[0]
        ):
            found.append("The hold-out window overlaps the search window: nothing was held out.")
        if self.manifest["dirty"]:
            found.append("The code of this run had changes that are in no commit.")
        if self.manifest["commit"] is None:
            found.append("The code of this run is in no commit; its source hash stands below.")
        if self.settings("current") == self.settings("proposed"):
            found.append("The proposal is the current policy: this vote would change nothing.")
        return found
