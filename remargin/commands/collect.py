"""``remargin data collect``: be there when an exchange serves what it will not serve again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from remargin.commands.options import Config, Json, Store
from remargin.terminal import number, write_json, write_line, write_remarks

if TYPE_CHECKING:
    from data_ingest.pull_report import PullReport


def collect(
    config: Config,
    store: Store = None,
    span: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Stop after so long, for example 30d; without it Ctrl-C stops.",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    simulator: Annotated[
        str | None,
        typer.Option(
            help="Address of a running `remargin simulate-exchange`, whose clock is moved from "
            "the start of the config's window instead of waited for.",
            metavar="URL",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Take chains, books, brackets and short-lived statistics on schedule, day after day.

    Exchanges serve these for the present only. How often is in the config: `options.poll` and
    `depth.poll`; brackets and statistics are asked for once a day. Stopped and started again,
    it goes on, and notes what nobody asked for in between.
    """
    from backtest.units import iso_utc, parse_duration_ms
    from data_ingest.collect import SimulatedClock, WallClock, collect
    from experiments.config import load_config
    from experiments.importing import writable_store

    study = load_config(config)
    length_ms = parse_duration_ms(span) if span else None
    market = study.market
    clock = SimulatedClock(simulator, market.start) if simulator else WallClock()
    until_ms = market.end if simulator else None
    if length_ms is not None:
        until_ms = clock.now_ms() + length_ms
    taken: list[PullReport] = []

    def tell(at_ms: int, report: PullReport) -> None:
        taken.append(report)
        if json:
            write_json({"at_ms": at_ms} | report.__dict__)
            return
        said = report.failure or f"{number(report.rows_added)} rows"
        write_line(f"  {iso_utc(at_ms)}  {report.exchange} {report.feed} {report.market}  {said}")

    try:
        collect(
            writable_store(store, study.store), market, simulator,
            until_ms=until_ms, clock=clock, progress=tell,
        )  # fmt: skip
    except KeyboardInterrupt:
        write_remarks(["stopped; start it again to go on"])
    if not json:
        rows = sum(report.rows_added for report in taken)
        write_remarks([f"{number(len(taken))} answers, {number(rows)} rows"])
