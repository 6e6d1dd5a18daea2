"""The rooms' generic names belong to remargin wherever it is started from."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import remargin
from remargin.rooms import ROOMS, ROOT

WHERE = "import {room}, sys; sys.stdout.write({room}.__file__)"


@pytest.fixture
def foreign_folder(tmp_path: Path) -> Path:
    """Make a folder with rooms of its own, each of which shouts when imported."""
    for room in ROOMS:
        package = tmp_path / room
        package.mkdir()
        (package / "__init__.py").write_text(f"raise RuntimeError('foreign {room}')\n")
    return tmp_path


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_with_rooms_of_its_own_does_not_shadow_ours(
    foreign_folder: Path, room: str
) -> None:
    code = f"import remargin; {WHERE.format(room=room)}"
    done = run(foreign_folder, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout) == ROOT / room / "__init__.py"


def test_without_remargin_the_foreign_rooms_are_found(foreign_folder: Path) -> None:
    """The other tests would pass for nothing if the folder were not on the search path."""
    done = run(foreign_folder, sys.executable, "-c", "import strategies")
    assert "foreign strategies" in done.stderr


def test_python_m_remargin_works_from_a_folder_with_rooms_of_its_own(foreign_folder: Path) -> None:
    done = run(foreign_folder, sys.executable, "-m", "remargin", "policy", "list")
    assert done.returncode == 0, done.stderr
    assert "volatility" in done.stdout


def test_the_console_script_works_from_a_folder_with_rooms_of_its_own(
    foreign_folder: Path,
) -> None:
    script = Path(sysconfig.get_path("scripts")) / "remargin"
    if not script.exists():
        pytest.skip("remargin is not installed here, so it has no console script")
    # An empty entry of PYTHONPATH is the current folder, the worst case for a script.
    done = run(foreign_folder, str(script), "policy", "list", PYTHONPATH=f":{ROOT}")
    assert done.returncode == 0, done.stderr
    assert "volatility" in done.stdout


def test_a_name_that_is_taken_already_is_refused_in_one_sentence(foreign_folder: Path) -> None:
    (foreign_folder / "strategies" / "__init__.py").write_text("")
    done = run(foreign_folder, sys.executable, "-c", "import strategies, remargin")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: remargin needs the module name 'strategies'")
    assert str(foreign_folder) in last


@pytest.mark.parametrize("name", sorted(set(remargin.__all__) - {"__version__"}))
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(remargin, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="reply"):
        remargin.reply  # noqa: B018
