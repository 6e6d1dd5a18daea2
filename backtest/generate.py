"""Generate an account book: who trades what, when, calibrated to stated targets.

The book is made of intents that no margin policy can influence, so every policy meets the very
same flow. Sizes, assets, sides and strikes are chosen from the row before an order. The model,
its sources and its limits are in ``docs/books.md``; a generated book is always synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.book import AccountBook
from backtest.errors import BookError
from backtest.generator.choice import choose_strategies
from backtest.generator.fit import BookFit, FitRow, describe_book
from backtest.generator.flow import (
    Episodes,
    choose_assets,
    daily_volume_usd,
    draw_episodes,
    pair_sides,
    preferred_sides,
)
from backtest.generator.options import OPTION_LEG_SHARE, PERPETUAL_ONLY
from backtest.generator.orders import LEG_COUNTS, SIDES, Orders, write_orders
from backtest.generator.population import Population, draw_population
from backtest.generator.spec import BookSpec, preset_names
from backtest.generator.traits import draw_coin_part, draw_flight, draw_limits, draw_schemes
from backtest.instruments import OPTION, PERPETUAL
from backtest.seeds import stream
from backtest.units import MS_PER_DAY

if TYPE_CHECKING:
    from backtest.tape import MarketTape

__all__ = [
    "BookFit",
    "BookSpec",
    "FitRow",
    "describe_book",
    "generate_book",
    "preset_names",
]

_RATE_PASSES = 4
_RATE_TOLERANCE = 0.02


@dataclass(frozen=True)
class _Accounts:
    """Per account, ``(N,)``; ``home`` is the asset that a coin account posts, else -1."""

    population: Population
    segment: np.ndarray
    home: np.ndarray
    activity: np.ndarray


def generate_book(spec: BookSpec, tape: MarketTape, seed: int = 0) -> AccountBook:
    """Generate an elastic, synthetic account book over a tape.

    Parameters
    ----------
    spec
        Targets and kinds of trader.
    tape
        The market the accounts trade in: listings, quotes, index and volume are read, each
        only up to the row before an order.
    seed
        Root seed, used where ``spec.seed`` is None.

    Returns
    -------
    AccountBook
        Same arguments, same bits. Order times lie in ``(ts[0], ts[-1]]``.

    Raises
    ------
    BookError
        If the tape lists no perpetual or has one row, or the book would hold more orders than
        ``max_orders``.
    """
    root = seed if spec.seed is None else spec.seed
    perpetuals = _perpetuals(tape)
    days = (int(tape.ts[-1]) - int(tape.ts[0])) / MS_PER_DAY
    if days <= 0.0:
        raise BookError("a book cannot be generated over a tape of one row.")
    wanted = spec.orders_per_account_per_day * spec.accounts * days
    if wanted > spec.max_orders:
        possible = spec.max_orders / (spec.accounts * days)
        raise BookError(
            f"book.orders_per_account_per_day {spec.orders_per_account_per_day:g} would make "
            f"{wanted:,.0f} orders over {days:,.0f} days, above book.max_orders "
            f"{spec.max_orders:,}; the highest rate that fits is {possible:.3g}."
        )
    accounts = _draw_accounts(spec, perpetuals, root)
    # An episode makes about two orders; legs, expiries and the end of the tape change that, so
    # the length of the cycle is corrected until the wanted rate is met.
    cycle_ms = 2.0 * MS_PER_DAY / (spec.orders_per_account_per_day * accounts.activity)
    for _ in range(_RATE_PASSES):
        orders = _draw_orders(spec, tape, perpetuals, accounts, cycle_ms, root)
        ratio = len(orders.ts) / wanted
        if abs(ratio - 1.0) <= _RATE_TOLERANCE or ratio == 0.0:
            break
        cycle_ms = cycle_ms * ratio
    return _assemble(spec, tape, accounts, orders, root)


def _perpetuals(tape: MarketTape) -> np.ndarray:
    """Instrument of each asset's linear and inverse perpetual, ``(A, 2)``, -1 for none."""
    table = tape.instruments
    found = np.full((len(tape.assets), 2), -1, np.int64)
    for i in np.flatnonzero(table.kind == PERPETUAL)[::-1]:
        found[table.asset[i], table.inverse[i]] = i
    if np.all(found < 0):
        raise BookError("a book cannot be generated: the tape lists no perpetual.")
    return found


