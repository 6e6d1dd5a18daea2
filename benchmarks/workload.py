"""The two workloads, 10,000 accounts each.

The reference: 8 legs per account over 1,200 instruments, margined under 32 scenarios. The plain
one: a single linear perpetual per account on dollars, margined by a rate, which is what most
venues' isolated books are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.book import OPEN, USD, AccountBook
from backtest.instruments import OPTION, InstrumentTable
from backtest.kernels.black76 import black76, black76_delta
from backtest.kernels.types import Holdings, KernelInput, Market, empty_market
from backtest.seeds import stream
from backtest.tape import MarketTape
from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from strategies.fixed import Fixed
from strategies.scenario import Scenario, TailMove

if TYPE_CHECKING:
    from backtest.requirement import RequirementLayer

ACCOUNTS = 10_000
INSTRUMENTS = 1_200
LEGS = 8
SCENARIOS = 32
ASSETS = ("BTC", "ETH")
PERPETUALS = 2 * len(ASSETS)
START_MS = 1_704_067_200_000
_START_USD = np.array([42_000.0, 2_300.0])
_EXPIRY_DAYS = (7, 14, 28, 56, 91, 182, 273)


def make_policy() -> Scenario:
    """Return the scenario policy whose grid has 32 columns: 9 x 3 moves, 2 tails, padding."""
    return Scenario(price_steps=4, tails=(TailMove(ranges=3.0, weight=0.33),))


def make_linear_policy() -> Fixed:
    """Return one rate for everything, far from what the accounts hold."""
    return Fixed(rate="5%")


def make_tape(
    rows: int, options: int = INSTRUMENTS - PERPETUALS, funding_rows: int = 1
) -> MarketTape:
    """Make an hourly market of BTC and ETH with linear and inverse perpetuals and options.

    Funding is paid at every ``funding_rows``-th row.
    """
    draws = stream(1, "benchmark tape")
    ts = START_MS + MS_PER_HOUR * np.arange(rows, dtype=np.int64)
    step = 0.6 * np.sqrt(MS_PER_HOUR / MS_PER_YEAR)
    moves = step * draws.standard_normal((rows, len(ASSETS)))
    index = _START_USD * np.exp(np.cumsum(moves, axis=0))
    table = [
        {
            "symbol": f"{name}-PERP{'-COIN' * inverse}",
            "asset": a,
            "inverse": inverse,
            "contract_size": 10.0 if inverse else 1.0,
        }
        for inverse in (0, 1)
        for a, name in enumerate(ASSETS)
    ]
    for i in range(options):
        asset, expiry = i % 2, i // 2 % len(_EXPIRY_DAYS)
        table.append(
            {
                "symbol": f"{ASSETS[asset]}-{_EXPIRY_DAYS[expiry]}D-{i}",
                "asset": asset,
                "kind": OPTION,
                "inverse": i // 4 % 2,
                "strike": float(_START_USD[asset] * draws.uniform(0.6, 1.6)),
                "is_call": i // 8 % 2,
                "expiry_ms": START_MS + _EXPIRY_DAYS[expiry] * MS_PER_DAY,
                "iv_column": i,
                "expiry_column": expiry,
            }
        )
    shape = index.shape
    snapshots = ts[:1] if options else ts[:0]
    return MarketTape(
        assets=ASSETS,
        instruments=InstrumentTable.from_rows(table),
        ts=ts,
        known_ts=ts,
        index=index,
        mark=index,
        high=index * 1.002,
        low=index * 0.998,
        funding=np.where(np.arange(rows)[:, None] % funding_rows == 0, 1e-6, np.zeros(shape)),
        volume_usd=np.full(shape, 1e9),
        depth_usd=np.full(shape, 1e8),
        vol_ts=snapshots,
        vol_known_ts=snapshots,
        iv=draws.uniform(0.4, 1.1, (len(snapshots), options)),
        forward_ratio=np.full((len(snapshots), len(_EXPIRY_DAYS) if options else 0), 1.01),
        synthetic=True,
    )


def make_book(tape: MarketTape, legs: int = LEGS) -> AccountBook:
    """Give every account some legs at the second row, and enough money to keep them.

    A single leg is of one of the linear perpetuals.
    """
    draws = stream(2, "benchmark book")
    orders = ACCOUNTS * legs
    listed = len(tape.instruments) if legs > 1 else len(ASSETS)
    instrument = draws.integers(0, listed, orders)
    perpetual_size = np.array([1.0, 1.0, 4e3, 200.0])[np.minimum(instrument, PERPETUALS - 1)]
    size = np.where(instrument < PERPETUALS, perpetual_size, 1.0)
    account = np.repeat(np.arange(ACCOUNTS), legs)
    zeros = np.zeros(ACCOUNTS)
    return AccountBook(
        mode="elastic",
        assets=tape.assets,
        symbols=tape.instruments.symbols,
        collateral_currency=np.full(ACCOUNTS, USD),
        wallet=np.full(ACCOUNTS, 1e9),
        buffer=np.full(ACCOUNTS, 3.0),
        release=np.full(ACCOUNTS, 10.0),
        top_up_share=zeros + 1.0,
        top_up_delay_ms=zeros,
        segment=zeros,
        segments=("benchmark",),
        order_ts=np.full(orders, tape.ts[1]),
        order_account=account,
        order_instrument=instrument,
        order_quantity=0.1 * size * draws.choice([-1.0, 1.0], orders),
        order_kind=np.full(orders, OPEN),
        order_group=np.arange(orders),
        origin="made for a benchmark",
    )


def make_portfolios(tape: MarketTape, book: AccountBook) -> tuple[Market, Holdings]:
    """Put the book's orders into positions, and the first row of the tape into a market."""
    market = empty_market(tape.instruments, len(tape.assets))
    asset, option = market.asset, market.kind == OPTION
    market.tick[0] = 0
    market.index[:] = tape.index[0]
    market.mark[:] = tape.mark[0]
    market.forward[:] = market.mark[asset] * np.where(option, 1.01, 1.0)
    market.sigma[option] = tape.iv[0]
    market.years[option] = (tape.instruments.expiry_ms[option] - tape.ts[0]) / MS_PER_YEAR
    coins = np.where(~option & (market.inverse == 1), 1.0 / market.mark[asset], 1.0)
    market.notional_usd[:] = market.contract_size * coins * market.index[asset]
    sign = np.where(~option & (market.inverse == 1), -1.0, 1.0)
    market.value_usd[:] = sign * market.notional_usd
    market.delta_usd[:] = market.notional_usd
    _value_options(market)
    start = np.arange(0, ACCOUNTS * LEGS, LEGS)
    count = np.full(ACCOUNTS, LEGS)
    instrument = np.array(book.order_instrument)
    held, cash = np.array(book.order_quantity), np.zeros((1 + len(tape.assets), ACCOUNTS))
    return market, Holdings(start, count, instrument, held, np.zeros(len(held)), cash)


