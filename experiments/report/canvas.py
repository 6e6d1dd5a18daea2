"""Drawing for a page that is read in print, at night and on a telephone.

Matplotlib draws with the colours of the light theme; each is then named after a CSS variable,
so that one SVG follows the page's theme and still stands alone beside the Markdown. Text stays
text, identifiers are salted and dates left out: the same numbers give the same bytes.
"""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#66727f"
RULE = "#dfe3e8"
CURRENT = "#b4690e"
PROPOSED = "#1d63a8"
ALARM = "#c0273f"
CLOUD = "#b8c1cb"
PAPER = "#fdfdfc"

_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    CURRENT: "current",
    PROPOSED: "proposed",
    ALARM: "alarm",
    CLOUD: "cloud",
    PAPER: "paper",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "remargin",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.4,
    "path.simplify": True,
}
WIDTH_IN = 7.6
"""Width of every figure, inches: at 72 points each, near the page's text width."""


def draw(
    name: str,
    title: str,
    height_in: float,
    paint: Callable[[Figure], None],
) -> str:
    """Draw one figure as an inline SVG element.

    Parameters
    ----------
    name
        Prefix of every identifier in the SVG, unique in the page.
    title
        What a screen reader says in place of the figure.
    height_in
        Height in inches; the width is `WIDTH_IN`.
    paint
        Draws into the empty figure it is given.

    Returns
    -------
    str
        ``<svg …>…</svg>``, the same text for the same numbers.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0.0)
        paint(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        text = StringIO()
        figure.savefig(text, format="svg")
    return _inline(text.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> str:
    body = svg[svg.index("<svg") :]
    # The metadata hold the hour and the version of the program.
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns:xlink="[^"]*"', "", body).replace("xlink:href=", "href=")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable}, {colour})")
    head, rest = body.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    label = f'role="img" aria-labelledby="{name}-title"'
    return f'{head} {label}>\n <title id="{name}-title">{escape(title)}</title>{rest.rstrip()}\n'


def time_axis(axes: Axes, start_ms: int, end_ms: int) -> None:
    """Label an axis of milliseconds UTC with dates, as few as are needed."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    # Ticks name the month or the day; the year alone is left to say at the corner.
    corner = ["", "%Y", "%Y", "%Y", "%Y-%m-%d", "%Y-%m-%d"]
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, offset_formats=corner))
    axes.set_xlim(as_date(np.array([start_ms]))[0], as_date(np.array([end_ms]))[0])


def as_date(ms: np.ndarray) -> np.ndarray:
    """Convert milliseconds UTC to the days that Matplotlib counts."""
    return np.asarray(ms, np.float64) / 86_400_000.0


def buckets(rows: int, limit: int) -> np.ndarray:
    """Return the first row of each of at most ``limit`` runs of equally many rows."""
    return np.arange(0, rows, -(-rows // limit))
