"""The command line: which words it knows and where each is answered."""

from __future__ import annotations

from typing import Annotated

import typer

from remargin.commands import book, data, demo, policy, replay, runs, study, vectors

app = typer.Typer(
    name="remargin",
    help="Replay real markets through a proposed margin policy: what it would have saved, and "
    "what it would have cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        import remargin

        typer.echo(f"remargin {remargin.__version__}")
        raise typer.Exit


@app.callback()
def _everything(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


app.add_typer(data.app, name="data")
app.add_typer(book.app, name="book")
app.add_typer(policy.app, name="policy")
app.command()(replay.replay)
app.command()(study.optimize)
app.command()(study.compare)
app.command()(runs.report)
app.command()(runs.runs)
app.command()(runs.reproduce)
app.command()(vectors.vectors)
app.command()(demo.demo)
app.command()(demo.simulate_exchange)
