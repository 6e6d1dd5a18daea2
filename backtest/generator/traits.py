"""What accounts are like beyond size and flow: margin scheme, nerves, coin, resting orders.

Each trait draws from a stream of its own, so that a spec without it gives the same book as
before it existed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.book import CROSS, ISOLATED, PORTFOLIO
from backtest.seeds import stream

if TYPE_CHECKING:
    from backtest.generator.flow import Episodes
    from backtest.generator.spec import BookSpec, Scheme
    from backtest.tape import MarketTape

SCHEMES: dict[Scheme, int] = {"portfolio": PORTFOLIO, "cross": CROSS, "isolated": ISOLATED}


class CoinPart(NamedTuple):
    """Coin that accounts of US dollars hold beside them, one row per such account, ``(X,)``."""

    account: np.ndarray
    asset: np.ndarray
    coins: np.ndarray
    usd: np.ndarray


def draw_schemes(spec: BookSpec, root: int) -> np.ndarray:
    """Draw each account's margin scheme, ``(N,)``, in exactly the spec's shares."""
    names = [name for name, share in spec.schemes.items() if share > 0.0]
    codes = np.array([SCHEMES[name] for name in names], np.int64)
    limits = np.cumsum([spec.schemes[name] for name in names])[:-1]
    place = (stream(root, "book", "schemes").permutation(spec.accounts) + 0.5) / spec.accounts
    return np.asarray(codes[np.searchsorted(limits, place, side="right")])


def draw_flight(spec: BookSpec, root: int) -> np.ndarray:
    """Draw exponents of flight, ``(N,)``: exponential, as most stay and a few run first."""
    return spec.flight * stream(root, "book", "flight").standard_exponential(spec.accounts)


def draw_coin_part(
    spec: BookSpec, tape: MarketTape, wallet_usd: np.ndarray, home: np.ndarray, root: int
) -> CoinPart:
    """Choose who holds a part of the wallet as coin, and which.

    Parameters
    ----------
    spec, tape
        ``coin_collateral``, and the assets with their prices at the first row.
    wallet_usd, home
        ``(N,)`` wallet, and the asset of an account that posts nothing but coin, else -1.
    root
        Root seed.
    """
    mix = spec.coin_collateral
    if mix is None:
        nobody = np.empty(0, np.int64)
        return CoinPart(nobody, nobody, np.empty(0), np.empty(0))
    draws = stream(root, "book", "coin collateral")
    # Every account draws, so that another wallet or home never shifts who is chosen.
    chosen = (draws.permutation(spec.accounts) + 0.5) / spec.accounts < mix.accounts
    asset = draws.integers(0, len(tape.assets), spec.accounts)
    account = np.flatnonzero(chosen & (home < 0))
    usd = mix.part * wallet_usd[account]
    return CoinPart(account, asset[account], usd / tape.index[0, asset[account]], usd)


def draw_limits(
    spec: BookSpec,
    episodes: Episodes,
    plain: np.ndarray,
    side: np.ndarray,
    price: np.ndarray,
    close_ms: np.ndarray,
    root: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Let a share of the plain perpetuals rest at a limit instead of trading at market.

    Parameters
    ----------
    spec, episodes
        ``resting``, and when.
    plain, side, price, close_ms
        ``(E,)`` whether the opening is a single perpetual, its sign, the index that its trader
        sees in USD, and when the position is closed.
    root
        Root seed.

    Returns
    -------
    tuple of numpy.ndarray
        ``(E,)`` limit in USD, NaN at market, and ``(E,)`` the time until which it rests, 0 at
        market: a buyer bids below the price, a seller asks above, by an exponential distance,
        and nobody rests longer than the position was meant to last.
    """
    count = len(episodes)
    if spec.resting is None:
        return np.full(count, np.nan), np.zeros(count, np.int64)
    draws = stream(root, "book", "resting orders")
    rests = (draws.random(count) < spec.resting.share) & plain
    away = np.exp(-side * spec.resting.distance * draws.standard_exponential(count))
    until = np.minimum(episodes.start_ms + spec.resting.life, close_ms)
    return np.where(rests, price * away, np.nan), np.where(rests, until, 0)
