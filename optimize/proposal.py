"""Which candidate is proposed: a rule that is stated before anything is searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.search import INCUMBENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.goal import Goal
    from optimize.search import Trial


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
    3. Failing that (the incumbent dominates every feasible candidate): the feasible candidate
       that was tried first.
    4. Failing that (no candidate keeps the limits): the one that exceeds them least, each
       excess as a share of its limit, so that dollars and shares can be added.

    Equal candidates: the one that was tried first.

    Returns
    -------
    number : int
        Trial number, never the incumbent's.
    reason : str
        The rule that applied, as a sentence.
    """
    on_front = [trials[number] for number in front if number != INCUMBENT]
    safe = [trial for trial in on_front if _no_worse(trial, trials[INCUMBENT], goal)]
    if safe:
        return _leader(safe, goal)
    if on_front:
        return _knee(on_front, goal), (
            "Nearest to the ideal point of the front on the search window; every candidate there "
            "is worse than the incumbent in some objective."
        )
    feasible = [trial for trial in trials if trial.feasible and trial.number != INCUMBENT]
    if feasible:
        return feasible[0].number, "The first feasible candidate; the incumbent dominates them all."
    return _least_infeasible(
        trials, goal
    ), "No candidate keeps the limits; this one exceeds them least."


def _no_worse(trial: Trial, incumbent: Trial, goal: Goal) -> bool:
    """Tell whether a trial is no worse in any objective but the first."""
    pairs = zip(goal.objectives, incumbent.objectives, trial.objectives, strict=True)
    return not any(objective.better(old, new) for objective, old, new in list(pairs)[1:])


def _leader(trials: Sequence[Trial], goal: Goal) -> tuple[int, str]:
    first, *others = goal.objectives
    sign = -1.0 if first.maximise else 1.0
    best = min(trials, key=lambda trial: (sign * trial.objectives[0], trial.number))
    guards = " and ".join(objective.metric for objective in others)
    guard = f" among those no worse than the incumbent in {guards}" if others else ""
    return best.number, f"Best {first.metric} on the search window{guard}."


def _knee(trials: Sequence[Trial], goal: Goal) -> int:
    columns = list(zip(*(trial.objectives for trial in trials), strict=True))
    ideal = [
        max(column) if objective.maximise else min(column)
        for objective, column in zip(goal.objectives, columns, strict=True)
    ]
    spans = [(max(column) - min(column)) or 1.0 for column in columns]

    def distance(trial: Trial) -> float:
        parts = zip(trial.objectives, ideal, spans, strict=True)
        return float(sum(((value - best) / span) ** 2 for value, best, span in parts))

    return min(trials, key=lambda trial: (distance(trial), trial.number)).number


def _least_infeasible(trials: Sequence[Trial], goal: Goal) -> int:
    """Return the defined candidate with the least sum of excesses; the first if none is."""
    candidates = [trial for trial in trials if trial.number != INCUMBENT]
    defined = [trial for trial in candidates if trial.defined] or candidates

    def excess(trial: Trial) -> float:
        return sum(
            max(0.0, trial.violations[limit.metric]) / (abs(limit.bound) or 1.0)
            for limit in goal.limits
        )

    return min(defined, key=lambda trial: (excess(trial), trial.number)).number
