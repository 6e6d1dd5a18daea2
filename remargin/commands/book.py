"""``remargin book``: make the accounts of a config, and see how well they fit what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from remargin.commands.options import Config, Json, Store
from remargin.terminal import number, status, write_facts, write_json, write_line, write_table

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
    write_table(
        ("", "target", "achieved", "unit", "source"),
        (
            (
                row.name,
                "" if row.target is None else number(row.target),
                number(row.achieved),
                row.unit,
                row.source,
            )
            for row in fit.rows()
        ),
        right="lrr",
    )
    for row in fit.misses():
        write_line(f"  missed: {row.name}")


def _book(config: Path, store: Path | None, hidden: bool) -> tuple[Any, Any, Any]:
    from experiments.config import load_config
    from experiments.run import inputs_of

    study = load_config(config)
    with status("tape and book", hidden=hidden):
        inputs = inputs_of(study, store)
    return inputs.book, inputs.tape, study.book.generate
