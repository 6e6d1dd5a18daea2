"""Which options are listed when, and who trades them: Deribit's calendar, strikes and prints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from backtest.seeds import stream
from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from data_ingest.simulator.surface import (
    VOLATILITY_DECIMALS,
    VolatilitySurface,
    black_76_coin,
    implied_deviation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_ingest.simulator.market import SimulatedMarket
    from data_ingest.simulator.parameters import SurfaceParameters


EXPIRY_HOUR = 8
FRIDAY = 4
TENOR_DAYS = {"daily": 2.0, "weekly": 14.0, "monthly": 60.0, "quarterly": 180.0}
"""Time to expiry by which the strikes of each kind of expiry are spaced."""


@dataclass(frozen=True)
class OptionTrades:
    """Option prints in time order, one value per print; ``option`` indexes the listing."""

    trade_id: np.ndarray
    ts_ms: np.ndarray
    option: np.ndarray
    price_coin: np.ndarray
    iv: np.ndarray
    mark_coin: np.ndarray
    index_usd: np.ndarray
    amount: np.ndarray
    is_buy: np.ndarray

    def between(self, start_ms: int, end_ms: int) -> np.ndarray:
        """Mask the prints with ``start_ms <= ts <= end_ms``."""
        return np.asarray((self.ts_ms >= start_ms) & (self.ts_ms <= end_ms))

    def where(self, kept: np.ndarray) -> OptionTrades:
        """Return the prints that a mask or an array of places chooses."""
        return OptionTrades(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


class OptionListing:
    """Every option of one asset that is ever listed in the span.

    An expiry is listed when it enters the calendar of dailies, weeklies, monthlies and
    quarterlies, all at 08:00 UTC; strikes around spot are added each morning as spot moves,
    more finely as the expiry approaches, and never withdrawn. Only the past decides a listing.

    Attributes
    ----------
    names : list of str
        Native names, ``BTC-28JUN24-65000-C``.
    strike, is_call, expiry_ms, listed_ms : numpy.ndarray
        One value per option, ordered by expiry, strike, puts before calls.
    """

    def __init__(self, market: SimulatedMarket, asset: str) -> None:
        self.market, self.asset = market, asset
        self.surface = VolatilitySurface(market, asset)
        first_seen: dict[tuple[int, float], int] = {}
        for listed_ms, expiry_ms, strikes in self._listings():
            for strike in strikes:
                first_seen.setdefault((expiry_ms, strike), listed_ms)
        keys = sorted(first_seen)
        self.expiry_ms = np.repeat(np.array([key[0] for key in keys], dtype=np.int64), 2)
        self.strike = np.repeat(np.array([key[1] for key in keys]), 2)
        self.listed_ms = np.repeat(np.array([first_seen[key] for key in keys], dtype=np.int64), 2)
        self.is_call = np.tile(np.array([False, True]), len(keys))
        self.names = [
            f"{asset}-{_deribit_date(expiry)}-{strike:g}-{side}"
            for expiry, strike in keys
            for side in ("P", "C")
        ]
        self.position = {name: number for number, name in enumerate(self.names)}
        # Interest is lasting and very uneven across strikes: one lognormal draw per option.
        random = stream(market.parameters.seed, "open-interest", asset)
        self._popularity = np.exp(random.standard_normal(len(self.names)))
        self._day_trades = lru_cache(maxsize=None)(self._draw_day)
        self._traded = np.zeros((1, len(self.names)), dtype=np.int32)

    def alive(self, at_ms: int) -> np.ndarray:
        """Return the options listed and not yet expired at a time."""
        return np.flatnonzero((self.listed_ms <= at_ms) & (self.expiry_ms > at_ms))

    def open_interest(self, options: np.ndarray, at_ms: int) -> np.ndarray:
        """Return open interest in coins: grows over an option's life, largest near the money."""
        weight = self._appeal(options, at_ms)
        life = (at_ms - self.listed_ms[options] + MS_PER_DAY) / (14 * MS_PER_DAY)
        coins = 1_500.0 * weight * self._popularity[options] * (1 - np.exp(-life))
        return np.asarray(np.round(coins, 1))

    def trades(self, start_ms: int, end_ms: int) -> OptionTrades:
        """Return every print with ``start_ms <= ts <= end_ms``, oldest first."""
        parameters = self.market.parameters
        first = max(start_ms, parameters.start) // MS_PER_DAY
        last = min(end_ms, parameters.end - 1) // MS_PER_DAY
        days = [self._day_trades(day) for day in range(first, last + 1)] or [_no_trades()]
        fields = OptionTrades.__dataclass_fields__
        joined = OptionTrades(*(np.concatenate([getattr(d, f) for d in days]) for f in fields))
        return joined.where(joined.between(start_ms, end_ms))

    def numbers(self, prints: OptionTrades) -> np.ndarray:
        """Return each print's place in the sequence of its own option, from 1 on."""
        if not len(prints.ts_ms):
            return np.empty(0, np.int64)
        first_day = self.market.parameters.start // MS_PER_DAY
        days = prints.ts_ms // MS_PER_DAY
        found = np.empty(len(days), np.int64)
        for day in np.unique(days).tolist():
            whole = self._day_trades(day)
            order = np.argsort(whole.option, kind="stable")
            held = whole.option[order]
            place = np.empty(len(held), np.int64)
            place[order] = np.arange(len(held)) - np.searchsorted(held, held)
            place += 1 + self._traded_before(day - first_day)[whole.option]
            mine = days == day
            found[mine] = place[np.searchsorted(whole.trade_id, prints.trade_id[mine])]
        return found

    def _traded_before(self, days: int) -> np.ndarray:
        """Count the prints of each option in the first days of the span."""
        if days >= len(self._traded):
            first_day = self.market.parameters.start // MS_PER_DAY
            fresh = [
                np.bincount(self._day_trades(first_day + day).option, minlength=len(self.names))
                for day in range(len(self._traded) - 1, days)
            ]
            sums = self._traded[-1] + np.cumsum(fresh, axis=0, dtype=np.int32)
            self._traded = np.vstack((self._traded, sums))
        return np.asarray(self._traded[days])

    def _draw_day(self, day: int) -> OptionTrades:
        """Draw one day's prints: Poisson in number, options by appeal, prices off the surface."""
        market, day_ms = self.market, day * MS_PER_DAY
        path = market.assets[self.asset]
        random = stream(market.parameters.seed, "option-trades", self.asset, day)
        candidates = np.flatnonzero(
            (self.listed_ms < day_ms + MS_PER_DAY) & (self.expiry_ms > day_ms)
        )
        if not len(candidates):
            return _no_trades()
        point = market.point(day_ms)
        activity = np.sqrt(path.believed_variance[point] / path.resting_variance[point])
        appeal = self._appeal(candidates, day_ms) * self._popularity[candidates]
        count = random.poisson(path.parameters.option_trades_per_day * activity)
        option = random.choice(candidates, size=count, p=appeal / appeal.sum())
        ts_ms = np.sort(random.integers(day_ms, day_ms + MS_PER_DAY, count))
        is_buy = random.random(count) < 0.52
        shift = random.exponential(1.0, count) * np.where(is_buy, 1.0, -1.0)
        lots = np.ceil(random.lognormal(0.0, 1.4, count) * 10) / 10
        alive = (self.listed_ms[option] <= ts_ms) & (self.expiry_ms[option] > ts_ms + MS_PER_HOUR)
        option, ts_ms, is_buy, shift = option[alive], ts_ms[alive], is_buy[alive], shift[alive]
        strike, expiry_ms, is_call = (
            self.strike[option],
            self.expiry_ms[option],
            self.is_call[option],
        )
        forward = self.surface.forward_usd(ts_ms, expiry_ms)
        root_years = np.sqrt((expiry_ms - ts_ms) / MS_PER_YEAR)
        volatility, mark = self.surface.mark(ts_ms, expiry_ms, strike, is_call)
        half = self.surface.half_spread(ts_ms, expiry_ms, strike)
        quoted = np.maximum(volatility + shift * half, 0.05)
        raw = black_76_coin(forward, strike, quoted * root_years, is_call)
        tick = option_tick(raw)
        price = np.round(np.maximum(np.round(raw / tick), 1.0) * tick, 4)
        iv = implied_deviation(price, forward, strike, is_call) / root_years
        # A print rounded to intrinsic value has no implied volatility; it is not printed.
        kept = np.isfinite(iv)
        return OptionTrades(
            trade_id=day * 1_000_000 + np.flatnonzero(alive)[kept],
            ts_ms=ts_ms[kept],
            option=option[kept],
            price_coin=price[kept],
            iv=np.round(iv[kept], VOLATILITY_DECIMALS),
            mark_coin=mark[kept],
            index_usd=np.round(self.surface.spot_usd(ts_ms[kept]), 2),
            amount=lots[alive][kept],
            is_buy=is_buy[kept],
        )

    def _appeal(self, options: np.ndarray, at_ms: int) -> np.ndarray:
        """Weigh options by how much they are traded: near the money, soon, out of the money."""
        expiry_ms, strike = self.expiry_ms[options], self.strike[options]
        years = np.maximum(expiry_ms - at_ms, MS_PER_DAY) / MS_PER_YEAR
        spread = np.sqrt(self.surface.atm_variance(at_ms, years))
        forward = self.surface.forward_usd(at_ms, expiry_ms)
        distance = np.log(strike / forward) / spread
        inside = np.where(self.is_call[options], distance < 0, distance > 0)
        return np.asarray(
            np.exp(-0.5 * (distance / 1.3) ** 2) * (0.1 + years) ** -0.5 * np.where(inside, 0.4, 1)
        )

    def _listings(self) -> Iterator[tuple[int, int, list[float]]]:
        """Yield (listing time, expiry, strikes listed then), every morning of the span."""
        parameters, rule = self.market.parameters, self.market.parameters.surface
        path = self.market.assets[self.asset]
        # The exchange did not open with the span: what is listed on the first day is older.
        for day_ms in range(parameters.start - MS_PER_DAY, parameters.end, MS_PER_DAY):
            listed_ms = day_ms + EXPIRY_HOUR * MS_PER_HOUR
            spot = float(path.index_usd[self.market.point(listed_ms)])
            for expiry_ms, kind in expiry_calendar(rule, listed_ms).items():
                tenor_years = TENOR_DAYS[kind] / 365.0
                step = _round_step(
                    spot * rule.listing_volatility * np.sqrt(tenor_years) * rule.strike_step
                )
                years = max((expiry_ms - listed_ms) / MS_PER_YEAR, 2.0 / 365.0)
                width = rule.strike_range * rule.listing_volatility * np.sqrt(years)
                low = int(np.ceil(spot * np.exp(-width) / step))
                high = int(np.floor(spot * np.exp(width) / step))
                yield listed_ms, expiry_ms, [round(n * step, 4) for n in range(low, high + 1)]


