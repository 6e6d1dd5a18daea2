"""Both forms of Derive's portfolio margin."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.derive_standard import Leg
from strategies.formulas.derive_options import OptionLeg
from strategies.formulas.derive_portfolio import (
    ABS,
    DOWN,
    LINEAR,
    NONE,
    UP,
    Account,
    Collateral,
    PortfolioExpiry,
    Scenario,
    basis_contingency,
    first_form,
    scenario_profit,
    second_form,
)

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

SETTLEMENT_WINDOW_S = 1800.0
"""Derive's settlement price is the average of this long before expiry."""
_DIRECTIONS = {
    "U": UP, "N": NONE, "D": DOWN, "Up": UP, "None": NONE, "Down": DOWN, "LINEAR": LINEAR,
    "ABS": ABS,
}  # fmt: skip


class _FirstExpiry(Inputs):
    sec: Number
    fwd_fixed: Number
    fwd_var: Number
    rate: Number
    conf: Number
    options: list[Leg]


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

    min_vol_up: ClassVar[float] = 0.0
    """The first form has no floor on a volatility that was shocked up."""


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
    g, rules = given, given.params
    expiries = [
        PortfolioExpiry(
            e.sec,
            e.fwd_fixed,
            e.fwd_var,
            e.rate,
            e.conf,
            tuple(OptionLeg(o.K, o.call, o.qty, o.vol) for o in e.options),
        )
        for e in g.expiries
    ]
    account = Account(
        g.cash, g.spot, g.spot_conf, g.stable, g.perp, g.perp_price, g.perp_conf,
        g.cash_excluded_mtm_perp, g.base, (), tuple(expiries),
    )  # fmt: skip
    scenarios = [Scenario(move, _DIRECTIONS[direction]) for move, direction in rules.scenarios]
    profits = [scenario_profit(account, scenario, rules) for scenario in scenarios]
    initial, maintenance = first_form(account, profits, rules)
    return {"IM": initial, "MM": maintenance}


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

    def expiry(self) -> PortfolioExpiry:
        fixed = 0.0
        if self.seconds < SETTLEMENT_WINDOW_S:
            fixed = self.forward * (SETTLEMENT_WINDOW_S - self.seconds) / SETTLEMENT_WINDOW_S
        sure = min(self.forward_conf, self.rate_conf, self.vol_conf)
        legs = tuple(OptionLeg(o.strike, o.call, o.qty, o.vol) for o in self.options)
        return PortfolioExpiry(self.seconds, fixed, self.forward - fixed, self.rate, sure, legs)


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
    g, rules = given, given.params
    coins = [
        Collateral(c.qty * c.price / g.stable, c.conf, c.cancels_risk, c.mm_haircut, c.im_haircut)
        for c in g.collateral
    ]
    account = Account(
        g.cash, g.spot, g.spot_conf, g.stable, g.perp.qty, g.perp.price, g.perp.conf,
        g.perp.unrealised_pnl + g.perp.unrealised_funding, 0.0, tuple(coins),
        tuple(e.expiry() for e in g.expiries),
    )  # fmt: skip
    kinds: dict[str, list[float]] = {"regular": [], "tail": [], "skew": []}
    for move, direction, damping in rules.scenarios:
        scenario = Scenario(move, _DIRECTIONS[direction], damping)
        kind = "regular" if damping == 1.0 else "tail"
        kind = "skew" if scenario.direction in (LINEAR, ABS) else kind
        kinds[kind].append(scenario_profit(account, scenario, rules))
    if not any(kinds.values()):
        raise NotCoveredError("params.scenarios: is empty")
    initial, maintenance = second_form(account, [*chain(*kinds.values())], rules)
    found: Answers = {"IM": initial, "MM": maintenance}
    found["basis_contingency"] = basis_contingency(account, rules)
    return found | {f"worst_{kind}_loss": min(p) for kind, p in kinds.items() if p}
