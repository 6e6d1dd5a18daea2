"""Derive's portfolio margin, first and second form, read literally: the kernel's slow twin.

Results are *net* margins, value minus requirement, as `PMRMLib.sol` and `PMRMLib_2.sol` of
derivexyz/v2-core write them: account by account, expiry by expiry, scenario by scenario.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.strategies.derive_options_literal import (
    YEAR_S,
    OptionLeg,
    leg_value,
    naked_shorts,
    volatility_stretch,
)

DAY_S = 86_400.0
UP, NONE, DOWN, LINEAR, ABS = "up", "none", "down", "linear", "abs"


class Scenario(NamedTuple):
    """Factor on spot, direction of volatility, and the share of the profit that counts."""

    move: float
    direction: str
    damping: float = 1.0


class PortfolioExpiry(NamedTuple):
    """Options that expire together; part of the forward may be fixed already."""

    seconds: float
    forward_fixed: float
    forward_variable: float
    rate: float
    confidence: float
    legs: tuple[OptionLeg, ...]


class Collateral(NamedTuple):
    """Value of a coin beside the portfolio, and what is taken from it."""

    value: float
    confidence: float
    cancels_risk: bool
    mm_haircut: float
    im_haircut: float


class Account(NamedTuple):
    """One portfolio; ``perp_value`` is unrealised profit and funding."""

    cash: float
    spot: float
    spot_confidence: float
    stable: float
    perp: float
    perp_price: float
    perp_confidence: float
    perp_value: float
    base: float
    collateral: tuple[Collateral, ...]
    expiries: tuple[PortfolioExpiry, ...]


class Discounts(NamedTuple):
    """Factors on the value of an expiry: of time, on a gain and on a debt."""

    time: float
    gain: float
    debt: float


def discounts(expiry: PortfolioExpiry, given: Any) -> Discounts:
    """Return the factors on an expiry's value under a parameter set of either form."""
    years = expiry.seconds / YEAR_S
    rate = max(expiry.rate, 0.0)
    if not hasattr(given, "short_rate_add"):
        gain = given.static_disc * math.exp(-years * (rate * given.rate_mult + given.rate_add))
        return Discounts(1.0, gain, 1.0)
    time = math.exp(-rate * years)
    gain = math.exp(-years * (rate * given.long_rate_mult + given.long_rate_add))
    debt = math.exp(years * (rate * given.short_rate_mult + given.short_rate_add))
    return Discounts(
        time,
        given.long_static_discount * gain,
        min(1.0 / time, given.short_static_discount * debt),
    )


def expiry_value(expiry: PortfolioExpiry, scenario: Scenario, given: Any) -> float:
    """Return what an expiry is worth under a scenario, undiscounted."""
    forward = expiry.forward_variable * scenario.move + expiry.forward_fixed
    stretch = volatility_stretch(
        expiry.seconds, given.dte_floor_days * DAY_S, given.short_power, given.long_power
    )
    total = 0.0
    for leg in expiry.legs:
        volatility = leg.volatility
        if scenario.direction == UP:
            volatility = max(volatility * (1.0 + given.vol_up * stretch), given.min_vol_up)
        elif scenario.direction == DOWN:
            volatility *= max(1.0 - given.vol_down * stretch, 0.0)
        elif scenario.direction in (LINEAR, ABS):
            volatility *= _skew(leg.strike / forward, expiry.seconds, scenario.direction, given)
        total += leg_value(leg, forward, volatility, expiry.seconds)
    return total


def _skew(moneyness: float, seconds: float, direction: str, given: Any) -> float:
    """Factor on the volatility of a strike when the wings of the surface rise."""
    skew: Any = given.skew
    root = math.sqrt(seconds / YEAR_S)
    linear = direction == LINEAR
    slope, cap = (skew.linear_slope, skew.linear_cap) if linear else (skew.abs_slope, skew.abs_cap)
    cap += slope * root
    flat_beyond: float = root * skew.width * (skew.vol_static + root * skew.vol_scale)
    flat_beyond = max(float(skew.min_k_star), flat_beyond)
    k = math.log(moneyness) if linear else abs(math.log(moneyness))
    tilt = k * cap / flat_beyond
    return float(max(1.0 + (min(cap, tilt) if k >= 0.0 else max(-cap, tilt)), 0.0))


