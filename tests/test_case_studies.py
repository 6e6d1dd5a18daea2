"""The published case studies come out again, digit by digit, from their configs."""

from __future__ import annotations

import importlib.util
import os
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from data_ingest.recorded import import_recorded
from data_ingest.store import DataStore
from experiments.config import load_config
from experiments.importing import plan_import
from experiments.run import inputs_of, replay_role

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "case-studies"
DATA = Path(os.environ.get("REMARGIN_DATA") or ROOT.parent / "shared" / "data")
STUDIES = ("march-2020", "november-2022")

recorded = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded data on this machine")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("case_study_table", PAGES / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Import each file once, for both studies."""
    file = tmp_path_factory.mktemp("crises") / "store.duckdb"
    with DataStore(file) as opened:
        for name in STUDIES:
            plan = plan_import(ROOT / "configs" / "case-studies" / f"{name}.yaml", DATA, file)
            for mapping in plan.mappings:
                import_recorded(opened, mapping, plan.data)
    return file


def published(name: str) -> str:
    """Return the table between the marks of a page."""
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    return page.partition("<!-- table -->\n")[2].partition("<!-- end -->")[0].strip()


@recorded
@pytest.mark.parametrize("name", STUDIES)
def test_the_published_table_comes_out_again(name, script, store):
    config = load_config(ROOT / "configs" / "case-studies" / f"{name}.yaml")
    table = script.case_study(config, inputs_of(config, store))
    assert script.markdown(table) == published(name)
    for row in table.values():
        paid = sum(row[key] for key in ("from the fund", "from winners (ADL)", "socialised"))
        assert paid + row["uncovered"] == pytest.approx(row["gross bad debt"], abs=1e-3)


@recorded
def test_more_margin_always_costs_the_venue_less(script, store):
    config = load_config(ROOT / "configs" / "case-studies" / "march-2020.yaml")
    inputs = inputs_of(config, store)
    lost = [
        replay_role(script.at_leverage(config, leverage), "candidate", inputs).metrics
        for leverage in script.LEVERAGES
    ]
    for dear, cheap in pairwise(lost):
        assert cheap["gross_bad_debt_usd"] < dear["gross_bad_debt_usd"]
        assert cheap["coverage"] > dear["coverage"]


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_shows_every_column_at_every_leverage(name, script):
    lines = published(name).splitlines()
    assert lines[0] == "|  | " + " | ".join(f"{times}x" for times in script.LEVERAGES) + " |"
    shown = [line.split("|")[1].strip() for line in lines[2:]]
    assert tuple(shown) == script.COLUMNS[1:]
