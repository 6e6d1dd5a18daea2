"""What a policy's list, margin and examination look like in a terminal and as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from remargin.terminal import write_facts, write_line, write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from strategies.catalog import Entry
    from strategies.portfolio import Ask
    from strategies.testing import Finding

MARKS = {True: "ok", False: "FAIL", None: "-"}


def show_catalog(entries: Iterable[Entry]) -> None:
    """Write one line per policy: kind, what it reads, how many numbers, where it comes from."""
    rows = [
        (e.name, e.generation, ", ".join(e.needs), str(e.parameters), e.source.partition(";")[0])
        if e.generation
        else (e.name, "cannot be loaded", "", "", e.summary)
        for e in entries
    ]
    head = ("policy", "generation", "reads", "numbers", "where it comes from")
    write_table(head, rows, right="lllr")


def show_margin(asked: Ask) -> None:
    """Write the parts of a margin, their sum, and what equity leaves beside it."""
    rows = [
        (part.replace("_", " "), _usd(initial), _usd(maintenance))
        for _, part, initial, maintenance in asked.parts
    ]
    rows.append(("margin", _usd(asked.initial_usd), _usd(asked.maintenance_usd)))
    rows.append(("equity", _usd(asked.equity_usd), _usd(asked.equity_usd)))
    free = [asked.equity_usd - margin for margin in (asked.initial_usd, asked.maintenance_usd)]
    rows.append(("equity less margin", _usd(free[0]), _usd(free[1])))
    initial, maintenance = _health(asked)
    rows.append(("health, equity over margin", _times(initial), _times(maintenance)))
    write_line()
    write_table(("USD", "initial", "maintenance"), rows, right="lrr")
    worst = asked.worst or (f"scenario {asked.worst_scenario}" * (asked.worst_scenario >= 0))
    if worst:
        write_line()
        write_facts([("worst", worst)])


def margin_record(name: str, identity: dict[str, Any], asked: Ask) -> dict[str, Any]:
    """Return a margin for JSON."""
    initial, maintenance = _health(asked)
    return {
        "policy": name,
        "identity": identity,
        "equity_usd": asked.equity_usd,
        "initial_usd": asked.initial_usd,
        "maintenance_usd": asked.maintenance_usd,
        "equity_less_initial_usd": asked.equity_usd - asked.initial_usd,
        "equity_less_maintenance_usd": asked.equity_usd - asked.maintenance_usd,
        "equity_over_initial": initial,
        "equity_over_maintenance": maintenance,
        "worst": asked.worst,
        "worst_scenario": asked.worst_scenario,
        "components": [
            {"layer": layer, "part": part, "initial_usd": im, "maintenance_usd": mm}
            for layer, part, im, mm in asked.parts
        ],
    }


def show_findings(findings: Sequence[Finding]) -> None:
    """Write what was checked and found, and a sentence for all of it."""
    write_line()
    write_table(
        ("", "checked", "found"),
        [(MARKS[finding.passed], finding.title, finding.sentence) for finding in findings],
    )
    write_line()
    counts = {mark: sum(f.passed is answer for f in findings) for answer, mark in MARKS.items()}
    told = f"{counts['ok']} kept, {counts['FAIL']} broken, {counts['-']} not promised"
    write_line(f"  {told}{' and not checked' * bool(counts['-'])}")


def _health(asked: Ask) -> list[float]:
    margins = (asked.initial_usd, asked.maintenance_usd)
    return [asked.equity_usd / usd if usd > 0.0 else math.nan for usd in margins]


def _usd(value: float) -> str:
    return f"{value:,.2f}" if math.isfinite(value) else "n/a"


def _times(value: float) -> str:
    return f"{value:.4g}x" if math.isfinite(value) else "n/a"