def scenario_profit(account: Account, scenario: Scenario, given: Any) -> float:
    """Return the profit of a portfolio under a scenario, against its present mark."""
    profit = account.perp * account.perp_price * (scenario.move - 1.0)
    profit += account.base * account.spot / account.stable * (scenario.move - 1.0)
    profit += sum(c.value * (scenario.move - 1.0) for c in account.collateral if c.cancels_risk)
    skewed = scenario.direction in (LINEAR, ABS)
    for expiry in account.expiries:
        factors = discounts(expiry, given)
        shocked = factors.time * expiry_value(expiry, scenario, given)
        shocked *= factors.gain if shocked >= 0.0 else factors.debt
        moved = shocked - marked(expiry, given)
        # The surface may turn either way: in a skew scenario every expiry loses.
        profit += -abs(moved) if skewed else moved
    return profit * scenario.damping


def marked(expiry: PortfolioExpiry, given: Any) -> float:
    """Return the present value of an expiry."""
    present = expiry_value(expiry, Scenario(1.0, NONE), given)
    return discounts(expiry, given).time * present


def basis_contingency(account: Account, given: Any) -> float:
    """Return the charge for forwards that move apart: a share of each expiry's worse move."""
    total = 0.0
    for expiry in account.expiries:
        time, present = discounts(expiry, given).time, marked(expiry, given)
        moved = [
            time * expiry_value(expiry, Scenario(move, NONE), given) - present
            for move in (given.basis_up, given.basis_down)
        ]
        share = given.basis_add + given.basis_mult * expiry.seconds / YEAR_S
        total += min(*moved, 0.0) * share
    return total


def confidence_contingency(account: Account, given: Any) -> float:
    """Return the charge of initial margin for oracles that are not sure of their price."""

    def doubt(confidence: float) -> float:
        low = confidence < given.conf_threshold
        return (1.0 - confidence) * given.conf_margin if low else 0.0

    sure = account.spot_confidence
    if account.perp != 0.0:
        sure = min(sure, account.perp_confidence)
    total = doubt(sure) * (abs(account.perp) + account.base) * account.spot
    for expiry in account.expiries:
        held = sum(abs(leg.quantity) for leg in expiry.legs)
        total += doubt(min(sure, expiry.confidence)) * held * account.spot
    spot = account.spot_confidence
    return total + sum(doubt(min(c.confidence, spot)) * c.value for c in account.collateral)


def portfolio_value(account: Account, given: Any) -> float:
    """Return cash, marked options, unrealised profit and collateral together."""
    total = account.cash + account.perp_value + account.base * account.spot / account.stable
    total += sum(marked(expiry, given) for expiry in account.expiries)
    return total + sum(c.value for c in account.collateral)


def shorts_notional(account: Account) -> float:
    """Return the notional of options sold and not bought at the same strike and expiry."""
    return account.spot * sum(naked_shorts(expiry.legs) for expiry in account.expiries)


def first_form(account: Account, profits: list[float], given: Any) -> tuple[float, float]:
    """Return initial and maintenance margin of the first form from the scenarios' profits."""
    worst = min(*profits, basis_contingency(account, given))
    charges = abs(account.perp) * given.perp_pct + account.base * given.base_pct
    worst -= charges * account.spot + given.opt_pct * shorts_notional(account)
    peg = max(given.peg_threshold - account.stable, 0.0) * given.peg_factor
    value = portfolio_value(account, given)
    initial = worst * (given.im_factor + peg) - confidence_contingency(account, given)
    return initial + value, worst + value


