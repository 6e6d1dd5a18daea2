"""Fitted slices in the store: a table derived from chains and trades, renewed by every fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from data_ingest.surfaces.smiles import chain_smiles, trade_smiles
from data_ingest.surfaces.surface import Surface, fit_surfaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore

Origin = Literal["chain", "trades"]

_COLUMNS = {
    "exchange": "VARCHAR",
    "asset": "VARCHAR",
    "origin": "VARCHAR",
    "ts_ms": "BIGINT",
    "expiry_ms": "BIGINT",
    "forward_price": "DOUBLE",
    "points": "BIGINT",
    "a": "DOUBLE",
    "b": "DOUBLE",
    "rho": "DOUBLE",
    "m": "DOUBLE",
    "sigma": "DOUBLE",
    "lowest_k": "DOUBLE",
    "highest_k": "DOUBLE",
    "rmse": "DOUBLE",
    "max_error": "DOUBLE",
    "butterflies": "BIGINT",
    "calendars": "BIGINT",
}
_KEY = "exchange, asset, origin, ts_ms, expiry_ms"
SURFACES_SQL = (
    f"CREATE TABLE IF NOT EXISTS surfaces "
    f"({', '.join(f'{name} {kind} NOT NULL' for name, kind in _COLUMNS.items())}, "
    f"PRIMARY KEY ({_KEY}))"
)
"""Derived, so it is no feed and belongs to no batch: it can be fitted again at any time."""


@dataclass(frozen=True)
class ExpirySummary:
    """How well one expiry's slices fit, over all instants.

    Parameters
    ----------
    asset : str
        The underlying.
    expiry_ms : int
        Milliseconds UTC.
    fits, unfitted : int
        Instants with a slice, and those with fewer strikes than a slice has parameters.
    points : float
        Median strikes per slice.
    rmse, rmse_99, max_error : float
        Median and 99th percentile of the slices' root mean square errors, and the largest error
        of all, annual volatility (0.01 is one point).
    atm_volatility : float
        Annual, at the last instant.
    butterflies, calendars : int
        Violations between quoted strikes.
    extrapolated : int
        Violations beyond quoted strikes.
    """

    asset: str
    expiry_ms: int
    fits: int
    unfitted: int
    points: float
    rmse: float
    rmse_99: float
    max_error: float
    atm_volatility: float
    butterflies: int
    calendars: int
    extrapolated: int


def market_surfaces(
    store: DataStore,
    market: MarketSpec,
    trades_window_ms: int | None = None,
    progress: Callable[[Surface], None] | None = None,
) -> list[Surface]:
    """Fit the surfaces of a market's window, one per asset and instant.

    Parameters
    ----------
    store : DataStore
        Read-only is enough.
    market : MarketSpec
        Its ``options`` name the exchange; their filters do not apply.
    trades_window_ms : int, optional
        Fit what the trades of each window of this length show; without it, each stored chain
        snapshot.
    progress : callable, optional
        Called after each surface.

    Raises
    ------
    DataError
        If the store holds no chain, or no trade, of the window.
    """
    assert market.options is not None
    exchange, assets = market.options.exchange, market.assets
    smiles = (
        chain_smiles(store, exchange, assets, market.start, market.end)
        if trades_window_ms is None
        else trade_smiles(store, exchange, assets, market.start, market.end, trades_window_ms)
    )
    surfaces = []
    for surface in fit_surfaces(smiles):
        surfaces.append(surface)
        if progress:
            progress(surface)
    return surfaces


def store_surfaces(
    store: DataStore, exchange: str, origin: Origin, surfaces: Iterable[Surface]
) -> int:
    """Write slices to the table ``surfaces`` in place of those of the same instants; all or none.

    Returns
    -------
    int
        Slices written.
    """
    held = list(surfaces)
    rows = [row for surface in held for row in _rows(exchange, origin, surface)]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _COLUMNS]
    values = ", ".join(f"unnest(?::{kind}[])" for kind in _COLUMNS.values())
    with store.transaction() as cursor:
        cursor.execute(SURFACES_SQL)
        cursor.execute(
            "DELETE FROM surfaces WHERE exchange = ? AND origin = ? AND (asset, ts_ms) IN "
            "(SELECT (unnest(?::VARCHAR[]), unnest(?::BIGINT[])))",
            [exchange, origin, [each.asset for each in held], [each.ts_ms for each in held]],
        )
        cursor.execute(f"INSERT INTO surfaces SELECT {values}", columns)
    return len(rows)


def _rows(exchange: str, origin: Origin, surface: Surface) -> list[tuple[Any, ...]]:
    rows = []
    for held in surface.slices:
        found = [v for v in surface.violations if v.quoted and v.expiry_ms == held.expiry_ms]
        svi = held.svi
        butterflies = sum(v.kind == "butterfly" for v in found)
        rows.append(
            (
                exchange, held.asset, origin, held.ts_ms, held.expiry_ms, held.forward_usd,
                held.points, svi.a, svi.b, svi.rho, svi.m, svi.sigma, held.lowest_k,
                held.highest_k, held.rmse, held.max_error, butterflies, len(found) - butterflies,
            )
        )  # fmt: skip
    return rows


def summarise(surfaces: Sequence[Surface]) -> list[ExpirySummary]:
    """Summarise surfaces by asset and expiry."""
    pairs = {(held.asset, held.expiry_ms) for s in surfaces for held in s.slices}
    pairs |= {(smile.asset, smile.expiry_ms) for s in surfaces for smile in s.unfitted}
    rows = []
    for asset, expiry_ms in sorted(pairs):
        own = [surface for surface in surfaces if surface.asset == asset]
        slices = [held for s in own for held in s.slices if held.expiry_ms == expiry_ms]
        unfitted = sum(smile.expiry_ms == expiry_ms for s in own for smile in s.unfitted)
        found = [v for s in own for v in s.violations if v.expiry_ms == expiry_ms]
        rmse = np.array([held.rmse for held in slices] or [np.nan])
        last = slices[-1] if slices else None
        rows.append(
            ExpirySummary(
                asset=asset,
                expiry_ms=expiry_ms,
                fits=len(slices),
                unfitted=unfitted,
                points=float(np.median([held.points for held in slices])) if slices else 0.0,
                rmse=float(np.median(rmse)),
                rmse_99=float(np.quantile(rmse, 0.99)),
                max_error=max((held.max_error for held in slices), default=float("nan")),
                atm_volatility=float(last.svi.volatility(0.0, last.years)) if last else np.nan,
                butterflies=sum(v.quoted and v.kind == "butterfly" for v in found),
                calendars=sum(v.quoted and v.kind == "calendar" for v in found),
                extrapolated=sum(not v.quoted for v in found),
            )
        )
    return rows
