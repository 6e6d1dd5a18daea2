"""Both forms of Derive's portfolio margin, through their presets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from backtest.units import MS_PER_SECOND, years
from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.portfolios import preset, revalued_leg, scenario_profits
from strategies.portfolio import AssetState, Leg, Portfolio, ask

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers
    from strategies.contract import MarginPolicy

SETTLEMENT_WINDOW_S = 1800.0
"""Derive's settlement price is the average of this long before expiry."""
SPOT, STABLE = "SPOT", "STABLE"
"""The case's underlying and its settlement coin, as assets of a portfolio."""
_DIRECTIONS = {"U": "up", "N": "none", "D": "down"}
_SKEW = {"least_width": "min_k_star", "width_static": "vol_static", "width_slope": "vol_scale"}


class _FirstOption(Inputs):
    K: Number
    call: bool
    qty: Number
    vol: Number


class _FirstExpiry(Inputs):
    sec: Number
    fwd_fixed: Number
    fwd_var: Number
    rate: Number
    conf: Number
    options: list[_FirstOption]


class _FirstParameters(Inputs):
    scenarios: list[tuple[Number, Literal["U", "N", "D"]]]
    basis_up: Number
    basis_down: Number = Field(alias="basis_dn")
    basis_add: Number
    basis_mult: Number
    peg_threshold: Number
    peg_factor: Number
    conf_threshold: Number
    conf_margin: Number
    base_pct: Number
    perp_pct: Number
    opt_pct: Number
    im_factor: Number
    static_disc: Number
    rate_mult: Number
    rate_add: Number
    vol_up: Number
    vol_down: Number = Field(alias="vol_dn")
    short_power: Number = Field(alias="short_pow")
    long_power: Number = Field(alias="long_pow")
    dte_floor_days: Number

    def policy(self, stable: float) -> MarginPolicy:
        """Return the preset with the case's numbers, coins being worth spot over ``stable``."""
        points = [
            {"move": move - 1.0, "volatility": _DIRECTIONS[direction]}
            for move, direction in self.scenarios
        ]
        return preset(
            "derive-pmrm",
            assets={},
            points=points,
            vol_up=self.vol_up,
            vol_down=self.vol_down,
            power_to_30_days=self.short_power,
            power_beyond=self.long_power,
            least_days=self.dte_floor_days,
            initial_factor=self.im_factor,
            charges={"perpetual": self.perp_pct, "option": self.opt_pct},
            discounting={
                "at_rate": False,
                "gain_factor": self.static_disc,
                "gain_rate_multiple": self.rate_mult,
                "gain_rate_add": self.rate_add,
            },
            basis=_basis(self.basis_up, self.basis_down, self.basis_add, self.basis_mult),
            # Coins are charged on their price in dollars, not in the settlement coin.
            confidence={
                "below": self.conf_threshold,
                "rate": self.conf_margin,
                "coin_rate": self.conf_margin * stable,
            },
            peg={"coin": STABLE, "below": self.peg_threshold, "factor": self.peg_factor},
            coins={"COIN": {"moves_with": SPOT, "haircut": self.base_pct * stable}},
        )


class _FirstAccount(Inputs):
    cash: Number
    spot: Number
    spot_conf: Number
    stable: Number
    perp: Number
    perp_price: Number
    perp_conf: Number
    cash_excluded_mtm_perp: Number
    base: Number
    expiries: list[_FirstExpiry]
    params: _FirstParameters


