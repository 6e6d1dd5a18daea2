"""Smiles: the quoted volatilities of one expiry at one instant, from a chain or from trades."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import DataError
from backtest.units import MS_PER_YEAR, duration_text, iso_utc
from data_ingest.surfaces.fit import FEWEST_STRIKES, SliceFit, fit_svi, vega_weights
from data_ingest.surfaces.terms import stage_option_terms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from data_ingest.store import DataStore

FARTHEST_DEVIATIONS = 6.0
"""Strikes farther from the forward are worth nothing, and their volatilities say nothing."""
_LARGEST_TRADE_IV = 4.99
"""Deribit writes 500 % on a trade whose price has no volatility, as it writes 0 %."""
_BISECTIONS = 50


@dataclass(frozen=True)
class Smile:
    """One asset's options of one expiry at one instant.

    Parameters
    ----------
    asset : str
        The underlying.
    ts_ms, expiry_ms : int
        Milliseconds UTC.
    forward_usd : float
        Of the expiry.
    log_moneyness, volatility : numpy.ndarray
        ``(P,)``: logarithm of strike over forward, ascending, each once, and annual volatility.
    size : numpy.ndarray
        ``(P,)``: how much each point counts beside its vega; 1 for marks, coins for trades.
    """

    asset: str
    ts_ms: int
    expiry_ms: int
    forward_usd: float
    log_moneyness: np.ndarray
    volatility: np.ndarray
    size: np.ndarray

    @property
    def years(self) -> float:
        """Time to expiry."""
        return (self.expiry_ms - self.ts_ms) / MS_PER_YEAR

    @property
    def atm_volatility(self) -> float:
        """Volatility at the forward by its neighbours; the nearest strike's beyond them all."""
        return float(np.interp(0.0, self.log_moneyness, self.volatility))

    def is_far(self, log_moneyness: np.ndarray) -> np.ndarray:
        """Tell where options are too far from the forward to be worth anything."""
        reach = FARTHEST_DEVIATIONS * self.atm_volatility * self.years**0.5
        return np.asarray(np.abs(log_moneyness) > reach)

    def between(self, log_moneyness: np.ndarray) -> np.ndarray:
        """Return volatility with variance linear between quotes, and flat beyond the last."""
        variance = np.interp(log_moneyness, self.log_moneyness, self.volatility**2)
        return np.asarray(np.sqrt(variance))

    def near(self) -> Smile:
        """Return the smile without the strikes that are too far out."""
        kept = ~self.is_far(self.log_moneyness)
        return Smile(
            self.asset, self.ts_ms, self.expiry_ms, self.forward_usd,
            self.log_moneyness[kept], self.volatility[kept], self.size[kept],
        )  # fmt: skip

    def fit(self) -> SliceFit | None:
        """Fit the slice, weighing by vega and size; None with too few strikes."""
        if len(self.log_moneyness) < FEWEST_STRIKES:
            return None
        vega = vega_weights(self.log_moneyness, self.volatility, self.years)
        return fit_svi(self.log_moneyness, self.volatility, self.years, vega * self.size)


def smile_of(
    asset: str,
    ts_ms: int,
    expiry_ms: int,
    forward_usd: float,
    strike: np.ndarray,
    volatility: np.ndarray,
    size: np.ndarray | None = None,
) -> Smile:
    """Gather quotes into a smile: one point a strike, the mean of its quotes by size."""
    size = np.ones(len(strike)) if size is None else size
    strikes, place = np.unique(strike, return_inverse=True)
    total = np.bincount(place, size)
    mean = np.bincount(place, size * volatility) / total
    share = total / total.mean()
    moneyness = np.log(strikes / forward_usd)
    return Smile(asset, ts_ms, expiry_ms, forward_usd, moneyness, mean, share)


def chain_smiles(
    store: DataStore, exchange: str, assets: Sequence[str], start_ms: int, end_ms: int
) -> Iterator[Smile]:
    """Read the smiles of every stored chain snapshot in ``[start_ms, end_ms]``, in order.

    Raises
    ------
    DataError
        If the store holds no snapshot of these assets then.
    """
    rows = store.columns(
        """
        SELECT list_position(?, asset) - 1 AS asset, ts_ms, expiry_ms, strike, mark_iv,
               median(forward_price) OVER (PARTITION BY ts_ms, asset, expiry_ms) AS forward
        FROM chain JOIN instruments USING (exchange, native_id)
        WHERE exchange = ? AND kind = 'option' AND list_contains(?, asset)
          AND ts_ms BETWEEN ? AND ? AND expiry_ms > ts_ms
        ORDER BY ts_ms, 1, expiry_ms, strike, native_id
        """,
        [list(assets), exchange, list(assets), start_ms, end_ms],
    )
    if not len(rows["ts_ms"]):
        raise DataError(
            f"the store {store.path} holds no option chain of {exchange} {', '.join(assets)} "
            f"from {iso_utc(start_ms)} to {iso_utc(end_ms)} UTC."
        )
    for part in _runs(rows["ts_ms"], rows["asset"], rows["expiry_ms"]):
        first = part.start
        yield smile_of(
            assets[int(rows["asset"][first])],
            int(rows["ts_ms"][first]),
            int(rows["expiry_ms"][first]),
            float(rows["forward"][first]),
            rows["strike"][part],
            rows["mark_iv"][part],
        )


