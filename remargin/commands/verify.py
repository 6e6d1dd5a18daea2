"""``remargin data verify``: say what is odd about the stored data, and keep it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remargin.commands.options import Json, Store
from remargin.terminal import (
    number,
    progress,
    write_json,
    write_line,
    write_note,
    write_remarks,
    write_table,
)

if TYPE_CHECKING:
    from data_ingest.quality.findings import Finding
    from data_ingest.quality.verify import Verification
    from experiments.config import RunConfig


def verify(
    store: Store = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Study config: look at its markets only.", metavar="CONFIG", show_default=False
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write the findings as one page.", metavar="FILE", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Look for gaps, jumps, stale prices, arbitrage and contradictions in the stored data.

    Findings are printed and stored, in place of those of the last verification; nothing is
    repaired. Ends with status 1 if one of them is an error: the store contradicts itself.
    """
    from data_ingest.manifest import is_frozen
    from data_ingest.quality.verify import keep, markets_of
    from data_ingest.quality.verify import verify as look
    from data_ingest.snapshot import open_store_or_snapshot
    from data_ingest.store import DataStore, StoreError
    from experiments.market_data import market_path
    from experiments.workspace import store_path

    study = _study(config) if config else None
    path = market_path(study, store) if study else store_path(store)
    with (
        open_store_or_snapshot(path) as opened,
        progress("verify", hidden=json) as advance,
    ):
        found = look(opened, markets_of(study.market) if study else None, advance)
        if html:
            from experiments.data_page import write_data_page

            write_data_page(opened, found, html)
    kept = ""
    if config:
        kept = "not stored: these are the findings of one study, not of the store"
    elif is_frozen(path):
        kept = "not stored: a snapshot never changes"
    # Root could write to it nevertheless.
    elif not path.stat().st_mode & 0o222:
        kept = "not stored: the store is read-only"
    else:
        try:
            with DataStore(path) as opened:
                keep(opened, found)
        except StoreError as error:
            kept = f"not stored: {error}"
    if json:
        write_json(_record(found))
    else:
        _show(found)
    if html and not json:
        write_note(f"  page       {html}")
    if kept:
        write_note(f"  findings   {kept}")
    if found.count("error"):
        raise typer.Exit(1)


def _study(config: Path) -> RunConfig:
    # Only where it is needed: it brings the policies, and with them the compiler.
    from experiments.config import load_config

    return load_config(config)


def _record(found: Verification) -> dict[str, Any]:
    from data_ingest.quality.findings import SEVERITIES
    from remargin.terminal import plain

    return {
        "data_state": found.data_state,
        "rows": found.rows,
        **{f"{severity}s": found.count(severity) for severity in SEVERITIES},
        "findings": [plain(each) | {"severity": each.severity} for each in found.findings],
    }


def _show(found: Verification) -> None:
    from data_ingest.quality.findings import SEVERITIES

    for severity in SEVERITIES:
        groups: dict[tuple[str, str, str], list[Finding]] = {}
        for each in found.findings:
            if each.severity == severity:
                where = each.market if each.exchange == "all" else f"{each.exchange} {each.market}"
                groups.setdefault((each.rule, where, each.feed), []).append(each)
        if not groups:
            continue
        write_line(f"  {severity}s")
        write_table(
            ("rule", "market", "feed", "places", "rows"),
            (
                (rule, market, feed, number(len(those)), number(sum(one.rows for one in those)))
                for (rule, market, feed), those in groups.items()
            ),
            right="lllrr",
        )
        write_line()
        if severity != "note":
            worst: dict[str, str] = {}
            for (rule, market, _), those in groups.items():
                worst.setdefault(rule, f"{market}: {those[0].detail}")
            write_table(("rule", "for example"), worst.items())
            write_line()
    counts = ", ".join(
        f"{number(found.count(each))} {each}{'' if found.count(each) == 1 else 's'}"
        for each in SEVERITIES
    )
    write_remarks([f"{number(found.rows)} rows, data {found.data_state}: {counts}."], "verified")
