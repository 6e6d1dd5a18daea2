"""When accounts hold a position, in what, how large, and on which side.

An account alternates between holding one position (an *episode*) and none. Everything here
reads the market of the row before an episode starts, never a later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.units import MS_PER_DAY

if TYPE_CHECKING:
    from backtest.generator.spec import BookSpec
    from backtest.tape import MarketTape

_VOLUME_WINDOW_MS = 30 * MS_PER_DAY
_TREND_WINDOW_MS = MS_PER_DAY
_RAMP_MS = MS_PER_DAY
"""Positions that exist when the tape starts are opened over its first day."""


@dataclass(frozen=True)
class Episodes:
    """Spells in which an account holds a position, ``(E,)``, in order of their start.

    ``row`` is the last row of the tape strictly before the start: what the trader sees.
    ``end_ms`` may lie beyond the tape; the position is then never closed.
    """

    account: np.ndarray
    start_ms: np.ndarray
    end_ms: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        """Count the episodes."""
        return len(self.account)


def draw_episodes(
    spec: BookSpec, tape: MarketTape, cycle_ms: np.ndarray, draws: np.random.Generator
) -> Episodes:
    """Draw alternating holding and idle times over the tape.

    Parameters
    ----------
    spec
        ``time_in_market`` and ``holding_spread``.
    tape
        Gives the span; starts lie in ``(ts[0], ts[-1]]``.
    cycle_ms
        ``(N,)`` mean of holding plus idle time per account.
    draws
        Random stream.

    Returns
    -------
    Episodes
        Holding times are lognormal, idle times exponential; no episode is shorter than the
        tape's first interval.
    """
    first, last = int(tape.ts[0]), int(tape.ts[-1])
    shortest = float(tape.ts[1] - tape.ts[0]) if len(tape) > 1 else 1.0
    spread = spec.holding_spread
    holding_ms = spec.time_in_market * cycle_ms
    idle_ms = cycle_ms - holding_ms
    count = len(cycle_ms)
    holds_at_start = draws.random(count) < spec.time_in_market
    ramp = draws.random(count) * min(_RAMP_MS, last - first)
    clock = first + np.where(holds_at_start, ramp, idle_ms * draws.exponential(size=count))
    active = np.arange(count)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    while True:
        active = active[clock[active] < last]
        if not len(active):
            break
        start = np.floor(clock[active]).astype(np.int64) + 1
        hold = holding_ms[active] * np.exp(
            spread * draws.standard_normal(len(active)) - 0.5 * spread * spread
        )
        idle = idle_ms[active] * draws.exponential(size=len(active))
        end = start + np.maximum(hold, shortest)
        clock[active] = end + idle
        # A holding time of decades would overflow int64; beyond the tape all are alike.
        parts.append((active, start, np.minimum(end, 2.0 * last).astype(np.int64)))
    if not parts:
        empty = np.empty(0, np.int64)
        return Episodes(empty, empty, empty, empty)
    account, start, end = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((account, start))
    start = start[order]
    return Episodes(
        account=account[order],
        start_ms=start,
        end_ms=end[order],
        row=np.searchsorted(tape.ts, start, side="left") - 1,
    )


def daily_volume_usd(tape: MarketTape) -> np.ndarray:
    """Mean daily volume over the 30 days that end at each row, ``(T, A)`` USD."""
    total = np.vstack([np.zeros((1, len(tape.assets))), np.cumsum(tape.volume_usd, axis=0)])
    rows = np.arange(len(tape))
    start = np.searchsorted(tape.ts, tape.ts - _VOLUME_WINDOW_MS, side="right")
    interval = tape.ts[1] - tape.ts[0] if len(tape) > 1 else MS_PER_DAY
    # The first bar of a window began one interval before its own time.
    span = tape.ts - tape.ts[start] + interval
    return np.asarray((total[rows + 1] - total[start]) * (MS_PER_DAY / span)[:, None])


def choose_assets(
    volume_usd: np.ndarray, episodes: Episodes, home: np.ndarray, draws: np.random.Generator
) -> np.ndarray:
    """Choose what each episode trades: assets in proportion to their recent volume.

    Parameters
    ----------
    volume_usd
        From `daily_volume_usd`.
    episodes
        When.
    home
        ``(N,)`` the one asset of accounts that post coin, -1 for the others.
    draws
        Random stream.
    """
    weight = volume_usd[episodes.row] + 1e-9
    limits = np.cumsum(weight, axis=1) / weight.sum(axis=1, keepdims=True)
    drawn = (draws.random((len(episodes), 1)) > limits[:, :-1]).sum(axis=1)
    own = home[episodes.account]
    return np.asarray(np.where(own >= 0, own, drawn))


def preferred_sides(
    tape: MarketTape,
    episodes: Episodes,
    asset: np.ndarray,
    trend: np.ndarray,
    draws: np.random.Generator,
) -> np.ndarray:
    """Draw +1 or -1: a coin that the last day's move makes lean, by ``trend`` of each episode."""
    before = np.searchsorted(tape.ts, tape.ts - _TREND_WINDOW_MS, side="left")
    rose = np.sign(tape.index - tape.index[before])
    lean = 0.5 * (1.0 + trend * rose[episodes.row, asset])
    return np.where(draws.random(len(episodes)) < lean, 1.0, -1.0)


def pair_sides(
    preferred: np.ndarray,
    fixed: np.ndarray,
    coins: np.ndarray,
    asset: np.ndarray,
    start_ms: np.ndarray,
    end_ms: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """Turn preferred sides where they would unbalance open interest.

    On a real venue every long has a short. A position that would push the net of its asset
    beyond ``tolerance`` of the gross takes the other side instead.

    Parameters
    ----------
    preferred
        ``(E,)`` +1 or -1.
    fixed
        ``(E,)`` True where the side may not be turned, such as the coin of a covered call.
    coins
        ``(E,)`` size in coins, comparable over time; 0 where no perpetual is traded.
    asset, start_ms, end_ms
        ``(E,)``, in order of ``start_ms``.
    tolerance
        Share of gross open interest.

    Returns
    -------
    numpy.ndarray
        ``(E,)`` sides.
    """
    count = len(preferred)
    times = np.concatenate([start_ms, end_ms])
    # At one instant closings come first, so that what they free can be paired.
    kinds = np.concatenate([np.ones(count, np.int8), np.zeros(count, np.int8)])
    events = np.lexsort((kinds, times)).tolist()
    sides = preferred.tolist()
    sizes, assets, held = coins.tolist(), asset.tolist(), fixed.tolist()
    net = [0.0] * (int(asset.max()) + 1 if count else 0)
    gross = net.copy()
    for event in events:
        if event >= count:
            i = event - count
            net[assets[i]] -= sides[i] * sizes[i]
            gross[assets[i]] -= sizes[i]
            continue
        a, size = assets[event], sizes[event]
        pushes = sides[event] * net[a] > 0.0
        if pushes and not held[event] and abs(net[a]) + size > tolerance * (gross[a] + size):
            sides[event] = -sides[event]
        net[a] += sides[event] * size
        gross[a] += size
    return np.array(sides)
