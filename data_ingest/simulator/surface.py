"""The simulated option market's prices: surface SVI over a mean-reverting variance, Black-76.

The at-the-money total variance is the variance that the market's own process is expected to
realise until expiry, so a crisis lifts the short end most and inverts the term structure. Skew
and curvature follow the surface SVI of Gatheral and Jacquier (2014) with
``phi = eta / sqrt(theta)``, which has neither calendar nor butterfly arbitrage at one instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from backtest.units import MS_PER_YEAR
from data_ingest.simulator.parameters import STEP_MS

if TYPE_CHECKING:
    from data_ingest.simulator.market import AssetPath, SimulatedMarket


PRICE_DECIMALS = 6
VOLATILITY_DECIMALS = 4
"""Deribit publishes mark prices with six decimals and mark_iv in percent with two."""


@dataclass(frozen=True)
class Greeks:
    """Sensitivities as Deribit publishes them: USD, vega per vol point, theta per day."""

    delta: np.ndarray
    gamma: np.ndarray
    vega: np.ndarray
    theta: np.ndarray


def black_76_coin(
    forward: np.ndarray, strike: np.ndarray, deviation: np.ndarray, is_call: np.ndarray
) -> np.ndarray:
    """Price European options in coin, with no interest.

    Parameters
    ----------
    forward, strike
        USD.
    deviation
        Implied volatility times the square root of the time to expiry.
    is_call
        True for calls.

    Returns
    -------
    numpy.ndarray
        Black (1976) prices divided by the forward, the coin price of an inverse option.
    """
    deviation = np.maximum(deviation, 1e-12)
    upper = np.log(forward / strike) / deviation + 0.5 * deviation
    sign = np.where(is_call, 1.0, -1.0)
    price = sign * (ndtr(sign * upper) - strike / forward * ndtr(sign * (upper - deviation)))
    return np.asarray(np.maximum(price, 0.0), dtype=np.float64)


def implied_deviation(
    price: np.ndarray, forward: np.ndarray, strike: np.ndarray, is_call: np.ndarray
) -> np.ndarray:
    """Invert `black_76_coin` by bisection; NaN where the price holds no time value."""
    low, high = np.full(price.shape, 1e-6), np.full(price.shape, 20.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        dear = black_76_coin(forward, strike, middle, is_call) > price
        low, high = np.where(dear, low, middle), np.where(dear, middle, high)
    intrinsic = np.maximum(np.where(is_call, 1.0, -1.0) * (1.0 - strike / forward), 0.0)
    return np.where((price > intrinsic) & (price < 1.0), high, np.nan)


class VolatilitySurface:
    """Implied volatility, forwards and prices of one asset's options at any instant.

    Parameters
    ----------
    market
        The market whose variance the surface quotes.
    asset
        The asset's name.
    """

    def __init__(self, market: SimulatedMarket, asset: str) -> None:
        self._market = market
        self._path: AssetPath = market.assets[asset]
        self._rule = market.parameters.surface
        model = market.parameters.volatility
        self._reversion_per_year = 365.0 * model.reversion_per_day
        mean = model.jump_mean + model.jump_per_variance_jump * model.variance_jump_mean
        spread = (
            model.jump_deviation**2 + (model.jump_per_variance_jump * model.variance_jump_mean) ** 2
        )
        self._jump_variance = (
            365.0 * model.jumps_per_day * (mean**2 + spread)
        ) * self._path.parameters.variance_scale

    def spot_usd(self, at_ms: np.ndarray | int) -> np.ndarray:
        """Return the index known at each time, USD."""
        return np.asarray(self._path.index_usd[self._points(at_ms)])

    def forward_usd(self, at_ms: np.ndarray | int, expiry_ms: np.ndarray) -> np.ndarray:
        """Return the forward of an expiry known at each time, USD."""
        points = self._points(at_ms)
        years = np.maximum(expiry_ms - at_ms, 0) / MS_PER_YEAR
        return np.asarray(self._path.index_usd[points] * np.exp(self._path.carry[points] * years))

    def atm_variance(self, at_ms: np.ndarray | int, years: np.ndarray) -> np.ndarray:
        """Return the at-the-money total variance until ``years`` from each time."""
        points = self._points(at_ms)
        resting = self._path.resting_variance[points]
        excess = self._path.believed_variance[points] - resting
        speed = self._reversion_per_year
        expected = (resting + self._jump_variance) * years - excess * np.expm1(
            -speed * years
        ) / speed
        return np.asarray(self._rule.risk_premium**2 * expected)

    def implied_volatility(
        self, at_ms: np.ndarray | int, expiry_ms: np.ndarray, strike: np.ndarray
    ) -> np.ndarray:
        """Return unrounded implied volatility (annual, fraction); broadcasts."""
        years = np.maximum(expiry_ms - at_ms, STEP_MS) / MS_PER_YEAR
        theta = self.atm_variance(at_ms, years)
        points = self._points(at_ms)
        rho = np.maximum(self._rule.skew + self._rule.crisis_skew * self._path.stress[points], -0.9)
        distance = np.log(strike / self.forward_usd(at_ms, expiry_ms)) / np.sqrt(theta)
        scaled = self._rule.curvature * distance
        total = 0.5 * theta * (1 + rho * scaled + np.sqrt((scaled + rho) ** 2 + 1 - rho**2))
        return np.asarray(np.sqrt(total / years))

    def mark(
        self,
        at_ms: np.ndarray | int,
        expiry_ms: np.ndarray,
        strike: np.ndarray,
        is_call: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return published implied volatility and the mark price in coin that it implies.

        Both are rounded as the exchange does, the price from the rounded volatility, so a
        reader who prices the published volatility recovers the published mark.
        """
        volatility = self.implied_volatility(at_ms, expiry_ms, strike)
        volatility = np.round(volatility, VOLATILITY_DECIMALS)
        years = np.maximum(expiry_ms - at_ms, 0) / MS_PER_YEAR
        price = black_76_coin(
            self.forward_usd(at_ms, expiry_ms), strike, volatility * np.sqrt(years), is_call
        )
        return volatility, np.round(price, PRICE_DECIMALS)

    def half_spread(
        self, at_ms: np.ndarray | int, expiry_ms: np.ndarray, strike: np.ndarray
    ) -> np.ndarray:
        """Return half the bid-ask spread in annual volatility: wider far out and in a crisis."""
        years = np.maximum(expiry_ms - at_ms, STEP_MS) / MS_PER_YEAR
        theta = self.atm_variance(at_ms, years)
        distance = np.log(strike / self.forward_usd(at_ms, expiry_ms)) / np.sqrt(theta)
        stress = self._path.stress[self._points(at_ms)]
        return np.asarray(self._rule.half_spread_vol * (1 + 0.5 * distance**2) * (1 + 2.0 * stress))

    def greeks(
        self,
        forward: np.ndarray,
        strike: np.ndarray,
        volatility: np.ndarray,
        years: np.ndarray,
        is_call: np.ndarray,
    ) -> Greeks:
        """Return Black-76 sensitivities in USD."""
        deviation = np.maximum(volatility * np.sqrt(years), 1e-12)
        upper = np.log(forward / strike) / deviation + 0.5 * deviation
        density = np.exp(-0.5 * upper**2) / np.sqrt(2 * np.pi)
        vega = forward * density * np.sqrt(years)
        return Greeks(
            delta=np.asarray(ndtr(upper) - np.where(is_call, 0.0, 1.0)),
            gamma=np.asarray(density / (forward * deviation)),
            vega=np.asarray(vega / 100.0),
            theta=np.asarray(-0.5 * vega * volatility / np.maximum(years, 1e-9) / 365.0),
        )

    def _points(self, at_ms: np.ndarray | int) -> np.ndarray:
        parameters = self._market.parameters
        points = (np.asarray(at_ms) - parameters.start) // STEP_MS
        return np.asarray(np.clip(points, 0, parameters.steps))
