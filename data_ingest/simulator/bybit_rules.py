"""How Bybit reads parameters and refuses them."""

from __future__ import annotations

Params = dict[str, str]
FAR_MS = 1 << 62


class BybitError(Exception):
    """A refusal in the exchange's own terms: a code in an answer that is otherwise well."""

    def __init__(self, code: int, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def given(params: Params, name: str) -> str:
    """Return a parameter that must be there."""
    if not params.get(name):
        raise BybitError(10001, f"params error: {name} is required")
    return params[name]


def whole(params: Params, name: str, default: int) -> int:
    """Return a whole number, or its default."""
    try:
        return int(params.get(name) or default)
    except ValueError:
        raise BybitError(10001, f"params error: {name} is invalid") from None


def limit_of(params: Params, default: int, most: int) -> int:
    """Return the size of a page; more than the most is cut to it without a word."""
    limit = whole(params, "limit", default)
    if limit < 1:
        raise BybitError(10001, "params error: limit is invalid")
    return min(limit, most)


def cursor_of(place: int) -> str:
    """Wrap a place in a list as the exchange does, as something not to be read."""
    return f"lastid={place}"


def after_cursor(params: Params) -> int:
    """Return the place that a request's cursor stands for; 0 is the beginning."""
    cursor = params.get("cursor") or "0"
    try:
        return int(cursor.removeprefix("lastid="))
    except ValueError:
        raise BybitError(10001, "params error: cursor is invalid") from None
