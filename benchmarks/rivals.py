"""The same sums with NumPy, SciPy and QuantLib, as well as a user would write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import ndtr

from backtest.instruments import OPTION

if TYPE_CHECKING:
    from backtest.kernels.types import Holdings, KernelInput, Market

_HEAD = 7
"""Constants of the scenario grid before its scenarios."""


def numpy_black76(
    forward: np.ndarray, strike: np.ndarray, deviation: np.ndarray, is_call: np.ndarray
) -> np.ndarray:
    """Price whole arrays of options; put-call parity saves half of the distribution calls."""
    d1 = np.log(forward / strike) / deviation + 0.5 * deviation
    call = forward * ndtr(d1) - strike * ndtr(d1 - deviation)
    return np.asarray(np.where(is_call, call, call - (forward - strike)))


def quantlib_black76(
    forward: np.ndarray, strike: np.ndarray, deviation: np.ndarray, is_call: np.ndarray
) -> np.ndarray:
    """Price option by option through QuantLib's Python wrapper, on plain Python numbers."""
    import QuantLib as ql

    rows = zip(is_call.tolist(), strike.tolist(), forward.tolist(), deviation.tolist(), strict=True)
    return np.array(
        [
            ql.blackFormula(ql.Option.Call if call else ql.Option.Put, k, f, d)
            for call, k, f, d in rows
        ]
    )


class SparsePortfolios(NamedTuple):
    """Positions of each asset as a sparse matrix, and the short options of every account."""

    by_asset: list[tuple[np.ndarray, csr_matrix]]
    short_options: csr_matrix


def sparse_portfolios(market: Market, holdings: Holdings) -> SparsePortfolios:
    """Build the matrices once; positions do not change while the benchmark runs."""
    shape = (len(holdings.start), len(market.kind))
    rows = np.repeat(np.arange(shape[0]), holdings.count)
    position = csr_matrix((holdings.quantity, (rows, holdings.instrument)), shape)
    by_asset = []
    for asset in range(len(market.index)):
        columns = np.flatnonzero(market.asset == asset)
        by_asset.append((columns, position[:, columns]))
    short = (holdings.quantity < 0.0) & (market.kind[holdings.instrument] == OPTION)
    size = np.where(short, -holdings.quantity, 0.0)
    return SparsePortfolios(by_asset, csr_matrix((size, (rows, holdings.instrument)), shape))


def numpy_requirement(
    given: KernelInput, market: Market, portfolios: SparsePortfolios
) -> np.ndarray:
    """Ask the scenario grid's initial margin of all accounts, vectorised throughout."""
    constants = given.constants
    fraction, direction, weight = constants[_HEAD:].reshape(3, -1)
    assets = len(market.index)
    moves = np.maximum(1.0 + fraction * given.parameters[:assets, None], 0.01)
    profits = _profits(given, market, moves, direction) * weight
    loss = np.zeros(portfolios.short_options.shape[0])
    for columns, position in portfolios.by_asset:
        loss -= np.minimum((position @ profits[columns]).min(axis=1), 0.0)
    initial: np.ndarray = loss + constants[1] * (portfolios.short_options @ market.notional_usd)
    return initial


def _profits(
    given: KernelInput, market: Market, moves: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    up, down = given.parameters[-2:]
    _, _, near, far, least_days, least_vol, in_coin = given.constants[:_HEAD]
    if not in_coin:
        raise NotImplementedError("the benchmark counts coin-settled losses in coins")
    profits = np.empty((len(market.kind), moves.shape[1]))
    perpetual = market.kind != OPTION
    inverse = market.inverse == 1
    x = moves[market.asset]
    rows = perpetual & ~inverse
    profits[rows] = market.value_usd[rows, None] * (x[rows] - 1.0)
    rows = perpetual & inverse
    profits[rows] = market.value_usd[rows, None] * (1.0 / x[rows] - 1.0)
    option = ~perpetual
    asset = market.asset[option]
    sigma, years = market.sigma[option], market.years[option]
    days = np.maximum(365.0 * years, least_days)
    stretch = (30.0 / days) ** np.where(days <= 30.0, near, far)
    shocked = np.stack(
        [
            sigma * np.maximum(0.0, 1.0 - down * stretch),
            sigma,
            np.maximum(sigma * (1.0 + up * stretch), least_vol),
        ]
    )
    root = np.sqrt(years)
    deviation = (shocked * root)[direction.astype(int) + 1].T
    forward, strike = market.forward[option], market.strike[option]
    is_call = market.is_call[option] == 1
    stressed = forward[:, None] * moves[asset]
    after = numpy_black76(stressed, strike[:, None], deviation, is_call[:, None])
    before = numpy_black76(forward, strike, sigma * root, is_call)
    coin = inverse[option]
    gain = after - before[:, None]
    in_coins = after[coin] / stressed[coin] - (before[coin] / forward[coin])[:, None]
    gain[coin] = in_coins * market.index[asset[coin], None]
    profits[option] = market.contract_size[option, None] * gain
    return profits


def numpy_linear_tick(
    rate: np.ndarray, price: np.ndarray, cash: np.ndarray, asset: np.ndarray, quantity: np.ndarray
) -> tuple[float, float, float, int]:
    """Check accounts of one linear perpetual each at new prices, by whole arrays.

    Returns
    -------
    tuple
        Equity, initial and maintenance margin of all accounts in USD, and how many of them are
        below maintenance.
    """
    value = quantity * price[asset]
    equity = cash + value
    initial = rate[asset] * np.abs(value)
    maintenance = 0.5 * initial
    below = np.count_nonzero(equity < maintenance)
    locked = np.maximum(equity, 0.0).sum()
    return float(locked), float(initial.sum()), float(maintenance.sum()), int(below)
