from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from backtest.errors import ConfigError
from backtest.yaml_files import read_yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nrate: 5%\nseed: 2\n", "line 3: is not readable as YAML: the key 'seed'"),
        ("a:\n  b: {x: 1, x: 2}\n", "line 2: is not readable as YAML: the key 'x'"),
        ("a: 2020-13-45\n", "holds an impossible value: month must be in 1..12."),
        ("a: 2020-01-01T99:00:00\n", "holds an impossible value: hour must be in 0..23."),
        ("\tseed: 1\n", "line 1: is not readable as YAML: found character '\\t'"),
        ("a: 1\n---\nb: 2\n", "line 2: is not readable as YAML: but found another document."),
        ("a: [1, 2\n", "line 2: is not readable as YAML: "),
        ("? [a, b]\n: 1\n", "line 1: is not readable as YAML: found unhashable key."),
        ("a: !!python/object:os.system 1\n", "line 1: is not readable as YAML: could not"),
        ("a: !!binary aGk=\n", "a: b'hi' is neither a text nor a number"),
        ("a: !!set {x}\n", "a: {'x'} is neither a text nor a number"),
        ("a:\n  5: x\n", "a.5: the key 5 is not a text; write it in quotes."),
        ("a:\n  no: x\n", "a.False: the key False is not a text; write it in quotes."),
        ("a: &loop\n  b: [*loop]\n", "a.b.0: contains itself."),
    ],
)
def test_what_no_config_can_mean_is_refused_in_one_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}: {said}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="is not a text file in UTF-8"):
        read_yaml(file)


def test_parts_may_be_shared_and_overridden(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: &base {rate: 5%, day: 2022-11-01}\n"
        "deep: {inner: &inner {<<: *base, rate: 6%}}\n"
        "last: {<<: *inner, rate: 7%}\n"
        "same: [*base, *base]\n"
    )
    written = read_yaml(file)
    assert written["deep"]["inner"] == {"rate": "6%", "day": date(2022, 11, 1)}
    assert written["last"]["rate"] == "7%"
    assert written["same"][0] == written["same"][1] == written["base"]


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("")
    assert read_yaml(file) is None


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_is_readable(path: Path) -> None:
    assert isinstance(read_yaml(path), dict)
