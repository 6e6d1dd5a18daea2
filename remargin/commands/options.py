"""Options that several commands share, so that each means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path, typer.Argument(help="Study config, YAML.", metavar="CONFIG", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Store = Annotated[
    Path | None,
    typer.Option(
        help="DuckDB store; the config's own, or store.duckdb in the workspace, by default.",
        metavar="FILE",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of recorded files.",
        envvar="REMARGIN_DATA",
        metavar="DIR",
        show_default=False,
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        "--policy",
        help="Policy instead of the config's: name, preset or `file.py:Class`.",
        metavar="POLICY",
        show_default=False,
    ),
]
Run = Annotated[
    str, typer.Argument(help="Run id, its first characters, or `latest`.", metavar="RUN")
]
