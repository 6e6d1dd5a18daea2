"""``remargin policy``: what there is, what can be set, what it asks, whether it keeps its word."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remargin.commands.options import Json
from remargin.terminal import progress, write_facts, write_json, write_line, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strategies.registry import KnobInfo

app = typer.Typer(help="Margin policies: list, explain, price, examine.", no_args_is_help=True)
Name = Annotated[
    str,
    typer.Argument(
        help="Name, preset, or `file.py:Class`; the class may be left out if it is the only one.",
        metavar="POLICY",
    ),
]


@app.command("list")
def list_(json: Json = False) -> None:
    """List policies and presets: kind, what each reads, how many numbers, where it comes from."""
    from remargin.policy_show import show_catalog
    from strategies.catalog import catalog

    entries = catalog()
    if json:
        write_json(entries)
        return
    show_catalog(entries)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show a policy's knobs: default, bounds, unit and meaning."""
    from strategies.registry import describe, full_name, knobs

    name = full_name(name)
    rows = knobs(name)
    if json:
        write_json(rows)
        return
    write_line(f"  {name}")
    write_line(f"  {describe(name)}")
    write_line()
    write_table(("knob", "default", "from", "to", "unit", "meaning"), _by_part(rows), right="lrrr")


@app.command()
def margin(
    name: Name,
    portfolio: Annotated[
        Path, typer.Argument(help="Prices, balances and positions, YAML.", metavar="PORTFOLIO")
    ],
    json: Json = False,
) -> None:
    """Price one portfolio: initial and maintenance margin, every part, the worst scenario."""
    from backtest.errors import PolicyError
    from remargin.policy_show import margin_record, show_margin
    from remargin.policy_text import policy_line
    from strategies.portfolio import ask
    from strategies.portfolio_files import load_portfolio, refuse_missing_volatility
    from strategies.registry import full_name, load_policy

    name = full_name(name)
    policy, held = load_policy(name, ""), load_portfolio(portfolio)
    refuse_missing_volatility(policy, held, portfolio)
    asked = ask(policy, held)
    if not math.isfinite(asked.initial_usd + asked.maintenance_usd):
        raise PolicyError(
            f"{portfolio}: {name} gives no margin; a price or volatility that it reads is missing."
        )
    if json:
        write_json(margin_record(name, policy.identity(), asked))
        return
    count = len(held.positions)
    write_facts(
        [
            ("policy", policy_line(policy)),
            ("portfolio", f"{portfolio} · {' '.join(held.assets)} · {count} positions"),
        ]
    )
    show_margin(asked)


@app.command()
def check(
    name: Name,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random portfolios.")] = 0,
    json: Json = False,
) -> None:
    """Examine a policy by the public contract suite; exit code 1 if it breaks a promise."""
    from remargin.policy_show import show_findings
    from remargin.policy_text import policy_line
    from strategies.registry import full_name, load_policy
    from strategies.testing import check_policy

    name = full_name(name)
    policy = load_policy(name, "")
    with progress("check", hidden=json) as advance:
        findings = check_policy(lambda: load_policy(name, ""), seed=seed, progress=advance)
    if json:
        write_json({"policy": policy.identity(), "findings": findings})
    else:
        write_facts([("policy", policy_line(policy))])
        show_findings(findings)
    if any(finding.passed is False for finding in findings):
        raise typer.Exit(1)


def _by_part(rows: list[KnobInfo]) -> Iterator[tuple[str, ...]]:
    """Put the policy's own knobs first, then those of each part below the part's path."""
    parts = dict.fromkeys(row.name.rpartition(".")[0] for row in rows)
    for part in sorted(parts, key=bool):
        if part:
            yield (f"{part}:", "", "", "", "", "")
        for row in rows:
            above, _, own = row.name.rpartition(".")
            if above == part:
                name = f"  {own}" if part else own
                yield (name, row.default, row.low, row.high, row.unit, row.doc)
