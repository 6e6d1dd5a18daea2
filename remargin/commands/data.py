"""``remargin data``: bring market history into the store and look at what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remargin.commands.options import Config, Data, Json, Store
from remargin.terminal import number, short, step, write_facts, write_json, write_line, write_table

app = typer.Typer(help="Market history: pull it, import it, see it.", no_args_is_help=True)


@app.command()
def pull(
    config: Config,
    store: Store = None,
    url: Annotated[
        str | None,
        typer.Option(help="Address that replaces the exchange's own, such as a simulator's."),
    ] = None,
    json: Json = False,
) -> None:
    """Pull what a config's market needs from its exchange, through ccxt."""
    from experiments.pull import pull_config

    reports = pull_config(config, store, base_url=url, announce=None if json else _announce)
    if json:
        write_json(reports)


@app.command("import")
def import_(
    config: Annotated[
        Path,
        typer.Argument(help="Study config or import mapping, YAML.", metavar="CONFIG"),
    ],
    data: Data = None,
    store: Store = None,
    quarantine: Annotated[
        bool,
        typer.Option("--quarantine", help="Put bad rows aside with their reason, and go on."),
    ] = False,
    json: Json = False,
) -> None:
    """Import recorded files into the store, by the mappings that a config names."""
    from experiments.pull import import_config

    reports = import_config(
        config, data, store, quarantine=quarantine, announce=None if json else _announce
    )
    if json:
        write_json(reports)


@app.command()
def status(store: Store = None, json: Json = False) -> None:
    """Show what the store holds and which windows of it are complete."""
    from data_ingest.build import inventory
    from data_ingest.store import DataStore
    from experiments.workspace import store_path

    with DataStore(store_path(store), read_only=True) as opened:
        entries = inventory(opened)
    if json:
        write_json(entries)
        return
    from backtest.units import iso_utc

    write_table(
        ("feed", "market", "from", "to", "rows", "source"),
        (
            (e.feed, e.market, iso_utc(e.start_ms), iso_utc(e.end_ms), number(e.rows), e.origin)
            for e in entries
        ),
        right="llllr",
    )


@app.command()
def tape(config: Config, store: Store = None, json: Json = False) -> None:
    """Build a config's market tape and show its digest, its span and what was missing."""
    from experiments.run import tape_of
    from experiments.config import load_config

    with step("tape", hidden=json):
        built = tape_of(load_config(config), store)
    if json:
        from remargin.show import tape_record

        write_json(tape_record(built))
        return
    from remargin.show import tape_line

    write_facts([("tape", tape_line(built))])
    for note in built.notes:
        write_line(f"  note      {note}")
    write_line(f"  digest    {built.digest}")


def _announce(line: str) -> None:
    write_line(f"  {line}")


__all__ = ["app", "short"]
