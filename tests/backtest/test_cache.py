"""An edited kernel is never answered by an old one from the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from backtest.cache import kernel_sources

ROOT = Path(__file__).resolve().parents[2]
CALLEE = "from numba import njit\n\n@njit(cache=True)\ndef rate():\n    return {}\n"
CALLER = (
    "from backtest.cache import formula\nfrom backtest.rate import rate\n\n"
    "@formula\ndef asked(notional):\n    return notional * rate()\n"
)


def write_house(folder: Path, rate: float) -> None:
    """Make a house of two kernels, one of which calls the other across files."""
    room = folder / "backtest"
    room.mkdir(exist_ok=True)
    (folder / "strategies").mkdir(exist_ok=True)
    (room / "cache.py").write_text((ROOT / "backtest" / "cache.py").read_text())
    (room / "__init__.py").write_text(
        "from backtest.cache import use_hashed_cache\nuse_hashed_cache()\n"
    )
    (room / "rate.py").write_text(CALLEE.format(rate))
    (room / "margin.py").write_text(CALLER)
    (room / "prose.py").write_text("WORDS = 'nothing compiled reads this'\n")


def ask(folder: Path) -> tuple[float, set[str]]:
    """Run the outer kernel in a process of its own; list the cache folders there are then."""
    done = subprocess.run(
        [sys.executable, "-c", "from backtest.margin import asked; print(asked(100.0))"],
        cwd=folder,
        env={**os.environ, "REMARGIN_CACHE": str(folder / "cache"), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    kept = folder / "cache" / "remargin" / "kernels"
    return float(done.stdout), {path.name for path in kept.iterdir()}


def test_editing_a_callee_in_another_file_changes_the_answer(tmp_path):
    write_house(tmp_path, 0.05)
    first, before = ask(tmp_path)
    write_house(tmp_path, 0.07)
    second, after = ask(tmp_path)
    assert (first, second) == (5.0, 7.000000000000001)
    assert before < after


def test_editing_what_no_kernel_reads_keeps_the_cache(tmp_path):
    write_house(tmp_path, 0.05)
    _, before = ask(tmp_path)
    (tmp_path / "backtest" / "prose.py").write_text("WORDS = 'still nothing'\n")
    _, after = ask(tmp_path)
    assert before == after


def test_the_hash_covers_every_module_that_compiles_and_what_those_import():
    named = {path.relative_to(ROOT).as_posix() for path in kernel_sources(ROOT)}
    assert {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "backtest/kernels").glob("[a-z]*.py")
    } <= named
    assert {"backtest/venue.py", "backtest/instruments.py", "backtest/book.py"} <= named
    assert any(name.startswith("strategies/kernels/") for name in named)
    ground_floor = kernel_sources(ROOT, ("backtest",))
    assert all(path.is_relative_to(ROOT / "backtest") for path in ground_floor)
