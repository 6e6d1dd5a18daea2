"""One progress bar per feed while a pull runs, and the coverage table that it ends with."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backtest.units import duration_text, iso_utc
from remargin.terminal import number, write_line, write_remarks, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from data_ingest.pull_report import Advance, PullReport

_HEADER = ("feed", "market", "new", "aside", "expected", "stored", "missing", "why")
SHOWN_SHORTFALLS = 10
"""Missing windows named below the table; the store's table `shortfalls` has them all."""


@contextmanager
def pull_bars(*, hidden: bool = False) -> Iterator[Callable[[Advance], None]]:
    """Show on standard error how far each feed is, at what rate, and how long it will take.

    Yields
    ------
    callable
        To be called with every page's `Advance`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bars: dict[tuple[str, str, str], tuple[TaskID, float]] = {}
    with Progress(
        TextColumn("  {task.description:<44}"),
        BarColumn(24, complete_style="green", finished_style="green"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
    ) as shown:

        def advance(now: Advance) -> None:
            key = (now.exchange, now.market, now.feed)
            if key not in bars:
                task = shown.add_task(" ".join(key), total=now.total_ms, rate="")
                bars[key] = (task, time.monotonic())
            task, began = bars[key]
            rate = now.rows / max(time.monotonic() - began, 1e-3)
            shown.update(task, completed=now.done_ms, total=now.total_ms,
                         rate=f"{now.rows:,} rows · {rate:,.0f}/s")  # fmt: skip

        yield advance


def write_coverage(reports: Iterable[PullReport]) -> None:
    """Write what each feed should have, has and lacks, and why."""
    listed = list(reports)
    write_table(_HEADER, map(_row, listed), right="llrrrrr")
    lacking = [(report, one) for report in listed for one in report.shortfalls]
    for report, one in lacking[:SHOWN_SHORTFALLS]:
        write_line(
            f"  missing   {report.feed} {report.market}: {iso_utc(one.start_ms)} to "
            f"{iso_utc(one.end_ms)} UTC, {one.reason}: {one.detail}"
        )
    if len(lacking) > SHOWN_SHORTFALLS:
        write_remarks([f"and {len(lacking) - SHOWN_SHORTFALLS:,} more, in the table shortfalls"])


def _row(report: PullReport) -> tuple[str, ...]:
    missing_ms = sum(one.end_ms - one.start_ms for one in report.shortfalls)
    reasons = dict.fromkeys(one.reason for one in report.shortfalls)
    if report.expected is not None:
        missing = number(report.expected - report.stored)
    else:
        missing = duration_text(missing_ms) if missing_ms else "0"
    period = f" {duration_text(report.timeframe_ms)}" if report.timeframe_ms else ""
    return (
        report.feed + period,
        f"{report.exchange} {report.market}",
        number(report.rows_added),
        number(report.rows_quarantined),
        "" if report.expected is None else number(report.expected),
        number(report.stored),
        missing,
        ", ".join(reasons),
    )