def option_tick(price_coin: np.ndarray) -> np.ndarray:
    """Return the price step: 0.0001 coin, five times that from 0.005 coin on."""
    return np.where(price_coin < 0.005, 0.0001, 0.0005)


def expiry_calendar(rule: SurfaceParameters, at_ms: int) -> dict[int, str]:
    """Return the expiries listed at a time, each with the longest-dated kind that lists it."""
    today = datetime.fromtimestamp(at_ms / 1_000, tz=UTC).date()
    calendar: dict[int, str] = {}

    def add(days: list[date], count: int, kind: str) -> None:
        ahead = [day for day in days if expiry_of(day) > at_ms]
        calendar.update({expiry_of(day): kind for day in ahead[:count]})

    ahead = [today + timedelta(days=n) for n in range(70)]
    month_ends = [last_friday(today.year, today.month + n) for n in range(40)]
    # A quarterly that is also the next monthly and the next weekly takes the finest spacing.
    add([day for day in month_ends if day.month % 3 == 0], rule.quarterly_expiries, "quarterly")
    add(month_ends, rule.monthly_expiries, "monthly")
    add([day for day in ahead if day.weekday() == FRIDAY], rule.weekly_expiries, "weekly")
    add(ahead, rule.daily_expiries, "daily")
    return calendar


def last_friday(year: int, month: int) -> date:
    """Return the last Friday of a month; months past December are the next years'."""
    first_of_next = date(year + month // 12, month % 12 + 1, 1)
    last = first_of_next - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - FRIDAY) % 7)


def expiry_of(day: date) -> int:
    """Return when what expires on a day does, 08:00 UTC, milliseconds."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int(midnight.timestamp()) * 1_000 + EXPIRY_HOUR * MS_PER_HOUR


def _deribit_date(expiry_ms: int) -> str:
    day = datetime.fromtimestamp(expiry_ms / 1_000, tz=UTC)
    return f"{day.day}{day.strftime('%b%y').upper()}"


def _round_step(step: float) -> float:
    """Return the nearest of 1, 2, 5 times a power of ten."""
    scale = 10.0 ** np.floor(np.log10(step))
    return float(min((1.0, 2.0, 5.0, 10.0), key=lambda n: abs(np.log(n * scale / step))) * scale)


@lru_cache(maxsize=1)
def _no_trades() -> OptionTrades:
    whole, real = np.empty(0, np.int64), np.empty(0)
    return OptionTrades(whole, whole, whole, real, real, real, real, real, np.empty(0, np.bool_))