def second_form(account: Account, profits: list[float], given: Any) -> tuple[float, float]:
    """Return initial and maintenance margin of the second form from the scenarios' profits."""
    worst = min(*profits, basis_contingency(account, given))
    perp_notional = abs(account.perp) * account.spot
    shorts = shorts_notional(account)
    kept = perp_notional * given.mm_perp + shorts * given.mm_option
    kept += sum(c.value * c.mm_haircut for c in account.collateral)
    extra = perp_notional * given.im_perp_extra + shorts * given.im_option_extra
    extra += sum(c.value * c.im_haircut for c in account.collateral)
    extra += confidence_contingency(account, given)
    peg = max(given.peg_threshold - account.stable, 0.0) * given.peg_factor
    value = portfolio_value(account, given)
    initial = worst * (given.im_loss_factor + peg) - extra - kept
    return initial + value, worst * given.mm_loss_factor - kept + value


def _random_options(draws: Any, forward: float) -> list[dict[str, Any]]:
    """Draw options whose strikes coincide now and then."""
    return [
        {
            "strike": forward * float(draws.choice([0.6, 0.8, 1.0, 1.2, 1.7])),
            "call": bool(draws.random() < 0.5),
            "qty": float(draws.normal(0.0, 5.0)),
            "vol": float(draws.uniform(0.05, 2.5)),
        }
        for _ in range(int(draws.integers(0, 7)))
    ]


