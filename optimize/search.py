"""The search itself: fixed batches, asked and told in order, kept in a journal.

A batch is a pure function of the seed, its number and the trials finished before it. So one
worker and eight give the same trials, and a search that was killed goes on to the trials that
it would have had: the journal holds finished trials only, one whole line each, in order.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest.errors import RunError
from backtest.seeds import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from optuna import Study
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

    from optimize.goal import Goal
    from optimize.space import Dimension, Value

INCUMBENT = 0
"""The incumbent is always trial 0."""


@dataclass(frozen=True)
class Trial:
    """One evaluated set of values.

    Parameters
    ----------
    number
        0 for the incumbent, then from 1 in the order in which they were asked.
    values
        By dimension path; empty for an incumbent that lies outside the searched space.
    metrics
        Every metric of its replay on the search window.
    objectives, violations
        What the goal reads out of the metrics; a violation of zero or less is kept.
    defined
        False where an objective or a limit has no number.
    """

    number: int
    values: Mapping[str, Value]
    metrics: Mapping[str, float]
    objectives: tuple[float, ...]
    violations: Mapping[str, float]
    defined: bool

    @property
    def feasible(self) -> bool:
        """Whether it keeps every limit."""
        return self.defined and all(v <= 0 for v in self.violations.values())


def search(
    dimensions: Sequence[Dimension],
    goal: Goal,
    evaluate: Callable[[Mapping[str, Value] | None], Mapping[str, float]],
    *,
    trials: int,
    batch: int,
    seed: int,
    incumbent: Mapping[str, Value] | None = None,
    workers: int = 1,
    journal: Path | None = None,
    identity: str = "study",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Evaluate the incumbent and then ``trials`` candidates.

    Parameters
    ----------
    dimensions
        The space, not empty.
    goal
        Objectives and limits.
    evaluate
        From values (None: the incumbent) to metrics; called from ``workers`` threads.
    trials, batch, seed
        How many candidates, how many of them at a time, and the seed. All three but the first
        decide which candidates are tried; raising ``trials`` continues the same search.
    incumbent
        The incumbent's values if it lies in the space: the sampler then learns from it.
    workers
        Threads; they change nothing but the time it takes.
    journal
        File that keeps finished trials; None keeps them in memory only.
    identity
        Names the search within the journal.
    progress
        Called with the number of finished candidates and ``trials``.

    Returns
    -------
    tuple of Trial
        The incumbent and all candidates, in order.

    Raises
    ------
    RunError
        If the journal holds trials of another search.
    """
    ledger = _Ledger(journal, identity, dimensions, goal)
    done = ledger.trials()
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="trial") as pool:
        for number in range(math.ceil(trials / batch)):
            first = 1 + number * batch
            count = min(batch, trials + 1 - first)
            asked: list[Mapping[str, Value] | None] = list(
                _ask(dimensions, goal, done[:first] if number else (), seed, number, batch)[:count]
            )
            if number == 0:
                asked.insert(0, None)
                first = INCUMBENT
            _refuse_foreign(asked, first, done, journal)
            todo = asked[max(0, len(done) - first) :]
            known = {tuple(sorted(t.values.items())): t.metrics for t in done if t.number}

            def run(
                values: Mapping[str, Value] | None,
                known: Mapping[Any, Mapping[str, float]] = known,
            ) -> Mapping[str, float]:
                # A grid is sampled more than once; the same values give the same bits.
                key = tuple(sorted(values.items())) if values is not None else None
                return known[key] if key in known else evaluate(values)

            for values, metrics in zip(todo, pool.map(run, todo), strict=True):
                mine = (incumbent or {}) if values is None else values
                done.append(_trial(len(done), mine, metrics, goal))
                ledger.append(done[-1])
                if progress:
                    progress(len(done) - 1, trials)
    return tuple(done[: trials + 1])


def _trial(
    number: int, values: Mapping[str, Value], metrics: Mapping[str, float], goal: Goal
) -> Trial:
    return Trial(
        number=number,
        values=dict(values),
        metrics=dict(metrics),
        objectives=goal.values(metrics),
        violations=goal.violations(metrics),
        defined=goal.is_defined(metrics),
    )


def _ask(
    dimensions: Sequence[Dimension],
    goal: Goal,
    finished: Sequence[Trial],
    seed: int,
    number: int,
    batch: int,
) -> list[dict[str, Value]]:
    """Ask for one whole batch, with a sampler that has no memory of its own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=int(stream(seed, "search", number).integers(2**31)), multivariate=True
    )
    study = optuna.create_study(directions=_directions(goal), sampler=sampler)
    study.add_trials([_frozen(trial, dimensions) for trial in finished if trial.values])
    if number == 0:
        study.enqueue_trial({dimension.path: dimension.start for dimension in dimensions})
    distributions = {dimension.path: dimension.distribution() for dimension in dimensions}
    asked = [study.ask(distributions).params for _ in range(batch)]
    return [{d.path: d.rounded(params[d.path]) for d in dimensions} for params in asked]


def _directions(goal: Goal) -> list[StudyDirection]:
    from optuna.study import StudyDirection

    return [
        StudyDirection.MAXIMIZE if objective.maximise else StudyDirection.MINIMIZE
        for objective in goal.objectives
    ]


def _frozen(trial: Trial, dimensions: Sequence[Dimension]) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState.COMPLETE if trial.defined else TrialState.FAIL,
        values=list(trial.objectives) if trial.defined else None,
        params=dict(trial.values),
        distributions={d.path: d.distribution() for d in dimensions if d.path in trial.values},
        # Dashboards of the day read user attributes and miss the constraints of Optuna 5.
        user_attrs={
            "role": "incumbent" if trial.number == INCUMBENT else "candidate",
            "metrics": dict(trial.metrics),
            "violations": dict(trial.violations),
        },
        constraints=dict(trial.violations) if trial.defined else None,
    )


def _refuse_foreign(
    asked: Sequence[Mapping[str, Value] | None],
    first: int,
    done: Sequence[Trial],
    journal: Path | None,
) -> None:
    for offset, values in enumerate(asked):
        number = first + offset
        if number < len(done) and values is not None and dict(done[number].values) != dict(values):
            raise RunError(
                f"{journal}: trial {number} is not the one this search asks for; the journal was "
                "written by another version or was edited, so remove it to start again."
            )


class _Ledger:
    """Finished trials, in memory or in an Optuna journal that dashboards can open."""

    def __init__(
        self, path: Path | None, identity: str, dimensions: Sequence[Dimension], goal: Goal
    ) -> None:
        self._dimensions = dimensions
        self._goal = goal
        self._study: Study | None = None
        if path is None:
            return
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        self._study = optuna.create_study(
            study_name=identity,
            storage=JournalStorage(JournalFileBackend(str(path))),
            directions=_directions(goal),
            load_if_exists=True,
        )
        self._study.set_user_attr("objectives", [o.metric for o in goal.objectives])

    def trials(self) -> list[Trial]:
        if self._study is None:
            return []
        return [
            _trial(stored.number, stored.params, stored.user_attrs["metrics"], self._goal)
            for stored in self._study.get_trials()
        ]

    def append(self, trial: Trial) -> None:
        if self._study is not None:
            self._study.add_trial(_frozen(trial, self._dimensions))


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process did not finish; it holds no whole trial."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
