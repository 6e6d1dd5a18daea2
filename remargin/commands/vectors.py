"""``remargin vectors``: whether the models reproduce what venues publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remargin.commands.options import Json
from remargin.terminal import write_json, write_line, write_table

SOME_FAILED = 1
_WORDS = {"passed": "PASS", "failed": "FAIL", "not covered": "NOT COVERED"}


def vectors(
    file: Annotated[Path, typer.Argument(help="JSON of published cases.", metavar="FILE")],
    json: Json = False,
) -> None:
    """Run published numbers through the project's models; what has none is not covered."""
    from experiments.vectors import run_vectors, summary

    verdicts = run_vectors(file)
    if json:
        write_json(verdicts)
    else:
        write_table(
            ("vector", "verdict", "rel. error", "what"),
            (
                (
                    verdict.id,
                    _WORDS[verdict.status],
                    "" if verdict.status == "not covered" else f"{verdict.relative_error:.1e}",
                    verdict.detail,
                )
                for verdict in verdicts
            ),
            right="llr",
        )
        write_line(summary(verdicts))
    if any(verdict.status == "failed" for verdict in verdicts):
        raise typer.Exit(SOME_FAILED)
