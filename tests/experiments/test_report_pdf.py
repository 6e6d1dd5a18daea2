"""The report prints: one file, every page drawn in the colours of white paper."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from backtest.errors import RunError
from experiments.report.pdf import write_pdf

PAGE = """<!doctype html><title>Vote</title><h1>Should we?</h1>
<svg viewBox="0 0 10 10" width="100" height="100">
<rect width="10" height="10" style="fill: var(--proposed, #1d63a8)"/></svg>"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Write a small page with a themed figure."""
    path = tmp_path / "report.html"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_a_report_is_printed_with_its_figures_in_colour(page: Path) -> None:
    try:
        importlib.import_module("weasyprint")
    except (ImportError, OSError):
        pytest.skip("the print engine or its text library is not installed")
    printed = write_pdf(page)
    assert printed == page.with_suffix(".pdf")
    content = printed.read_bytes()
    assert content.startswith(b"%PDF-")
    assert page.read_text(encoding="utf-8") == PAGE
    plain = page.with_name("plain.html")
    plain.write_text(PAGE.replace("var(--proposed, #1d63a8)", "#1d63a8"), encoding="utf-8")
    assert len(write_pdf(plain).read_bytes()) == len(content)


def test_without_the_print_engine_one_sentence_says_what_to_install(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(RunError, match=r"install remargin\[pdf\]"):
        write_pdf(page)
