"""``remargin book``: make the accounts of a config, and see how well they fit what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from remargin.commands.options import Config, Json, Store
from remargin.terminal import (
    number,
    status,
    write_facts,
    write_json,
    write_line,
    write_remarks,
    write_table,
)

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


def _book(config: Path, store: Path | None, hidden: bool) -> tuple[Any, Any, Any]:
    from experiments.config import load_config
    from experiments.run import inputs_of

    study = load_config(config)
    with status("tape and book", hidden=hidden):
        inputs = inputs_of(study, store)
    return inputs.book, inputs.tape, study.book.generate
