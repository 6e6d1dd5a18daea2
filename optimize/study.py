"""A study: search one window, judge on another, propose one candidate by a stated rule.

The hold-out window is replayed after the search has ended, for the incumbent and the Pareto
set only; nothing that was seen there can steer the search.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from backtest.cascade import refuse_without_feedback, with_cascade
from backtest.errors import ConfigError, LedgerError
from backtest.metrics import CASCADE
from backtest.mistakes import first_mistake
from backtest.replay import replay
from backtest.venue import YARDSTICKS, VenueRules
from optimize.proposal import choose, pareto_front
from optimize.search import INCUMBENT, Trial, search
from optimize.space import Dimension, Value, corners, fill
from strategies.registry import load_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from backtest.book import AccountBook
    from backtest.result import ReplayResult
    from backtest.tape import MarketTape
    from optimize.goal import Goal
    from strategies.contract import MarginPolicy

Spec = dict[str, Any] | str
Window = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Problem:
    """What a study is asked.

    Parameters
    ----------
    tape, book
        The market and the accounts.
    incumbent
        Spec of the policy in force.
    candidate, venue
        Raw specs, searched leaves included. The incumbent is replayed under the venue with
        each searched rule at its start value, which is today's.
    dimensions
        All searched leaves, of ``candidate`` and ``venue``.
    goal
        Objectives and limits.
    search_window, holdout_window
        Half-open, milliseconds UTC; they may not overlap.
    trials, batch, seed
        As in `optimize.search.search`.
    """

    tape: MarketTape
    book: AccountBook
    incumbent: Spec
    candidate: Spec
    venue: dict[str, Any]
    dimensions: tuple[Dimension, ...]
    goal: Goal
    search_window: Window
    holdout_window: Window
    trials: int
    batch: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse windows that share an instant."""
        (a, b), (c, d) = self.search_window, self.holdout_window
        if a < d and c < b:
            raise ConfigError("windows: search and holdout overlap; the hold-out must be unseen.")

    def policy(self, values: Mapping[str, Value] | None) -> MarginPolicy:
        """Build a candidate from its values, or the incumbent from None."""
        if values is None:
            return load_policy(self.incumbent, "incumbent")
        return load_policy(fill(self.candidate, values, self.dimensions, "candidate"), "candidate")

    def rules(self, values: Mapping[str, Value] | None) -> VenueRules:
        """Build the venue of a candidate, or today's from None."""
        return load_venue(fill(self.venue, values or {}, self.dimensions, "venue"))

    def replay(self, values: Mapping[str, Value] | None, window: Window) -> ReplayResult:
        """Replay one candidate, or the incumbent, on a window; twice if cascades are judged."""
        given = (self.tape, self.book, self.policy(values))
        result = replay(*given, self.rules(values), self.seed, window=window)
        return with_cascade(result, *given) if CASCADE in self.goal.judged else result

    def incumbent_values(self) -> dict[str, Value] | None:
        """Return the incumbent as a point of the searched space, None if it is none."""
        values: dict[str, Value] = {}
        for dimension in self.dimensions:
            room, *keys = dimension.path.split(".")
            found = dimension.start if room == "venue" else _lookup(self.incumbent, keys)
            if found is None:
                return None
            values[dimension.path] = dimension.read(found)
        inside = all(d.contains(values[d.path]) for d in self.dimensions)
        same = inside and self.policy(values).identity() == self.policy(None).identity()
        return values if same else None


