"""``remargin replay``: one policy over a config's whole market."""

from __future__ import annotations

from typing import Annotated

import typer

from remargin.commands.options import Config, Json, Policy, Store
from remargin.terminal import progress, status, write_facts, write_json, write_line


def replay(
    config: Config,
    store: Store = None,
    incumbent: Annotated[
        bool, typer.Option("--incumbent", help="Replay the policy in force, not the candidate.")
    ] = False,
    policy: Policy = None,
    json: Json = False,
) -> None:
    """Replay one policy over a config's market and accounts, and track the run."""
    from experiments.config import load_config, with_policy
    from experiments.run import Role, inputs_of, run_replay
    from remargin import show
    from remargin.policy_text import policy_line

    study = load_config(config)
    role: Role = "incumbent" if incumbent else "candidate"
    if policy is not None:
        study = with_policy(study, policy, role)
    replayed = study.incumbent_policy() if incumbent else study.candidate_policy()
    with status("tape and book", hidden=json):
        inputs = inputs_of(study, store)
    show.show_inputs(inputs, hidden=json)
    if not json:
        write_facts([("policy", policy_line(replayed))])
    with progress(
        "replay", hidden=json, rate_of="account-ticks", per_step=len(inputs.book)
    ) as advance:
        tracked = run_replay(study, role=role, inputs=inputs, progress=advance)
    if json:
        write_json(
            {
                "metrics": tracked.result.metrics,
                "manifest": tracked.manifest,
                "run_id": tracked.run_id,
                "files": show.tables_folder(tracked.run_id),
            }
        )
        return
    show.show_replay(tracked.result)
    write_line()
    write_line(show.tables_line(tracked.run_id))
    write_line(show.run_line(tracked.run_id, "reproduce"))