def random_second_inputs(draws: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Draw an account of the second form as its cases are published."""
    spot = float(draws.uniform(500.0, 1e5))
    perp = float(draws.choice([0.0, draws.normal(0.0, 3.0)]))
    expiries = []
    for _ in range(int(draws.integers(0, 9))):
        forward = spot * float(draws.uniform(0.9, 1.2))
        seconds = draws.choice([draws.uniform(1.0, 1800.0), draws.uniform(1800.0, 5e7)])
        expiries.append(
            {
                "seconds": float(seconds),
                "forward": forward,
                "rate": float(draws.uniform(-0.2, 0.4)),
                "options": _random_options(draws, forward),
            }
            | {
                f"{name}_conf": float(draws.uniform(0.3, 1.0))
                for name in ("forward", "rate", "vol")
            }
        )
    coins = [
        {
            "name": f"coin {k}",
            "qty": float(draws.uniform(0.0, 4.0)),
            "price": spot * float(draws.uniform(0.2, 2.0)),
            "conf": float(draws.uniform(0.3, 1.0)),
            "cancels_risk": bool(draws.random() < 0.5),
            "mm_haircut": float(draws.uniform(0.0, 0.4)),
            "im_haircut": float(draws.uniform(0.0, 0.2)),
        }
        for k in range(int(draws.integers(0, 4)))
    ]
    return {
        "cash": float(draws.normal(0.0, 1e5)),
        "spot": spot,
        "spot_conf": float(draws.uniform(0.3, 1.0)),
        "stable": float(draws.choice([1.0, draws.uniform(0.7, 1.02)])),
        "perp": {
            "qty": perp,
            "price": spot * float(draws.uniform(0.97, 1.03)),
            "conf": float(draws.uniform(0.3, 1.0)),
            "unrealised_pnl": float(draws.normal(0.0, 1e3)),
            "unrealised_funding": float(draws.normal(0.0, 10.0)),
        },
        "collateral": coins,
        "expiries": expiries,
        "params": params,
    }


def read_second(inputs: dict[str, Any]) -> tuple[float, float]:
    """Return net initial and maintenance margin of the second form, from published inputs."""
    given, perp, stable = _as_object(inputs["params"]), inputs["perp"], inputs["stable"]
    expiries = []
    for e in inputs["expiries"]:
        fixed = e["forward"] * max(1800.0 - e["seconds"], 0.0) / 1800.0
        sure = min(e["forward_conf"], e["rate_conf"], e["vol_conf"])
        legs = tuple(OptionLeg(o["strike"], o["call"], o["qty"], o["vol"]) for o in e["options"])
        rest = e["forward"] - fixed
        expiries.append(PortfolioExpiry(e["seconds"], fixed, rest, e["rate"], sure, legs))
    coins = tuple(
        Collateral(
            c["qty"] * c["price"] / stable, c["conf"], c["cancels_risk"], c["mm_haircut"],
            c["im_haircut"],
        )
        for c in inputs["collateral"]
    )  # fmt: skip
    account = Account(
        inputs["cash"], inputs["spot"], inputs["spot_conf"], stable, perp["qty"], perp["price"],
        perp["conf"], perp["unrealised_pnl"] + perp["unrealised_funding"], 0.0, coins,
        tuple(expiries),
    )  # fmt: skip
    names = {"Up": UP, "None": NONE, "Down": DOWN, "LINEAR": LINEAR, "ABS": ABS}
    grid = [Scenario(move, names[kind], damp) for move, kind, damp in inputs["params"]["scenarios"]]
    return second_form(account, [scenario_profit(account, s, given) for s in grid], given)


def random_first_inputs(draws: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Draw an account of the first form as its cases are published."""
    spot = float(draws.uniform(500.0, 1e5))
    expiries = []
    for _ in range(int(draws.integers(0, 9))):
        forward, settled = spot * float(draws.uniform(0.9, 1.2)), float(draws.uniform(0.0, 0.99))
        settled = settled if draws.random() < 0.3 else 0.0
        options = [
            {"K": o["strike"], "call": o["call"], "qty": o["qty"], "vol": o["vol"]}
            for o in _random_options(draws, forward)
        ]
        expiries.append(
            {
                "sec": float(draws.uniform(1.0, 5e7)),
                "fwd_fixed": settled * forward,
                "fwd_var": (1.0 - settled) * forward,
                "rate": float(draws.uniform(-0.2, 0.4)),
                "conf": float(draws.uniform(0.3, 1.0)),
                "options": options,
            }
        )
    return {
        "cash": float(draws.normal(0.0, 1e5)),
        "spot": spot,
        "spot_conf": float(draws.uniform(0.3, 1.0)),
        "stable": float(draws.choice([1.0, draws.uniform(0.7, 1.02)])),
        "perp": float(draws.choice([0.0, draws.normal(0.0, 3.0)])),
        "perp_price": spot * float(draws.uniform(0.97, 1.03)),
        "perp_conf": float(draws.uniform(0.3, 1.0)),
        "cash_excluded_mtm_perp": float(draws.normal(0.0, 1e3)),
        "base": float(draws.uniform(0.0, 4.0)),
        "expiries": expiries,
        "params": params,
    }


def read_first(inputs: dict[str, Any]) -> tuple[float, float]:
    """Return net initial and maintenance margin of the first form, from published inputs."""
    params = inputs["params"]
    given = _as_object(
        params | {ours: params[theirs] for ours, theirs in _LONGER.items()} | {"min_vol_up": 0.0}
    )
    expiries = tuple(
        PortfolioExpiry(
            e["sec"], e["fwd_fixed"], e["fwd_var"], e["rate"], e["conf"],
            tuple(OptionLeg(o["K"], o["call"], o["qty"], o["vol"]) for o in e["options"]),
        )
        for e in inputs["expiries"]
    )  # fmt: skip
    account = Account(
        inputs["cash"], inputs["spot"], inputs["spot_conf"], inputs["stable"], inputs["perp"],
        inputs["perp_price"], inputs["perp_conf"], inputs["cash_excluded_mtm_perp"],
        inputs["base"], (), expiries,
    )  # fmt: skip
    names = {"U": UP, "N": NONE, "D": DOWN}
    grid = [Scenario(move, names[kind]) for move, kind in params["scenarios"]]
    return first_form(account, [scenario_profit(account, s, given) for s in grid], given)


_LONGER = {
    "basis_down": "basis_dn",
    "vol_down": "vol_dn",
    "short_power": "short_pow",
    "long_power": "long_pow",
}


def _as_object(params: dict[str, Any]) -> Any:
    return SimpleNamespace(
        **{k: SimpleNamespace(**v) if isinstance(v, dict) else v for k, v in params.items()}
    )
