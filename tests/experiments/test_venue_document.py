"""The document of the venue's rules names every rule, its unit, its default and its meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from backtest.settings import SHARE, models_in, quantity_text, unit_of
from backtest.venue import VenueRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "venue.md"


def rule_rows(model: type[BaseModel] = VenueRules, path: str = "") -> Iterator[str]:
    """Write a table row for every rule, groups opened."""
    for name, info in model.model_fields.items():
        key = f"{path}{name}"
        inner = [m for m in models_in(info.annotation) if issubclass(m, BaseModel)]
        if not inner:
            unit = {SHARE: "share"}.get(unit_of(info), unit_of(info))
            yield f"| `{key}` | {unit or '·'} | {default_text(info)} | {meaning_of(info)} |"
            continue
        if info.default is None:
            yield f"| `{key}` | · | off | {meaning_of(info) or inner[0].__doc__.splitlines()[0]} |"
        place = f"{key}.COIN." if info.default is PydanticUndefined else f"{key}."
        yield from rule_rows(inner[0], place)


def meaning_of(info: FieldInfo) -> str:
    """Return what a rule means, and its choices where it has some."""
    text = re.sub(r", (ms|USD)(?=;|$)", "", info.description or "")
    words = [word for word in get_args(info.annotation) if isinstance(word, str)]
    choices = " or ".join(f"`{word}`" for word in words)
    return "; ".join(part for part in (choices, text) if part)


def default_text(info: FieldInfo) -> str:
    """Write a default as a config would."""
    value = info.default
    if info.is_required():
        return "has none"
    if value in (None, ()) or value is PydanticUndefined:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return quantity_text(float(value), unit_of(info))
    return f"`{value}`"


def documented() -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"\| `", line)]


def test_every_rule_stands_in_the_document_as_the_code_has_it() -> None:
    assert sorted(documented()) == sorted(rule_rows())
    assert len(documented()) > 70


def test_every_rule_says_what_it_means() -> None:
    assert all(row.split(" | ")[3] != " |" and "|  |" not in row for row in rule_rows())
