"""Volatilities that were not quoted: read off the fitted slice of the same instant and expiry.

More than six deviations from the forward a slice is a guess, and quotes are the better one:
there, variance is linear between the nearest, and flat beyond the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import DataError, nearest
from data_ingest.surfaces.smiles import FARTHEST_DEVIATIONS, chain_smiles
from data_ingest.surfaces.surface import fit_slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_ingest.spec import MarketSpec, OptionsSpec
    from data_ingest.store import DataStore

    Row = tuple[Any, ...]
    """Of the option table: name, asset, strike, is call, settlement, expiry, size, first mark."""


@dataclass(frozen=True)
class FilledVolatility:
    """Quoted and fitted volatilities, and the sentence that says how many are which.

    Parameters
    ----------
    iv : numpy.ndarray
        ``(S, V)``; NaN where neither a quote nor a slice is known.
    note : str
        For the tape.
    """

    iv: np.ndarray
    note: str


def with_unquoted(store: DataStore, options: OptionsSpec, quoted: Sequence[Row]) -> list[Row]:
    """Add the options that a config names and that were never quoted, by their expiry's terms.

    Reads the staged ``chain_window``.

    Raises
    ------
    DataError
        If one is named without ``surface``, or no strike of its expiry is quoted.
    """
    names = {row[0] for row in quoted}
    rows = list(quoted)
    for name in options.extra:
        if name in names:
            continue
        if options.surface is None:
            raise DataError(
                f"market.options.extra: {name} was never quoted in the window; set "
                "market.options.surface to svi to price it from other strikes of its expiry."
            )
        rows.append(_unquoted(store, name))
    return sorted(rows, key=lambda row: (row[1], row[5], row[2], row[0]))


def _unquoted(store: DataStore, name: str) -> Row:
    expiry, strike, kind = ([*name.rsplit("-", 2), "", ""])[:3]
    number = strike.replace("d", ".", 1)
    siblings = store.rows(
        "SELECT any_value(asset), any_value(settlement), any_value(expiry_ms), "
        "any_value(contract_size), min(ts_ms) FROM chain_window "
        "WHERE starts_with(native_id, ?) HAVING count(*) > 0",
        [f"{expiry}-"],
    )
    if not siblings or kind not in ("C", "P") or not number.replace(".", "", 1).isdigit():
        known = [row[0] for row in store.rows("SELECT DISTINCT native_id FROM chain_window")]
        raise DataError(
            f"market.options.extra: {name!r} is not an option of an expiry that is quoted in "
            f"the window.{nearest(name, sorted(known)) if known else ''}"
        )
    asset, settlement, expiry_ms, contract_size, first_ms = siblings[0]
    return name, asset, float(number), kind == "C", settlement, expiry_ms, contract_size, first_ms


def fill_volatility(
    store: DataStore, market: MarketSpec, table: Sequence[Row], vol_ts: np.ndarray, iv: np.ndarray
) -> FilledVolatility:
    """Fill what is missing while an option lives, from quotes of the same snapshot only.

    Parameters
    ----------
    store, market
        Where from.
    table : sequence of tuple
        The options, one per column of ``iv``.
    vol_ts : numpy.ndarray
        ``(S,)`` snapshots.
    iv : numpy.ndarray
        ``(S, V)`` as quoted, NaN where an option is missing from a snapshot.
    """
    assert market.options is not None
    first = np.array([row[7] for row in table])
    last = np.array([row[5] for row in table])
    alive = (vol_ts[:, None] >= first) & (vol_ts[:, None] < last)
    missing: dict[tuple[int, str, int], list[int]] = {}
    for at, column in np.argwhere(alive & np.isnan(iv)):
        row = table[column]
        missing.setdefault((int(vol_ts[at]), row[1], row[5]), []).append(int(column))
    filled = iv.copy()
    taken = beyond = far = 0
    window = int(vol_ts[0]), int(vol_ts[-1])
    for smile in chain_smiles(store, market.options.exchange, market.assets, *window):
        columns = missing.get((smile.ts_ms, smile.asset, smile.expiry_ms))
        fitted = fit_slice(smile) if columns else None
        if columns is None or fitted is None:
            continue
        k = np.log(np.array([table[column][2] for column in columns]) / smile.forward_usd)
        distant = smile.is_far(k)
        told = np.where(distant, smile.between(k), fitted.svi.volatility(k, smile.years))
        filled[np.searchsorted(vol_ts, smile.ts_ms), columns] = told
        taken += int((~distant).sum())
        beyond += int((fitted.extrapolates(k) & ~distant).sum())
        far += int(distant.sum())
    unfitted = sum(map(len, missing.values())) - taken - far
    note = (
        f"{taken:,} of {int(alive.sum()):,} volatilities come from the SVI surface of their "
        f"snapshot, {beyond:,} of them beyond the strikes that it was fitted to."
    )
    if far:
        note += (
            f" {far:,} more, over {FARTHEST_DEVIATIONS:g} deviations from the forward, are read "
            "between the quotes nearest to them."
        )
    if unfitted:
        note += (
            f" {unfitted:,} more were not quoted while their expiry had too few strikes to fit; "
            "they hold the last known value, or are unknown."
        )
    return FilledVolatility(filled, note)
