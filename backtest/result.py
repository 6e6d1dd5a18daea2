"""What a replay leaves behind: series, liquidations, the margin path and the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.kernels.records import ADL_NAMES, LEDGER_NAMES, LIQUIDATION_NAMES
from backtest.metrics import METRICS, compute_metrics, metrics_that_tell
from backtest.units import iso_utc

if TYPE_CHECKING:
    from backtest.venue import VenueRules

_WHOLE = frozenset(("row", "account", "asset", "side", "at_ms", "kind"))


def _columns(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, "<i8" if name in _WHOLE else "<f8") for name in names]


LIQUIDATION_DTYPE = np.dtype([*_columns(LIQUIDATION_NAMES), ("ts", "<i8"), ("false", "?")])
ADL_DTYPE = np.dtype(_columns(ADL_NAMES))


@dataclass(frozen=True, eq=False)
class MarginPath:
    """What the policy asked of a perpetual probe, and what then happened.

    Parameters
    ----------
    initial, maintenance
        ``(T, A, 2)`` margin per unit of notional of a long (0) and a short (1); NaN where the
        asset has no perpetual or the venue knew no price.
    loss
        ``(T, A, 2)`` loss per unit of notional over the margin period that starts at the row,
        negative for a gain; NaN where the tape ends first.
    """

    initial: np.ndarray
    maintenance: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """One replay of a book on a tape under a policy and a venue.

    Parameters
    ----------
    ts, interval_ms
        ``(T,)`` instants of the replayed rows, and the time each stands for, milliseconds.
    assets
        Names of the underlyings.
    index
        ``(T, A)`` index in USD.
    series
        Named ``(T,)`` arrays; levels are taken at the margin check, flows are of the row.
    liquidation_log
        One record per liquidation step, dtype `LIQUIDATION_DTYPE`.
    margin
        The policy seen apart from any book.
    tape_digest, book_digest
        Sha256 of the inputs.
    policy, venue, seed, window
        What was replayed; ``window`` is half-open, milliseconds UTC.
    synthetic_market, synthetic_book
        Whether market and accounts were generated.
    notes
        The tape's plain sentences on what was missing or assumed.
    adl_log
        One record per winner asked by auto-deleveraging, dtype `ADL_DTYPE`.
    account_ledger
        ``(accounts, LEDGER_NAMES)`` US dollars, when they moved, positive into the account.
    metrics
        Every metric of `backtest.metrics.METRICS`, by key.
    """

    ts: np.ndarray
    interval_ms: np.ndarray
    assets: tuple[str, ...]
    index: np.ndarray
    series: dict[str, np.ndarray]
    liquidation_log: np.ndarray
    margin: MarginPath
    tape_digest: str
    book_digest: str
    policy: dict[str, Any]
    venue: VenueRules
    seed: int
    window: tuple[int, int]
    synthetic_market: bool
    synthetic_book: bool
    notes: tuple[str, ...] = ()
    adl_log: np.ndarray = field(default_factory=lambda: np.zeros(0, ADL_DTYPE))
    account_ledger: np.ndarray = field(default_factory=lambda: np.zeros((0, len(LEDGER_NAMES))))
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Compute the metrics, once."""
        if not self.metrics:
            object.__setattr__(self, "metrics", compute_metrics(self))

    def worst_hours(self, count: int = 5) -> list[tuple[int, str, float]]:
        """List the largest falls or rises of an index between two rows.

        Returns
        -------
        list of (int, str, float)
            Instant in milliseconds UTC, asset, and simple return, worst first.
        """
        moves = self.index[1:] / self.index[:-1] - 1.0
        worst = np.argsort(-np.abs(moves), axis=None, kind="stable")[:count]
        columns = moves.shape[1]
        return [
            (int(self.ts[k // columns + 1]), self.assets[k % columns], float(moves.flat[k]))
            for k in worst
        ]

    def __str__(self) -> str:
        """Align the metrics that tell something, then the five worst hours."""
        told = metrics_that_tell([self])
        width = max(map(len, told))
        lines = [f"{key:<{width}}  {format_metric(key, self.metrics[key]):>18}" for key in told]
        lines.append("worst rows")
        lines += [
            f"  {iso_utc(ts)}  {asset:<6} {move:+8.2%}" for ts, asset, move in self.worst_hours()
        ]
        return "\n".join(lines)

    def plot(self) -> Any:
        """Draw margin against realised moves, breaches marked.

        Returns
        -------
        matplotlib.figure.Figure
            One panel per asset.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 2.6 * len(self.assets)), layout="constrained")
        axes = figure.subplots(len(self.assets), 1, squeeze=False, sharex=True)[:, 0]
        when = self.ts.astype("datetime64[ms]")
        for a, (axis, asset) in enumerate(zip(axes, self.assets, strict=True)):
            for side, sign, label in ((0, -1.0, "long"), (1, 1.0, "short")):
                margin = self.margin.maintenance[:, a, side]
                loss = self.margin.loss[:, a, side]
                breach = loss > margin
                axis.plot(when, sign * margin, lw=1.0, label=f"maintenance, {label}")
                axis.plot(when[breach], sign * loss[breach], "x", color="tab:red", ms=5)
            axis.plot(when, self.margin.loss[:, a, 1], lw=0.4, color="0.6", zorder=0, label="move")
            axis.set_ylabel(asset)
        axes[0].legend(loc="upper right", ncols=3, fontsize="small")
        return figure


def format_metric(key: str, value: float) -> str:
    """Format a metric with its unit: ``6.8x``, ``0.42 bp``, ``99.21 %``, ``1,204``."""
    unit = METRICS[key].unit
    if unit == "days" and np.isposinf(value):
        return "not within the window"
    if not np.isfinite(value):
        return "not defined"
    if unit == "x":
        return f"{value:,.2f}x"
    if unit == "share":
        return f"{100 * value:,.2f} %"
    if unit == "bps":
        return f"{value:,.2f} bp"
    if unit == "USD":
        return f"{value:,.2f} USD" if abs(value) < 1e3 else f"{value:,.0f} USD"
    if unit == "days":
        return f"{value:,.1f} days"
    return f"{value:,.0f}"
