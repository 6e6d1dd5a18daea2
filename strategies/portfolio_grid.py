"""Portfolio margin as Derive, Deribit, Paradex and Aevo ask it: a scenario grid and charges.

The law is that of `strategies.kernels.portfolio_grid`, which states the formulas. A part that a
venue has not is left out, and then costs nothing. The defaults are a plain grid of Deribit's
numbers; presets carry each venue's own.

Sources: derivexyz/v2-core, `PMRMLib.sol` and `PMRMLib_2.sol`; Deribit, Portfolio Margin;
Paradex, Portfolio Margin; Aevo, Portfolio Margin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.errors import PolicyError, nearest
from backtest.units import MS_PER_HOUR, Fraction, Usd
from strategies.contract import Knob, MarginPolicy, knob
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.portfolio_grid import portfolio_grid
from strategies.scenario import WIDEST_RANGE, FixedRange, PriceRange
from strategies.tables import per_asset

if TYPE_CHECKING:
    from backtest.tape import MarketTape

Direction = Literal["up", "none", "down", "linear", "abs"]
_DIRECTIONS = {
    "down": terms.DOWN,
    "none": terms.SAME,
    "up": terms.UP,
    "linear": terms.LINEAR,
    "abs": terms.ABSOLUTE,
}
_FUNDING_MS = 8 * MS_PER_HOUR


class _Terms(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PricePoint(_Terms):
    """One scenario: a move of the price, a shock of volatility, and its weight."""

    move: Fraction = Field(0.0, gt=-1.0, description="of the price, a fraction")
    volatility: Direction = Field("up", description="direction of the shock")
    weight: Fraction | None = Field(
        None, ge=0.0, description="of the profit; range over move if absent"
    )


class Discounting(_Terms):
    """What a gain loses and a debt grows by, expiry by expiry; ``None`` for no discounting."""

    at_rate: bool = Field(True, description="discount every value at the rate first")
    gain_factor: Fraction = Field(1.0, ge=0.0, description="on what an expiry is worth")
    gain_rate_multiple: float = Field(1.0, ge=0.0, description="of the rate, on gains")
    gain_rate_add: Fraction = Field(0.0, description="annual, on gains")
    debt_factor: Fraction = Field(1.0, ge=0.0, description="on what an expiry owes")
    debt_rate_multiple: float = Field(0.0, ge=0.0, description="of the rate, on debts")
    debt_rate_add: Fraction = Field(0.0, description="annual, on debts")


class Basis(_Terms):
    """A charge for forwards that move apart: a share of each expiry's worse move."""

    up: Fraction = Field(0.05, ge=0.0, description="move of the forward alone")
    down: Fraction = Field(-0.05, gt=-1.0, le=0.0, description="move of the forward alone")
    add: float = Field(1.0, ge=0.0, description="share of the loss at expiry")
    per_year: float = Field(0.0, ge=0.0, description="share added per year to expiry")


class Skew(_Terms):
    """How the volatility of far strikes changes, scaled by the root of time to expiry."""

    linear_cap: float = 0.15
    linear_slope: float = -0.05
    abs_cap: float = 0.15
    abs_slope: float = -0.05
    least_width: float = Field(0.01, gt=0.0, description="log strike where a change is full")
    width: float = 4.0
    width_static: float = 0.6
    width_slope: float = -0.1


class Confidence(_Terms):
    """A charge of initial margin for oracles that are not sure of their price."""

    below: Fraction = Field(0.55, ge=0.0, le=1.0, description="confidence that is too low")
    rate: float = Field(1.0, ge=0.0, description="of notional, times one less the confidence")
    coin_rate: float | None = Field(None, ge=0.0, description="for coins; the rate if absent")


class Peg(_Terms):
    """A higher factor of initial margin while the settlement coin is below its peg."""

    coin: str | None = Field(None, description="asset of the tape whose index is the coin's price")
    below: float = Field(0.98, ge=0.0, description="price under which it counts, USD")
    factor: float = Field(2.0, ge=0.0, description="added per dollar below")


class Roll(_Terms):
    """A charge for curves that move apart: a move of every expiry's delta."""

    least: Fraction = Field(0.01, ge=0.0, description="of the price, at any expiry")
    per_year: Fraction = Field(0.075, ge=0.0, description="of the price, per year to expiry")


class DeltaShock(_Terms):
    """A charge for a net delta that is hard to close."""

    free: Usd = Field(20e6, ge=0.0, description="net delta without a charge, USD")
    rate: Fraction = Field(0.0, ge=0.0, description="of delta beyond")
    cap: Fraction = Field(0.1, ge=0.0, description="of net delta")


