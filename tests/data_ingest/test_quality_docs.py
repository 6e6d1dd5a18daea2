"""``docs/data-quality.md`` says what the code does and what the recorded data shows."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from data_ingest.quality.findings import FINDING_RULES
from tests.data_ingest.samples import REPOSITORY, real_data

PAGE = REPOSITORY / "docs" / "data-quality.md"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_data_quality", REPOSITORY / "docs" / "data-quality" / "generate.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_rules_is_that_of_the_code(generate: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert generate.rules_table() in page, "run: python docs/data-quality/generate.py"
    assert page.count("| `") >= len(FINDING_RULES)


def test_every_recorded_folder_is_told_of_and_read_by_a_mapping(generate: ModuleType) -> None:
    folders = {path.name for path in real_data().iterdir() if path.is_dir()}
    assert set(generate.FOLDERS) == folders
    for folder in folders:
        assert generate.mappings_of(folder), folder


@pytest.mark.parametrize(
    "folder",
    [
        "binance-perp-5m-2024q4",
        "binance-spot-1h-2017-2022",
        "btc-dvol-funding-2022-2025",
        "deribit-chain-2021-02",
        "deribit-option-trades-20220101",
        "hl-early-2023",
    ],
)
def test_a_section_of_the_page_is_what_a_fresh_verification_says(
    folder: str, generate: ModuleType
) -> None:
    section = generate.section(folder, real_data())
    page = PAGE.read_text(encoding="utf-8")
    assert section in page, "run: python docs/data-quality/generate.py --data DIR"
