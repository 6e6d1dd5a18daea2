"""The page that teaches writing a policy does what it says, command by command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import demo
from strategies.registry import load_policy
from tests.remargin.desk import Desk

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "write-a-policy.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="([\w.]+)"\n(.*?)```', PAGE, re.DOTALL))
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
SHORT = {"start": "2024-01-01", "end": "2024-01-15"}


@pytest.fixture
def studio(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder with the page's files and the project's configs, the demo cut to two weeks."""
    for name, text in FILES.items():
        (desk.folder / name).write_text(text)
    shutil.copytree(ROOT / "configs", desk.folder / "configs")
    config: dict[str, Any] = yaml.safe_load(demo.CONFIG.read_text())
    config["market"] |= SHORT
    config["market"]["options"] |= {"poll": "24h", "max_snapshot_gap": "25h", "strikes": [0.9, 1.1]}
    config["book"]["generate"]["accounts"] = 60
    config["constraints"] = {"coverage": ">= 50%"}
    config["windows"] = {
        "search": ["2024-01-01", "2024-01-07"],
        "holdout": ["2024-01-08", "2024-01-14"],
    }
    short = desk.folder / "configs" / "demo.yaml"
    short.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(demo, "CONFIG", short)
    monkeypatch.chdir(desk.folder)
    return desk


def test_the_page_has_what_it_promises() -> None:
    assert {"widest_bar.py", "impact.py", "test_widest_bar.py"} == set(FILES)
    words = [command.split()[1] for command in COMMANDS if command.startswith("remargin")]
    assert {"demo", "policy", "replay", "optimize", "report"} == set(words)
    body = FILES["widest_bar.py"].partition("class ")[2]
    code = [line for line in body.splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 12


def test_every_command_of_the_page_does_what_it_says(studio: Desk) -> None:
    said = {}
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "pytest":
            continue
        words = ["16" if word == "64" else word for word in words[1:]]
        code, out, err = studio.run(*words) if words[0] == "policy" else _run(studio, words)
        assert code == 0, (command, err)
        said[command] = " ".join(out.split())
    checked = [text for command, text in said.items() if " check " in command]
    assert len(checked) == 2
    assert all(" 0 broken" in text for text in checked)
    searched = next(text for command, text in said.items() if " optimize " in command)
    assert "front capital efficiency residual bad debt halflife multiple" in searched
    replayed = [text for command, text in said.items() if " replay " in command]
    assert all("balanced to 0.00 USD" in text for text in replayed)


def _run(desk: Desk, words: list[str]) -> tuple[int, str, str]:
    from remargin.__main__ import main

    desk.capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(words)
    said = desk.capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_the_peeking_variant_of_the_page_is_found(studio: Desk) -> None:
    (line,) = re.findall(r"`(widest = np\.tile\(.*?)`, it would say", PAGE)
    text = FILES["widest_bar.py"].replace("widest = tape.high / tape.low - 1.0", line)
    peeking = studio.folder / "peeking.py"
    peeking.write_text(text)
    code, out, _ = studio.run("policy", "check", peeking)
    assert code == 1
    assert "FAIL reads nothing before it is known the signals of" in " ".join(out.split())
    (shown,) = re.findall(r"```text\n(  FAIL.*?)```", PAGE, re.DOTALL)
    assert " ".join(shown.split()) in " ".join(out.split())


def test_the_pages_test_file_passes_under_pytest(studio: Desk) -> None:
    done = _python(studio.folder, "-m", "pytest", "-q", "test_widest_bar.py")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_kernel_of_ones_own_is_found_on_disk_by_the_next_process(studio: Desk) -> None:
    program = (
        "from strategies.registry import load_policy\n"
        "kernel = load_policy('impact.py').parts()[0].requirement.kernel\n"
        "print(sum(kernel.stats.cache_hits.values()))\n"
    )
    cache = str(studio.folder / "cache")
    hits = [_python(studio.folder, "-c", program, cache=cache) for _ in range(2)]
    assert [done.stdout.strip() for done in hits] == ["0", "1"], [done.stderr for done in hits]


def test_the_pages_yaml_is_a_candidate(studio: Desk) -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    candidate = yaml.safe_load(written)["candidate"]
    searched = {"multiple": 3.0, "halflife": "1d"}
    assert load_policy({**candidate, **searched}).name == "widest-bar"


def _python(
    folder: Path, *words: str, cache: str | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    if cache is not None:
        environment["REMARGIN_CACHE"] = cache
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
