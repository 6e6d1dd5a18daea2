"""One progress bar per feed while a pull runs, and the coverage table that it ends with."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backtest.units import duration_text, iso_utc
from remargin.mistakes import is_interrupt
from remargin.terminal import number, write_facts, write_note, write_remarks, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from data_ingest.pull_report import Advance, PullReport

_HEADER = ("feed", "market", "new", "expected", "stored", "missing", "why")
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


@contextmanager
def told_if_interrupted() -> Iterator[None]:
    """Say after Ctrl-C that nothing is lost, and how to go on."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or is_interrupt(error):
            write_note("interrupted; what was pulled is stored, and the same command goes on there")
            raise KeyboardInterrupt from None
        raise


def write_coverage(reports: Iterable[PullReport]) -> None:
    """Write what each feed should have, has and lacks, and why, exchange by exchange."""
    listed = list(reports)
    rows: list[tuple[str, ...]] = []
    for exchange in dict.fromkeys(report.exchange for report in listed):
        rows.append((exchange, *[""] * (len(_HEADER) - 1)))
        rows += [_row(report) for report in listed if report.exchange == exchange]
    write_table(_HEADER, rows, right="llrrrr")
    lacking = [(report, one) for report in listed for one in report.shortfalls]
    write_facts(
        (
            "missing",
            f"{report.exchange} {report.market} {report.feed}, {iso_utc(one.start_ms)} to "
            f"{iso_utc(one.end_ms)} UTC, {one.reason}: {one.detail}",
        )
        for report, one in lacking[:SHOWN_SHORTFALLS]
    )
    if len(lacking) > SHOWN_SHORTFALLS:
        write_remarks([f"and {len(lacking) - SHOWN_SHORTFALLS:,} more, in the table shortfalls"])
    if aside := sum(report.rows_quarantined for report in listed):
        write_remarks([f"rows that broke a rule, put aside in quarantine: {number(aside)}"])


def _row(report: PullReport) -> tuple[str, ...]:
    reasons = dict.fromkeys(one.reason for one in report.shortfalls)
    period = f" {duration_text(report.timeframe_ms)}" if report.timeframe_ms else ""
    return (
        f" {report.feed}{period}",
        report.market,
        number(report.rows_added),
        "" if report.expected is None else number(report.expected),
        number(report.stored),
        _missing(report),
        ", ".join(reasons),
    )


def _missing(report: PullReport) -> str:
    """Count rows where the window says how many there must be, else polls, else time."""
    if report.expected is not None:
        return number(report.expected - report.stored)
    spans = [one.end_ms - one.start_ms for one in report.shortfalls]
    if spans and set(spans) == {1}:
        return f"{number(len(spans))} poll{'s' if len(spans) > 1 else ''}"
    return duration_text(sum(spans)) if spans else "0"
