"""``remargin data``: bring market history into the store and look at what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from remargin.commands.collect import collect
from remargin.commands.index import index
from remargin.commands.options import Config, Data, Json, Store
from remargin.commands.snapshot import export, import_export, snapshot
from remargin.commands.surface import surface
from remargin.commands.verify import verify
from remargin.terminal import (
    number,
    progress,
    short,
    status,
    write_facts,
    write_json,
    write_remarks,
    write_table,
)

app = typer.Typer(help="Market history: pull it, import it, see it.", no_args_is_help=True)
_FEEDS = ("feed", "market", "read", "new", "repeated", "aside", "left out")


def pull(
    config: Config,
    store: Store = None,
    simulator: Annotated[
        str | None,
        typer.Option(
            help="Address of a running `remargin simulate-exchange`, pulled instead of the "
            "exchange; its clock is moved through the window.",
            metavar="URL",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Pull what a config's market needs from its exchange, through ccxt.

    Interrupted, killed or out of space, it goes on where it stopped when run again. It ends
    with what should be there, what is there, and why the rest is not; with status 1 if an
    exchange refused or did not answer.
    """
    from data_ingest.pull import pull_market
    from data_ingest.store import DataStore
    from experiments.config import load_config
    from experiments.importing import writable_store
    from remargin.pull_bars import pull_bars, told_if_interrupted, write_coverage

    study = load_config(config)
    with (
        told_if_interrupted(),
        DataStore(writable_store(store, study.store)) as opened,
        pull_bars(hidden=json) as advance,
    ):
        reports = pull_market(
            opened, study.market, simulator, simulate_clock=simulator is not None, advance=advance
        )
    if json:
        write_json(reports)
    else:
        write_coverage(reports)
    if any(report.failure for report in reports):
        raise typer.Exit(1)


def import_(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="Study config or import mapping, YAML; or the folder of an export.",
            metavar="CONFIG|DIR",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    store: Store = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="In a config's stead: a layout listed by `remargin data formats`.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    exchange: Annotated[
        str | None,
        typer.Option(
            help="Whose data, where the format does not say.", metavar="NAME", show_default=False
        ),
    ] = None,
    market: Annotated[
        list[str] | None,
        typer.Option(
            help="A market of the format's files, such as BTCUSDT=BTC/USDT:USDT; by the "
            "exchange's own rules if none is given.",
            metavar="NATIVE=SYMBOL",
            show_default=False,
        ),
    ] = None,
    quarantine: Annotated[
        bool,
        typer.Option("--quarantine", help="Put bad rows aside with their reason, and go on."),
    ] = False,
    json: Json = False,
) -> None:
    """Import recorded files into the store, by a mapping or in a vendor's layout.

    The folder of `remargin data export` is imported whole, into a store that is empty.
    """
    from backtest.errors import ConfigError
    from data_ingest.manifest import is_frozen
    from data_ingest.recorded import import_recorded
    from data_ingest.store import DataStore
    from experiments.importing import plan_format, plan_import

    if (config is None) == (format_name is None):
        raise ConfigError("write either a CONFIG or --format NAME; see `remargin data formats`.")
    if config is not None and (exchange or market):
        raise ConfigError("--exchange and --market are for --format; a mapping says both itself.")
    if config is not None and is_frozen(config):
        import_export(config, store, json)
        return
    if config is not None and config.is_dir():
        raise ConfigError(
            f"{config}: is a folder without manifest.json, so it is no export; to import recorded "
            f"files write a mapping, or --format NAME, and --data {config}."
        )
    if config is not None:
        plan = plan_import(config, data, store)
    else:
        plan = plan_format(str(format_name), data, store, exchange, market or ())
    reports: list[Any] = []
    with DataStore(plan.store) as opened, progress("import", hidden=json) as advance:
        for mapping in plan.mappings:
            reports += import_recorded(
                opened, mapping, plan.data, quarantine=quarantine, progress=advance
            )
    _show_reports(reports, json)


def formats(
    name: Annotated[
        str | None,
        typer.Argument(help="Print this one's YAML, to copy and edit.", metavar="NAME"),
    ] = None,
    json: Json = False,
) -> None:
    """List the layouts that `remargin data import --format` reads, or print one."""
    from data_ingest.formats import format_file, format_names, load_format

    if name is not None:
        typer.echo(format_file(name).read_text(encoding="utf-8"), nl=False)
        return
    loaded = {each: load_format(each) for each in format_names()}
    if json:
        write_json(
            [
                {
                    "format": each,
                    "name": mapping.name,
                    "files": [{"feed": one.feed, "path": one.path} for one in mapping.files],
                }
                for each, mapping in loaded.items()
            ]
        )
        return
    write_table(
        ("format", "feeds", "what"),
        (
            (each, ", ".join(dict.fromkeys(one.feed for one in mapping.files)), mapping.name)
            for each, mapping in loaded.items()
        ),
    )


def status_(store: Store = None, json: Json = False) -> None:
    """Show what the store holds, and how many holes it has."""
    from backtest.units import iso_utc
    from data_ingest.inventory import inventory
    from data_ingest.snapshot import open_store_or_snapshot
    from experiments.workspace import store_path

    with open_store_or_snapshot(store_path(store)) as opened:
        rows = inventory(opened)
    if json:
        write_json(rows)
        return
    write_table(
        ("feed", "market", "from", "to", "rows", "gaps", "sha256"),
        (
            (
                row.feed,
                f"{row.exchange} {row.market}",
                # What an exchange lists has no span of its own.
                iso_utc(row.start_ms)[:10] if row.start_ms else "",
                iso_utc(row.end_ms)[:10] if row.start_ms else "",
                number(row.rows),
                str(row.gaps),
                short(row.sha256),
            )
            for row in rows
        ),
        right="llllrr",
    )


def tape(config: Config, store: Store = None, json: Json = False) -> None:
    """Build a config's market tape and show its digest, its span and what was missing."""
    from experiments.config import load_config
    from experiments.run import tape_of
    from remargin.show import tape_line, tape_record

    with status("tape", hidden=json):
        built = tape_of(load_config(config), store)
    if json:
        write_json(tape_record(built))
        return
    write_facts([("tape", tape_line(built)), ("digest", built.digest)])
    write_remarks(built.notes)


def _show_reports(reports: list[Any], as_json: bool) -> None:
    if as_json:
        write_json(reports)
        return
    write_table(
        _FEEDS,
        (
            (
                report.feed,
                _markets(report.market),
                number(report.rows_read),
                number(report.rows_added),
                number(report.rows_repeated),
                number(report.rows_quarantined),
                number(report.rows_left_out),
            )
            for report in reports
        ),
        right="llrrrrr",
    )


def _markets(label: str) -> str:
    """Name up to two markets, count more."""
    names = label.split(",")
    return ", ".join(names) if len(names) < 3 else f"{len(names)} markets"


# In the order in which a newcomer meets them.
for _name, _command in (
    ("pull", pull),
    ("collect", collect),
    ("import", import_),
    ("formats", formats),
    ("status", status_),
    ("verify", verify),
    ("snapshot", snapshot),
    ("export", export),
    ("tape", tape),
    ("index", index),
    ("surface", surface),
):
    app.command(_name)(_command)
