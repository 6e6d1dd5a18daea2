"""The figures, by stable key; each takes arrays and returns an inline SVG element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.report.canvas import (
    ALARM,
    CLOUD,
    CURRENT,
    INK,
    MUTED,
    PAPER,
    PROPOSED,
    RULE,
    as_date,
    buckets,
    draw,
    time_axis,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.report.episodes import Episode

MARGIN_BUCKETS = 420
"""Points of a margin path: about one per printed dot."""
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)))
CROWD = 40
"""From this many breaches on, their marks are drawn smaller."""
WIDE_RATIO = 50.0
"""Above this ratio of largest to smallest positive value an axis turns logarithmic."""


@dataclass(frozen=True)
class Point:
    """One replay in the plane of two objectives."""

    x: float
    y: float


@dataclass(frozen=True)
class FrontData:
    """What the Pareto figure shows; every point is ``(x, y)`` in the metrics' units.

    ``connected`` is False where the axes are not the objectives of the search, so that its front
    is not a front of the picture.
    """

    x_label: str
    y_label: str
    infeasible: Sequence[Point]
    feasible: Sequence[Point]
    front: Sequence[Point]
    current: Point
    proposed: Point
    current_holdout: Point
    proposed_holdout: Point
    connected: bool = True


@dataclass(frozen=True)
class MarginData:
    """One asset's margin and moves under one policy over one window.

    ``initial`` and ``loss`` are ``(T, 2)``: long and short; ``breach`` is the mask of the rows
    whose realised loss exceeded the margin.
    """

    asset: str
    ts: np.ndarray
    current: np.ndarray
    proposed: np.ndarray
    loss: np.ndarray
    breach: np.ndarray


def _plain(value: float, _position: Any = None) -> str:
    return f"{value:,.10g}".replace("-", "\u2212")


def _spread(axes: Axes, values: Sequence[float], which: str) -> None:
    finite = np.abs([value for value in values if np.isfinite(value)])
    positive = finite[finite > 0]
    if positive.size and positive.max() > WIDE_RATIO * positive.min():
        threshold = float(10.0 ** np.floor(np.log10(max(positive.min(), positive.max() / 1e4))))
        getattr(axes, f"set_{which}scale")("symlog", linthresh=threshold, linscale=0.4)
    getattr(axes, f"{which}axis").set_major_formatter(_plain)


def pareto(data: FrontData) -> str:
    """F1: every trial of the search, the front, and both policies in and out of sample."""

    def scatter(axes: Axes, points: Sequence[Point], label: str, **style: Any) -> None:
        if points:
            axes.scatter([p.x for p in points], [p.y for p in points], label=label, **style)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        scatter(
            axes,
            data.infeasible,
            "trial, breaks a constraint",
            s=16,
            marker="x",
            color=CLOUD,
            linewidths=1.0,
        )
        scatter(axes, data.feasible, "trial", s=16, color=CLOUD, linewidths=0)
        front = sorted(data.front, key=lambda p: (p.x, p.y))
        axes.step(
            [p.x for p in front],
            [p.y for p in front],
            where="post",
            color=MUTED,
            linewidth=1.0 if data.connected else 0.0,
            marker="o",
            markersize=3.5,
            label="front of the search",
        )
        for inside, outside, colour, name in (
            (data.current, data.current_holdout, CURRENT, "current"),
            (data.proposed, data.proposed_holdout, PROPOSED, "proposed"),
        ):
            axes.plot(
                [inside.x, outside.x],
                [inside.y, outside.y],
                color=colour,
                linewidth=1.0,
                linestyle=(0, (2, 2)),
            )
            axes.scatter(inside.x, inside.y, s=64, color=colour, zorder=4, label=f"{name}, search")
            axes.scatter(
                outside.x,
                outside.y,
                s=64,
                facecolor=PAPER,
                edgecolor=colour,
                linewidths=1.8,
                zorder=5,
                label=f"{name}, hold-out",
            )
        every = [*data.infeasible, *data.feasible, data.current, data.proposed]
        every += [data.current_holdout, data.proposed_holdout]
        _spread(axes, [p.x for p in every], "x")
        _spread(axes, [p.y for p in every], "y")
        axes.set_xlabel(data.x_label)
        axes.set_ylabel(data.y_label)
        figure.legend(loc="outside upper left", ncols=4, handletextpad=0.3, columnspacing=1.2)

    return draw("f1", "Search trials, Pareto front, current and proposed policy", 4.4, paint)


def margin_path(name: str, data: MarginData) -> str:
    """F2: margin as an envelope around realised moves; a breach is a move outside it.

    Falls, which hurt a long position, point down; rises point up. Each bucket shows its largest
    move and its smallest margin, so that no breach can hide in an average.
    """
    first = buckets(len(data.ts), MARGIN_BUCKETS)
    when = as_date(data.ts)
    loss = np.nan_to_num(data.loss, nan=0.0)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        moment = when[first]
        for side, sign in ((0, -1.0), (1, 1.0)):
            worst = np.maximum.reduceat(loss[:, side], first).clip(min=0.0)
            axes.fill_between(
                moment, 0.0, sign * 100.0 * worst, step="post", color=CLOUD, linewidth=0
            )
            for path, colour, label in (
                (data.current, CURRENT, "current margin"),
                (data.proposed, PROPOSED, "proposed margin"),
            ):
                axes.step(
                    moment,
                    sign * 100.0 * np.minimum.reduceat(path[:, side], first),
                    where="post",
                    color=colour,
                    label=label if side == 0 else None,
                )
            outside = data.breach[:, side]
            axes.scatter(
                when[outside],
                sign * 100.0 * loss[outside, side],
                s=22 if data.breach.sum() < CROWD else 9,
                color=ALARM,
                zorder=5,
                label="breach of the proposed margin" if side == 0 else None,
            )
        axes.axhline(0.0, color=MUTED, linewidth=0.7)
        axes.set_title(data.asset)
        axes.set_ylabel("move and margin, %")
        axes.yaxis.set_major_formatter(_plain)
        time_axis(axes, int(data.ts[0]), int(data.ts[-1]))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, columnspacing=1.4)

    return draw(name, f"Margin and realised moves, {data.asset}", 3.2, paint)


def losses(
    ts: np.ndarray,
    current: dict[str, np.ndarray],
    proposed: dict[str, np.ndarray],
    episodes: Sequence[Episode],
) -> str:
    """F4: insurance fund, cumulative bad debt and cumulative liquidations, hold-out window."""
    # The last row of each bucket: a level's end and a running sum's total.
    last = np.append(buckets(len(ts), 500)[1:] - 1, len(ts) - 1)
    panels = (
        ("fund_usd", "insurance fund", False),
        ("gross_bad_debt_usd", "bad debt, cumulative", True),
        ("liquidated_notional_usd", "liquidated, cumulative", True),
    )

    def paint(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        for axes, (key, title, flow) in zip(figure.subplots(3, sharex=True), panels, strict=True):
            paths = [np.cumsum(s[key]) if flow else s[key] for s in (current, proposed)]
            lines = zip(paths, (CURRENT, PROPOSED), ("current", "proposed"), _DASHES, strict=True)
            unit, word = _money_scale(max(float(np.max(np.abs(path))) for path in paths))
            for path, colour, label, style in lines:
                axes.plot(
                    as_date(ts[last]), path[last] / unit, color=colour, label=label, linestyle=style
                )
            for episode in episodes:
                axes.axvspan(
                    *as_date(np.array([episode.from_ms, episode.until_ms])),
                    color=RULE,
                    linewidth=0.8,
                )
            axes.set_title(f"{title}, {word}")
            axes.set_ylim(0.0, 1.08 * max(float(path.max()) for path in paths) / unit or 1.0)
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_formatter(_plain)
            time_axis(axes, int(ts[0]), int(ts[-1]))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)

    return draw("f4", "Insurance fund, bad debt and liquidations over time", 5.6, paint)


def _money_scale(largest: float) -> tuple[float, str]:
    for scale, word in ((1e9, "bn USD"), (1e6, "M USD"), (1e3, "thousand USD")):
        if largest >= scale:
            return scale, word
    return 1.0, "USD"


def population(rows: Sequence[tuple[str, float]]) -> str:
    """F7: how far the generated accounts are from each target, as achieved ÷ target."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        place = np.arange(len(rows))[::-1]
        ratio = np.array([value for _, value in rows])
        axes.axvline(1.0, color=MUTED, linewidth=1.0)
        axes.hlines(place, 1.0, ratio, color=PROPOSED, linewidth=1.2)
        axes.scatter(ratio, place, s=34, color=PROPOSED, zorder=3)
        axes.set_yticks(place, [name for name, _ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(axis="y", visible=False)
        reach = max(0.1, float(np.max(np.abs(ratio - 1.0)))) * 1.15
        axes.set_xlim(1.0 - reach, 1.0 + reach)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlabel("achieved ÷ target")

    return draw("f7", "Generated accounts against their targets", 0.9 + 0.27 * len(rows), paint)
