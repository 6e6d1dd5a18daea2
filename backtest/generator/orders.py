"""Write episodes as orders: a group of opening legs and, later, a group of closing ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.book import CLOSE, OPEN
from backtest.generator.options import LEGS, STRATEGIES
from backtest.instruments import PERPETUAL

if TYPE_CHECKING:
    from backtest.generator.flow import Episodes
    from backtest.tape import MarketTape

SIDES = np.array(
    [[leg.side for leg in legs] + [0] * (LEGS - len(legs)) for legs in STRATEGIES.values()],
    dtype=np.float64,
)
"""Side of each leg; where a strategy has a perpetual, it is the first."""
LEG_COUNTS = np.array([len(legs) for legs in STRATEGIES.values()])


@dataclass(frozen=True)
class Orders:
    """Columns of the book's orders, in order of time, group and leg."""

    ts: np.ndarray
    account: np.ndarray
    instrument: np.ndarray
    quantity: np.ndarray
    kind: np.ndarray
    group: np.ndarray
    limit: np.ndarray
    until_ms: np.ndarray
    capped: int
    openings: int


def write_orders(
    tape: MarketTape,
    episodes: Episodes,
    strategy: np.ndarray,
    legs: np.ndarray,
    side: np.ndarray,
    coins: np.ndarray,
    close_ms: np.ndarray,
    held: np.ndarray,
    resting: tuple[np.ndarray, np.ndarray],
    capped: int,
) -> Orders:
    """Write each episode as a group of opening legs and, later, a group of closing ones.

    Parameters
    ----------
    tape, episodes
        The market, and when the positions are held.
    strategy, legs
        ``(E,)`` strategy and ``(E, LEGS)`` instruments, -1 where there is none.
    side, coins
        ``(E,)`` sign of the first leg and coins per leg.
    close_ms, held
        ``(E,)`` when it ends, and whether its options are left to expire.
    resting
        ``(E,)`` limits in USD and ``(E,)`` times until which they rest.
    capped
        How many openings were cut.
    """
    table = tape.instruments
    episode, slot = np.nonzero(legs >= 0)
    instrument = legs[episode, slot]
    usd_per_coin = tape.index[episodes.row[episode], table.asset[instrument]]
    in_dollars = (table.inverse[instrument] == 1) & (table.kind[instrument] == PERPETUAL)
    contracts = coins[episode] * np.where(in_dollars, usd_per_coin, 1.0)
    contracts = contracts / table.contract_size[instrument]
    quantity = contracts * side[episode] * SIDES[strategy[episode], slot]
    # What expires is not closed, and what outlives the tape never is.
    is_perpetual = table.kind[instrument] == PERPETUAL
    closes = (close_ms[episode] <= tape.ts[-1]) & (is_perpetual | ~held[episode])
    ts = np.concatenate([episodes.start_ms[episode], close_ms[episode][closes]])
    group = np.concatenate([2 * episode, 2 * episode[closes] + 1])
    order = np.lexsort((np.concatenate([slot, slot[closes]]), group, ts))
    group = group[order]
    at_market = int(closes.sum())
    return Orders(
        ts=ts[order],
        account=np.concatenate([episodes.account[episode], episodes.account[episode][closes]])[
            order
        ],
        instrument=np.concatenate([instrument, instrument[closes]])[order],
        quantity=np.concatenate([quantity, -quantity[closes]])[order],
        kind=np.where(np.arange(len(order))[order] < len(episode), OPEN, CLOSE),
        group=np.cumsum(np.diff(group, prepend=-1) != 0) - 1,
        limit=np.concatenate([resting[0][episode], np.full(at_market, np.nan)])[order],
        until_ms=np.concatenate([resting[1][episode], np.zeros(at_market, np.int64)])[order],
        capped=capped,
        openings=len(episodes),
    )
