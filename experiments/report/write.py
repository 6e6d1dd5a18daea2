"""Write a report: one HTML file that needs nothing else, Markdown for a forum, JSON to check."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.report.blocks import Chart, Code, Points, Table
from experiments.report.episodes import crisis_list, outcome
from experiments.report.sections import build_document
from experiments.report.wording import public_value

if TYPE_CHECKING:
    from jinja2 import Environment

    from experiments.report.blocks import Document
    from experiments.report.inputs import Pair, ReportInput
    from experiments.report.verdict import Verdict

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


def write_report(report: ReportInput, folder: Path) -> Path:
    """Write ``report.html``, ``report.md`` and ``report.json`` into a folder.

    Parameters
    ----------
    report
        Everything that is printed.
    folder
        Made if it does not exist; the three files are replaced.

    Returns
    -------
    Path
        The HTML file. The same input gives the same bytes in all three files.
    """
    document, verdict = build_document(report)
    html = render("report.html.j2", document)
    files = {"report.html": html, "report.md": render("report.md.j2", document)}
    numbers = _numbers(report, verdict)
    # Whoever holds the numbers can tell whether a page that was forwarded is the one they made.
    numbers["sha256"] = {
        **{name: _sha256(text) for name, text in files.items()},
        **_parts(document),
    }
    files["report.json"] = json.dumps(numbers, indent=1, sort_keys=True, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return folder / "report.html"


def render(template: str, document: Document) -> str:
    """Fill a template; an unknown name in it is an error, never a blank."""
    return (
        _environment()
        .get_template(template)
        .render(doc=document, style=(TEMPLATES / "report.css").read_text(encoding="utf-8"))
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    for name, kind in (("table", Table), ("chart", Chart), ("points", Points), ("code", Code)):
        environment.tests[name] = lambda block, kind=kind: isinstance(block, kind)
    environment.filters["markdown"] = _markdown
    return environment


def _markdown(text: str) -> str:
    """Escape what Markdown would read as markup."""
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parts(document: Document) -> dict[str, str]:
    """Return the digest of every figure, by key and position."""
    charts = [b for section in document.sections for b in section.blocks if isinstance(b, Chart)]
    return {f"figure {n} ({chart.key})": _sha256(chart.svg) for n, chart in enumerate(charts, 1)}


def _numbers(report: ReportInput, verdict: Verdict) -> dict[str, Any]:
    """Collect every number of the report by key, ready for JSON."""
    episodes = [
        asdict(episode)
        | {
            "asset": report.holdout.current.assets[episode.asset],
            "current": asdict(outcome(pair.current, episode)),
            "proposed": asdict(outcome(pair.proposed, episode)),
        }
        for episode in crisis_list(report.search.current, report.holdout.current)
        for pair in (report.holdout if episode.held_out else report.search,)
    ]
    trials = [
        {
            "trial": trial.number,
            "values": dict(trial.values),
            "metrics": dict(trial.metrics),
            "violations": dict(trial.violations),
            "feasible": trial.feasible,
            "on_front": trial.number in report.front,
            "holdout": dict(report.front_holdout.get(trial.number, {})) or None,
        }
        for trial in report.trials
    ]
    numbers = {
        "run_id": report.run_id,
        "name": report.name,
        "question": report.question,
        "verdict": asdict(verdict) | {"recommended": verdict.recommended},
        "settings": {
            "current": report.settings("current"),
            "proposed": report.settings("proposed"),
        },
        "windows": {"search": _window(report.search), "holdout": _window(report.holdout)},
        "objectives": [asdict(objective) for objective in report.goal.objectives],
        "limits": [str(limit) for limit in report.goal.limits],
        "episodes": episodes,
        "trials": trials,
        "proposed_trial": report.proposed_trial,
        "selection_rule": report.selection_rule,
        "sources": [asdict(source) for source in report.sources],
        "notes": list(report.notes),
        "book_origin": report.book_origin,
        "book_fit": [row._asdict() for row in report.book_fit],
        "synthetic": {"market": report.synthetic_market, "book": report.synthetic_book},
        "warnings": report.warnings(),
        "manifest": dict(report.manifest),
    }
    cleaned: dict[str, Any] = _finite(public_value(numbers))
    return cleaned


def _window(pair: Pair) -> dict[str, Any]:
    return {
        "start_ms": pair.current.window[0],
        "end_ms": pair.current.window[1],
        "current": pair.current.metrics,
        "proposed": pair.proposed.metrics,
        "comparison": asdict(pair.comparison),
    }


def _finite(value: Any) -> Any:
    """Write NaN and infinity as null: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
