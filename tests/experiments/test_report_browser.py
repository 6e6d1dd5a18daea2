"""The report in a real browser: all figures drawn, nothing asked of the network."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from experiments.report import write_report
from tests.experiments.report_cases import make_input

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver"
)

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)
FIGURES = """
return [...document.querySelectorAll('figure')].map(figure => {
  const svg = figure.querySelector('svg');
  const box = svg ? svg.getBoundingClientRect() : {width: 0, height: 0};
  const size = mark => { const b = mark.getBoundingClientRect(); return b.width + b.height; };
  const marks = svg ? [...svg.querySelectorAll('path, use')] : [];
  return {
    key: figure.dataset.key,
    width: box.width,
    height: box.height,
    drawn: marks.filter(mark => size(mark) > 0).length,
    text: svg ? [...svg.querySelectorAll('text')].map(t => t.textContent.trim()).join(' ') : '',
    caption: figure.querySelector('figcaption').textContent.trim(),
  };
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    question = "Should initial margin follow volatility instead of standing at 5 % of notional?"
    report = make_input(question=question, quiet=True)
    report = replace(report, manifest=dict(report.manifest) | {"dirty": True})
    return write_report(report, tmp_path_factory.mktemp("warned"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_input(), tmp_path_factory.mktemp("report"))


def open_page(browser: Any, page: Path, width: int = 1280, dark: bool = False) -> None:
    """Load the page at a width and in a theme, with earlier log entries thrown away."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())


def test_the_page_loads_without_a_word_on_the_console(browser: Any, page: Path) -> None:
    open_page(browser, page)
    assert browser.get_log("browser") == []
    assert browser.find_element("css selector", "h1").text.startswith("Should margin follow")


def test_no_request_leaves_the_file(browser: Any, page: Path) -> None:
    open_page(browser, page)
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert page.as_uri() in requested
    assert all(url == page.as_uri() or url.startswith("data:") for url in requested)


@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    figures = browser.execute_script(FIGURES)
    assert [figure["key"] for figure in figures] == ["F1", "F2", "F2", "F4", "F7"]
    for figure in figures:
        assert figure["width"] > 300
        assert figure["height"] > 100
        assert figure["drawn"] > 10
        assert len(figure["text"]) > 20
        assert figure["caption"].startswith(figure["key"])


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_never_scrolls_sideways(browser: Any, page: Path, width: int) -> None:
    open_page(browser, page, width)
    wide, seen = browser.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert wide <= seen


@pytest.mark.parametrize("kind", ["page", "warned"])
def test_the_first_screen_holds_the_whole_decision(
    browser: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    open_page(browser, request.getfixturevalue(kind))
    for selector in ("h1", ".verdict", "#T2a", ".dissent"):
        box = browser.find_element("css selector", selector).rect
        assert box["height"] > 0
        assert box["y"] + box["height"] <= 800


def test_text_and_figures_stay_legible_in_both_themes(browser: Any, page: Path) -> None:
    contrast = """
    const rgb = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
    const light = c => { const v = rgb(c).map(x => { x /= 255;
        return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
      return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
    const paper = light(getComputedStyle(document.body).backgroundColor);
    const ratio = c => { const l = light(c);
      return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05); };
    const least = (selector, property) => Math.min(...[...document.querySelectorAll(selector)]
      .map(e => ratio(getComputedStyle(e)[property])));
    return [least('p, td, th, li, small, figcaption', 'color'), least('figure svg text', 'fill'),
      getComputedStyle(document.body).backgroundColor];
    """
    papers = set()
    for dark in (False, True):
        open_page(browser, page, dark=dark)
        prose, labels, paper = browser.execute_script(contrast)
        papers.add(paper)
        # WCAG 2.1 AA for normal text.
        assert prose >= 4.5
        assert labels >= 4.5
    assert len(papers) == 2
