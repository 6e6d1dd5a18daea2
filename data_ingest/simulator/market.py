"""A deterministic market: prices, variance, premium, volume and depth on a five-minute clock.

Point ``k`` of a path is the market at ``start + k * STEP_MS``; step ``k`` is the time between
points ``k`` and ``k + 1``. Equal parameters give equal bits: every process draws from its own
named stream of the seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from backtest.seeds import stream
from backtest.units import MS_PER_DAY, MS_PER_HOUR, iso_utc
from data_ingest.simulator.parameters import STEP_MS, AssetParameters, MarketParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EXCHANGES = ("binance", "deribit")
STEPS_PER_HOUR = MS_PER_HOUR // STEP_MS
STEPS_PER_DAY = MS_PER_DAY // STEP_MS


@dataclass(frozen=True)
class Crisis:
    """One scripted crisis: when it hit, for how long, and how much of it was drawn."""

    start_ms: int
    end_ms: int
    drop: float
    rebound: float
    variance_jump: float
    depth_factor: float
    wave_points: tuple[int, ...]
    wave_weights: tuple[float, ...]


@dataclass(frozen=True)
class VenuePath:
    """One perpetual on one exchange. Candles are ``[steps, 4]``: open, high, low, close."""

    trade: Floats
    mark: Floats
    premium: Floats
    volume_usd: Floats
    depth_usd: Floats


@dataclass(frozen=True)
class AssetPath:
    """One asset: index candles, annual variance and how stressed the market is.

    ``variance``, ``believed_variance``, ``resting_variance`` and ``stress`` have one value per
    point; ``believed_variance`` is what option quotes have caught up with.
    """

    parameters: AssetParameters
    index: Floats
    index_usd: Floats
    variance: Floats
    believed_variance: Floats
    resting_variance: Floats
    carry: Floats
    stress: Floats
    open_interest_usd: Floats
    venues: dict[str, VenuePath]


class SimulatedMarket:
    """The whole market of a span, generated once.

    Parameters
    ----------
    parameters
        The market's numbers; the defaults give BTC and ETH through 2024.

    Attributes
    ----------
    crises : tuple of Crisis
        The scripted crises, oldest first.
    assets : dict of str to AssetPath
        Paths by asset name.
    """

    def __init__(self, parameters: MarketParameters | None = None) -> None:
        self.parameters = parameters or MarketParameters()
        self.crises = _draw_crises(self.parameters)
        self._jump_draws = _JumpDraws(self.parameters)
        self.assets = {
            asset.name: self._asset_path(asset) for asset in self.parameters.assets
        }

    def point(self, at_ms: int) -> int:
        """Return the last point known at a time, inside the span."""
        parameters = self.parameters
        return int(np.clip((at_ms - parameters.start) // STEP_MS, 0, parameters.steps))

    def candles(
        self,
        asset: str,
        exchange: str,
        kind: str,
        timeframe_ms: int,
        start_ms: int,
        end_ms: int,
    ) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Aggregate steps that ended by ``end_ms`` into candles that open from ``start_ms`` on.

        The last candle is the one in progress at ``end_ms``, as an exchange would show it.

        Parameters
        ----------
        asset, exchange
            Which perpetual.
        kind
            ``trade``, ``mark`` or ``index``.
        timeframe_ms
            Length of a candle, a multiple of five minutes, aligned to midnight UTC.
        start_ms, end_ms
            The window; nothing after ``end_ms`` is used.

        Returns
        -------
        tuple of numpy.ndarray
            Opening times (ms), candles ``[n, 4]`` in USD, volumes ``[n]`` in USD.
        """
        path = self.assets[asset]
        venue = path.venues[exchange]
        prices = {"trade": venue.trade, "mark": venue.mark, "index": path.index}[kind]
        origin = self.parameters.start
        first_open = max(origin, -(-start_ms // timeframe_ms) * timeframe_ms)
        first, last = (first_open - origin) // STEP_MS, self.point(end_ms)
        if first >= last:
            return np.empty(0, np.int64), np.empty((0, 4)), np.empty(0)
        opens = np.arange(first_open, origin + last * STEP_MS, timeframe_ms, dtype=np.int64)
        edges = (opens - first_open) // STEP_MS
        window, volume = prices[first:last], venue.volume_usd[first:last]
        closes = np.append(edges[1:], last - first) - 1
        rows = np.column_stack(
            (
                window[edges, 0],
                np.maximum.reduceat(window[:, 1], edges),
                np.minimum.reduceat(window[:, 2], edges),
                window[closes, 3],
            )
        )
        return opens, rows, np.add.reduceat(volume, edges)

    def binance_funding(self, asset: str, end_ms: int) -> tuple[NDArray[np.int64], Floats]:
        """Return the 8-hourly funding payments made by ``end_ms``: times and rates.

        The rate is the mean premium plus interest, dampened and capped by the exchange's rule.
        """
        rule = self.parameters.liquidity
        steps = 8 * STEPS_PER_HOUR
        premium = self.assets[asset].venues["binance"].premium[: self.point(end_ms)]
        mean = premium[: len(premium) // steps * steps].reshape(-1, steps).mean(axis=1)
        damp = np.clip(rule.funding_interest - mean, -rule.funding_dampener, rule.funding_dampener)
        times = self.parameters.start + np.arange(1, len(mean) + 1) * steps * STEP_MS
        return times, np.clip(mean + damp, -rule.funding_cap, rule.funding_cap)

    def deribit_funding(self, asset: str, end_ms: int) -> tuple[NDArray[np.int64], Floats]:
        """Return the hourly accruals finished by ``end_ms``: times and one-hour rates."""
        rule = self.parameters.liquidity
        premium = self.assets[asset].venues["deribit"].premium[: self.point(end_ms)]
        rate_8h = np.maximum(rule.deribit_dampener, premium) + np.minimum(
            -rule.deribit_dampener, premium
        )
        rate_8h = np.clip(rate_8h, -rule.funding_cap, rule.funding_cap)
        hours = len(premium) // STEPS_PER_HOUR
        hourly = rate_8h[: hours * STEPS_PER_HOUR].reshape(hours, -1).mean(axis=1) / 8.0
        return self.parameters.start + np.arange(1, hours + 1) * MS_PER_HOUR, hourly

    def _asset_path(self, asset: AssetParameters) -> AssetPath:
        parameters = self.parameters
        model, steps, dt_days = parameters.volatility, parameters.steps, parameters.step_days
        price_shock, variance_shock = self._shocks(asset)
        price_jumps, variance_jumps = self._jump_draws.of(asset)
        regime = _mean_reverting(
            parameters, f"{asset.name}/regime", steps + 1,
            model.regime_half_life_days * MS_PER_DAY, model.regime_deviation,
        )
        # exp(-s^2/2) keeps the mean of the slow factor at one.
        resting = model.base_variance * np.exp(regime - 0.5 * model.regime_deviation**2)
        crisis_fall, crisis_variance, stress = self._crisis_paths(asset)
        raw = _svcj_variance(parameters, resting, variance_shock, variance_jumps + crisis_variance)
        variance = asset.variance_scale * raw
        step_variance = variance[:-1] * dt_days / 365.0
        mean_jump = math.sqrt(asset.variance_scale) * (
            model.jump_mean + model.jump_per_variance_jump * model.variance_jump_mean
        )
        returns = (
            (model.annual_drift / 365.0 - model.jumps_per_day * mean_jump) * dt_days
            + np.sqrt(step_variance) * price_shock
            + _spread(price_jumps, model.jump_hours)
            + crisis_fall
        )
        log_index = math.log(asset.start_price_usd) + np.concatenate(([0.0], np.cumsum(returns)))
        index_usd = np.exp(log_index)
        believed = _follow(variance, parameters.surface.belief_hours * MS_PER_HOUR)
        jump_level = model.jumps_per_day * model.variance_jump_mean / model.reversion_per_day
        weekly = _trailing_return(log_index, 7 * STEPS_PER_DAY)
        carry = parameters.surface.annual_carry + (
            parameters.surface.carry_per_weekly_return * _follow(weekly, MS_PER_DAY)
        )
        draws = stream(parameters.seed, "bridge", asset.name).random((2, steps))
        return AssetPath(
            parameters=asset,
            index=_candles(log_index, step_variance, draws, 0.01),
            index_usd=index_usd,
            variance=variance,
            believed_variance=believed,
            resting_variance=asset.variance_scale * (resting + jump_level),
            carry=np.clip(carry, -0.1, 0.3),
            stress=stress,
            open_interest_usd=asset.open_interest_usd
            * np.sqrt(index_usd / asset.start_price_usd)
            * (1 - 0.35 * stress),
            venues={
                name: self._venue(name, asset, log_index, variance, stress, draws)
                for name in EXCHANGES
            },
        )

    def _shocks(self, asset: AssetParameters) -> tuple[Floats, Floats]:
        """Draw correlated price and variance shocks; the common part is the same for all."""
        seed, steps, model = self.parameters.seed, self.parameters.steps, self.parameters.volatility
        weight = math.sqrt(abs(model.asset_correlation))
        own = math.sqrt(1 - abs(model.asset_correlation))
        common = stream(seed, "diffusion", "common").standard_normal((2, steps))
        single = stream(seed, "diffusion", asset.name).standard_normal((2, steps))
        price, other = weight * common + own * single
        rho = model.price_variance_correlation
        return price, rho * price + math.sqrt(1 - rho**2) * other

    def _crisis_paths(self, asset: AssetParameters) -> tuple[Floats, Floats, Floats]:
        """Return log returns and variance jumps per step, and stress (0 to 1) per point."""
        parameters, steps = self.parameters, self.parameters.steps
        falls, rebounds, variance = np.zeros(steps), np.zeros(steps), np.zeros(steps)
        stress = np.zeros(steps + 1)
        points = np.arange(steps + 1)
        for crisis in self.crises:
            first, last = self.point(crisis.start_ms), self.point(crisis.end_ms)
            drop = crisis.drop * asset.crisis_beta
            for at, weight in zip(crisis.wave_points, crisis.wave_weights, strict=True):
                falls[at] -= drop * weight
                variance[at] += crisis.variance_jump * weight
            calm = first + int(0.6 * (last - first))
            rebounds[calm:last] += crisis.rebound * drop / (last - calm)
            relief = np.exp(-(points[first:] - calm).clip(0) / (0.5 * (last - first)))
            stress[first:] = np.maximum(stress[first:], relief)
        return _spread(falls, parameters.crises.wave_hours) + rebounds, variance, stress

    def _venue(
        self,
        exchange: str,
        asset: AssetParameters,
        log_index: Floats,
        variance: Floats,
        stress: Floats,
        draws: Floats,
    ) -> VenuePath:
        parameters, rule = self.parameters, self.parameters.liquidity
        label, steps = f"{exchange}/{asset.name}", self.parameters.steps
        premium = _mean_reverting(
            parameters, f"{label}/premium", steps + 1,
            rule.premium_half_life_hours * MS_PER_HOUR, rule.premium_deviation,
        ) + rule.premium_per_daily_return * _trailing_return(log_index, STEPS_PER_DAY)
        bounce = stream(parameters.seed, label, "bounce").standard_normal(steps + 1) * 2e-5
        step_variance = variance[:-1] * parameters.step_days / 365.0
        trade = log_index + premium + bounce
        share = rule.deribit_share if exchange == "deribit" else 1.0
        tick = asset.deribit_tick_usd if exchange == "deribit" else asset.price_tick_usd
        typical = asset.variance_scale * self._typical_variance()
        move = (step_variance + np.diff(log_index) ** 2) / (
            2.0 * typical * parameters.step_days / 365.0
        )
        hour = np.arange(steps) % STEPS_PER_DAY / STEPS_PER_HOUR
        season = 1.0 + 0.35 * np.cos(2 * np.pi * (hour - 15.0) / 24.0)
        volume_noise = _mean_reverting(
            parameters, f"{label}/volume", steps, 12 * MS_PER_HOUR, rule.volume_deviation
        )
        depth_noise = _mean_reverting(
            parameters, f"{label}/depth", steps + 1, 3 * MS_PER_HOUR, rule.depth_deviation
        )
        thinning = np.ones(steps + 1)
        for crisis in self.crises:
            first = self.point(crisis.start_ms)
            thinning[first:] = np.minimum(
                thinning[first:], 1.0 - stress[first:] * (1.0 - crisis.depth_factor)
            )
        return VenuePath(
            trade=_candles(trade, step_variance, draws, tick),
            mark=_candles(
                log_index + _follow(premium, MS_PER_HOUR / 2), step_variance, draws, 0.01
            ),
            premium=premium,
            volume_usd=share * asset.daily_volume_usd / STEPS_PER_DAY
            * season * move ** (0.5 * rule.volume_elasticity)
            * np.exp(volume_noise - 0.5 * rule.volume_deviation**2),
            depth_usd=share * asset.depth_usd * thinning
            * np.minimum(2.0, (variance / typical) ** rule.depth_elasticity)
            * np.exp(depth_noise),
        )

    def _typical_variance(self) -> float:
        model = self.parameters.volatility
        return (
            model.base_variance
            + model.jumps_per_day * model.variance_jump_mean / model.reversion_per_day
        )


class _JumpDraws:
    """Jumps of price and variance; a common jump comes at one instant with one variance."""

    def __init__(self, parameters: MarketParameters) -> None:
        self._parameters = parameters
        model = parameters.volatility
        random = stream(parameters.seed, "jumps", "common")
        rate = model.jumps_per_day * parameters.step_days
        self._common = random.random(parameters.steps) < rate * model.common_jump_share
        self._variance = random.exponential(model.variance_jump_mean, parameters.steps)
        self._size = random.standard_normal(parameters.steps)

    def of(self, asset: AssetParameters) -> tuple[Floats, Floats]:
        """Return log price jumps and variance jumps of an asset, one value per step."""
        model, steps = self._parameters.volatility, self._parameters.steps
        random = stream(self._parameters.seed, "jumps", asset.name)
        rate = model.jumps_per_day * self._parameters.step_days
        single = random.random(steps) < rate * (1 - model.common_jump_share)
        alone = single & ~self._common
        variance = np.where(alone, random.exponential(model.variance_jump_mean, steps), 0.0)
        variance = np.where(self._common, self._variance, variance)
        size = np.where(alone, random.standard_normal(steps), self._size)
        price = model.jump_mean + model.jump_per_variance_jump * variance
        price = (price + model.jump_deviation * size) * math.sqrt(asset.variance_scale)
        return np.where(self._common | alone, price, 0.0), variance


def _draw_crises(parameters: MarketParameters) -> tuple[Crisis, ...]:
    rule = parameters.crises
    random = stream(parameters.seed, "crises")
    part_ms = (parameters.end - parameters.start) / max(1, rule.count)
    crises = []
    for number in range(rule.count):
        offset = (number + random.uniform(0.35, 0.6)) * part_ms
        first = int(offset // STEP_MS)
        # A short span keeps its crises apart: none is longer than a fifth of its part.
        length_ms = min(random.uniform(*rule.duration_days) * MS_PER_DAY, 0.2 * part_ms)
        steps = int(length_ms // STEP_MS)
        waves = int(random.integers(rule.waves[0], rule.waves[1] + 1))
        later = np.sort(random.integers(1, max(2, int(0.55 * steps)), waves - 1))
        crises.append(
            Crisis(
                start_ms=parameters.start + first * STEP_MS,
                end_ms=parameters.start + (first + steps) * STEP_MS,
                drop=random.uniform(*rule.drop),
                rebound=random.uniform(*rule.rebound),
                variance_jump=random.uniform(*rule.variance_jump),
                depth_factor=random.uniform(*rule.depth_factor),
                wave_points=(first, *(first + later).tolist()),
                wave_weights=tuple(random.dirichlet(np.full(waves, 2.0)).tolist()),
            )
        )
    return tuple(crises)


def _svcj_variance(
    parameters: MarketParameters, resting: Floats, shocks: Floats, jumps: Floats
) -> Floats:
    """Full-truncation Euler scheme of the reverting variance; ``[steps + 1]``."""
    model, dt = parameters.volatility, parameters.step_days
    pull, diffusion = model.reversion_per_day * dt, model.variance_diffusion * math.sqrt(dt)
    now = model.base_variance + (
        model.jumps_per_day * model.variance_jump_mean / model.reversion_per_day
    )
    path = [now]
    for level, shock, jump in zip(
        resting[:-1].tolist(), shocks.tolist(), jumps.tolist(), strict=True
    ):
        now = max(1e-4, now + pull * (level - now) + diffusion * math.sqrt(now) * shock) + jump
        path.append(now)
    return np.array(path)


def _mean_reverting(
    parameters: MarketParameters, label: str, length: int, half_life_ms: float, deviation: float
) -> Floats:
    """Draw a stationary Gaussian AR(1) path with the given half-life and deviation."""
    decay = 0.5 ** (STEP_MS / half_life_ms)
    shocks = stream(parameters.seed, label).standard_normal(length)
    shocks[1:] *= math.sqrt(1 - decay**2)
    path = accumulate((deviation * shocks).tolist(), lambda now, shock: decay * now + shock)
    return np.fromiter(path, np.float64, length)


def _follow(path: Floats, time_constant_ms: float) -> Floats:
    """Exponential moving average that starts on the path."""
    keep = math.exp(-STEP_MS / time_constant_ms)
    averaged = accumulate(path.tolist(), lambda now, new: keep * now + (1 - keep) * new)
    return np.fromiter(averaged, np.float64, len(path))


def _spread(impulses: Floats, time_constant_hours: float) -> Floats:
    """Let impulses arrive exponentially instead of at once, their sum unchanged."""
    decay = math.exp(-STEP_MS / (time_constant_hours * MS_PER_HOUR))
    kernel = decay ** np.arange(math.ceil(8 * time_constant_hours * STEPS_PER_HOUR))
    spread = np.zeros(len(impulses))
    for at in np.flatnonzero(impulses).tolist():
        window = spread[at : at + len(kernel)]
        window += impulses[at] * kernel[: len(window)] / kernel.sum()
    return spread


def _trailing_return(log_price: Floats, steps: int) -> Floats:
    lagged = np.concatenate((np.full(min(steps, len(log_price)), log_price[0]), log_price))
    return np.asarray(log_price - lagged[: len(log_price)], dtype=np.float64)


def _candles(log_points: Floats, step_variance: Floats, draws: Floats, tick: float) -> Floats:
    """Candles between points, with the exact law of a Brownian bridge's maximum and minimum.

    The maximum of a bridge from a to b with variance v exceeds m with probability
    exp(-2 (m - a)(m - b) / v); inverting it for a uniform draw gives the formula. Maximum and
    minimum are drawn independently, so a step's range is slightly too wide.
    """
    first, last = log_points[:-1], log_points[1:]
    middle, gap = 0.5 * (first + last), (last - first) ** 2
    high = middle + 0.5 * np.sqrt(gap - 2 * step_variance * np.log1p(-draws[0]))
    low = middle - 0.5 * np.sqrt(gap - 2 * step_variance * np.log1p(-draws[1]))
    return np.round(np.exp(np.column_stack((first, high, low, last))) / tick) * tick


def describe(crisis: Crisis) -> str:
    """Say in one line when a crisis was and how hard it hit."""
    return (
        f"{iso_utc(crisis.start_ms)} to {iso_utc(crisis.end_ms)}: "
        f"fall {1 - math.exp(-crisis.drop):.0%} in {len(crisis.wave_points)} waves, "
        f"depth down to {crisis.depth_factor:.0%}"
    )