@answers(MARGIN, _FirstAccount, "Derive PMRM v1", "scenario_grid_portfolio_margin")
def _first_account(given: _FirstAccount) -> Answers:
    """Net margins of the first form."""
    g = given
    sure = min(g.spot_conf, g.perp_conf) if g.perp != 0.0 else g.spot_conf
    legs = _perpetual(g.perp, g.perp_conf)
    for e in g.expiries:
        forward = e.fwd_fixed + e.fwd_var
        legs += [
            revalued_leg(
                asset=SPOT,
                kind="option",
                quantity=o.qty,
                strike=o.K,
                call=o.call,
                iv=o.vol,
                expires_in=e.sec * MS_PER_SECOND,
                forward=forward,
                settled=e.fwd_fixed / forward,
                rate=e.rate,
                confidence=e.conf,
            )
            for o in e.options
        ]
    held = Portfolio(
        assets={
            SPOT: _spot(g.spot, g.spot_conf, g.perp_price if g.perp != 0.0 else None),
            "COIN": AssetState(index=g.spot / g.stable, confidence=sure),
            STABLE: AssetState(index=g.stable),
        },
        cash_usd=g.cash + g.cash_excluded_mtm_perp - g.perp * g.perp_price,
        coins={"COIN": g.base},
        positions=tuple(legs),
    )
    asked = ask(g.params.policy(g.stable), held)
    return {
        "IM": asked.equity_usd - asked.initial_usd,
        "MM": asked.equity_usd - asked.maintenance_usd,
    }


def _basis(up: float, down: float, add: float, per_year: float) -> dict[str, float]:
    return {"up": up - 1.0, "down": down - 1.0, "add": add, "per_year": per_year}


def _spot(index: float, confidence: float, mark: float | None) -> AssetState:
    return AssetState(index=index, mark=mark, confidence=confidence)


def _perpetual(quantity: float, confidence: float) -> list[Leg]:
    """Return a perpetual of one coin, if any is held."""
    if quantity == 0.0:
        return []
    return [Leg(asset=SPOT, quantity=quantity, confidence=confidence)]


class _Perp(Inputs):
    qty: Number
    price: Number
    conf: Number
    unrealised_pnl: Number
    unrealised_funding: Number


class _Collateral(Inputs):
    name: str
    qty: Number
    price: Number
    conf: Number
    cancels_risk: bool
    mm_haircut: Number
    im_haircut: Number


class _Option(Inputs):
    strike: Number
    call: bool
    qty: Number
    vol: Number


class _SecondExpiry(Inputs):
    seconds: Number
    forward: Number
    forward_conf: Number
    rate: Number
    rate_conf: Number
    vol_conf: Number
    options: list[_Option]

    def legs(self) -> list[Leg]:
        """Return the options, each worth its discounted price."""
        settled = 0.0
        if self.seconds < SETTLEMENT_WINDOW_S:
            settled = (SETTLEMENT_WINDOW_S - self.seconds) / SETTLEMENT_WINDOW_S
        ms = self.seconds * MS_PER_SECOND
        return [
            revalued_leg(
                discount=math.exp(-max(self.rate, 0.0) * years(ms)),
                asset=SPOT,
                kind="option",
                quantity=o.qty,
                strike=o.strike,
                call=o.call,
                iv=o.vol,
                expires_in=ms,
                forward=self.forward,
                settled=settled,
                rate=self.rate,
                confidence=min(self.forward_conf, self.rate_conf, self.vol_conf),
            )
            for o in self.options
        ]


class _Skew(Inputs):
    linear_cap: Number
    linear_slope: Number
    abs_cap: Number
    abs_slope: Number
    min_k_star: Number
    width: Number
    vol_static: Number
    vol_scale: Number


