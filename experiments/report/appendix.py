"""The tables of the inputs: data, accounts, assumptions, versions, definitions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backtest.metrics import METRICS, metrics_that_tell
from experiments.report.blocks import Cell, Table
from experiments.report.effects import LABELS
from experiments.report.inputs import MANIFEST_KEYS
from experiments.report.tables import lay_out, span
from experiments.report.wording import (
    UNDEFINED,
    amount,
    digest_text,
    public_text,
    setting_text,
    share,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.report.inputs import ReportInput
    from experiments.report.venue_rules import Assumption


def inventory(report: ReportInput) -> Table:
    """T5: every feed, its span and digest."""
    rows = [
        (
            Cell(source.feed),
            Cell(source.market),
            Cell(span((source.start_ms, source.end_ms))),
            Cell(f"{source.rows:,}"),
            Cell(digest_text(source.sha256), tone="number"),
            Cell(public_text(source.origin)),
        )
        for source in report.sources
    ]
    tape = report.holdout.current
    rows.append(
        (
            Cell("tape", "all feeds on one clock"),
            Cell(", ".join(tape.assets)),
            Cell(span(report.span)),
            Cell(f"{len(report.search.current.ts) + len(tape.ts):,}", "search and hold-out rows"),
            Cell(digest_text(tape.tape_digest), tone="number"),
            Cell("simulated market" if report.synthetic_market else "recorded market"),
        )
    )
    rows.append(
        (
            Cell("accounts"),
            Cell("all"),
            Cell("as the tape"),
            Cell("see population"),
            Cell(digest_text(tape.book_digest), tone="number"),
            Cell(public_text(report.book_origin)),
        )
    )
    return lay_out(
        "T5",
        "Data inventory. Digests are sha256; the full ones are in the run's manifest.",
        "feed|market|span, UTC|>rows|digest|origin",
        rows,
    )


def population(report: ReportInput) -> Table:
    """T8: the generated accounts against their targets."""
    return lay_out(
        "T8",
        "Synthetic accounts: what was asked of the generator and what came out.",
        "property|>target|>achieved|source of the target",
        [
            (
                Cell(row.name),
                Cell(_fit(row.target, row.unit)),
                Cell(_fit(row.achieved, row.unit)),
                Cell(row.source or "none"),
            )
            for row in report.book_fit
        ],
    )


def _fit(value: float | None, unit: str) -> str:
    if value is None:
        return "no target"
    if not math.isfinite(value):
        return UNDEFINED
    if unit == "accounts":
        return amount(value, "count")
    if unit.startswith("of "):
        return f"{share(value)} {unit}"
    return setting_text(value, unit)


def assumption_list(items: Sequence[Assumption]) -> Table:
    """T7: what was assumed, and whom it favours."""
    return lay_out(
        "T7",
        "Assumptions of every number in this report.",
        "id|assumption|favours",
        [
            (Cell(f"A{number}"), Cell(item.text), Cell(item.favours))
            for number, item in enumerate(items, 1)
        ],
    )


def reproduction(report: ReportInput) -> Table:
    """Lay out what has to be the same for the numbers to be the same."""
    manifest = report.manifest
    rows = [
        (Cell("run"), Cell(report.run_id, tone="number")),
        (Cell("tape digest"), Cell(str(manifest["tape_digest"]), tone="number")),
        (Cell("book digest"), Cell(str(manifest["book_digest"]), tone="number")),
        (Cell("config hash"), Cell(str(manifest["config_hash"]), tone="number")),
        (
            Cell("code commit"),
            Cell(
                manifest["commit"] or "none",
                "with changes in no commit" if manifest["dirty"] else "",
                "number",
            ),
        ),
        (Cell("seed"), Cell(str(manifest["seed"]), tone="number")),
        (
            Cell("packages"),
            Cell(", ".join(f"{k} {v}" for k, v in sorted(manifest["packages"].items())) or "none"),
        ),
    ]
    for key in sorted(set(manifest) - set(MANIFEST_KEYS)):
        value = manifest[key]
        if isinstance(value, (str, int, float, bool)) and str(value).strip():
            rows.append((Cell(key.replace("_", " ")), Cell(public_text(str(value)), tone="number")))
    return lay_out("T9", "What the numbers depend on.", "input|value", rows)


def glossary(report: ReportInput) -> Table:
    """Lay out the definition of every metric, as the code that computes it holds it."""
    return lay_out(
        "T10",
        "Metrics of this report, by the key under which report.json holds them.",
        "metric|definition|better",
        [
            (
                Cell(LABELS[key][0], key),
                Cell(METRICS[key].definition),
                Cell(METRICS[key].better if METRICS[key].better != "neutral" else "neither"),
            )
            for key in metrics_that_tell(report.results)
        ],
    )
