"""``remargin runs``, ``report`` and ``reproduce``: what was run, and whether it still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from remargin.commands.options import Json, Run, Store
from remargin.commands.study import Workers
from remargin.terminal import progress, write_json, write_line, write_table

DIFFERS = 1
FINISHED = "FINISHED"


def runs(
    limit: Annotated[int, typer.Option(min=1, help="How many, at most.")] = 20,
    json: Json = False,
) -> None:
    """List the tracked runs, newest first."""
    from backtest.units import iso_utc
    from experiments.track import Tracker

    records = Tracker().list_runs(limit)
    if json:
        write_json(records)
        return
    if not records:
        write_line("  no runs yet; start with `remargin replay CONFIG` or `remargin demo`")
        return
    write_table(
        ("run_id", "started (UTC)", "kind", "name"),
        (
            (
                record.run_id,
                iso_utc(record.started_ms // 60_000 * 60_000),
                record.kind,
                record.name if record.status == FINISHED else f"{record.status}: {record.name}",
            )
            for record in records
        ),
    )


def report(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to; reports/RUN in the workspace by default.", metavar="DIR"
        ),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print report.pdf too.")] = False,
    json: Json = False,
) -> None:
    """Write the report of a study: report.html, report.md and report.json."""
    from experiments.report import stored_report, write_report
    from experiments.track import Tracker
    from experiments.workspace import Workspace

    tracker = Tracker()
    record = tracker.find_run(run)
    folder = out or Workspace.default().home / "reports" / record.run_id[:8]
    page = write_report(stored_report(record, tracker.artifacts(record.run_id)), folder)
    written = {"html": page, "markdown": page.with_suffix(".md")}
    if pdf:
        from experiments.report.pdf import write_pdf

        written["pdf"] = write_pdf(page)
    if json:
        write_json(written)
        return
    write_line(f"  report    {page}")
    if pdf:
        write_line(f"  on paper  {written['pdf']}")


def reproduce(run: Run, store: Store = None, workers: Workers = None, json: Json = False) -> None:
    """Run a tracked run again and say MATCH, or DIFFERS with the first number that does."""
    from experiments.reproduce import reproduce as run_again
    from experiments.track import Tracker

    with progress("again", hidden=json) as advance:
        again = run_again(run, Tracker(), store=store, workers=workers, progress=advance)
    if json:
        write_json(
            {
                "run_id": again.run_id,
                "matches": again.matches,
                "checked": again.checked,
                "difference": again.difference,
            }
        )
    else:
        write_line(str(again))
    if not again.matches:
        raise typer.Exit(DIFFERS)