class DeltaFloor(_Terms):
    """A least loss by delta, in place of the scan where that is smaller."""

    net: Fraction = Field(0.02, ge=0.0, description="of net delta")
    hedged: Fraction = Field(0.01, ge=0.0, description="of delta that is hedged")


class Charges(_Terms):
    """Flat charges of notional; the second of a pair is added in initial margin."""

    perpetual: Fraction = Field(0.0, ge=0.0, description="perpetuals and futures, at the index")
    perpetual_extra: Fraction = Field(0.0, ge=0.0, description="the same, initial margin")
    option: Fraction = Field(0.0, ge=0.0, description="options sold beyond those bought")
    option_extra: Fraction = Field(0.0, ge=0.0, description="the same, initial margin")


class CoinTerms(_Terms):
    """What a coin beside the positions does in the scenarios, and what is taken of it."""

    moves_with: str | None = Field(
        None, description="asset whose scenarios it follows, or itself; in none if absent"
    )
    haircut: Fraction = Field(0.0, ge=0.0, le=1.0, description="of its value")
    haircut_extra: Fraction = Field(0.0, ge=0.0, le=1.0, description="the same, initial margin")


class OwnTerms(_Terms):
    """Numbers of one asset where they differ from the policy's."""

    vol_up: Fraction | None = Field(None, ge=0.0)
    vol_down: Fraction | None = Field(None, ge=0.0)
    least_vol: Fraction | None = Field(None, ge=0.0)
    charges: Charges | None = None
    least_roll: Fraction | None = Field(None, ge=0.0)
    gain_counted: Fraction | None = Field(None, ge=0.0, le=1.0)
    dampener: Usd | None = Field(None, ge=0.0)


