"""How results look in a terminal: aligned rows, shortened digests, one progress bar, or JSON.

Results go to standard output and progress to standard error, so that a pipe carries only
results and ``--json`` only JSON.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Advance = Callable[[int, int], None]

LABEL_WIDTH = 10
NARROWEST_COLUMN = 12
"""A table that is too wide breaks its longest texts, but no column gets narrower than this."""
WIDTH_OF_A_PIPE = 100


def write_line(text: str = "") -> None:
    """Write one line of results."""
    sys.stdout.write(text + "\n")


def write_note(text: str) -> None:
    """Write one line that is not a result: where something was put, what was skipped."""
    sys.stderr.write(text + "\n")


def write_json(value: Any) -> None:
    """Write a value as JSON; a number that is not finite becomes null."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write(text + "\n")


def plain(value: Any) -> Any:
    """Turn dataclasses, models, NumPy numbers and arrays into what JSON can hold."""
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def write_facts(rows: Iterable[tuple[str, str]]) -> None:
    """Write label and text in two columns, the text broken at words."""
    for label, text in rows:
        for line in _labelled(label, text):
            write_line(line)


def write_remarks(remarks: Iterable[str], label: str = "note") -> None:
    """Write sentences that belong to a result without being one, dimmed and broken at words."""
    dim = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    before, after = ("\x1b[2m", "\x1b[0m") if dim else ("", "")
    for remark in remarks:
        for line in _labelled(label, remark):
            write_line(before + line + after)


def _labelled(label: str, text: str) -> list[str]:
    margin = " " * (LABEL_WIDTH + 2)
    return textwrap.wrap(
        text,
        max(screen_width(), LABEL_WIDTH + 40),
        initial_indent=f"  {label:<{LABEL_WIDTH}}",
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def screen_width() -> int:
    """Return how many columns a line may have."""
    return shutil.get_terminal_size((WIDTH_OF_A_PIPE, 24)).columns


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Write an aligned table, cells broken at words where the screen is too narrow for it.

    Parameters
    ----------
    header
        Column titles.
    rows
        Cells as text.
    right
        One letter per column, ``r`` where numbers are to be aligned on the right.
    """
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[k]) for row in table) for k in range(len(header))]
    words = [max(_longest_word(row[k]) for row in table) for k in range(len(header))]
    _narrow(widths, words, screen_width() - 2 * len(widths))
    for row in table:
        broken = [_broken(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in range(max(len(lines) for lines in broken)):
            cells = []
            for k, (lines, width) in enumerate(zip(broken, widths, strict=True)):
                cell = lines[line] if line < len(lines) else ""
                cells.append(cell.rjust(width) if right[k : k + 1] == "r" else cell.ljust(width))
            write_line("  " + "  ".join(cells).rstrip())


def _narrow(widths: list[int], words: list[int], room: int) -> None:
    """Take from the widest column, again and again, until the table fits; no word is broken."""
    while sum(widths) > room:
        spare = [k for k, width in enumerate(widths) if width > max(words[k], NARROWEST_COLUMN)]
        if not spare:
            return
        widths[max(spare, key=widths.__getitem__)] -= 1


def _longest_word(cell: str) -> int:
    indent = len(cell) - len(cell.lstrip())
    return indent + max((len(word) for word in cell.split()), default=0)


def _broken(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    indent = " " * (len(cell) - len(cell.lstrip()))
    return textwrap.wrap(cell, width, subsequent_indent=indent, break_on_hyphens=False)


def short(digest: str) -> str:
    """Shorten a digest to what an eye can compare: ``5e1c…9a``."""
    return f"{digest[:4]}…{digest[-2:]}" if len(digest) > 8 else digest


def number(value: float) -> str:
    """Format a number with thousands separators and about four significant digits."""
    if not math.isfinite(value):
        return "n/a"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


@contextmanager
def progress(
    label: str, *, hidden: bool = False, rate_of: str = "", per_step: int = 1
) -> Iterator[Advance]:
    """Show a bar on standard error while something long runs.

    Parameters
    ----------
    label
        What is running, for example ``"replay"``.
    hidden
        Show nothing.
    rate_of
        Name of the unit for the rate behind the bar; none is shown where empty.
    per_step
        How many of these units one step is.

    Yields
    ------
    callable
        ``advance(done, total)``, to be called as often as is convenient.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (
        TextColumn(f"  {label:<{LABEL_WIDTH - 1}}"),
        BarColumn(38, complete_style="green", finished_style="green"),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[rate]}"),
    )
    started = time.monotonic()
    with Progress(
        *columns,
        console=console,
        disable=hidden or not console.is_terminal,
        # Rich would move results to standard error, where a pipe does not see them.
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task(label, total=None, count="", rate="")

        def advance(done: int, total: int) -> None:
            seconds = time.monotonic() - started
            speed = per_step * done / seconds if seconds > 0 else 0.0
            rate = f"· {speed / 1e6:.1f} M {rate_of}/s" if rate_of else ""
            count = f"{done:,}/{total:,}"
            bar.update(task, completed=done, total=total, count=count, rate=rate)

        yield advance


@contextmanager
def status(label: str, *, hidden: bool = False) -> Iterator[Callable[[str], None]]:
    """Show on standard error that something without a count is running.

    Yields
    ------
    callable
        ``say(what)``, to name what is being worked on.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if hidden or not console.is_terminal:
        yield lambda what: None
        return
    with console.status(f"  {label} …") as spinner:
        yield lambda what: spinner.update(f"  {label}  {what}")
