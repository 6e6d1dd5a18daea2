"""The house keeps its shape: who may import whom, how long a module is, what leaks nowhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "backtest": set(),
    "strategies": {"backtest"},
    "data_ingest": {"backtest"},
    "optimize": {"backtest", "strategies"},
    "experiments": {"backtest", "strategies", "data_ingest", "optimize"},
    "remargin": {"backtest", "strategies", "data_ingest", "optimize", "experiments"},
    "benchmarks": {"backtest", "strategies", "data_ingest", "optimize", "experiments"},
}
GROUND_FLOOR_LIBRARIES = {"numba", "numpy", "pydantic"}
IMPORTED_WHEN_ASKED = {
    "backtest/book_files.py": {"pyarrow"},  # reads and writes recorded books
    "backtest/yaml_files.py": {"yaml"},
    "backtest/result.py": {"matplotlib"},  # draws, in a notebook
}
IMPORTS = (ast.Import, ast.ImportFrom)
LONGEST_MODULE = 500
LONGEST_KERNEL = 300
SOURCES = sorted(
    path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py") if path.is_file()
)
NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]


def imported(tree: ast.AST) -> set[str]:
    """Collect the top-level names that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def tracked_texts() -> list[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".parquet", ".duckdb"}:
            texts.append((name, path.read_text(encoding="utf-8")))
    return texts


def test_there_are_sources_to_check() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_only_run_down_the_table(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    foreign = (imported(ast.parse(path.read_text())) & set(MAY_IMPORT)) - {room}
    assert foreign <= MAY_IMPORT[room], f"{room} may not import {foreign - MAY_IMPORT[room]}"


@pytest.mark.parametrize("path", sorted((ROOT / "backtest").rglob("*.py")), ids=lambda p: p.name)
def test_the_ground_floor_needs_no_more_than_numpy_numba_and_pydantic(path: Path) -> None:
    allowed = GROUND_FLOOR_LIBRARIES | {"backtest"} | set(sys.stdlib_module_names)
    late = IMPORTED_WHEN_ASKED.get(path.relative_to(ROOT).as_posix(), set())
    tree = ast.parse(path.read_text())
    assert imported(tree) <= allowed | late
    top_level = ast.Module([node for node in tree.body if isinstance(node, IMPORTS)], [])
    assert not imported(top_level) & late, "import it inside the function that needs it"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    limit = LONGEST_KERNEL if "kernels" in path.parts else LONGEST_MODULE
    assert len(path.read_text().splitlines()) <= limit


def test_no_machine_path_and_no_registry_address_is_tracked() -> None:
    # Spelled in pieces, so that this file does not hold what it forbids.
    patterns = [
        "(?<![A-Za-z0-9_.])/" + "work/",
        "(?<![A-Za-z0-9_.])/" + "root/",
        "--" + "(extra-)?index-url",
        "--" + "find-links",
        "files[.]python" + "hosted",
    ]
    forbidden = re.compile("|".join(patterns))
    leaks = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not leaks, "\n".join(leaks)


def test_every_link_between_the_documents_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert pages
    assert not broken, "\n".join(broken)


def test_every_locked_package_is_hashed() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [i for i, line in enumerate(lines) if "==" in line and not line.startswith(("#", " "))]
    assert len(pins) > 80
    assert all(lines[i + 1].lstrip().startswith("--hash=sha256:") for i in pins)