class PortfolioGrid(MarginPolicy):
    """Worst loss of the whole portfolio over a scenario grid, with a venue's own charges."""

    name: ClassVar[str] = "portfolio"
    requirement = portfolio_grid

    price_range: PriceRange = FixedRange()
    price_steps: int = Field(4, ge=1, le=10, description="moves to each side inside the range")
    directions: tuple[Direction, ...] = Field(
        ("up", "none", "down"), description="of volatility at every move", min_length=1
    )
    edge_directions: tuple[Direction, ...] = Field(
        (), description="of volatility at the largest moves; as at every move if empty"
    )
    tails: tuple[PricePoint, ...] = Field((), description="scenarios beyond the range")
    tail_factor: Knob = knob(
        1.0, low=0, high=3, unit="multiple", doc="of the weight of tails that state none"
    )
    points: tuple[PricePoint, ...] | None = Field(
        None, description="all scenarios, in place of grid and tails"
    )
    clamped: bool = Field(False, description="tails move perpetuals by the range only")
    dampener: Usd = Field(0.0, ge=0.0, description="taken off a loss in a tail, USD")

    vol_up: Knob = knob(
        "50%", low=0, high="200%", unit="of volatility", doc="shock at 30 days to expiry"
    )
    vol_down: Knob = knob(
        "25%", low=0, high="100%", unit="of volatility", doc="shock at 30 days to expiry"
    )
    vol_in_points: bool = Field(False, description="shocks are points, not shares, of volatility")
    least_vol: Knob = knob(
        0.0, low=0, high="200%", unit="annualised", doc="volatility shocked up is at least"
    )
    power_to_30_days: Knob = knob(
        0.3, low=0, high=1, unit="exponent", doc="how shocks grow towards expiry"
    )
    power_beyond: Knob = knob(
        0.13, low=0, high=1, unit="exponent", doc="how shocks fade beyond 30 days"
    )
    least_days: Knob = knob(1.0, low=0.0001, high=30, unit="days", doc="floor on time to expiry")

    initial_factor: Knob = knob(1.0, low=0.5, high=3, unit="of the loss", doc="in initial margin")
    maintenance_ratio: Knob = knob(
        "80%", low="10%", high=3, unit="of the loss", doc="in maintenance margin"
    )
    charges: Charges = Charges()
    charges_inside: bool = Field(False, description="the factors multiply the charges too")
    fees: Fraction = Field(0.0, ge=0.0, le=0.1, description="provision, of gross notional")
    funding_provision: bool = Field(
        False, description="charge what the last eight hours' funding would cost once more"
    )
    short_minimum: Knob = knob(
        0.0, low=0, high="25%", unit="of notional", doc="least loss per short option"
    )
    contract_minimum: Knob = knob(
        0.0, low=0, high=1e4, unit="USD", doc="least loss per contract of any kind"
    )
    gain_counted: Knob = knob(
        "100%",
        low=0,
        high="100%",
        unit="of a gain",
        doc="of linear contracts against coin-settled ones, and the reverse",
    )
    offset_between_assets: Knob = knob(
        0.0, low=0, high="100%", unit="of the offset", doc="if one scenario hit all assets"
    )
    discounting: Discounting | None = None
    basis: Basis | None = None
    skew: Skew = Skew()
    confidence: Confidence | None = None
    peg: Peg | None = None
    roll: Roll | None = None
    delta_shock: DeltaShock | None = None
    delta_floor: DeltaFloor | None = None
    coins: dict[str, CoinTerms] = Field({}, description="collateral, by asset")
    other_coins: CoinTerms = CoinTerms()
    assets: dict[str, OwnTerms] = Field({}, description="an asset's own numbers, by name")

    @model_validator(mode="after")
    def _whole(self) -> PortfolioGrid:
        if self.points is not None and not self.points:
            raise ValueError("points: is empty; write at least one scenario")
        return self

    def signals(self, tape: MarketTape) -> np.ndarray:
        """Return price of the peg's coin, price ranges and expected funding, ``(T, 1 + 2 A)``."""
        ranges = self.price_range(tape)
        stable = np.ones((len(tape), 1))
        if self.peg is not None and self.peg.coin is not None:
            if self.peg.coin not in tape.assets:
                raise PolicyError(
                    f"peg.coin: the market has no asset {self.peg.coin!r}."
                    f"{nearest(self.peg.coin, tape.assets)}"
                )
            stable[:, 0] = tape.index[:, tape.assets.index(self.peg.coin)]
        funding = np.zeros_like(ranges)
        if self.funding_provision:
            funding = _trailing_funding(tape)
        return np.hstack([stable, ranges, funding])

    def parameters(self, signals: np.ndarray) -> np.ndarray:
        """Post the peg's addition, the ranges and the funding, ``(T, 1 + 2 A)``."""
        posted = signals.copy()
        assets = (signals.shape[1] - 1) // 2
        posted[:, 0] = 0.0
        if self.peg is not None:
            posted[:, 0] = np.maximum(self.peg.below - signals[:, 0], 0.0) * self.peg.factor
        posted[:, 1 : 1 + assets] = np.minimum(signals[:, 1 : 1 + assets], WIDEST_RANGE)
        return posted

    def constants(self, tape: MarketTape) -> np.ndarray:
        """Return grid, laws and charges as `portfolio_grid` reads them."""
        return terms.portfolio_constants(
            self._singles(),
            np.array(self._per_asset(tape.assets)),
            self.scenarios(),
            None if self.basis is None else (1.0 + self.basis.up, 1.0 + self.basis.down),
        )

    def scenarios(self) -> list[list[float]]:
        """List the scenarios as rows of `terms.SCENARIO_ROWS` numbers."""
        if self.points is not None:
            return [self._point(point, tail=False) for point in self.points]
        rows = []
        for step in range(self.price_steps, -self.price_steps - 1, -1):
            edge = abs(step) == self.price_steps and self.edge_directions
            for direction in self.edge_directions if edge else self.directions:
                skewed = -1.0 if direction in ("linear", "abs") else 0.0
                share = step / self.price_steps
                rows.append([1.0, share, 1.0, 0.0, _DIRECTIONS[direction], skewed, 0.0])
        return rows + [self._point(point, tail=True) for point in self.tails]

    def _point(self, point: PricePoint, tail: bool) -> list[float]:
        weight, by_range = (1.0 if point.weight is None else point.weight), 0.0
        if tail and point.weight is None and point.move != 0.0:
            weight, by_range = 0.0, self.tail_factor / abs(point.move)
        skewed = point.volatility in ("linear", "abs")
        direction = _DIRECTIONS[point.volatility]
        is_tail = float(tail and not skewed)
        return [1.0 + point.move, 0.0, weight, by_range, direction, -float(skewed), is_tail]

    def _singles(self) -> dict[int, float]:
        """Lay out the single numbers by their places."""
        discount = self.discounting or Discounting(at_rate=False)
        basis, roll = self.basis, self.roll or Roll(least=0.0, per_year=0.0)
        doubt, skew = self.confidence or Confidence(rate=0.0), self.skew
        shock = self.delta_shock or DeltaShock()
        floor = self.delta_floor or DeltaFloor(net=0.0, hedged=0.0)
        skewed = any(row[-2] < 0.0 for row in self.scenarios())
        by_expiry = self.discounting is not None or basis is not None or skewed
        own = [self.charges, *(a.charges for a in self.assets.values() if a.charges)]
        naked = any(c.option + c.option_extra > 0.0 for c in own)
        rolls = self.roll is not None or any(a.least_roll for a in self.assets.values())
        coins = [self.other_coins, *self.coins.values()]
        coin_rate = doubt.rate if doubt.coin_rate is None else doubt.coin_rate
        matter = coin_rate > 0.0 or any(c != CoinTerms() for c in coins)
        return {
            terms.IM_FACTOR: self.initial_factor,
            terms.MM_FACTOR: self.maintenance_ratio,
            terms.CHARGES_INSIDE: float(self.charges_inside),
            terms.POWER_NEAR: self.power_to_30_days,
            terms.POWER_FAR: self.power_beyond,
            terms.LEAST_DAYS: self.least_days,
            terms.VOL_ADDED: float(self.vol_in_points),
            terms.BY_EXPIRY: float(by_expiry),
            terms.ROLLED: float(rolls),
            terms.NAKED: float(naked),
            terms.TIME_DISCOUNT: float(discount.at_rate),
            terms.GAIN_BASE: discount.gain_factor,
            terms.GAIN_RATE: discount.gain_rate_multiple * float(self.discounting is not None),
            terms.GAIN_ADD: discount.gain_rate_add,
            terms.DEBT_BASE: discount.debt_factor,
            terms.DEBT_RATE: discount.debt_rate_multiple,
            terms.DEBT_ADD: discount.debt_rate_add,
            terms.BASIS_ADD: basis.add if basis else 0.0,
            terms.BASIS_PER_YEAR: basis.per_year if basis else 0.0,
            terms.LINEAR_CAP: skew.linear_cap,
            terms.LINEAR_SLOPE: skew.linear_slope,
            terms.ABS_CAP: skew.abs_cap,
            terms.ABS_SLOPE: skew.abs_slope,
            terms.LEAST_WIDTH: skew.least_width,
            terms.WIDTH: skew.width,
            terms.WIDTH_STATIC: skew.width_static,
            terms.WIDTH_SLOPE: skew.width_slope,
            terms.CLAMPED: float(self.clamped),
            terms.CONFIDENCE_FLOOR: doubt.below,
            terms.DOUBT_RATE: doubt.rate,
            terms.COIN_DOUBT_RATE: coin_rate,
            terms.ROLL_PER_YEAR: roll.per_year,
            terms.DELTA_FREE: shock.free,
            terms.DELTA_RATE: shock.rate,
            terms.DELTA_CAP: shock.cap,
            terms.NET_DELTA_FLOOR: floor.net,
            terms.HEDGED_DELTA_FLOOR: floor.hedged,
            terms.SHORT_MINIMUM: self.short_minimum,
            terms.CONTRACT_MINIMUM: self.contract_minimum,
            terms.FEE_RATE: self.fees,
            terms.OFFSET_BETWEEN: self.offset_between_assets,
            terms.COINS_MATTER: float(matter),
        }

    def _per_asset(self, assets: tuple[str, ...]) -> list[list[float]]:
        """Lay out every asset's numbers."""
        own_terms = per_asset(self.assets, OwnTerms(), assets, "assets")
        coin_terms = per_asset(self.coins, self.other_coins, assets, "coins")
        least_roll = self.roll.least if self.roll else 0.0
        rows = []
        for asset, own, coin in zip(assets, own_terms, coin_terms, strict=True):
            charges = own.charges or self.charges
            rows.append(
                [
                    _first(own.vol_up, self.vol_up),
                    _first(own.vol_down, self.vol_down),
                    _first(own.least_vol, self.least_vol),
                    charges.perpetual,
                    charges.perpetual_extra,
                    charges.option,
                    charges.option_extra,
                    coin.haircut,
                    coin.haircut_extra,
                    _driver(coin.moves_with, asset, assets),
                    _first(own.least_roll, least_roll),
                    _first(own.gain_counted, self.gain_counted),
                    _first(own.dampener, self.dampener),
                ]
            )
        return rows


def _first(own: float | None, general: float) -> float:
    return general if own is None else own


def _driver(moves_with: str | None, coin: str, assets: tuple[str, ...]) -> float:
    """Return the number of the asset that a coin moves with, -1 if with none of the market."""
    wanted = coin if moves_with == "itself" else moves_with
    return float(assets.index(wanted)) if wanted in assets else -1.0


def _trailing_funding(tape: MarketTape) -> np.ndarray:
    """Return the funding that a long paid over the last eight hours, ``(T, A)`` of notional."""
    total = np.vstack([np.zeros(tape.funding.shape[1]), np.cumsum(tape.funding, axis=0)])
    begin = np.searchsorted(tape.ts, tape.ts - _FUNDING_MS, side="right")
    return np.asarray(total[1:] - total[begin])
