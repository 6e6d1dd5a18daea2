"""The page of a data verification: findings, coverage and the worst jumps, in one HTML file."""

from __future__ import annotations

from html import escape
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from backtest.units import MS_PER_YEAR, duration_text, iso_utc
from data_ingest.coverage import merge
from data_ingest.quality.candles import candle_keys
from data_ingest.quality.findings import FINDING_RULES, SEVERITIES
from data_ingest.quality.places import Stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.coverage import Window
    from data_ingest.quality.findings import Finding
    from data_ingest.quality.verify import Verification
    from data_ingest.store import DataStore

JUMPS_DRAWN = 6
_BARS_BESIDE = 40
_LABELS, _WIDTH, _ROW = 290, 960, 17
_JUMP_WIDTH, _JUMP_HEIGHT = 280, 90
TEMPLATES = Path(__file__).resolve().parent / "templates"


def write_data_page(store: DataStore, verification: Verification, path: Path) -> None:
    """Write the page.

    Parameters
    ----------
    store : DataStore
        Where coverage and prices are read.
    verification : Verification
        What was found in it.
    path : pathlib.Path
        The HTML file; its folder is made.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    spans, pixel_ms = _spans(store)
    page = {
        "store": store.path.name,
        "rows": f"{verification.rows:,}",
        "data_state": verification.data_state,
        "tally": [(each, f"{verification.count(each):,}") for each in SEVERITIES],
        "spans": spans,
        "pixel": Stretch(0, pixel_ms, 0, 0, 0.0).length,
        "jumps": _jumps(store, verification.findings),
        "severities": [(each, _rules(verification.findings, each)) for each in SEVERITIES],
    }
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    html = environment.get_template("data-quality.html.j2").render(page=page, style=style)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")


def _rules(findings: Sequence[Finding], severity: str) -> list[dict[str, Any]]:
    chosen = [each for each in findings if each.severity == severity]
    return [
        {
            "name": name,
            "meaning": FINDING_RULES[name].meaning,
            "bound": FINDING_RULES[name].bound,
            "looks_at": FINDING_RULES[name].looks_at,
            "findings": [
                {
                    "market": _market(each),
                    "feed": each.feed,
                    "start": iso_utc(each.start_ms)[:16] if each.start_ms else "",
                    "rows": f"{each.rows:,}",
                    "detail": each.detail,
                }
                for each in group
            ],
        }
        for name, group in groupby(chosen, key=lambda each: each.rule)
    ]


def _market(finding: Finding) -> str:
    if finding.exchange == "all":
        return finding.market
    return f"{finding.exchange} {finding.market}"


def _spans(store: DataStore) -> tuple[str, int]:
    """Draw every series of the ledger on one axis; also return the length of a pixel, ms."""
    series: dict[str, list[Window]] = {}
    for exchange, market, feed, timeframe, start, end in store.rows(
        "SELECT exchange, market, feed, timeframe_ms, start_ms, end_ms FROM coverage ORDER BY ALL"
    ):
        bars = f" {duration_text(timeframe)}" if timeframe else ""
        label = f"{exchange} {market} {feed.replace('_', ' ')}{bars}"
        series.setdefault(label, []).append((start, end))
    if not series:
        return "", 1
    first = min(windows[0][0] for windows in series.values())
    last = max(windows[-1][1] for windows in series.values())
    pixel_ms = max(1, (last - first) // (_WIDTH - _LABELS))

    def bar(kind: str, window: Window, y: int) -> str:
        start, end = window[0], max(window[1], window[0] + pixel_ms)
        x = _LABELS + (start - first) / pixel_ms
        return (
            f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{(end - start) / pixel_ms:.1f}" '
            f'height="{_ROW - 6}"/>'
        )

    height = _ROW * (len(series) + 2)
    drawn = _axis(first, last, pixel_ms, height)
    for row, (label, windows) in enumerate(series.items(), 1):
        y = row * _ROW + 4
        drawn.append(f'<text class="label" x="0" y="{y + 9}">{escape(label)}</text>')
        of_instants = all(end - start == 1 for start, end in windows)
        held = merge((a, a + pixel_ms) for a, _ in windows) if of_instants else windows
        drawn += [bar("held", window, y) for window in held]
        if not of_instants:
            # Over what is held, so that a short hole is seen.
            drawn += [bar("lost", (a[1], b[0]), y) for a, b in pairwise(windows)]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="What the ledger calls complete">{"".join(drawn)}</svg>',
        pixel_ms,
    )


def _axis(first: int, last: int, pixel_ms: int, height: int) -> list[str]:
    """Draw lines at the starts of years, or of months where there is less than two years."""
    years = last - first > 2 * MS_PER_YEAR
    unit: Literal["Y", "M"] = "Y" if years else "M"
    starts = np.arange(
        np.datetime64(first, "ms").astype(f"datetime64[{unit}]") + 1,
        np.datetime64(last, "ms").astype(f"datetime64[{unit}]") + 1,
    )
    drawn = []
    for start in starts:
        at = int(start.astype("datetime64[ms]").astype(np.int64))
        x = _LABELS + (at - first) / pixel_ms
        drawn.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_ROW}" y2="{height}"/>'
            f'<text x="{x:.1f}" y="11">{start}</text>'
        )
    return drawn


def _jumps(store: DataStore, findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Draw the closes around the worst jump of each series, the largest few of them."""
    keys = {(key.series.feed, key.exchange, key.symbol): key for key in candle_keys(store)}
    worst: dict[tuple[str, str, str], Finding] = {}
    for each in findings:
        place = (each.feed, each.exchange, each.market)
        if each.rule == "jump" and place in keys:
            worst.setdefault(place, each)
    drawn = []
    for place, each in worst.items():
        key = keys[place]
        beside = _BARS_BESIDE * key.timeframe_ms
        bars = store.columns(
            "SELECT open_ms, close FROM candles WHERE exchange = ? AND symbol = ? AND kind = ? "
            "AND timeframe_ms = ? AND open_ms BETWEEN ? AND ? ORDER BY 1",
            [key.exchange, key.symbol, key.kind, key.timeframe_ms, each.start_ms - beside,
             each.start_ms + beside],
        )  # fmt: skip
        times, closes = bars["open_ms"], bars["close"]
        at = int(np.searchsorted(times, each.start_ms))
        caption = f"{_market(each)}, {each.feed}. {each.detail}"
        size = abs(float(np.log(closes[at] / closes[at - 1])))
        drawn.append((size, _sparkline(times, closes, at), caption))
    largest = sorted(drawn, key=lambda one: -one[0])[:JUMPS_DRAWN]
    return [{"svg": svg, "caption": caption} for _, svg, caption in largest]


def _sparkline(times: np.ndarray, closes: np.ndarray, place: int) -> str:
    low, high = float(closes.min()), float(closes.max())
    x = (times - times[0]) / max(1, int(times[-1] - times[0])) * (_JUMP_WIDTH - 8) + 4
    y = _JUMP_HEIGHT - 6 - (closes - low) / ((high - low) or 1.0) * (_JUMP_HEIGHT - 22)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f'<svg viewBox="0 0 {_JUMP_WIDTH} {_JUMP_HEIGHT}" role="img" aria-label="closes">'
        f'<text x="4" y="10">{low:g} to {high:g} USD</text>'
        f'<polyline class="line" points="{points}"/>'
        f'<circle class="lost" cx="{x[place]:.1f}" cy="{y[place]:.1f}" r="3"/></svg>'
    )
