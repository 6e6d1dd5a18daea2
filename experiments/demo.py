"""The whole line on one machine: simulated exchange, real client, store, search, run, report.

The market and the traders are simulated and say so; everything between them is what a study
on recorded data uses. Run again, the demo pulls nothing that it holds and gives the same
numbers, to the bit.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.units import iso_utc
from data_ingest.pull import pull_market
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from data_ingest.store import DataStore
from experiments.config import config_from, load_config
from experiments.report import stored_report, write_report
from experiments.run import Inputs, TrackedStudy, inputs_of, run_study
from experiments.track import Tracker
from experiments.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from data_ingest.pull_report import PullReport
    from experiments.config import RunConfig

    Progress = Callable[[int, int], None]

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
_SIMULATOR = Path(__file__).resolve().parent.parent / "data_ingest" / "simulator"


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo made.

    Parameters
    ----------
    tracked
        The study and its run.
    inputs
        Tape and book.
    store, report
        The DuckDB file and the HTML page; ``report.md`` stands beside it.
    """

    tracked: TrackedStudy
    inputs: Inputs
    store: Path
    report: Path


def run_demo(
    *,
    trials: int | None = None,
    workspace: Workspace | None = None,
    announce: Callable[[str], None] = lambda line: None,
    inputs_ready: Callable[[Inputs], None] = lambda inputs: None,
    progress: Progress | None = None,
) -> Demo:
    """Pull a simulated market, search a margin policy on it, track the run, write the report.

    Parameters
    ----------
    trials
        Candidates; the config's number if not given.
    workspace
        Where runs are kept; the demo's own files lie in its folder ``demo``.
    announce
        Called with a line at each step.
    inputs_ready
        Called once tape and book are built.
    progress
        Called with trials done and trials in all.

    Returns
    -------
    Demo
        Run, store and report.
    """
    workspace = workspace or Workspace.default()
    folder = workspace.home / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "store.duckdb"
    # Named in the config, so that `remargin reproduce` finds it like any other study's.
    config = config_from({**load_config(CONFIG).raw, "store": store.as_posix()}, CONFIG)
    pull_simulated(config, store, announce)
    inputs = inputs_of(config)
    inputs_ready(inputs)
    tracker = Tracker(workspace=workspace)
    tracked = run_study(
        config,
        trials=trials,
        inputs=inputs,
        tracker=tracker,
        workspace=workspace,
        progress=progress,
    )
    record = tracker.find_run(tracked.run_id)
    page = write_report(stored_report(record, tracker.artifacts(record.run_id)), folder)
    return Demo(tracked, inputs, store, page)


def pull_simulated(
    config: RunConfig, store: Path, announce: Callable[[str], None] = lambda line: None
) -> None:
    """Fill a store from a simulated exchange through the real client.

    A store that another version of the simulator has filled is put aside, not overwritten:
    two versions may disagree about the same hour.
    """
    market = config.market
    parameters = MarketParameters(start=market.start, end=market.end)
    stamp = store.with_suffix(".simulator")
    identity = _identity(parameters)
    if store.exists() and (not stamp.exists() or stamp.read_text() != identity):
        _put_aside(store)
    stamp.write_text(identity)
    span = f"{iso_utc(market.start)[:10]} to {iso_utc(market.end)[:10]}"
    with (
        ExchangeSimulator(parameters) as simulator,
        DataStore(store) as opened,
        _counted(announce) as count,
    ):
        announce(f"simulated exchange on {simulator.url}, {span}, seed {parameters.seed}")
        announce("pulling through ccxt at the pace of its rate limiter, about a minute")
        pull_market(opened, market, simulator.url, simulate_clock=True, progress=count)


@contextmanager
def _counted(announce: Callable[[str], None]) -> Iterator[Callable[[PullReport], None]]:
    """Announce each feed as it comes in, and the sum at the end."""
    added = read = 0

    def count(report: PullReport) -> None:
        nonlocal added, read
        added += report.rows_added
        read += report.rows_read
        if report.rows_added:
            announce(
                f"{report.rows_added:>7,} rows  {report.exchange} {report.market} {report.feed}"
            )

    yield count
    announce(
        f"{added:,} rows pulled through ccxt" if added else "the store is complete; nothing pulled"
    )


def _put_aside(store: Path) -> None:
    taken = 1
    while (aside := store.with_name(f"{store.stem}-old-{taken}.duckdb")).exists():
        taken += 1
    store.rename(aside)


def _identity(parameters: MarketParameters) -> str:
    digest = hashlib.sha256(parameters.model_dump_json().encode())
    for source in sorted(_SIMULATOR.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