@dataclass(frozen=True, eq=False)
class Pair:
    """One policy on both windows."""

    search: ReplayResult
    holdout: ReplayResult


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What a study found.

    Parameters
    ----------
    trials
        The incumbent (trial 0) and all candidates, infeasible ones included.
    front
        Numbers of the feasible trials that no other feasible trial dominates, in order.
    proposal
        Number of the proposed trial, never the incumbent.
    reason
        The rule that chose it, in one sentence.
    incumbent, proposed
        Full replays on both windows.
    holdout
        Metrics on the hold-out window, by trial number, for the incumbent, the front and the
        proposal.
    goal, dimensions, search_window, holdout_window, batch, seed
        What was asked, as in `Problem`.
    """

    trials: tuple[Trial, ...]
    front: tuple[int, ...]
    proposal: int
    reason: str
    incumbent: Pair
    proposed: Pair
    holdout: dict[int, dict[str, float]]
    goal: Goal
    dimensions: tuple[Dimension, ...]
    search_window: Window
    holdout_window: Window
    batch: int
    seed: int

    def rows(self) -> list[dict[str, Any]]:
        """Return the trial ledger, one plain dict per trial, in order."""
        return [
            {
                "trial": trial.number,
                "role": self._role(trial.number),
                "state": "complete" if trial.defined else "undefined",
                "feasible": trial.feasible,
                "on_front": trial.number in self.front,
                "params": dict(trial.values),
                "metrics": dict(trial.metrics),
                "violations": dict(trial.violations),
                "holdout": self.holdout.get(trial.number),
            }
            for trial in self.trials
        ]

    def _role(self, number: int) -> str:
        if number == INCUMBENT:
            return "incumbent"
        return "proposal" if number == self.proposal else "candidate"


def run_study(
    problem: Problem,
    *,
    workers: int = 1,
    journal: Path | None = None,
    identity: str = "study",
    progress: Callable[[int, int], None] | None = None,
) -> StudyResult:
    """Search, choose a proposal, and replay it with the incumbent on the hold-out window.

    Parameters
    ----------
    problem
        What is asked.
    workers
        Threads; they change nothing but the time it takes.
    journal, identity
        Where finished trials are kept, so that a killed study goes on; see `search`.
    progress
        Called with finished replays and their expected number.

    Raises
    ------
    ConfigError
        If nothing is searched, or a corner of the space is no valid policy or venue.
    RunError
        If the journal belongs to another study.
    """
    _check_space(problem)
    trials = search(
        problem.dimensions,
        problem.goal,
        lambda values: problem.replay(values, problem.search_window).metrics,
        trials=problem.trials,
        batch=problem.batch,
        seed=problem.seed,
        incumbent=problem.incumbent_values(),
        workers=workers,
        journal=journal,
        identity=identity,
        progress=progress,
    )
    front = pareto_front(trials, problem.goal)
    proposal, reason = choose(trials, front, problem.goal)
    judged = sorted({INCUMBENT, proposal, *front})

    def on_holdout(number: int) -> ReplayResult:
        return problem.replay(_values(trials[number]), problem.holdout_window)

    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="holdout") as pool:
        holdout = dict(zip(judged, pool.map(on_holdout, judged), strict=True))
    pairs = [
        Pair(_again(problem, trials[number]), holdout[number]) for number in (INCUMBENT, proposal)
    ]
    return StudyResult(
        trials=trials,
        front=front,
        proposal=proposal,
        reason=reason,
        incumbent=pairs[0],
        proposed=pairs[1],
        holdout={number: result.metrics for number, result in holdout.items()},
        goal=problem.goal,
        dimensions=problem.dimensions,
        search_window=problem.search_window,
        holdout_window=problem.holdout_window,
        batch=problem.batch,
        seed=problem.seed,
    )


def load_venue(raw: dict[str, Any]) -> VenueRules:
    """Validate venue rules written in a config.

    Raises
    ------
    ConfigError
        If a rule is unknown or out of range.
    """
    try:
        return VenueRules.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(first_mistake(error, "venue", VenueRules, raw)) from None


def _values(trial: Trial) -> Mapping[str, Value] | None:
    return None if trial.number == INCUMBENT else trial.values


def _again(problem: Problem, trial: Trial) -> ReplayResult:
    """Replay a trial once more; a search whose winner does not come out again is worthless."""
    result = problem.replay(_values(trial), problem.search_window)
    for key, value in result.metrics.items():
        before = trial.metrics[key]
        if value != before and not (value != value and before != before):
            raise LedgerError(
                f"trial {trial.number} gave {key} {before!r} in the search and {value!r} again."
            )
    return result


def _check_space(problem: Problem) -> None:
    """Build the lowest and the highest corner, so that a bad bound fails before any replay."""
    if not problem.dimensions:
        raise ConfigError("candidate: nothing is searched; write for example {search: [2, 8]}.")
    for dimension in problem.dimensions:
        room, _, rule = dimension.path.partition(".")
        if room == "venue" and rule in YARDSTICKS:
            raise ConfigError(
                f"{dimension.path}: is what every candidate is measured by, so it cannot be "
                "searched; give it one value."
            )
    if CASCADE in problem.goal.judged:
        refuse_without_feedback(problem.rules(None))
    for values in corners(problem.dimensions):
        problem.policy(values)
        problem.rules(values)


def _lookup(spec: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if isinstance(spec, dict):
            spec = spec.get(key)
        elif isinstance(spec, list) and key.isdecimal() and int(key) < len(spec):
            spec = spec[int(key)]
        else:
            return None
    return spec
