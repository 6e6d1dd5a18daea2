"""A tracked study's files are enough to write its report."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from backtest.errors import RunError
from backtest.generate import BookSpec, describe_book, generate_book
from backtest.units import MS_PER_HOUR
from experiments.archive import save_study
from experiments.manifest import make_manifest
from experiments.report import stored_report, write_report
from experiments.track import RunRecord
from optimize.goal import make_goal
from optimize.space import find_dimensions
from optimize.study import Problem, run_study
from tests.tapes import make_tape

if TYPE_CHECKING:
    from pathlib import Path

RECORD = RunRecord("7f3a9c21" + "0" * 24, "study", "Study", "A or B?", 0, 1, "FINISHED", {}, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tape = make_tape(rows=600, options=False, inverse=False, seed=4)
    spec = BookSpec(accounts=60)
    book = generate_book(spec, tape, 3)
    candidate = {"policy": "volatility", "multiplier": {"search": [2.0, 8.0]}}
    middle = int(tape.ts[400])
    problem = Problem(
        tape=tape,
        book=book,
        incumbent={"policy": "fixed"},
        candidate=candidate,
        venue={},
        dimensions=find_dimensions(candidate, "candidate"),
        goal=make_goal(["capital_efficiency", "residual_bad_debt_bps"], None, {}, "constraints"),
        search_window=(int(tape.ts[100]), middle),
        holdout_window=(middle, int(tape.ts[-1]) + MS_PER_HOUR),
        trials=4,
        batch=4,
        seed=11,
    )
    folder = tmp_path_factory.mktemp("run")
    save_study(run_study(problem), book, folder)
    rows = describe_book(book, tape, spec).rows()
    inputs = {
        "sources": [asdict(source) for source in tape.sources],
        "notes": tape.notes,
        "book_origin": book.origin,
        "book_fit": [row._asdict() for row in rows],
    }
    (folder / "inputs.json").write_text(json.dumps(inputs))
    manifest = make_manifest(
        "study",
        tape_digest=tape.digest,
        book_digest=book.digest,
        config={},
        config_hash="ab" * 32,
        seed=11,
        batch=4,
    )
    clean = replace(manifest, commit="c0ffee", dirty=False)
    (folder / "manifest.json").write_text(clean.to_json())
    return folder


def test_a_stored_study_gives_the_same_report_twice(folder: Path, tmp_path: Path) -> None:
    pages = [
        write_report(stored_report(RECORD, folder), tmp_path / name).read_bytes() for name in "ab"
    ]
    assert pages[0] == pages[1]
    assert b"A or B?" in pages[0]
    assert b"remargin reproduce 7f3a9c21\n" in pages[0].replace(b"</code>", b"\n")
    assert b'role="alert"' not in pages[0]


def test_settings_of_a_stored_study_carry_their_units(folder: Path, tmp_path: Path) -> None:
    write_report(stored_report(RECORD, folder), tmp_path)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| policy | fixed | volatility |" in markdown
    assert "\u00a0sigmas |" in markdown
    assert "| rate | 5\u202f% of notional | not used |" in markdown


def test_a_changed_manifest_of_a_stored_study_raises_the_banner(
    folder: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in folder.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["tape_digest"] = "f" * 64
    (changed / "manifest.json").write_text(json.dumps(manifest))
    assert "a file was changed" in stored_report(RECORD, changed).warnings()[0]


def test_a_replay_has_no_report(folder: Path) -> None:
    with pytest.raises(RunError, match="run 7f3a9c21 is a replay, and a report needs a study"):
        stored_report(replace(RECORD, kind="replay"), folder)


def test_a_run_without_its_inputs_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.name != "inputs.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(RunError, match=r"inputs\.json of the run cannot be read"):
        stored_report(RECORD, tmp_path)