class _SecondParameters(Inputs):
    scenarios: list[tuple[Number, Literal["Up", "None", "Down", "LINEAR", "ABS"], Number]]
    im_loss_factor: Number
    mm_loss_factor: Number
    short_rate_mult: Number
    long_rate_mult: Number
    short_rate_add: Number
    long_rate_add: Number
    long_static_discount: Number
    short_static_discount: Number
    vol_up: Number
    vol_down: Number
    min_vol_up: Number
    short_power: Number
    long_power: Number
    dte_floor_days: Number
    basis_up: Number
    basis_down: Number
    basis_add: Number
    basis_mult: Number
    peg_threshold: Number
    peg_factor: Number
    conf_threshold: Number
    conf_margin: Number
    mm_perp: Number
    im_perp_extra: Number
    mm_option: Number
    im_option_extra: Number
    skew: _Skew

    def policy(self, coins: dict[str, Any]) -> MarginPolicy:
        """Return the preset with the case's numbers."""
        points = [
            {"move": move - 1.0, "volatility": direction.lower(), "weight": damping}
            for move, direction, damping in self.scenarios
        ]
        skew = self.skew.model_dump()
        for ours, theirs in _SKEW.items():
            skew[ours] = skew.pop(theirs)
        return preset(
            "derive-pmrm2",
            assets={},
            points=points,
            vol_up=self.vol_up,
            vol_down=self.vol_down,
            least_vol=self.min_vol_up,
            power_to_30_days=self.short_power,
            power_beyond=self.long_power,
            least_days=self.dte_floor_days,
            initial_factor=self.im_loss_factor,
            maintenance_ratio=self.mm_loss_factor,
            charges={
                "perpetual": self.mm_perp,
                "perpetual_extra": self.im_perp_extra,
                "option": self.mm_option,
                "option_extra": self.im_option_extra,
            },
            discounting={
                "gain_factor": self.long_static_discount,
                "gain_rate_multiple": self.long_rate_mult,
                "gain_rate_add": self.long_rate_add,
                "debt_factor": self.short_static_discount,
                "debt_rate_multiple": self.short_rate_mult,
                "debt_rate_add": self.short_rate_add,
            },
            basis=_basis(self.basis_up, self.basis_down, self.basis_add, self.basis_mult),
            skew=skew,
            confidence={"below": self.conf_threshold, "rate": self.conf_margin},
            peg={"coin": STABLE, "below": self.peg_threshold, "factor": self.peg_factor},
            coins=coins,
        )


class _SecondAccount(Inputs):
    cash: Number
    spot: Number
    spot_conf: Number
    stable: Number
    perp: _Perp
    collateral: list[_Collateral]
    expiries: list[_SecondExpiry]
    params: _SecondParameters


@answers(MARGIN, _SecondAccount, "Derive PMRM_2", "scenario_grid_portfolio_margin")
def _second_account(given: _SecondAccount) -> Answers:
    """Net margins of the second form, and the worst profit of each kind of scenario."""
    g, perp = given, given.perp
    coins = {f"COIN{k}": coin for k, coin in enumerate(g.collateral) if coin.qty * coin.price}
    coin_terms = {
        name: {
            "moves_with": SPOT if coin.cancels_risk else None,
            "haircut": coin.mm_haircut,
            "haircut_extra": coin.im_haircut,
        }
        for name, coin in coins.items()
    }
    held = Portfolio(
        assets={
            SPOT: _spot(g.spot, g.spot_conf, perp.price if perp.qty != 0.0 else None),
            STABLE: AssetState(index=g.stable),
        }
        | {
            name: AssetState(index=coin.price / g.stable, confidence=min(coin.conf, g.spot_conf))
            for name, coin in coins.items()
        },
        cash_usd=g.cash + perp.unrealised_pnl + perp.unrealised_funding - perp.qty * perp.price,
        coins={name: coin.qty for name, coin in coins.items()},
        positions=(
            *_perpetual(perp.qty, perp.conf),
            *(leg for expiry in g.expiries for leg in expiry.legs()),
        ),
    )
    if not g.params.scenarios:
        raise NotCoveredError("params.scenarios: is empty")
    rules = g.params.policy(coin_terms)
    asked, parts = ask(rules, held), scenario_profits(rules, held)
    kinds: dict[str, list[float]] = {}
    profits = parts.scans.get(0, [0.0] * len(g.params.scenarios))
    for (_, direction, damping), profit in zip(g.params.scenarios, profits, strict=False):
        kind = "regular" if damping == 1.0 else "tail"
        kinds.setdefault("skew" if direction in ("LINEAR", "ABS") else kind, []).append(profit)
    return {
        "IM": asked.equity_usd - asked.initial_usd,
        "MM": asked.equity_usd - asked.maintenance_usd,
        "basis_contingency": -parts.basis_usd,
    } | {f"worst_{kind}_loss": min(profit) for kind, profit in kinds.items()}
