"""Calendar arbitrage among marks: total variance that falls from one expiry to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.units import iso_utc
from data_ingest.quality.bounds import CALENDAR_VOLATILITY
from data_ingest.quality.places import Series, Stretch, told
from data_ingest.surfaces.smiles import Smile, chain_smiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_ingest.quality.findings import Finding
    from data_ingest.store import DataStore

_FEWEST_STRIKES = 3


def calendar_findings(
    store: DataStore, exchange: str, asset: str, start_ms: int, end_ms: int
) -> Iterator[Finding]:
    """Hold the smiles of each snapshot in ``[start_ms, end_ms]`` against the next expiry's.

    Only strikes count that both expiries quote and that are near enough to be worth something;
    between strikes variance is taken as linear.
    """
    found: list[tuple[Stretch, Smile, Smile, float]] = []
    early: Smile | None = None
    for smile in chain_smiles(store, exchange, [asset], start_ms, end_ms):
        near = smile.near()
        if len(near.log_moneyness) < _FEWEST_STRIKES:
            continue
        if early is not None and early.ts_ms == near.ts_ms:
            size, moneyness = missing_volatility(early, near)
            if size > CALENDAR_VOLATILITY:
                place = Stretch(near.ts_ms, near.ts_ms + 1, 1, len(found), size)
                found.append((place, early, near, moneyness))
        early = near

    def tell(each: Stretch) -> str:
        _, before, after, moneyness = found[each.worst]
        return (
            f"Total variance of {iso_utc(after.expiry_ms)[:10]} is below that of "
            f"{iso_utc(before.expiry_ms)[:10]} at log-moneyness {moneyness:.2f}: "
            f"{100 * each.size:.1f} points of volatility are missing at "
            f"{iso_utc(each.start_ms)} UTC."
        )

    series = Series("chain", exchange, asset)
    yield from told(series, "calendar", [each for each, *_ in found], tell)


def missing_volatility(early: Smile, late: Smile) -> tuple[float, float]:
    """Return by how much the later volatility must rise at worst, and at which log-moneyness."""
    k = np.concatenate((early.log_moneyness, late.log_moneyness))
    lowest = max(early.log_moneyness[0], late.log_moneyness[0])
    highest = min(early.log_moneyness[-1], late.log_moneyness[-1])
    k = k[(k >= lowest) & (k <= highest)]
    if not len(k):
        return 0.0, 0.0
    needed = early.between(k) * np.sqrt(early.years / late.years)
    missing = needed - late.between(k)
    worst = int(np.argmax(missing))
    return float(missing[worst]), float(k[worst])
