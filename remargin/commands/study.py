"""``remargin optimize`` and ``remargin compare``: which setting is better, and by how much."""

from __future__ import annotations

from typing import Annotated

import typer

from remargin.commands.options import Config, Json, Policy, Store
from remargin.terminal import progress, status, write_json, write_line

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Threads; one per processor by default. They change no number."),
]


def optimize(
    config: Config,
    store: Store = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of candidates, instead of the config's.")
    ] = None,
    workers: Workers = None,
    policy: Policy = None,
    json: Json = False,
) -> None:
    """Search a config's space, judge on its hold-out window, propose one candidate.

    With --policy, the numbers that its class declares are searched between their own bounds.
    """
    from experiments.config import load_config, with_policy
    from experiments.run import inputs_of, run_study
    from remargin import show

    study = load_config(config)
    if policy is not None:
        study = with_policy(study, policy, "candidate", search=True)
    study.searched()
    with status("tape and book", hidden=json):
        inputs = inputs_of(study, store)
    show.show_inputs(inputs, hidden=json)
    with progress("search", hidden=json) as advance:
        tracked = run_study(study, trials=trials, workers=workers, inputs=inputs, progress=advance)
    if json:
        write_json(show.study_record(tracked))
        return
    show.show_study(tracked)
    write_line()
    write_line(show.tables_line(tracked.run_id))
    write_line(show.run_line(tracked.run_id, "report", "reproduce"))


def compare(
    current: Annotated[
        str, typer.Argument(help="Run, or config whose incumbent is meant.", metavar="CURRENT")
    ],
    proposed: Annotated[
        str, typer.Argument(help="Run, or config whose candidate is meant.", metavar="PROPOSED")
    ],
    store: Store = None,
    json: Json = False,
) -> None:
    """Compare two replays of the same market and accounts, with 95 % intervals."""
    from experiments.run import run_compare
    from remargin import show

    with progress("replay", hidden=json) as advance:
        comparison = run_compare(current, proposed, store=store, progress=advance)
    if json:
        write_json(comparison.comparison)
        return
    show.show_comparison(comparison)
