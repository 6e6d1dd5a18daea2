"""Which strategy an episode holds, and on which instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.generator.options import (
    LEGS,
    NAMES,
    OPTION_LEG_SHARE,
    PERPETUAL_ONLY,
    STRATEGIES,
    Chain,
    chain_of,
    choose_expiries,
    choose_legs,
)
from backtest.instruments import NEVER_MS
from backtest.seeds import stream

if TYPE_CHECKING:
    from backtest.generator.flow import Episodes
    from backtest.generator.spec import BookSpec
    from backtest.tape import MarketTape

_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def choose_strategies(
    spec: BookSpec,
    tape: MarketTape,
    episodes: Episodes,
    segment: np.ndarray,
    asset: np.ndarray,
    in_coin: np.ndarray,
    plain_usd: np.ndarray,
    option_usd: np.ndarray,
    perpetual: np.ndarray,
    root: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Choose strategy and instruments so that options have their share of notional x time.

    The share is calibrated over the whole tape, with sizes at the prices of its first row: of
    the future it knows the listings, never a price.

    Parameters
    ----------
    spec, tape, episodes
        What is generated.
    segment, asset, in_coin
        ``(E,)`` kind of trader, asset, whether it posts coin.
    plain_usd, option_usd
        ``(E,)`` size at the first row's prices as a plain perpetual, and with options.
    perpetual
        ``(E,)`` instrument of a perpetual leg.
    root
        Root seed.

    Returns
    -------
    tuple of numpy.ndarray
        ``(E, LEGS)`` instruments, ``(E,)`` strategy, ``(E,)`` expiry (``NEVER_MS`` without
        options) and ``(E,)`` whether the options are held until then.
    """
    count = len(episodes)
    draws = stream(root, "book", "options")
    odds, given_option = _strategy_odds(spec, segment, draws)
    tenor = spec.option_tenor * np.exp(spec.option_tenor_spread * draws.standard_normal(count))
    width = draws.uniform(0.6, 1.6, count)
    patience = np.array([part.held_to_expiry for part in spec.segments.values()])[segment]
    waits = draws.random(count) < patience
    own_index, next_start = _within_account(episodes)
    # A low-discrepancy sequence per account instead of independent draws: a whale's few
    # episodes would otherwise decide the share of options by luck.
    level = (
        draws.random(int(episodes.account.max(initial=-1)) + 1)[episodes.account]
        + own_index * _GOLDEN
    ) % 1.0

    chains: dict[tuple[int, int], Chain] = {}
    for a in range(len(tape.assets)):
        for coin in (0, 1):
            chain = chain_of(tape, a, coin) or chain_of(tape, a, 1 - coin)
            if chain is not None:
                chains[a, coin] = chain
    expiry_row = np.full(count, -1, np.int64)
    expiry_ms = np.full(count, NEVER_MS, np.int64)
    if spec.option_share > 0.0:
        for (a, coin), chain in chains.items():
            here = np.flatnonzero((asset == a) & (in_coin == coin) & (odds > 0.0))
            found = choose_expiries(
                tape, chain, episodes.start_ms[here], episodes.row[here], tenor[here]
            )
            expiry_row[here] = found
            expiry_ms[here] = np.where(found >= 0, chain.expiry_ms[found], NEVER_MS)
    possible = expiry_row >= 0
    last = int(tape.ts[-1])
    filled = tape.ts[np.searchsorted(tape.ts, np.minimum(episodes.end_ms, last), side="left")]
    held = possible & ((waits & (expiry_ms <= next_start)) | (filled >= expiry_ms))
    until = np.where(held, expiry_ms, np.minimum(episodes.end_ms, expiry_ms))
    option_time = option_usd * (np.minimum(until, last) - episodes.start_ms)
    perpetual_time = plain_usd * (np.minimum(episodes.end_ms, last) - episodes.start_ms)
    is_option = possible & (
        level
        < _option_probability(
            spec.option_share, odds, level, possible, given_option, option_time, perpetual_time
        )
    )
    strategy = np.where(is_option, given_option, PERPETUAL_ONLY)
    legs = np.full((count, LEGS), -1, np.int64)
    for (a, coin), chain in chains.items():
        mine = is_option & (asset == a) & (in_coin == coin)
        for s in np.unique(strategy[mine]):
            here = np.flatnonzero(mine & (strategy == s))
            legs[here] = choose_legs(
                tape,
                chain,
                STRATEGIES[NAMES[s]],
                episodes.row[here],
                expiry_row[here],
                width[here],
                int(perpetual[here[0]]),
            )
    plain = legs[:, 0] < 0
    legs[plain, 0] = perpetual[plain]
    return (
        legs,
        np.where(plain, PERPETUAL_ONLY, strategy),
        np.where(plain, NEVER_MS, expiry_ms),
        held & ~plain,
    )


def _strategy_odds(
    spec: BookSpec, segment: np.ndarray, draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Odds of options against a plain perpetual, and the strategy if it is options, ``(E,)``."""
    odds = np.zeros(len(segment))
    chosen = np.full(len(segment), PERPETUAL_ONLY, np.int64)
    for s, part in enumerate(spec.segments.values()):
        here = np.flatnonzero(segment == s)
        weight = np.array([part.strategies.get(name, 0.0) for name in NAMES])  # type: ignore[call-overload]
        plain = weight[PERPETUAL_ONLY]
        weight[PERPETUAL_ONLY] = 0.0
        if weight.sum() == 0.0:
            continue
        odds[here] = weight.sum() / plain if plain > 0.0 else np.inf
        drawn = draws.random(len(here))
        chosen[here] = np.searchsorted(np.cumsum(weight / weight.sum()), drawn, side="right")
    return odds, np.minimum(chosen, len(NAMES) - 1)


def _option_probability(
    target: float,
    odds: np.ndarray,
    level: np.ndarray,
    possible: np.ndarray,
    strategy: np.ndarray,
    option_time: np.ndarray,
    perpetual_time: np.ndarray,
) -> np.ndarray:
    """Scale every segment's odds by one factor, found by bisection, to meet the target."""
    option_part = option_time * OPTION_LEG_SHARE[strategy]
    low, high = -12.0, 12.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        probability = 1.0 - 1.0 / (1.0 + odds * np.exp(middle))
        chosen = possible & (level < probability)
        total = np.where(chosen, option_time, perpetual_time).sum()
        if option_part[chosen].sum() < target * total:
            low = middle
        else:
            high = middle
    return np.asarray(1.0 - 1.0 / (1.0 + odds * np.exp(0.5 * (low + high))))


def _within_account(episodes: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """Count each account's episodes from 0, and give the start of its next one."""
    count = len(episodes)
    number = np.zeros(count, np.int64)
    following = np.full(count, NEVER_MS, np.int64)
    order = np.argsort(episodes.account, kind="stable")
    ordered = episodes.account[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    number[order] = np.arange(count) - np.repeat(first, np.diff(np.append(first, count)))
    same = ordered[1:] == ordered[:-1]
    following[order[:-1][same]] = episodes.start_ms[order[1:][same]]
    return number, following
