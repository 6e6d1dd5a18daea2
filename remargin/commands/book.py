"""``remargin book``: make the accounts of a config, and see how well they fit what is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remargin.commands.options import Config, Json, Store
from remargin.terminal import (
    number,
    progress,
    status,
    write_facts,
    write_json,
    write_line,
    write_remarks,
    write_table,
)

if TYPE_CHECKING:
    from backtest.generate import BookFit

GIVEN = "given"
OPENINGS = "openings: "
app = typer.Typer(help="Account books: who trades what, when.", no_args_is_help=True)


@app.command()
def generate(
    config: Config,
    out: Annotated[Path, typer.Option(help="Folder to write the book to.", metavar="DIR")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Generate a config's accounts and save them as files that can be imported again."""
    from backtest.book_files import save_book
    from remargin import show

    book, _, _ = _book(config, store, json)
    save_book(book, out)
    if json:
        write_json({"digest": book.digest, "accounts": len(book), "folder": out})
        return
    write_facts([("book", show.book_line(book)), ("folder", str(out))])


@app.command()
def describe(config: Config, store: Store = None, json: Json = False) -> None:
    """Show targets and what was achieved, fact by fact with its source."""
    from backtest.generate import describe_book
    from remargin import show

    book, tape, spec = _book(config, store, json)
    fit = describe_book(book, tape, spec)
    if json:
        write_json([row._asdict() for row in fit.rows()])
        return
    write_facts([("book", show.book_line(book))])
    _write_fit(fit)


@app.command()
def pull(
    addresses: Annotated[
        Path,
        typer.Option(help="Text file, one public address per line.", metavar="FILE"),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the book to.", metavar="DIR")],
    exchange: Annotated[
        str, typer.Option(help="Exchange that shows what an address holds.")
    ] = "hyperliquid",
    assets: Annotated[
        str,
        typer.Option(
            help="Assets of the tape that the book is for, in its order; those held by default.",
            metavar="BTC,ETH",
            show_default=False,
        ),
    ] = "",
    simulator: Annotated[
        str | None,
        typer.Option(
            help="Address of a running `remargin simulate-exchange`, asked instead.",
            metavar="URL",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Take a snapshot of public addresses, through ccxt, and save it as a recorded book."""
    from backtest.book_files import refuse_existing, save_book
    from data_ingest.accounts import open_accounts, pull_accounts, read_addresses
    from remargin import show

    listed = read_addresses(addresses)
    refuse_existing(out)
    wanted = [name.strip() for name in assets.split(",") if name.strip()]
    client = open_accounts(exchange, simulator)
    with progress("pull", hidden=json) as advance:
        taken = pull_accounts(client, listed, assets=wanted, progress=advance)
    save_book(taken.book, out, names=taken.names)
    if json:
        write_json({
            "digest": taken.book.digest,
            "accounts": len(taken.book),
            "folder": out,
            "origin": taken.book.origin,
            "aside": taken.aside,
        })  # fmt: skip
        return
    write_facts([("book", show.book_line(taken.book)), ("folder", str(out))])
    write_remarks([taken.book.origin], "origin")
    write_remarks([f"{address}: {reason}" for address, reason in taken.aside.items()], "aside")


@app.command()
def calibrate(
    what: Annotated[
        str,
        typer.Argument(
            help="Preset, file of one, or study config whose accounts and market are meant.",
            metavar="PRESET|CONFIG",
        ),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Settings to try.")] = 200,
    books: Annotated[int, typer.Option(min=1, help="Books that each is judged by.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Preset to write, a new file.", metavar="FILE.yaml", show_default=False),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Search the generator's settings for the published facts that a preset names."""
    from optimize.calibrate import calibrate_book
    from optimize.preset_file import refuse_existing, write_preset

    if out is not None:
        refuse_existing(out)
    spec, market = _to_calibrate(what, store, json)
    with progress("calibrate", hidden=json) as advance:
        done = calibrate_book(
            spec, tape=market, trials=trials, seed=seed, books=books, progress=advance
        )
    if out is not None:
        given = f"--trials {trials} --books {books} --seed {seed}"
        write_preset(done.spec, out, f"Made by: remargin book calibrate {what} {given}")
    if json:
        write_json({
            "distance": done.distance,
            "start_distance": done.start_distance,
            "trials": done.trials,
            "file": out,
            "spec": done.spec,
            "fit": [row._asdict() for row in done.fit.rows()],
        })  # fmt: skip
        return
    from remargin import show

    line = "stands still, without options" if market is None else show.tape_line(market)
    write_facts([("tape", line)])
    write_facts([(
        "distance",
        f"{number(done.start_distance)} before, {number(done.distance)} after "
        f"{number(done.trials)} trials; below 1 a typical target is met",
    )])  # fmt: skip
    if out is not None:
        write_facts([("preset", str(out))])
    _write_fit(done.fit)


def _write_fit(fit: BookFit) -> None:
    """Write target beside achieved, with a mark where it is missed and where it comes from."""
    sources: dict[str, str] = {"": "", GIVEN: GIVEN}
    missed = {row.name for row in fit.misses()}
    opened = {row.name: row.achieved for row in fit.rows() if row.name.startswith(OPENINGS)}
    facts = [row for row in fit.rows() if row.name not in opened]
    for row in facts:
        sources.setdefault(row.source, f"[{len(sources) - 1}]")
    write_line()
    write_table(
        ("", "target", "achieved", "unit", "source"),
        (
            (
                row.name,
                "" if row.target is None else number(row.target),
                number(row.achieved),
                row.unit,
                f"missed {sources[row.source]}" if row.name in missed else sources[row.source],
            )
            for row in facts
        ),
        right="lrr",
    )
    write_line()
    mix = (f"{name.removeprefix(OPENINGS)} {share:.1%}" for name, share in opened.items())
    write_remarks([", ".join(mix)], "openings")
    for source, mark in sources.items():
        if mark.startswith("["):
            write_remarks([source], mark)


def _to_calibrate(what: str, store: Path | None, hidden: bool) -> tuple[Any, Any]:
    """Find the spec that is meant, and its market where it has one."""
    from backtest.errors import ConfigError
    from backtest.generator.spec import load_preset, load_spec
    from experiments.config import load_config
    from experiments.run import tape_of

    if "market" not in load_preset(what):
        return load_spec(what), None
    study = load_config(Path(what))
    if study.book.generate is None:
        raise ConfigError(f"{what}: book.import: observed accounts are not calibrated.")
    with status("tape", hidden=hidden):
        return study.book.generate, tape_of(study, store)


def _book(config: Path, store: Path | None, hidden: bool) -> tuple[Any, Any, Any]:
    from experiments.config import load_config
    from experiments.run import inputs_of

    study = load_config(config)
    with status("tape and book", hidden=hidden):
        inputs = inputs_of(study, store)
    return inputs.book, inputs.tape, study.book.generate