def _draw_accounts(spec: BookSpec, perpetuals: np.ndarray, root: int) -> _Accounts:
    count = spec.accounts
    segments = list(spec.segments.values())
    draws = stream(root, "book", "accounts")
    limits = np.cumsum([part.share for part in segments])[:-1]
    # Strata again: each segment has its share of the accounts, whatever the seed.
    place = (draws.permutation(count) + 0.5) / count
    segment = np.searchsorted(limits, place, side="right")
    coins = np.flatnonzero(perpetuals[:, 1] >= 0)
    posts_coin = (draws.permutation(count) + 0.5) / count < spec.coin_share * (len(coins) > 0)
    home = np.full(count, -1, np.int64)
    if len(coins):
        home[posts_coin] = draws.choice(coins, size=int(posts_coin.sum()))
    activity = np.array([part.activity for part in segments])[segment]
    activity = activity * np.exp(spec.activity_spread * draws.standard_normal(count))
    return _Accounts(draw_population(spec, root), segment, home, activity / activity.mean())


def _draw_orders(
    spec: BookSpec,
    tape: MarketTape,
    perpetuals: np.ndarray,
    accounts: _Accounts,
    cycle_ms: np.ndarray,
    root: int,
) -> Orders:
    segments = list(spec.segments.values())
    episodes = draw_episodes(spec, tape, cycle_ms, stream(root, "book", "episodes"))
    draws = stream(root, "book", "flow")
    segment = accounts.segment[episodes.account]
    volume = daily_volume_usd(tape)
    tradable = np.where((perpetuals >= 0).any(axis=1), volume + 1e-9, 0.0)
    asset = choose_assets(tradable, episodes, accounts.home, draws)
    nominal = _nominals(spec, accounts, episodes, draws)
    price = tape.index[episodes.row, asset]
    most_plain, most = _takeable(spec, tape, accounts, tradable[episodes.row], asset)
    # A coin account's wallet is worth what the coin is worth.
    growth = price / tape.index[0, asset]
    wanted = nominal * np.where(accounts.home[episodes.account] >= 0, growth, 1.0)
    limit = spec.largest_position * volume[episodes.row, asset]
    # A month without any volume says nothing about what the market can take.
    notional = np.minimum(wanted, np.where(limit > 0.0, limit, np.inf))
    trend = np.array([part.trend for part in segments])[segment]
    side = preferred_sides(tape, episodes, asset, trend, draws)
    in_coin = (accounts.home[episodes.account] >= 0).astype(np.int64)
    perpetual = perpetuals[asset, in_coin]
    perpetual = np.where(perpetual >= 0, perpetual, perpetuals[asset, 1 - in_coin])
    legs, strategy, expiry_ms, held = choose_strategies(
        spec,
        tape,
        episodes,
        segment,
        asset,
        in_coin,
        np.minimum(nominal, most_plain),
        np.minimum(nominal, most),
        perpetual,
        root,
    )
    most = np.where(strategy == PERPETUAL_ONLY, most_plain, most)
    notional = np.minimum(notional, most * growth)
    coins = notional / LEG_COUNTS[strategy] / price
    has_perpetual = OPTION_LEG_SHARE[strategy] < 1.0
    close_ms = np.where(held, expiry_ms, np.minimum(episodes.end_ms, expiry_ms))
    # A hedge's coin is on the side its option asks for; a plain perpetual may be turned.
    fixed = strategy != PERPETUAL_ONLY
    paired = pair_sides(
        np.where(fixed, SIDES[strategy, 0], side),
        fixed,
        np.where(has_perpetual, coins, 0.0),
        asset,
        episodes.start_ms,
        close_ms,
        spec.side_tolerance,
    )
    side = np.where(fixed, 1.0, paired)
    resting = draw_limits(spec, episodes, ~fixed, side, price, close_ms, root)
    capped = int((notional < wanted).sum())
    return write_orders(
        tape, episodes, strategy, legs, side, coins, close_ms, held, resting, capped
    )


