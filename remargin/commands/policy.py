"""``remargin policy``: which margin policies there are, and what can be set in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from remargin.commands.options import Json
from remargin.terminal import write_json, write_line, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strategies.registry import KnobInfo

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
    write_line()
    write_table(("knob", "default", "from", "to", "unit", "meaning"), _by_part(rows), right="lrrr")


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
