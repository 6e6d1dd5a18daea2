"""The parts that a report is laid out from, the same for HTML and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "quiet", "number"]


@dataclass(frozen=True)
class Cell:
    """One cell: the value, a smaller remark below it, and how it is toned."""

    text: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table with a stable key.

    Parameters
    ----------
    key, caption, columns, rows
        What is printed; every row has a cell for every column.
    numeric
        Which columns align right.
    paired
        Whether each two rows belong together.
    """

    key: str
    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    paired: bool = False

    def __post_init__(self) -> None:
        """Refuse a blank: a reader cannot tell it from a zero."""
        for row in self.rows:
            if len(row) != len(self.columns) or len(self.numeric) != len(self.columns):
                raise ValueError(f"table {self.key} has a row of {len(row)} cells")
            for column, cell in zip(self.columns, row, strict=True):
                if not cell.text.strip():
                    raise ValueError(f"table {self.key} has a blank cell under {column!r}")


@dataclass(frozen=True)
class Chart:
    """A figure with a stable key: an SVG element and its caption."""

    key: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines for a terminal."""

    text: str


Block = str | Table | Chart | Points | Code


@dataclass(frozen=True)
class Section:
    """A titled run of blocks; ``key`` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Decision:
    """What a delegate reads before anything else.

    Parameters
    ----------
    grade
        ``A`` to ``D``.
    headline
        The recommendation in one sentence.
    reasons
        The facts that the grade follows from.
    table
        Current, proposed and effect of the headline metrics.
    dissent
        The one case in which the proposal did worse.
    """

    grade: str
    headline: str
    reasons: tuple[str, ...]
    table: Table
    dissent: str


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    question: str
    subtitle: str
    warnings: tuple[str, ...]
    decision: Decision
    sections: tuple[Section, ...]
    footer: str
