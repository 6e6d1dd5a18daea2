"""A deterministic market: prices, variance, premium, volume and depth on a five-minute clock.

Point ``k`` of a path is the market at ``start + k * STEP_MS``; step ``k`` is the time between
points ``k`` and ``k + 1``. Equal parameters give equal bits: every process draws from its own
named stream of the seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.seeds import stream
from backtest.units import MS_PER_DAY, MS_PER_HOUR, MS_PER_YEAR
from data_ingest.simulator.crises import crisis_path, draw_crises
from data_ingest.simulator.parameters import STEP_MS, MarketParameters
from data_ingest.simulator.processes import (
    JumpDraws,
    candles,
    follow,
    mean_reverting,
    spread,
    svcj_variance,
    trailing_return,
)

if TYPE_CHECKING:
    from data_ingest.simulator.crises import CrisisPath
    from data_ingest.simulator.parameters import AssetParameters


EXCHANGES = ("binance", "deribit")
"""Venues whose paths are drawn with the market; all others are drawn when they are first asked."""

VENUE_SHARES = {
    "binance": None,
    "binance_usdc": "usdc_share",
    "binance_coinm": "coin_margined_share",
    "bybit": "bybit_share",
    "bybit_inverse": "coin_margined_share",
    "deribit": "deribit_share",
    "hyperliquid": "hyperliquid_share",
    "okx": "okx_share",
    "okx_inverse": "coin_margined_share",
}
"""Every venue and the parameter that holds its size relative to Binance USD-M."""
_FUTURE = "future/"
FUTURE_SHARE = 0.1
"""A dated future's volume and depth relative to Binance's perpetual."""
STEPS_PER_HOUR = MS_PER_HOUR // STEP_MS
STEPS_PER_DAY = MS_PER_DAY // STEP_MS


def future_venue(expiry_ms: int) -> str:
    """Name the one market of a dated future, which all exchanges list alike."""
    return f"{_FUTURE}{expiry_ms}"


@dataclass(frozen=True)
class VenuePath:
    """One perpetual on one exchange. Candles are ``[steps, 4]``: open, high, low, close."""

    trade: np.ndarray
    mark: np.ndarray
    premium: np.ndarray
    volume_usd: np.ndarray
    depth_usd: np.ndarray

    @property
    def premium_bars(self) -> np.ndarray:
        """Candles of the premium over the index, a ratio; it moves straight between points."""
        first, last = self.premium[:-1], self.premium[1:]
        return np.column_stack((first, np.maximum(first, last), np.minimum(first, last), last))


@dataclass(frozen=True)
class _VenueInputs:
    """What the perpetuals of one asset have in common on every venue."""

    log_index: np.ndarray
    crisis: CrisisPath
    draws: np.ndarray


@dataclass(frozen=True)
class AssetPath:
    """One asset: index candles, annual variance and how stressed the market is.

    ``variance``, ``believed_variance``, ``resting_variance`` and ``stress`` have one value per
    point; ``believed_variance`` is what option quotes have caught up with.
    """

    parameters: AssetParameters
    index: np.ndarray
    index_usd: np.ndarray
    variance: np.ndarray
    believed_variance: np.ndarray
    resting_variance: np.ndarray
    carry: np.ndarray
    stress: np.ndarray
    open_interest_usd: np.ndarray
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
        self.crises = draw_crises(self.parameters)
        self._jump_draws = JumpDraws(self.parameters)
        self._venue_inputs: dict[str, _VenueInputs] = {}
        self.assets = {asset.name: self._asset_path(asset) for asset in self.parameters.assets}

    def point(self, at_ms: int) -> int:
        """Return the last point known at a time, inside the span."""
        parameters = self.parameters
        return int(np.clip((at_ms - parameters.start) // STEP_MS, 0, parameters.steps))

    def venue(self, asset: str, exchange: str) -> VenuePath:
        """Return one perpetual's paths; each venue draws from its own streams, when first asked.

        Parameters
        ----------
        asset
            The asset's name.
        exchange
            One of `VENUE_SHARES`, or a dated future's from `future_venue`.
        """
        path = self.assets[asset]
        if exchange not in path.venues:
            inputs = self._venue_inputs[asset]
            path.venues[exchange] = (
                self._future(path, int(exchange.removeprefix(_FUTURE)))
                if exchange.startswith(_FUTURE)
                else self._venue(exchange, path.parameters, inputs, path.variance)
            )
        return path.venues[exchange]

    def candles(
        self,
        asset: str,
        exchange: str,
        kind: str,
        timeframe_ms: int,
        start_ms: int,
        end_ms: int,
        offset_ms: int = 0,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Aggregate steps that ended by ``end_ms`` into candles that open from ``start_ms`` on.

        The last candle is the one in progress at ``end_ms``, as an exchange would show it.

        Parameters
        ----------
        asset, exchange
            Which perpetual.
        kind
            ``trade``, ``mark``, ``index`` or ``premium``.
        timeframe_ms
            Length of a candle, a multiple of five minutes, aligned to midnight UTC.
        start_ms, end_ms
            The window; nothing after ``end_ms`` is used.
        offset_ms
            How long after midnight UTC the candles are aligned instead.

        Returns
        -------
        tuple of numpy.ndarray
            Opening times (ms), candles ``[n, 4]`` in USD or, for a premium, as a ratio, and volumes
            ``[n]`` in USD.
        """
        path = self.assets[asset]
        venue = self.venue(asset, exchange)
        prices = venue.premium_bars if kind == "premium" else {
            "trade": venue.trade, "mark": venue.mark, "index": path.index
        }[kind]  # fmt: skip
        origin = self.parameters.start
        start_ms = max(origin, start_ms) - offset_ms
        first_open = -(-start_ms // timeframe_ms) * timeframe_ms + offset_ms
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

    def funding(
        self, asset: str, exchange: str, hours: int, end_ms: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the payments made by ``end_ms`` on a venue that pays every ``hours`` hours.

        The rate is the mean premium plus interest, dampened and capped by Binance's rule, which
        the others have taken over; a shorter interval pays its share of the eight-hour rate.
        """
        rule = self.parameters.liquidity
        steps = hours * STEPS_PER_HOUR
        premium = self.venue(asset, exchange).premium[: self.point(end_ms)]
        mean = premium[: len(premium) // steps * steps].reshape(-1, steps).mean(axis=1)
        damp = np.clip(rule.funding_interest - mean, -rule.funding_dampener, rule.funding_dampener)
        times = self.parameters.start + np.arange(1, len(mean) + 1) * steps * STEP_MS
        return times, np.clip(mean + damp, -rule.funding_cap, rule.funding_cap) * (hours / 8)

    def binance_funding(self, asset: str, end_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the 8-hourly payments of Binance's USDT perpetual: times and rates."""
        return self.funding(asset, "binance", 8, end_ms)

    def deribit_funding(self, asset: str, end_ms: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the hourly accruals finished by ``end_ms``: times and one-hour rates."""
        rule = self.parameters.liquidity
        premium = self.assets[asset].venues["deribit"].premium[: self.point(end_ms)]
        rate_8h = np.maximum(rule.deribit_dampener, premium) + np.minimum(
            -rule.deribit_dampener, premium
        )
        rate_8h = np.clip(rate_8h, -rule.funding_cap, rule.funding_cap)
        hours = len(premium) // STEPS_PER_HOUR
        hourly = rate_8h[: hours * STEPS_PER_HOUR].reshape(hours, STEPS_PER_HOUR).mean(axis=1) / 8.0
        return self.parameters.start + np.arange(1, hours + 1) * MS_PER_HOUR, hourly

    def _asset_path(self, asset: AssetParameters) -> AssetPath:
        parameters = self.parameters
        model, steps, dt_days = parameters.volatility, parameters.steps, parameters.step_days
        price_shock, variance_shock = self._shocks(asset)
        price_jumps, variance_jumps = self._jump_draws.of(asset)
        regime = mean_reverting(
            parameters,
            f"{asset.name}/regime",
            steps + 1,
            model.regime_half_life_days * MS_PER_DAY,
            model.regime_deviation,
        )
        # exp(-s^2/2) keeps the mean of the slow factor at one.
        resting = model.base_variance * np.exp(regime - 0.5 * model.regime_deviation**2)
        crisis = crisis_path(parameters, self.crises, asset.crisis_beta)
        variance = asset.variance_scale * svcj_variance(
            parameters, resting, variance_shock, variance_jumps + crisis.variance_jump
        )
        step_variance = variance[:-1] * dt_days / 365.0
        mean_jump = math.sqrt(asset.variance_scale) * (
            model.jump_mean + model.jump_per_variance_jump * model.variance_jump_mean
        )
        returns = (
            (model.annual_drift / 365.0 - model.jumps_per_day * mean_jump) * dt_days
            + np.sqrt(step_variance) * price_shock
            + spread(price_jumps, model.jump_hours)
            + crisis.log_return
        )
        log_index = math.log(asset.start_price_usd) + np.concatenate(([0.0], np.cumsum(returns)))
        index_usd = np.exp(log_index)
        believed = follow(variance, parameters.surface.belief_hours * MS_PER_HOUR)
        jump_level = model.jumps_per_day * model.variance_jump_mean / model.reversion_per_day
        weekly = trailing_return(log_index, 7 * STEPS_PER_DAY)
        carry = parameters.surface.annual_carry + (
            parameters.surface.carry_per_weekly_return * follow(weekly, MS_PER_DAY)
        )
        draws = stream(parameters.seed, "bridge", asset.name).random((2, steps))
        inputs = _VenueInputs(log_index, crisis, draws)
        self._venue_inputs[asset.name] = inputs
        return AssetPath(
            parameters=asset,
            index=candles(log_index, step_variance, draws, 0.01),
            index_usd=index_usd,
            variance=variance,
            believed_variance=believed,
            resting_variance=asset.variance_scale * (resting + jump_level),
            carry=np.clip(carry, -0.1, 0.3),
            stress=crisis.stress,
            open_interest_usd=asset.open_interest_usd
            * np.sqrt(index_usd / asset.start_price_usd)
            * (1 - 0.35 * crisis.stress),
            venues={name: self._venue(name, asset, inputs, variance) for name in EXCHANGES},
        )

    def _shocks(self, asset: AssetParameters) -> tuple[np.ndarray, np.ndarray]:
        """Draw correlated price and variance shocks; the common part is the same for all."""
        seed, steps, model = self.parameters.seed, self.parameters.steps, self.parameters.volatility
        weight = math.sqrt(abs(model.asset_correlation))
        own = math.sqrt(1 - abs(model.asset_correlation))
        common = stream(seed, "diffusion", "common").standard_normal((2, steps))
        single = stream(seed, "diffusion", asset.name).standard_normal((2, steps))
        price, other = weight * common + own * single
        rho = model.price_variance_correlation
        return price, rho * price + math.sqrt(1 - rho**2) * other

    def _venue(
        self,
        exchange: str,
        asset: AssetParameters,
        inputs: _VenueInputs,
        variance: np.ndarray,
    ) -> VenuePath:
        parameters, rule = self.parameters, self.parameters.liquidity
        log_index, crisis, draws = inputs.log_index, inputs.crisis, inputs.draws
        label, steps = f"{exchange}/{asset.name}", self.parameters.steps
        premium = mean_reverting(
            parameters,
            f"{label}/premium",
            steps + 1,
            rule.premium_half_life_hours * MS_PER_HOUR,
            rule.premium_deviation,
        ) + rule.premium_per_daily_return * trailing_return(log_index, STEPS_PER_DAY)
        bounce = stream(parameters.seed, label, "bounce").standard_normal(steps + 1) * 2e-5
        step_variance = variance[:-1] * parameters.step_days / 365.0
        trade = log_index + premium + bounce
        share = self.share(exchange)
        tick = asset.deribit_tick_usd if exchange == "deribit" else asset.price_tick_usd
        typical = asset.variance_scale * self._typical_variance()
        move = (step_variance + np.diff(log_index) ** 2) / (
            2.0 * typical * parameters.step_days / 365.0
        )
        hour = np.arange(steps) % STEPS_PER_DAY / STEPS_PER_HOUR
        season = 1.0 + 0.35 * np.cos(2 * np.pi * (hour - 15.0) / 24.0)
        volume_noise = mean_reverting(
            parameters, f"{label}/volume", steps, 12 * MS_PER_HOUR, rule.volume_deviation
        )
        depth_noise = mean_reverting(
            parameters, f"{label}/depth", steps + 1, 3 * MS_PER_HOUR, rule.depth_deviation
        )
        return VenuePath(
            trade=candles(trade, step_variance, draws, tick),
            mark=candles(log_index + follow(premium, MS_PER_HOUR / 2), step_variance, draws, 0.01),
            premium=premium,
            volume_usd=share
            * asset.daily_volume_usd
            / STEPS_PER_DAY
            * season
            * move ** (0.5 * rule.volume_elasticity)
            * np.exp(volume_noise - 0.5 * rule.volume_deviation**2),
            depth_usd=share
            * asset.depth_usd
            * crisis.thinning
            * np.minimum(2.0, (variance / typical) ** rule.depth_elasticity)
            * np.exp(depth_noise),
        )

    def _future(self, path: AssetPath, expiry_ms: int) -> VenuePath:
        """Return a dated future: the index at the carry of each step, as options are priced."""
        parameters, perpetual = self.parameters, path.venues["binance"]
        points_ms = parameters.start + np.arange(parameters.steps + 1, dtype=np.int64) * STEP_MS
        years = np.maximum(expiry_ms - points_ms, 0) / MS_PER_YEAR
        ratio = np.exp(path.carry * years)
        price, tick = path.index * ratio[:-1, None], path.parameters.price_tick_usd
        return VenuePath(
            trade=np.round(np.round(price / tick) * tick, 8),
            mark=np.round(price, 2),
            premium=ratio - 1.0,
            volume_usd=FUTURE_SHARE * perpetual.volume_usd,
            depth_usd=FUTURE_SHARE * perpetual.depth_usd,
        )

    def share(self, exchange: str) -> float:
        """Return a venue's size relative to Binance USD-M's USDT perpetual."""
        name = VENUE_SHARES[exchange]
        return 1.0 if name is None else float(getattr(self.parameters.liquidity, name))

    def _typical_variance(self) -> float:
        model = self.parameters.volatility
        return (
            model.base_variance
            + model.jumps_per_day * model.variance_jump_mean / model.reversion_per_day
        )
