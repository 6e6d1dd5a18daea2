"""``remargin demo`` and ``remargin simulate-exchange``: a market that any machine can have."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from remargin.commands.options import Json
from remargin.terminal import progress, write_facts, write_json, write_line, write_note

Day = datetime | None
_DAY_FORMATS = ["%Y-%m-%d"]


def demo(
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trials of the search; the config's by default."),
    ] = None,
    json: Json = False,
) -> None:
    """Pull, replay, search, track and report on a simulated market: out/demo/report.html."""
    from experiments.demo import run_demo
    from remargin import show

    say = (lambda line: None) if json else (lambda line: write_line(f"  {line}"))
    with progress("search", hidden=json) as advance:
        made = run_demo(
            trials=trials,
            announce=say,
            inputs_ready=lambda inputs: show.show_inputs(inputs, hidden=json),
            progress=advance,
        )
    if json:
        write_json({**show.study_record(made.tracked), "report": made.report})
        return
    show.show_study(made.tracked)
    write_line()
    write_facts([("store", str(made.store)), ("report", str(made.report))])
    write_line(show.run_line(made.tracked.run_id, "report", "reproduce"))


def simulate_exchange(
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.")] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the market.")] = None,
    start: Annotated[
        Day, typer.Option(formats=_DAY_FORMATS, help="First day, UTC.", metavar="DAY")
    ] = None,
    end: Annotated[
        Day, typer.Option(formats=_DAY_FORMATS, help="Day after the last, UTC.", metavar="DAY")
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(help="Requests that fail on purpose: a YAML file.", metavar="FILE"),
    ] = None,
    rate_limits: Annotated[
        bool, typer.Option("--rate-limits", help="Refuse whoever asks too fast, as exchanges do.")
    ] = False,
) -> None:
    """Serve a simulated market as five exchanges do, for the real ccxt clients."""
    from pydantic import ValidationError

    from backtest.errors import ConfigError
    from backtest.mistakes import first_mistake
    from data_ingest.simulator import FaultSchedule, MarketParameters, serve_forever

    given = {
        "seed": seed,
        "start": start and start.strftime("%Y-%m-%d"),
        "end": end and end.strftime("%Y-%m-%d"),
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        parameters = MarketParameters.model_validate(chosen)
    except ValidationError as error:
        raise ConfigError(first_mistake(error, "", MarketParameters, chosen)) from None
    schedule = FaultSchedule.from_yaml(faults) if faults else None
    serve_forever(parameters, host, port, write_note, schedule, rate_limits)
