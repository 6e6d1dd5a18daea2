"""Read option names on their own, to check what the feeds say of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class OptionTerms:
    """What a Deribit option's name says of it."""

    asset: str
    expiry_ms: int
    strike: float
    is_call: bool


def parse_option_name(native_id: str) -> OptionTerms:
    """Read a name such as ``BTC-28MAR25-50000-C``; Deribit's options expire at 08:00 UTC.

    Raises
    ------
    ValueError
        If the name has another form.
    """
    asset, day, strike, kind = native_id.split("-")
    if kind not in {"C", "P"}:
        raise ValueError(f"{native_id} is neither a call nor a put")
    expiry = datetime.strptime(day, "%d%b%y").replace(hour=8, tzinfo=UTC)
    return OptionTerms(asset, int(expiry.timestamp()) * 1000, float(strike.replace("d", ".")),
                       kind == "C")  # fmt: skip
