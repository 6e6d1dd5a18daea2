"""A study: search one window, judge on another, propose one candidate by a stated rule.

The hold-out window is replayed after the search has ended, for the incumbent and the Pareto
set only; nothing that was seen there can steer the search.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from backtest.errors import ConfigError, LedgerError
from backtest.replay import replay
from backtest.venue import VenueRules
from optimize.messages import first_error
from optimize.search import INCUMBENT, Trial, search
from optimize.space import Dimension, Value, fill
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
        """Replay one candidate, or the incumbent, on a window."""
        return replay(
            self.tape, self.book, self.policy(values), self.rules(values), self.seed, window=window
        )

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


def pareto_front(trials: Sequence[Trial], goal: Goal) -> tuple[int, ...]:
    """Return the numbers of the feasible trials that no other feasible trial dominates."""
    feasible = [trial for trial in trials if trial.feasible]
    return tuple(feasible[i].number for i in goal.front([t.objectives for t in feasible]))


def choose(trials: Sequence[Trial], front: Sequence[int], goal: Goal) -> tuple[int, str]:
    """Choose the proposal among the candidates by what the search window showed.

    1. Among the candidates on the front that are no worse than the incumbent in every
       objective but the first: the best in the first objective.
    2. Failing that, the candidate on the front nearest to the ideal point, each objective
       scaled by its range over the front.
    3. Failing that (no candidate keeps the limits): the one that exceeds them least.

    Equal candidates: the one that was tried first.

    Returns
    -------
    number : int
        Trial number.
    reason : str
        The rule that applied, as a sentence.
    """
    first, *others = goal.objectives
    on_front = [trials[number] for number in front if number != INCUMBENT]
    incumbent = trials[INCUMBENT]
    safe = [
        trial
        for trial in on_front
        if not any(
            objective.better(old, new)
            for objective, old, new in zip(
                others, incumbent.objectives[1:], trial.objectives[1:], strict=True
            )
        )
    ]
    if safe:
        sign = -1.0 if first.maximise else 1.0
        best = min(safe, key=lambda trial: (sign * trial.objectives[0], trial.number))
        guards = " and ".join(objective.metric for objective in others)
        guard = f" among those no worse than the incumbent in {guards}" if others else ""
        return best.number, f"Best {first.metric} on the search window{guard}."
    if on_front:
        columns = list(zip(*(trial.objectives for trial in on_front), strict=True))
        ideal = [
            max(c) if o.maximise else min(c) for o, c in zip(goal.objectives, columns, strict=True)
        ]
        spans = [(max(c) - min(c)) or 1.0 for c in columns]

        def distance(trial: Trial) -> float:
            return sum(
                ((x - best) / span) ** 2
                for x, best, span in zip(trial.objectives, ideal, spans, strict=True)
            )

        nearest = min(on_front, key=lambda trial: (distance(trial), trial.number))
        return nearest.number, (
            "Nearest to the ideal point of the front on the search window; every candidate there "
            "is worse than the incumbent in some objective."
        )
    candidates = [t for t in trials[1:] if t.feasible] or list(trials[1:])
    closest = min(
        candidates,
        key=lambda trial: (sum(max(0.0, v) for v in trial.violations.values()), trial.number),
    )
    if closest.feasible:
        return closest.number, "The first feasible candidate; the incumbent dominates them all."
    return closest.number, "No candidate keeps the limits; this one exceeds them least."


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
        raise ConfigError(first_error(error, "venue", VenueRules)) from None


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
    for corner in ("low", "high"):
        values = {
            d.path: d.choices[0 if corner == "low" else -1] if d.choices else getattr(d, corner)
            for d in problem.dimensions
        }
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
