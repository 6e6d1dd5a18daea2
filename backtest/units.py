"""Percent, basis points, durations, money and dates as people write them, parsed once.

Every config field with a unit uses one of the annotated types below, so a number has one
unit inside the program: fractions of one, milliseconds, US dollars, UTC milliseconds.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator

MS_PER_SECOND = 1_000
MS_PER_HOUR = 3_600_000
MS_PER_DAY = 86_400_000
MS_PER_YEAR = 365 * MS_PER_DAY
"""ACT/365, the day count of crypto option venues."""

_EARLIEST_MS = 100_000_000_000
"""Smaller integers, 2022 say, are years or seconds and not milliseconds since 1970."""

_DURATIONS_MS = {
    "ms": 1,
    "s": 1_000,
    "sec": 1_000,
    "m": 60_000,
    "min": 60_000,
    "h": MS_PER_HOUR,
    "d": MS_PER_DAY,
    "day": MS_PER_DAY,
    "days": MS_PER_DAY,
    "w": 7 * MS_PER_DAY,
    "y": MS_PER_YEAR,
}
_MONEY = {"": 1.0, "k": 1e3, "m": 1e6, "bn": 1e9, "b": 1e9}
_NUMBER = r"([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"


def _number(text: str) -> float:
    return _finite(float(text.replace("_", "").replace(",", "")), text)


def _finite(number: float, written: Any) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{written!r} must be a finite number")
    return number


def parse_fraction(value: Any) -> float:
    """Read ``0.015``, ``"1.5%"`` or ``"150bp"`` as a fraction of one.

    Raises
    ------
    ValueError
        If the text is not a number with one of the units ``%``, ``bp`` or none.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value), value)
    match = re.fullmatch(_NUMBER + r"\s*(%|bps?|)", str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is not a fraction; write 0.015, 1.5% or 150bp")
    scale = {"%": 1e2, "bp": 1e4, "bps": 1e4, "": 1.0}[match[2]]
    return _number(match[1]) / scale


def parse_duration_ms(value: Any) -> int:
    """Read ``"30s"``, ``"10min"``, ``"1h"``, ``"3d"`` as whole milliseconds.

    Raises
    ------
    ValueError
        If the text has no number or no known unit; a bare number is refused unless zero,
        because its unit would be a guess.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value == 0:
            return 0
        raise ValueError(f"{value!r} has no unit; write a duration such as 30s, 1h or 3d")
    match = re.fullmatch(_NUMBER + r"\s*([a-z]+)", str(value).strip().lower())
    if not match or match[2] not in _DURATIONS_MS:
        raise ValueError(f"{value!r} is not a duration; write one such as 30s, 10min, 1h or 3d")
    return round(_number(match[1]) * _DURATIONS_MS[match[2]])


def parse_usd(value: Any) -> float:
    """Read ``5_000_000``, ``"5M"`` or ``"250k USD"`` as US dollars.

    Raises
    ------
    ValueError
        If the text is not an amount of money.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value), value)
    text = str(value).strip().lower().removesuffix("usd").strip().removeprefix("$")
    match = re.fullmatch(_NUMBER + r"\s*(bn|b|m|k|)", text)
    if not match:
        raise ValueError(f"{value!r} is not an amount of money; write 5_000_000, 5M or 250k")
    return _number(match[1]) * _MONEY[match[2]]


def parse_utc_ms(value: Any) -> int:
    """Read ``2022-11-01`` or ``2022-11-01T08:00Z`` as milliseconds UTC since 1970.

    Raises
    ------
    ValueError
        If the text is not an ISO date or date-time.
    """
    if isinstance(value, int):
        if isinstance(value, bool) or value < _EARLIEST_MS:
            raise ValueError(f"{value!r} is not a date; write 2022-11-01 or 2022-11-01T08:00")
        return value
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise ValueError(
                f"{value!r} is not a date; write 2022-11-01 or 2022-11-01T08:00"
            ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000 + moment.microsecond // 1_000


Fraction = Annotated[float, BeforeValidator(parse_fraction)]
"""A share of one: 0.015, 1.5%, 150bp."""
DurationMs = Annotated[int, BeforeValidator(parse_duration_ms)]
"""A span of time in milliseconds: 30s, 1h, 3d."""
Usd = Annotated[float, BeforeValidator(parse_usd)]
"""An amount in US dollars: 5_000_000, 5M."""
UtcMs = Annotated[int, BeforeValidator(parse_utc_ms)]
"""An instant in milliseconds UTC: 2022-11-01."""


def iso_utc(ms: int) -> str:
    """Format milliseconds UTC as ``2022-11-09 21:00`` (seconds only where there are any)."""
    moment = datetime.fromtimestamp(ms / 1_000, tz=UTC)
    return moment.strftime("%Y-%m-%d %H:%M" if ms % 60_000 == 0 else "%Y-%m-%d %H:%M:%S")


def duration_text(ms: int) -> str:
    """Format a span as the largest unit that divides it: ``1h``, ``90s``, ``3d``, ``0s``."""
    for unit in ("d", "h", "min", "s"):
        if ms and ms % _DURATIONS_MS[unit] == 0:
            return f"{ms // _DURATIONS_MS[unit]}{unit}"
    return f"{ms}ms" if ms else "0s"


def years(ms: float) -> float:
    """Convert milliseconds to years, ACT/365."""
    return ms / MS_PER_YEAR
