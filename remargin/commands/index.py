"""``remargin data index``: an index built from several exchanges, beside the exchanges' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remargin.commands.options import Config, Json, Store
from remargin.terminal import (
    number,
    status,
    write_facts,
    write_json,
    write_line,
    write_remarks,
    write_table,
)

if TYPE_CHECKING:
    from data_ingest.index_report import IndexReport


def index(config: Config, store: Store = None, json: Json = False) -> None:
    """Build a config's composite index and show who counted, and how far others' own are."""
    from data_ingest.index_report import index_reports
    from data_ingest.snapshot import open_store_or_snapshot
    from experiments.config import load_config
    from experiments.market_data import market_path

    study = load_config(config)
    with (
        open_store_or_snapshot(market_path(study, store)) as opened,
        status("index", hidden=json),
    ):
        reports = index_reports(opened, study.market)
    if json:
        write_json(reports)
    else:
        _show(reports)


def _show(reports: list[IndexReport]) -> None:
    from backtest.units import iso_utc

    for report in reports:
        counted = ", ".join(
            f"{count} sources at {instants / report.instants:.1%}"
            for count, instants in sorted(report.by_count.items(), reverse=True)
        )
        held = f"; {number(report.held)} hold the last price" if report.held else ""
        write_facts([(report.asset, f"{number(report.instants)} instants: {counted}{held}")])
    write_line()
    write_table(
        ("asset", "source", "counted", "unseen", "stale", "outlier"),
        (
            (report.asset, row.source,
             *(number(count) for count in (row.used, row.unseen, row.stale, row.outlier)))
            for report in reports
            for row in report.sources
        ),
        right="llrrrr",
    )  # fmt: skip
    write_line()
    if not any(report.beside for report in reports):
        write_remarks(["The store holds no exchange's own index to compare with."])
        return
    write_table(
        ("asset", "own index of", "median bp", "99% bp", "largest bp", "at (UTC)"),
        (
            (report.asset, row.exchange, f"{row.median_bps:.2f}", f"{row.p99_bps:.1f}",
             f"{row.largest_bps:,.1f}", iso_utc(row.largest_at_ms))
            for report in reports
            for row in report.beside
        ),
        right="llrrrl",
    )  # fmt: skip
