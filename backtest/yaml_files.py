"""Reading YAML as people write it: one sentence for what cannot be meant, nothing guessed."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from backtest.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def read_yaml(path: Path) -> Any:
    """Read one YAML document of texts, numbers, dates, lists and mappings.

    Parameters
    ----------
    path
        An existing file.

    Returns
    -------
    Any
        Plain values; None for an empty file.

    Raises
    ------
    ConfigError
        If it is no YAML, writes a key twice, contains itself, or holds anything else.
    """
    import yaml

    try:
        written = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"{path}: {line}is not readable as YAML: {problem}.") from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: is not readable as YAML: {problem}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file in UTF-8, so it is no YAML.") from None
    except ValueError as error:
        # A date such as 2020-13-45 fails in Python's own words.
        raise ConfigError(f"{path}: holds an impossible value: {error}.") from None
    if problem := _unusable(written, "", ()):
        raise ConfigError(f"{path}: {problem}")
    return written


@lru_cache(maxsize=1)
def _loader() -> Any:
    """Return a safe loader that refuses a key written twice; YAML's own keeps the last."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: dict[str, int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue  # refused when it is constructed
                if key.value in seen:
                    said = f"the key {key.value!r} stands in line {seen[key.value]} already"
                    raise yaml.composer.ComposerError(None, None, said, key.start_mark)
                seen[key.value] = key.start_mark.line + 1
            return node

    return Loader


def _unusable(value: Any, where: str, outer: tuple[int, ...]) -> str:
    """Say what a config cannot hold, or nothing."""
    if id(value) in outer:
        return f"{where}: contains itself."
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            place = f"{where}.{key}".removeprefix(".")
            if isinstance(value, dict) and not isinstance(key, str):
                return f"{place}: the key {key!r} is not a text; write it in quotes."
            if problem := _unusable(inner, place, (*outer, id(value))):
                return problem
        return ""
    if value is None or isinstance(value, str | int | float | date):
        return ""
    return f"{where}: {value!r} is neither a text nor a number, a date, a list or a mapping."
