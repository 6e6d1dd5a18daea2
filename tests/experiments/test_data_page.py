from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from data_ingest.quality.verify import verify
from data_ingest.store import DataStore
from experiments.data_page import JUMPS_DRAWN, write_data_page
from tests.data_ingest.clean_market import Frames, clean_frames, import_frames


class _Balance(HTMLParser):
    """Demand that what is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"meta", "rect", "line", "circle", "polyline"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"rect", "line", "circle", "polyline"}:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(frames: Frames, folder: Path) -> str:
    with DataStore(folder / "market.duckdb") as store:
        import_frames(store, frames, folder)
        write_data_page(store, verify(store), folder / "quality.html")
    return (folder / "quality.html").read_text(encoding="utf-8")


def test_the_page_draws_jumps_largest_first_and_names_every_rule_found(tmp_path: Path) -> None:
    frames = clean_frames()
    for name, times in (("trade_1h", 1.2), ("mark_1h", 1.4)):
        frames[name].loc[700:, ["open", "high", "low", "close"]] *= times
    html = page_of(frames, tmp_path)
    read = _Balance()
    read.feed(html)
    assert read.open == []
    captions = [part for part in html.split("<figcaption>")[1:]]
    assert 2 <= len(captions) <= JUMPS_DRAWN
    assert "mark candles 1h" in captions[0]
    assert html.count("<polyline") == len(captions)
    for rule in ("jump", "mark_off_trade", "timeframes_disagree"):
        assert f">{rule}</code>" in html


def test_a_market_without_findings_has_a_page_that_says_so(tmp_path: Path) -> None:
    html = page_of(clean_frames(), tmp_path)
    assert html.count("<p>None.</p>") == 3
    assert "The largest jumps" not in html


def test_equal_data_gives_equal_pages(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pages.append(page_of(clean_frames(), tmp_path / name))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("style", ["prefers-color-scheme: dark", "@media print"])
def test_the_page_carries_its_style_unescaped(style: str, tmp_path: Path) -> None:
    html = page_of(clean_frames(), tmp_path)
    assert style in html
    assert "&#34;" not in html.split("</style>")[0]
