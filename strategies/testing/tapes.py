"""Small made-up market tapes: every kind of instrument, jumps, thin depth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from backtest.instruments import FUTURE, OPTION, InstrumentTable
from backtest.seeds import stream
from backtest.tape import MarketTape
from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR

START_MS = 1_704_067_200_000
"""Monday 2024-01-01 00:00 UTC."""
_FIRST_EXPIRY_MS = START_MS + 4 * MS_PER_DAY + 8 * MS_PER_HOUR
_LIFE_MS = 14 * MS_PER_DAY
_START_USD = {"BTC": 42_000.0, "ETH": 2_300.0}
_DEPTH_USD = 4e6


@dataclass(frozen=True)
class _Expiry:
    asset: int
    listed_ms: int
    expiry_ms: int
    index_usd: float


def make_tape(
    rows: int = 200,
    assets: tuple[str, ...] = ("BTC", "ETH"),
    options: bool = True,
    inverse: bool = True,
    seed: int = 0,
    *,
    interval_ms: int = MS_PER_HOUR,
    snapshot_rows: int = 6,
    latency_ms: int = 0,
    volatility: float = 0.7,
    jump_share: float = 0.01,
    volume_usd: float = 2e7,
    moneyness: tuple[float, ...] = (0.85, 0.95, 1.0, 1.05, 1.15),
    start_ms: int = START_MS,
    futures: bool = False,
) -> MarketTape:
    """Make a tape of correlated random walks with jumps.

    Parameters
    ----------
    rows
        Number of bars.
    assets
        Names of the underlyings; BTC and ETH start at familiar prices, others at 100 USD.
    options
        Whether calls and puts with weekly expiries (Fridays 08:00 UTC) are listed.
    inverse
        Whether each instrument also has a twin that settles in coin.
    seed
        Same arguments, same bits. A longer tape does **not** begin like a shorter one.
    interval_ms
        Length of a bar.
    snapshot_rows
        Rows between two option snapshots.
    latency_ms
        How much later than it happened everything is known.
    volatility
        Annualised, as a fraction, without the jumps.
    jump_share
        Share of the rows in which all assets jump together, by about 4 %.
    volume_usd
        Median traded per bar and asset.
    moneyness
        Strikes over the index at listing.
    start_ms
        The first row's time.
    futures
        Whether a dated future is listed for each asset and weekly expiry; nothing else of the
        tape depends on it.

    Returns
    -------
    MarketTape
        Synthetic; linear perpetuals come first (row ``a`` is the one of asset ``a``), then the
        inverse ones, then the options, then the futures.
    """
    draws = stream(seed, "test tape")
    ts = start_ms + interval_ms * np.arange(rows, dtype=np.int64)
    shape = (rows, len(assets))
    step = volatility * np.sqrt(interval_ms / MS_PER_YEAR)
    common = draws.standard_normal((rows, 1))
    returns = step * (0.8 * common + 0.6 * draws.standard_normal(shape))
    jump = draws.random((rows, 1)) < jump_share
    returns += jump * draws.normal(-0.01, 0.04, (rows, 1))
    returns[0] = 0.0
    start = np.array([_START_USD.get(name, 100.0) for name in assets])
    index = start * np.exp(np.cumsum(returns, axis=0))
    mark = index * np.exp(2e-4 * draws.standard_normal(shape))
    before = np.vstack([mark[:1], mark[:-1]])
    wick = step * np.abs(draws.standard_normal((2, *shape)))
    stress = np.exp(-np.abs(returns) / (3.0 * step))
    dated = options or futures
    expiries = _expiries(ts, index) if dated else []
    rows_of = [
        {"symbol": f"{name}-PERP", "asset": a, "contract_size": 1.0}
        for a, name in enumerate(assets)
    ]
    if inverse:
        rows_of += [
            {"symbol": f"{name}-PERP-COIN", "asset": a, "inverse": 1, "contract_size": 10.0}
            for a, name in enumerate(assets)
        ]
    listed = moneyness if options else ()
    rows_of, columns = _list_options(rows_of, expiries, listed, inverse, assets)
    if futures:
        rows_of += _list_futures(expiries, inverse, assets)
    snapshot = np.arange(0, rows, snapshot_rows) if dated else np.empty(0, np.int64)
    level = 0.6 + 0.1 * np.cumsum(0.1 * draws.standard_normal(len(snapshot) if options else 0))
    return MarketTape(
        assets=assets,
        instruments=InstrumentTable.from_rows(rows_of),
        ts=ts,
        known_ts=ts + latency_ms,
        index=index,
        mark=mark,
        high=np.maximum(mark, before) * (1.0 + wick[0]),
        low=np.minimum(mark, before) * (1.0 - wick[1]),
        funding=1e-5 * (1.0 + draws.standard_normal(shape)),
        volume_usd=volume_usd * np.exp(0.5 * draws.standard_normal(shape)) / stress,
        depth_usd=_DEPTH_USD * stress,
        vol_ts=ts[snapshot],
        vol_known_ts=ts[snapshot] + latency_ms,
        iv=_quotes(ts[snapshot], index[snapshot], np.clip(level, 0.2, 2.0), columns),
        forward_ratio=_forwards(ts[snapshot], expiries),
        notes=("made up for a test",),
        synthetic=True,
    )


def _expiries(ts: np.ndarray, index: np.ndarray) -> list[_Expiry]:
    """List every weekly expiry whose two weeks of life overlap the tape."""
    first = _FIRST_EXPIRY_MS
    while first - 7 * MS_PER_DAY > ts[0]:
        first -= 7 * MS_PER_DAY
    while first <= ts[0]:
        first += 7 * MS_PER_DAY
    made = []
    for asset in range(index.shape[1]):
        for expiry in range(first, int(ts[-1]) + _LIFE_MS, 7 * MS_PER_DAY):
            listed = max(expiry - _LIFE_MS, int(ts[0]))
            price = index[np.searchsorted(ts, listed), asset]
            made.append(_Expiry(asset, listed, expiry, float(price)))
    return made


def _list_options(
    rows: list[dict[str, object]],
    expiries: list[_Expiry],
    moneyness: tuple[float, ...],
    inverse: bool,
    assets: tuple[str, ...],
) -> tuple[list[dict[str, object]], list[tuple[_Expiry, float]]]:
    """Add calls and puts; both settlements of one strike share a column of volatilities."""
    columns: list[tuple[_Expiry, float]] = []
    for e, expiry in enumerate(expiries):
        day = datetime.fromtimestamp(expiry.expiry_ms / 1_000, tz=UTC)
        price = expiry.index_usd
        tick = 10.0 ** np.floor(np.log10(price) - 1.0) / 2.0
        for ratio in moneyness:
            strike = float(np.round(price * ratio / tick) * tick)
            for is_call in (1, 0):
                name = f"{assets[expiry.asset]}-{day:%d%b%y}-{strike:g}-{'PC'[is_call]}".upper()
                rows += [
                    {
                        "symbol": name + ("-COIN" if settled_in_coin else ""),
                        "asset": expiry.asset,
                        "kind": OPTION,
                        "inverse": settled_in_coin,
                        "strike": strike,
                        "is_call": is_call,
                        "listed_ms": expiry.listed_ms,
                        "expiry_ms": expiry.expiry_ms,
                        "iv_column": len(columns),
                        "expiry_column": e,
                    }
                    for settled_in_coin in ((0, 1) if inverse else (0,))
                ]
                columns.append((expiry, strike))
    return rows, columns


def _list_futures(
    expiries: list[_Expiry], inverse: bool, assets: tuple[str, ...]
) -> list[dict[str, object]]:
    return [
        {
            "symbol": assets[expiry.asset]
            + f"-{datetime.fromtimestamp(expiry.expiry_ms / 1_000, tz=UTC):%d%b%y}".upper()
            + ("-COIN" if settled_in_coin else ""),
            "asset": expiry.asset,
            "kind": FUTURE,
            "inverse": settled_in_coin,
            "contract_size": 10.0 if settled_in_coin else 1.0,
            "listed_ms": expiry.listed_ms,
            "expiry_ms": expiry.expiry_ms,
            "expiry_column": e,
        }
        for e, expiry in enumerate(expiries)
        for settled_in_coin in ((0, 1) if inverse else (0,))
    ]


def _quotes(
    ts: np.ndarray, index: np.ndarray, level: np.ndarray, columns: list[tuple[_Expiry, float]]
) -> np.ndarray:
    """Quote a put skew from listing to expiry, then carry the last volatility."""
    iv = np.full((len(ts), len(columns)), np.nan)
    for column, (expiry, strike) in enumerate(columns):
        smile = -0.4 * np.log(strike / index[:, expiry.asset])
        quoted = np.clip(level + smile, 0.05, 3.0)
        alive = np.flatnonzero((ts >= expiry.listed_ms) & (ts < expiry.expiry_ms))
        if len(alive):
            iv[alive, column] = quoted[alive]
            iv[alive[-1] + 1 :, column] = quoted[alive[-1]]
    return iv


def _forwards(ts: np.ndarray, expiries: list[_Expiry]) -> np.ndarray:
    """Carry of 5 % a year, down to the index at expiry."""
    years = np.array([[max(e.expiry_ms - int(t), 0) for e in expiries] for t in ts]) / MS_PER_YEAR
    return np.exp(0.05 * years).reshape(len(ts), len(expiries))
