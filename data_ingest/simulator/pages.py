"""Answers that arrive whole and are wrong: rows out of order, twice, missing, a cursor stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LIST_KEYS = ("trades", "data", "settlements", "list", "ticks")
"""Where the exchanges keep the rows of a page, inside their result."""
_CURSORS = {"continuation": ("continuation", "end_timestamp"), "nextPageCursor": ("cursor",)}
"""An answer's cursor, and the parameters by which a request carries it back."""
_PAGING = frozenset(
    {
        *("startTime", "endTime", "start", "end", "start_timestamp", "end_timestamp", "begin"),
        *("after", "before", "cursor", "continuation", "offset", "limit", "count", "sz"),
        *("timestamp", "signature", "recvWindow"),
    }
)
"""Parameters that say which page of a list is wanted; all others say which list."""
_LEAST_ROWS = 3
"""A page of fewer rows has no middle to lose."""


def list_name(path: str, params: dict[str, Any], question: Any = None) -> str:
    """Name the list that a request asks a page of, whichever page it is."""
    asked = question if isinstance(question, dict) else params
    asked = {**asked, **asked["req"]} if isinstance(asked.get("req"), dict) else asked
    kept = {name: value for name, value in asked.items() if name not in (*_PAGING, "req")}
    return f"{path} {sorted(kept.items())}"


def reversed_page(answer: Any) -> Any:
    """Return a page with its rows in the opposite order."""
    return _changed(answer, lambda rows: rows[::-1])


def duplicated_rows(answer: Any) -> Any:
    """Return a page that holds every row twice."""
    return _changed(answer, lambda rows: [row for row in rows for _ in range(2)])


def missing_row(answer: Any) -> Any:
    """Return a page that lacks the row in its middle, and does not say so."""

    def hollow(rows: list[Any]) -> list[Any]:
        middle = len(rows) // 2
        return rows[:middle] + rows[middle + 1 :] if len(rows) >= _LEAST_ROWS else rows

    return _changed(answer, hollow)


def without_first_half(answer: Any) -> Any:
    """Return a page without the rows that it should begin with."""
    return _changed(answer, lambda rows: rows[len(rows) // 2 :])


def missing_rows(answer: Any) -> Any:
    """Return a page that lacks the middle third of its rows, and does not say so."""

    def hollow(rows: list[Any]) -> list[Any]:
        if len(rows) < _LEAST_ROWS:
            return rows
        third = max(1, len(rows) // 3)
        first = (len(rows) - third) // 2
        return rows[:first] + rows[first + third :]

    return _changed(answer, hollow)


def stuck_cursor(answer: Any, params: dict[str, str]) -> Any | None:
    """Return a page whose cursor leads back to the page itself; None if it has no cursor."""
    result = _result(answer)
    if not isinstance(result, dict):
        return None
    for name, carried in _CURSORS.items():
        if result.get(name):
            back = next((params[key] for key in carried if key in params), "0")
            value = int(back) if isinstance(result[name], int) else back
            return _with_result(answer, {**result, name: value})
    return None


def _changed(answer: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    """Return an answer with its rows changed, wherever this exchange keeps them."""
    result = _result(answer)
    if isinstance(result, list):
        # A Hyperliquid market list is a pair, not a page.
        return _with_result(answer, change(result))
    if not isinstance(result, dict):
        return answer
    if "ticks" in result:  # candles as parallel columns
        length = len(result["ticks"])
        columns = {
            name: change(values) if isinstance(values, list) and len(values) == length else values
            for name, values in result.items()
        }
        return _with_result(answer, columns)
    for name in _LIST_KEYS:
        if isinstance(result.get(name), list):
            return _with_result(answer, {**result, name: change(result[name])})
    return answer


def _result(answer: Any) -> Any:
    """Return what an exchange's envelope holds."""
    if isinstance(answer, dict):
        for name in ("result", "data"):
            if name in answer:
                return answer[name]
    return answer


def _with_result(answer: Any, result: Any) -> Any:
    if isinstance(answer, dict):
        for name in ("result", "data"):
            if name in answer:
                return {**answer, name: result}
    return result
