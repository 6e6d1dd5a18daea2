"""Write the tables of ``docs/data-quality.md``: the rules, and what recorded data shows.

Run from the repository: ``python docs/data-quality/generate.py`` renews the table of rules;
with ``--data DIR``, the folder of recorded data, it imports and verifies every folder anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from folders import FOLDERS, Seen

from data_ingest.mapping import ImportMapping
from data_ingest.quality.chains import load_chain_rows, reprice
from data_ingest.quality.findings import FINDING_RULES, Finding
from data_ingest.quality.verify import verify
from data_ingest.recorded import import_recorded
from data_ingest.store import DataStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAGE = Path(__file__).resolve().parents[1] / "data-quality.md"
MAPPINGS = PAGE.parents[1] / "configs" / "import"
MARKETS_NAMED = 6
AS_NAMED = "binance-perp-1h-2019-2022"
"""Whose 8h file is called mark; it is read as that once, to see whether it is found out."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> str:
    """Lay out a Markdown table; ``right`` has one letter per column, r for numbers."""
    rule = ["---:" if right[k : k + 1] == "r" else "---" for k in range(len(head))]
    lines = [list(head), rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rules_table() -> str:
    """Lay out what is looked for."""
    return table(
        ("rule", "looks at", "severity", "begins at", "meaning"),
        (
            (f"`{rule.name}`", rule.looks_at, rule.severity, rule.bound, rule.meaning)
            for rule in FINDING_RULES.values()
        ),
    )


def mappings_of(folder: str) -> list[ImportMapping]:
    """Return the shipped mappings, reduced to the files of one folder, each file once."""
    found, seen = [], set()
    for path in sorted(MAPPINGS.glob("*.yaml")):
        mapping = ImportMapping.load(path)
        groups = []
        for group in mapping.files:
            names = tuple(sorted(group.markets)) or ("",)
            # One file may be read by several mappings, for other markets.
            if group.path.startswith(f"{folder}/") and (group.path, names) not in seen:
                seen.add((group.path, names))
                groups.append(group)
        if groups:
            found.append(mapping.model_copy(update={"files": tuple(groups)}))
    return found


def seen_in(folder: str, data: Path) -> tuple[Seen, str]:
    """Import one folder into a store of its own and verify it; also tell how marks reprice."""
    with tempfile.TemporaryDirectory() as place:
        with DataStore(Path(place) / "market.duckdb") as store:
            for mapping in mappings_of(folder):
                import_recorded(store, mapping, data)
            findings = verify(store).findings
            repriced = _repriced(store)
        if folder == AS_NAMED:
            findings += _read_as_mark(data, Path(place) / "marks.duckdb")
    return Seen(data / folder, findings), repriced


def _read_as_mark(data: Path, path: Path) -> tuple[Finding, ...]:
    with DataStore(path) as store:
        for mapping in mappings_of(AS_NAMED):
            files = tuple(
                group.model_copy(update={"kind": "mark"}) if "mark" in group.path else group
                for group in mapping.files
            )
            import_recorded(store, mapping.model_copy(update={"files": files}), data)
        return tuple(each for each in verify(store).findings if each.rule == "mark_is_trade")


def _repriced(store: DataStore) -> str:
    told = []
    for exchange, asset in store.rows(
        "SELECT DISTINCT exchange, asset FROM chain JOIN instruments USING (exchange, native_id) "
        "ORDER BY ALL"
    ):
        error = np.abs(reprice(load_chain_rows(store, exchange, asset)))
        told.append(
            f"{asset}: median {np.median(error):.1e}, p99 {np.quantile(error, 0.99):.1e}, "
            f"largest {error.max():.1e} over {len(error):,} marks"
        )
    return "; ".join(told)


def section(folder: str, data: Path) -> str:
    """Write what is to be said of one folder."""
    told = FOLDERS[folder]
    seen, repriced = seen_in(folder, data)

    def sentence(given: Any) -> str:
        return str(given(seen)) if callable(given) else str(given).replace("REPRICED", repriced)

    parts = [
        f"### {folder}",
        table(("its PROVENANCE.md says", "found"), ((a, sentence(b)) for a, b in told.named)),
    ]
    if told.unnamed:
        parts.append("Not named there:")
        parts.append("\n".join(f"- {sentence(each)}" for each in told.unnamed))
    if "chain" in folder and not any("REPRICED" in str(b) for _, b in told.named):
        parts.append(f"Marks repriced from their volatilities, in coins: {repriced}.")
    parts.append(findings_table(seen.findings, told.rules))
    return "\n\n".join(parts)


def findings_table(findings: Sequence[Finding], named: Sequence[str] = ()) -> str:
    """Lay out findings by rule, market and feed, with the worst place of each."""
    if not findings:
        return "No finding."
    groups: dict[tuple[str, str], list[Finding]] = {}
    for each in findings:
        groups.setdefault((each.rule, each.feed), []).append(each)
    return table(
        ("rule", "named", "feed", "markets", "rows", "one of the worst"),
        (
            (
                f"`{rule}`",
                "yes" if rule in named else "no",
                feed,
                _markets(those),
                f"{sum(each.rows for each in those):,}",
                f"{those[0].market}: {those[0].detail}",
            )
            for (rule, feed), those in groups.items()
        ),
        right="llllr",
    )  # fmt: skip


def _markets(findings: Sequence[Finding]) -> str:
    """Name the markets' assets, the first of many."""
    names = list(dict.fromkeys(each.market.partition("/")[0] for each in findings))
    named, more = names[:MARKETS_NAMED], len(names) - MARKETS_NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def together(data: Path) -> str:
    """Write what only shows when all folders stand in one store."""
    alone: set[Finding] = set()
    for folder in FOLDERS:
        alone |= set(seen_in(folder, data)[0].findings)
    with tempfile.TemporaryDirectory() as place, DataStore(Path(place) / "all.duckdb") as store:
        for path in sorted(MAPPINGS.glob("*.yaml")):
            import_recorded(store, ImportMapping.load(path), data)
        found = verify(store)
    new = [
        each for each in found.findings
        if each not in alone and each.rule in ("timeframes_disagree", "funding_gap", "gap")
    ]  # fmt: skip
    counted = ", ".join(f"{found.count(each):,} {each}s" for each in ("error", "warning", "note"))
    return f"All folders in one store: {found.rows:,} rows, {counted}.\n\n" + findings_table(new)


def put_between(text: str, name: str, block: str) -> str:
    """Replace what stands between two marks of the page."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    head, rest = text.split(begin)
    return head + begin + "\n\n" + block + "\n\n" + end + rest.split(end)[1]


def main(arguments: list[str] | None = None) -> None:
    """Renew the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=None)
    given = parser.parse_args(arguments)
    text = put_between(PAGE.read_text(encoding="utf-8"), "rules", rules_table())
    if given.data:
        for folder in FOLDERS:
            sys.stderr.write(folder + "\n")
            text = put_between(text, folder, section(folder, given.data))
        text = put_between(text, "together", together(given.data))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
