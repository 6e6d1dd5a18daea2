"""Write a generated book's settings as a preset, for people and for the program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from backtest.errors import ConfigError
from backtest.units import duration_text, parse_duration_ms

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo

    from backtest.generate import BookSpec

_NOT_A_PRESETS = ("preset", "accounts", "seed")


def write_preset(spec: BookSpec, path: Path, remark: str) -> None:
    """Write a spec as a preset.

    Parameters
    ----------
    spec
        What to write; its number of accounts and its seed are the user's and are left out.
    path
        A new file; ``preset: path`` then gives the same spec again.
    remark
        What made it; the first line, as a comment.

    Raises
    ------
    ConfigError
        If the file exists or cannot be written.
    """
    lines = [f"# {line}" for line in remark.splitlines()]
    for name, field in type(spec).model_fields.items():
        if name not in _NOT_A_PRESETS and getattr(spec, name) is not None:
            lines += _lines(name, _written(getattr(spec, name), field), 0)
    refuse_existing(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from None


def refuse_existing(path: Path) -> None:
    """Refuse to write over a file; asked before a long search, too."""
    if path.exists():
        raise ConfigError(f"{path}: exists; choose another name.")


def _written(value: Any, field: FieldInfo | None = None) -> Any:
    """Turn a value into what a config says: a span of time with its unit, a model its fields."""
    spans = (getattr(mark, "func", None) for mark in field.metadata) if field else ()
    if parse_duration_ms in spans:
        return duration_text(value)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {name: _written(getattr(value, name), fields[name]) for name in fields}
    if isinstance(value, dict):
        return {name: _written(item) for name, item in value.items()}
    return value


def _lines(name: str, value: Any, depth: int) -> list[str]:
    """Lay one field out, a mapping with one line per key; JSON is how YAML quotes."""
    key = name if name.replace("_", "").isalnum() else json.dumps(name, ensure_ascii=False)
    if isinstance(value, dict) and value:
        inner = [line for k, item in value.items() for line in _lines(k, item, depth + 1)]
        return [f"{'  ' * depth}{key}:", *inner]
    return [f"{'  ' * depth}{key}: {json.dumps(value, ensure_ascii=False)}"]
