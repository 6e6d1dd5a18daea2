"""The two rules of the clock that look back at their own last answer: posts and checks."""

from __future__ import annotations

import numpy as np
from numba import types

from backtest.cache import compiled

_INTEGERS = types.Array(types.int64, 1, "C", readonly=True)
_PRICES = types.Array(types.float64, 2, "C", readonly=True)
_FLAGS = types.Array(types.boolean, 1, "C", readonly=True)


@compiled(
    types.void(
        _INTEGERS, _PRICES, _FLAGS, types.int64, types.float64, types.Array(types.int64, 2, "C")
    ),
    entry=True,
)
def mark_posts(
    ts: np.ndarray,
    price: np.ndarray,
    silent: np.ndarray,
    heartbeat_ms: int,
    deviation: float,
    posted: np.ndarray,
) -> None:
    """Fill ``posted`` ``(T, A)`` with the latest row, up to each one, that each feed posted.

    Parameters
    ----------
    ts, price, silent
        ``(T,)`` times, ``(T, A)`` prices, and ``(T,)`` whether nothing is posted at a row.
    heartbeat_ms, deviation
        0 where the feed has no such rule; with neither it posts at every row.
    posted
        Output; -1 before a feed's first post.
    """
    always = heartbeat_ms == 0 and deviation == 0.0
    for asset in range(price.shape[1]):
        last = -1
        for row in range(ts.shape[0]):
            if not silent[row] and (
                last < 0
                or always
                or (deviation > 0.0 and abs(price[row, asset] / price[last, asset] - 1.0)
                    >= deviation)
                or (heartbeat_ms > 0 and ts[row] - ts[last] >= heartbeat_ms)
            ):  # fmt: skip
                last = row
            posted[row, asset] = last


@compiled(types.void(_INTEGERS, _FLAGS, types.int64, types.Array(types.int64, 1, "C")), entry=True)
def space_checks(at_ms: np.ndarray, urgent: np.ndarray, every_ms: int, check: np.ndarray) -> None:
    """Take those checks back that come sooner than ``every_ms`` after the last one.

    Parameters
    ----------
    at_ms, urgent
        ``(E,)`` times of the instants, and whether an expiry is too near to wait.
    every_ms
        Least time between two checks.
    check
        ``(E,)``, 1 where a check is possible; cleared in place where it is not made.
    """
    last = -1
    for e in range(at_ms.shape[0]):
        if check[e] == 1:
            if last < 0 or urgent[e] or at_ms[e] - at_ms[last] >= every_ms:
                last = e
            else:
                check[e] = 0