def _takeable(
    spec: BookSpec,
    tape: MarketTape,
    accounts: _Accounts,
    volume: np.ndarray,
    asset: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the largest size that others can take the other side of, ``(E,)`` USD.

    All accounts are expected to hold what they intend for their share of the time, in the
    assets by recent volume, at the prices of the first row.

    Returns
    -------
    tuple of numpy.ndarray
        As a plain perpetual, whose other side is in perpetuals too; and with options.
    """
    if spec.largest_interest is None:
        without = np.full(len(asset), np.inf)
        return without, without
    people = accounts.population
    intended = people.wallet_usd @ people.leverage / spec.wallet_multiple
    share = np.take_along_axis(volume, asset[:, None], axis=1)[:, 0] / volume.sum(axis=1)
    most = spec.largest_interest * intended * spec.time_in_market * share
    options = spec.option_share * bool(np.any(tape.instruments.kind == OPTION))
    return (1.0 - options) * most, most


def _nominals(
    spec: BookSpec, accounts: _Accounts, episodes: Episodes, draws: np.random.Generator
) -> np.ndarray:
    """Intended gross notional of each episode at the prices of the first row, ``(E,)`` USD."""
    people = accounts.population
    spread = spec.size_spread
    noise = np.exp(spread * draws.standard_normal(len(episodes)) - 0.5 * spread**2)
    equity = people.wallet_usd / spec.wallet_multiple
    return np.asarray((equity * people.leverage)[episodes.account] * noise)


def _assemble(
    spec: BookSpec, tape: MarketTape, accounts: _Accounts, orders: Orders, root: int
) -> AccountBook:
    segments = list(spec.segments.values())
    people, home = accounts.population, accounts.home
    price = tape.index[0, np.maximum(home, 0)]
    buffer = spec.posted_share / (people.leverage * spec.reference_margin)
    used = np.unique(orders.instrument)
    interest = spec.largest_interest
    cut = f" or {interest:.3g} of expected open interest" if interest is not None else ""
    coin = draw_coin_part(spec, tape, people.wallet_usd, home, root)
    wallet_usd = people.wallet_usd.copy()
    wallet_usd[coin.account] -= coin.usd

    def per_segment(name: str) -> np.ndarray:
        values = np.array([getattr(part, name) for part in segments])
        return np.asarray(values[accounts.segment])

    return AccountBook(
        mode="elastic",
        assets=tape.assets,
        symbols=tuple(tape.instruments.symbols[i] for i in used),
        collateral_currency=home + 1,
        wallet=np.where(home >= 0, wallet_usd / price, wallet_usd),
        buffer=np.clip(buffer, 1.05, spec.largest_buffer),
        release=per_segment("release"),
        top_up_share=per_segment("top_up_share"),
        top_up_delay_ms=per_segment("top_up_delay"),
        segment=accounts.segment,
        segments=tuple(spec.segments),
        order_ts=orders.ts,
        order_account=orders.account,
        order_instrument=np.searchsorted(used, orders.instrument),
        order_quantity=orders.quantity,
        order_kind=orders.kind,
        order_group=orders.group,
        transfer_ts=np.full(len(coin.account), tape.ts[0]),
        transfer_account=coin.account,
        transfer_amount=coin.coins,
        scheme=draw_schemes(spec, root),
        flight=draw_flight(spec, root),
        order_limit=orders.limit,
        order_until_ms=orders.until_ms,
        transfer_currency=coin.asset + 1,
        synthetic=True,
        origin=(
            f"generated from preset {spec.preset} with seed {root}; {orders.capped:,} of "
            f"{orders.openings:,} openings cut to {spec.largest_position:.3g} of daily volume{cut}"
        ),
    )
