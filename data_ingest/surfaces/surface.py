"""A fitted surface: the slices of one asset at one instant, and the prices between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.units import MS_PER_YEAR
from data_ingest.surfaces.arbitrage import Violation, butterfly_violations, calendar_violations
from data_ingest.surfaces.svi import SVI

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from data_ingest.surfaces.smiles import Smile


@dataclass(frozen=True)
class FittedSlice:
    """One expiry's slice, what it was fitted to and how well.

    Parameters
    ----------
    asset : str
        The underlying.
    ts_ms, expiry_ms : int
        Milliseconds UTC.
    forward_usd : float
        Of the expiry.
    svi : SVI
        The slice.
    points : int
        Strikes that were fitted.
    lowest_k, highest_k : float
        Their range of log-moneyness; beyond it the slice extrapolates.
    rmse, max_error : float
        Distance from the quotes, annual volatility; see `SliceFit`.
    """

    asset: str
    ts_ms: int
    expiry_ms: int
    forward_usd: float
    svi: SVI
    points: int
    lowest_k: float
    highest_k: float
    rmse: float
    max_error: float

    @property
    def years(self) -> float:
        """Time to expiry."""
        return (self.expiry_ms - self.ts_ms) / MS_PER_YEAR

    def extrapolates(self, log_moneyness: np.ndarray) -> np.ndarray:
        """Tell what lies beyond the strikes that were fitted."""
        return np.asarray((log_moneyness < self.lowest_k) | (log_moneyness > self.highest_k))


@dataclass(frozen=True)
class Surface:
    """The slices of one asset at one instant.

    Parameters
    ----------
    asset : str
        The underlying.
    ts_ms : int
        Milliseconds UTC.
    slices : tuple of FittedSlice
        By expiry.
    unfitted : tuple of Smile
        Expiries with too few strikes to fit.
    violations : tuple of Violation
        Butterflies by expiry, then calendars.
    """

    asset: str
    ts_ms: int
    slices: tuple[FittedSlice, ...]
    unfitted: tuple[Smile, ...]
    violations: tuple[Violation, ...]


def fit_slice(smile: Smile) -> FittedSlice | None:
    """Fit a smile's slice to its strikes near enough to be worth something; None if too few."""
    near = smile.near()
    fit = near.fit()
    if fit is None:
        return None
    return FittedSlice(
        asset=near.asset,
        ts_ms=near.ts_ms,
        expiry_ms=near.expiry_ms,
        forward_usd=near.forward_usd,
        svi=fit.svi,
        points=len(near.log_moneyness),
        lowest_k=float(near.log_moneyness[0]),
        highest_k=float(near.log_moneyness[-1]),
        rmse=fit.rmse,
        max_error=fit.max_error,
    )


def fit_surfaces(smiles: Iterable[Smile]) -> Iterator[Surface]:
    """Fit smiles, which come by instant and asset, into one surface for each of these."""
    for held in _by_instant(smiles):
        fits = [(smile, fit_slice(smile)) for smile in held]
        slices = tuple(fitted for _, fitted in fits if fitted)
        unfitted = tuple(smile for smile, fitted in fits if fitted is None)
        found = [violation for each in slices for violation in butterfly_violations(each)]
        found += calendar_violations(slices)
        yield Surface(held[0].asset, held[0].ts_ms, slices, unfitted, tuple(found))


def _by_instant(smiles: Iterable[Smile]) -> Iterator[list[Smile]]:
    held: list[Smile] = []
    for smile in smiles:
        if held and (smile.ts_ms, smile.asset) != (held[0].ts_ms, held[0].asset):
            yield held
            held = []
        held.append(smile)
    if held:
        yield held