def trade_smiles(
    store: DataStore,
    exchange: str,
    assets: Sequence[str],
    start_ms: int,
    end_ms: int,
    window_ms: int,
) -> Iterator[Smile]:
    """Gather the smiles that trades show, one per expiry at the end of each window.

    A trade counts at its own moneyness, by its size. Its forward is not recorded: what its
    price in coin and its volatility imply together is, and the median of the window's trades of
    an expiry, as a ratio to the index, stands for it.

    Parameters
    ----------
    store, exchange, assets
        Where from.
    start_ms, end_ms : int
        Trades in ``[start_ms, end_ms)`` count; windows start at ``start_ms``.
    window_ms : int
        Length of a window.

    Raises
    ------
    DataError
        If the store holds no usable trade of these assets then.
    """
    stage_option_terms(store, exchange)
    rows = store.columns(
        """
        SELECT list_position(?, asset) - 1 AS asset, (ts_ms - ?) // ? AS window_number,
               expiry_ms, strike, is_call, iv, price_coin, option_trades.index_price AS index,
               amount, (expiry_ms - ts_ms)::DOUBLE AS left_ms
        FROM option_trades JOIN option_terms USING (native_id)
        WHERE exchange = ? AND list_contains(?, asset) AND ts_ms >= ? AND ts_ms < ?
          AND iv > 0 AND iv < ? AND expiry_ms > ? + (1 + (ts_ms - ?) // ?) * ?
        ORDER BY 2, 1, 3, ts_ms, trade_id
        """,
        [list(assets), start_ms, window_ms, exchange, list(assets), start_ms, end_ms,
         _LARGEST_TRADE_IV, start_ms, start_ms, window_ms, window_ms],
    )  # fmt: skip
    if not len(rows["iv"]):
        raise DataError(
            f"the store {store.path} holds no option trade of {exchange} {', '.join(assets)} with "
            f"a volatility from {iso_utc(start_ms)} to {iso_utc(end_ms)} UTC, in "
            f"windows of {duration_text(window_ms)}."
        )
    implied = implied_forward(
        rows["price_coin"], rows["iv"] * np.sqrt(rows["left_ms"] / MS_PER_YEAR), rows["strike"],
        rows["is_call"].astype(bool), rows["index"],
    )  # fmt: skip
    for part in _runs(rows["window_number"], rows["asset"], rows["expiry_ms"]):
        first = part.start
        index = rows["index"][part]
        told = implied[part] / index
        if np.isnan(told).all():
            continue
        ratio = float(np.nanmedian(told))
        forward = ratio * float(index[-1])
        # A trade's own moneyness, as a strike against the window's last forward.
        yield smile_of(
            assets[int(rows["asset"][first])],
            start_ms + (1 + int(rows["window_number"][first])) * window_ms,
            int(rows["expiry_ms"][first]),
            forward,
            rows["strike"][part] * index[-1] / index,
            rows["iv"][part],
            rows["amount"][part],
        )


def implied_forward(
    price_coin: np.ndarray,
    deviation: np.ndarray,
    strike: np.ndarray,
    is_call: np.ndarray,
    index: np.ndarray,
) -> np.ndarray:
    """Return the forward at which an option of that volatility has that price in coin.

    Parameters
    ----------
    price_coin, strike, index : numpy.ndarray
        Coins; USD; USD.
    deviation : numpy.ndarray
        Volatility times the root of the years to expiry.
    is_call : numpy.ndarray
        True for calls.

    Returns
    -------
    numpy.ndarray
        USD; NaN where no forward within a half and twice the index gives the price.
    """
    from scipy.special import ndtr

    sign = np.where(is_call, 1.0, -1.0)

    def dear(forward: np.ndarray) -> np.ndarray:
        """Tell where the option costs more than it should; calls rise with the forward."""
        upper = np.log(forward / strike) / deviation + 0.5 * deviation
        price = ndtr(sign * upper) - strike / forward * ndtr(sign * (upper - deviation))
        return np.asarray(sign * price > price_coin)

    low, high = 0.5 * index, 2.0 * index
    inside = (dear(low) != is_call) & (dear(high) == is_call)
    for _ in range(_BISECTIONS):
        middle = np.sqrt(low * high)
        beyond = dear(middle) == is_call
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.where(inside, np.sqrt(low * high), np.nan)


def _runs(*keys: np.ndarray) -> Iterator[slice]:
    """Cut sorted rows where any key changes."""
    changed = np.zeros(len(keys[0]), bool)
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    edges = [0, *np.flatnonzero(changed).tolist(), len(changed)]
    for start, stop in pairwise(edges):
        yield slice(start, stop)
