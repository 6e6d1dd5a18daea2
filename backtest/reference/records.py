"""What a replay of the plain-Python engine records: by bar, by event and by account."""

from __future__ import annotations

import numpy as np

from backtest.kernels.records import (
    ADL_NAMES,
    LEDGER_NAMES,
    LEVEL_NAMES,
    LIQUIDATION_NAMES,
    SERIES_NAMES,
    WORST_NAMES,
)


class Records:
    """Series per market row, two logs of events, and a ledger per margin account.

    A bar may be several market rows, and an account of the book several margin accounts. Both
    are put together again when the records are read.
    """

    def __init__(self, bar_of_row: list[int], owner_of_account: list[int]) -> None:
        self.bar_of_row, self.owner_of_account = bar_of_row, owner_of_account
        self.series = [dict.fromkeys(SERIES_NAMES, 0.0) for _ in bar_of_row]
        self.entries = [dict.fromkeys(LEDGER_NAMES, 0.0) for _ in owner_of_account]
        self.liquidations: list[dict[str, float]] = []
        self.winners: list[dict[str, float]] = []

    def series_by_bar(self) -> dict[str, np.ndarray]:
        """Return ``(bars,)`` per name: flows are added, of levels the last or the worst counts."""
        bars: list[dict[str, float]] = []
        for row, now in enumerate(self.series):
            if row == 0 or self.bar_of_row[row] != self.bar_of_row[row - 1]:
                bars.append(dict(now))
                continue
            bar = bars[-1]
            for name in SERIES_NAMES:
                if name in WORST_NAMES:
                    bar[name] = max(bar[name], now[name])
                else:
                    bar[name] = now[name] if name in LEVEL_NAMES else bar[name] + now[name]
        return {name: np.array([bar[name] for bar in bars]) for name in SERIES_NAMES}

    def liquidation_log(self) -> np.ndarray:
        """Return ``(L, len(LIQUIDATION_NAMES))``."""
        return self._events(self.liquidations, LIQUIDATION_NAMES)

    def adl_log(self) -> np.ndarray:
        """Return ``(D, len(ADL_NAMES))``, one row per winner that was deleveraged."""
        return self._events(self.winners, ADL_NAMES)

    def ledger(self) -> np.ndarray:
        """Return ``(accounts of the book, len(LEDGER_NAMES))``, US dollars."""
        total = np.zeros((max(self.owner_of_account) + 1, len(LEDGER_NAMES)))
        for owner, entries in zip(self.owner_of_account, self.entries, strict=True):
            for k, name in enumerate(LEDGER_NAMES):
                total[owner, k] += entries[name]
        return total

    def _events(self, events: list[dict[str, float]], names: tuple[str, ...]) -> np.ndarray:
        told = [
            event
            | {
                "row": self.bar_of_row[int(event["row"])],
                "account": self.owner_of_account[int(event["account"])],
            }
            for event in events
        ]
        table = [[float(event[name]) for name in names] for event in told]
        return np.array(table).reshape(-1, len(names))
