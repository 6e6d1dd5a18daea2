"""How the report says a number: its unit, its denominator, and what was not seen.

Every number a reader meets passes through here, so that the same quantity is never written
two ways and a zero is never written without the bound that belongs to it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from backtest.units import duration_text
from optimize.coverage import zero_event_upper_bound

if TYPE_CHECKING:
    from collections.abc import Mapping

NBSP = "\u00a0"
THIN = "\u202f"
MINUS = "\u2212"
TIMES = "\u00d7"
LARGEST_PERCENT = 1_000
"""Beyond it a percentage says only that it started from next to nothing."""
LONGER = "not within the window"
"""A time that had not ended when the window did."""
UNDEFINED = "not defined"
"""What stands where a ratio has no denominator, so that no cell is blank."""

_SCALES = ((1e9, "bn"), (1e6, "M"))
_LOCAL = re.compile(r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?")
_ABSOLUTE = re.compile(
    r"(?<![\w.:/~])(?:file://)?(?:[A-Za-z]:\\|\\\\|~?/)(?:[\w.@+-]+[\\/])+([\w.@+-]*)"
)


def _grouped(value: float, digits: int) -> str:
    text = f"{abs(value):,.{digits}f}"
    negative = value < 0 and float(text.replace(",", "")) != 0
    return f"{MINUS}{text}" if negative else text


def _significant(value: float, digits: int) -> str:
    """Round to significant digits without an exponent: 0.00418, 6.83, 1,204."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return _grouped(value, min(places, 8))


def money(value: float) -> str:
    """Write US dollars: ``12,345 USD``, ``1.31 M USD``, ``0.42 USD``."""
    for scale, letter in _SCALES:
        if abs(value) >= scale:
            return f"{_significant(value / scale, 3)}{NBSP}{letter}{NBSP}USD"
    digits = 0 if abs(value) >= 100 or value == 0 else 2
    return f"{_grouped(value, digits)}{NBSP}USD"


def share(value: float) -> str:
    """Write a fraction of one as a percentage with as many digits as it needs."""
    percent = 100.0 * value
    distance = min(abs(percent), abs(100.0 - percent))
    if 0 < distance < 0.01:
        return f"{_grouped(percent, 4)}{THIN}%"
    return f"{_grouped(percent, 2)}{THIN}%"


def percent(value: float) -> str:
    """Write a share that was chosen, not measured: ``20 %``, ``1.5 %``."""
    return f"{100.0 * value:,.6g}{THIN}%".replace("-", MINUS)


def amount(value: float, unit: str) -> str:
    """Write a metric's value with its unit.

    Parameters
    ----------
    value
        The number, in the unit of its key.
    unit
        As `backtest.metrics.METRICS` names it: ``USD``, ``share``, ``bps``, ``x``, ``days``,
        ``count``.

    Returns
    -------
    str
        ``not defined`` where the value is NaN or infinite, but for a time without an end.
    """
    if unit == "days" and value == math.inf:
        return LONGER
    if not math.isfinite(value):
        return UNDEFINED
    if unit == "USD":
        return money(value)
    if unit == "share":
        return share(value)
    if unit == "count":
        return _grouped(value, 0)
    if unit == "x":
        return f"{_significant(value, 3)}{THIN}{TIMES}"
    if unit == "bps":
        return f"{_significant(value, 3)}{NBSP}bp"
    return f"{_significant(value, 4)}{NBSP}{unit}" if unit else _significant(value, 4)


def signed(value: float, unit: str) -> str:
    """Write a difference: always with its sign, and percentage points for shares."""
    if not math.isfinite(value):
        return UNDEFINED
    text = amount(abs(value), unit)
    if unit == "share":
        text = text.removesuffix(f"{THIN}%") + f"{NBSP}pp"
    if not re.search(r"[1-9]", text):
        return text
    return f"{MINUS if value < 0 else '+'}{text}"


def relative(difference: float, base: float) -> str:
    """Write a difference as a percentage of where it started; empty if it started at zero."""
    if not math.isfinite(difference) or not math.isfinite(base) or base == 0 or difference == 0:
        return ""
    percent = 100.0 * difference / abs(base)
    if percent > LARGEST_PERCENT:
        return f"over +{LARGEST_PERCENT:,}{THIN}%"
    digits = 0 if abs(percent) >= 10 else 1
    sign = MINUS if percent < 0 else "+"
    return f"{sign}{abs(percent):,.{digits}f}{THIN}%"


def interval(low: float, high: float, unit: str) -> str:
    """Write a 95 % interval of a difference: ``+0.12 to +0.98 bp``."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNDEFINED
    below, above = signed(low, unit), signed(high, unit)
    (start, *low_unit), (_, *high_unit) = (re.split(r"(\s.*)", text) for text in (below, above))
    # A unit that both ends share is said once.
    return f"{start if low_unit == high_unit else below} to {above}"


def zero_of(trials: int, what: str) -> str:
    """Say that something did not happen, and what that does not rule out.

    The bound assumes independent trials; the report's statement of uncertainty says so.
    """
    bound = share(zero_event_upper_bound(trials))
    return f"0 of {trials:,} {what}; 95{THIN}% upper bound {bound} of {what}"


def digest_text(digest: str, length: int = 12) -> str:
    """Shorten a sha256 for a table; the full one is in the manifest."""
    return digest if len(digest) <= length else f"{digest[:length]}…"


def public_text(text: str) -> str:
    """Remove what identifies a machine or its user: absolute paths and loopback ports.

    A report is forwarded to strangers, and must be the same file wherever it is made.
    """
    return _ABSOLUTE.sub(r"\1", _LOCAL.sub("http://localhost", text))


def public_value(value: object) -> object:
    """Apply `public_text` to every string inside a JSON-like value."""
    if isinstance(value, str):
        return public_text(value)
    if isinstance(value, dict):
        return {key: public_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_value(item) for item in value]
    return value


def setting_text(value: object, unit: str = "") -> str:
    """Write a policy's setting: durations from milliseconds, shares as percentages.

    Parameters
    ----------
    value
        As the policy's identity holds it.
    unit
        As the knob declares it: ``"time"``, ``"of notional"``, ``"sigmas"``; may be empty.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if not isinstance(value, (int, float)):
        return str(value)
    if unit == "time":
        return duration_text(round(value)) if value else "0"
    if unit == "USD":
        return money(float(value))
    if unit == "share":
        return percent(float(value))
    if unit.startswith("of "):
        return f"{percent(float(value))} {unit}"
    return f"{value:,.4g}{NBSP}{unit}".replace("-", MINUS).rstrip()


def flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Flatten nested settings into dotted paths, lists by position."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{path}.") if value else {path: "none"}
        elif isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
            items = {str(position + 1): item for position, item in enumerate(value)}
            flat |= flatten(items, f"{path}.")
        elif isinstance(value, (list, tuple)):
            flat[path] = ", ".join(str(v) for v in value) or "none"
        else:
            flat[path] = value
    return flat
