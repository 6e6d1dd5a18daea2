"""The report on paper: the same page through a print engine that runs no script and no theme."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backtest.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

_THEMED = re.compile(r"var\(--[\w-]+,\s*(#[0-9a-fA-F]{3,8})\)")
"""A colour of a figure that follows the reader's theme, with the one it has on white paper."""
_PRINT = """
@page { size: A4; margin: 14mm 13mm; }
html { font-size: 11px; }
body { font-size: 1rem; }
h1 { font-size: 2rem; }
table { font-size: .95rem; }
th, td { padding: .3rem .25rem; }
.grade { display: block; text-align: center; line-height: 2.5rem; }
nav { display: none; }
</style>"""
"""What the print engine lays out otherwise than a browser; it has to stand last to count."""


def write_pdf(page: Path) -> Path:
    """Print a written ``report.html`` beside itself.

    Parameters
    ----------
    page
        The HTML file.

    Returns
    -------
    Path
        The PDF file.

    Raises
    ------
    RunError
        If the optional print engine, or the Pango library it draws text with, is missing.
    """
    try:
        from weasyprint import HTML
    except (ImportError, OSError) as error:
        raise RunError(
            "a PDF needs weasyprint and the Pango library: install remargin[pdf] and your "
            f"system's libpango; {error!s}".splitlines()[0]
        ) from None
    text = _THEMED.sub(r"\1", page.read_text(encoding="utf-8"))
    target = page.with_suffix(".pdf")
    HTML(string=text.replace("</style>", _PRINT, 1)).write_pdf(target)
    return target