def _value_options(market: Market) -> None:
    """Fill what options are worth and their deltas, USD."""
    for i in np.flatnonzero(market.kind == OPTION):
        terms = (market.forward[i], market.strike[i], market.sigma[i], market.years[i])
        coin = market.index[market.asset[i]] / market.forward[i] if market.inverse[i] else 1.0
        call = float(market.is_call[i])
        market.value_usd[i] = market.contract_size[i] * coin * black76(*terms, call)
        market.delta_usd[i] = black76_delta(*terms, call) * market.notional_usd[i]


def aligned(rows: int, columns: int) -> np.ndarray:
    """Allocate a table that begins at a cache line, so that no group of lanes straddles two."""
    line = 64 // np.dtype(float).itemsize
    numbers = np.zeros(rows * columns + line)
    first = -numbers.ctypes.data // numbers.itemsize % line
    return numbers[first : first + rows * columns].reshape(rows, columns)


def make_input(layer: RequirementLayer, instruments: int) -> KernelInput:
    """Put the first row's parameters and a fresh scratch table together."""
    columns = layer.rule.scratch_columns(layer.constants)
    return KernelInput(
        np.array(layer.parameters[0]),
        layer.constants,
        aligned(instruments, columns),
        np.full(instruments, -1, np.int64),
    )
