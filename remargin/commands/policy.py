"""``remargin policy``: which margin policies there are, and what can be set in each."""

from __future__ import annotations

from typing import Annotated

import typer

from remargin.commands.options import Json
from remargin.terminal import write_json, write_line, write_table

app = typer.Typer(help="Margin policies and their knobs.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the policies and presets by name."""
    from strategies.registry import describe, names

    rows = [(name, describe(name)) for name in names()]
    if json:
        write_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    write_table(("policy", "what it does"), rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name, `preset:NAME`, or `file.py:Class`.")],
    json: Json = False,
) -> None:
    """Show a policy's knobs: default, bounds, unit and meaning."""
    from strategies.registry import knobs

    rows = knobs(name)
    if json:
        write_json(rows)
        return
    write_line(f"  {name}")
    write_table(
        ("knob", "default", "from", "to", "unit", "meaning"),
        ((k.name, k.default, k.low, k.high, k.unit, k.doc) for k in rows),
        right="lrrr",
    )
