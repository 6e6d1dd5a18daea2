from __future__ import annotations

import json
from dataclasses import replace

import pytest

from backtest.errors import RunError
from experiments import manifest as module
from experiments.manifest import PACKAGES, Manifest, make_manifest


def made() -> Manifest:
    return make_manifest(
        "replay",
        tape_digest="a" * 64,
        book_digest="b" * 64,
        config={"zebra": 1, "apple": {"b": 2, "a": 1.1}},
        config_hash="c" * 64,
        seed=7,
        batch=8,
        options={"role": "candidate"},
    )


def test_a_manifest_reads_back_as_it_was_written() -> None:
    manifest = made()
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert again.digest == manifest.digest


def test_the_config_keeps_the_order_in_which_it_was_written() -> None:
    again = Manifest.from_json(made().to_json())
    assert list(again.config) == ["zebra", "apple"]
    assert list(again.config["apple"]) == ["b", "a"]


def test_it_names_code_packages_and_processor() -> None:
    manifest = made()
    assert set(manifest.packages) == set(PACKAGES)
    assert len(manifest.source_hash) == 64
    assert len(manifest.kernel_cache_hash) == 16
    assert manifest.processor
    assert manifest.python.startswith("3.")


def test_it_names_no_path_host_or_user() -> None:
    import getpass
    import socket
    from pathlib import Path

    text = made().to_json()
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text
    for name in (socket.gethostname(), getpass.getuser()):
        assert f'"{name}"' not in text


def test_an_edited_source_changes_the_source_hash(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    root = Path(str(tmp_path))
    source = root / "backtest" / "kernels" / "loop.py"
    source.parent.mkdir(parents=True)
    monkeypatch.setattr(module, "_ROOT", root)
    hashes = set()
    for text in ("x = 1\n", "x = 2\n", "x = 2\n"):
        source.write_text(text)
        module.source_hash.cache_clear()
        hashes.add(module.source_hash())
    module.source_hash.cache_clear()
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not readable as JSON"),
        ("{}", "lacks fields"),
        (json.dumps(replace(made(), format=99).to_dict()), "format 99, newer than"),
    ],
)
def test_what_is_no_manifest_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        Manifest.from_json(text)
