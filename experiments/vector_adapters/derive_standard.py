"""Derive's standard manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from backtest.kernels.black76 import black76
from backtest.units import MS_PER_YEAR
from experiments.vector_adapters.base import MARGIN, Inputs, Number, answers
from experiments.vector_adapters.presets import ask_preset

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers

STABLE = "the settlement coin"
"""How the asset is called whose price is watched against its peg."""


class Leg(Inputs):
    """An option position as Derive's older files write it."""

    K: Number
    call: bool
    qty: Number
    vol: Number


class _StandardExpiry(Inputs):
    sec: Number
    fwd: Number
    conf: Number
    options: list[Leg]


class _StandardMarket(Inputs):
    name: str
    spot: Number
    spot_conf: Number
    perp_conf: Number
    perp: Number
    perp_price: Number
    perp_unrealised: Number
    base: Number = Field(ge=0.0)
    expiries: list[_StandardExpiry]


class _StandardParameters(Inputs):
    max_req: Number
    min_req: Number
    mm_call: Number
    mm_put: Number
    mm_put_mtm: Number
    unpaired_im: Number
    unpaired_mm: Number
    mm_offset: Number
    perp_mm: Number
    perp_im: Number
    conf_threshold: Number
    oc_factor: Number
    base_factor: Number
    base_im_scale: Number
    depeg_threshold: Number
    depeg_factor: Number


class _StandardAccount(Inputs):
    cash: Number
    stable: Number
    markets: list[_StandardMarket]
    params: _StandardParameters


@answers(MARGIN, _StandardAccount, "Derive Standard manager", "static_isolated_with_max_loss")
def _standard_account(given: _StandardAccount) -> Answers:
    """Net margins of an account: its whole equity less what the preset asks."""
    # Two markets of one name are two markets.
    named = {f"{market.name} {k}": market for k, market in enumerate(given.markets)}
    asked = ask_preset(
        "preset:derive-standard",
        _knobs(given.params),
        assets={STABLE: {"index": given.stable}}
        | {
            name: {
                "index": m.spot,
                "mark": m.perp_price if m.perp else None,
                "confidence": m.spot_conf,
            }
            for name, m in named.items()
        },
        # Equity counts a perpetual with all of its price; what it was bought for is owed.
        cash_usd=given.cash
        + sum(m.perp_unrealised - m.perp * m.perp_price for m in given.markets if m.perp),
        coins={name: m.base for name, m in named.items()},
        positions=[leg for name, market in named.items() for leg in _legs(name, market)],
    )
    return {
        "IM": asked.equity_usd - asked.initial_usd,
        "MM": asked.equity_usd - asked.maintenance_usd,
    }


def _knobs(given: _StandardParameters) -> dict[str, Any]:
    """Write a case's parameters as the preset's."""
    options = {
        "initial": given.max_req,
        "initial_floor": given.min_req,
        "maintenance_call": given.mm_call,
        "maintenance_put": given.mm_put,
        "maintenance_put_of_mark": given.mm_put_mtm,
        "put_initial_over_maintenance": given.mm_offset,
        "max_loss": True,
        "unpaired_initial": given.unpaired_im,
        "unpaired_maintenance": given.unpaired_mm,
    }
    haircuts = {
        "initial": 1.0 - given.base_factor * given.base_im_scale,
        "maintenance": 1.0 - given.base_factor,
    }
    peg = {"threshold": given.depeg_threshold, "factor": given.depeg_factor}
    doubt = {"threshold": given.conf_threshold, "factor": given.oc_factor}
    return {
        "brackets": [{"initial": given.perp_im, "maintenance": given.perp_mm}],
        "options": {"short_options": options},
        "addons": [
            {"collateral": haircuts},
            {"oracle_confidence": doubt},
            {"de_peg": {"stable": STABLE, **peg}},
        ],
    }


def _legs(name: str, market: _StandardMarket) -> list[dict[str, Any]]:
    legs: list[dict[str, Any]] = []
    if market.perp:
        legs.append({"asset": name, "quantity": market.perp, "confidence": market.perp_conf})
    for expiry in market.expiries:
        years = 1e3 * expiry.sec / MS_PER_YEAR
        for option in expiry.options:
            terms = expiry.fwd, option.K, option.vol, years, float(option.call)
            legs.append(
                {
                    "asset": name,
                    "kind": "option",
                    "quantity": option.qty,
                    "strike": option.K,
                    "call": option.call,
                    "expires_in": f"{expiry.sec}s",
                    "forward": expiry.fwd,
                    "value": float(black76(*terms)),
                    "confidence": expiry.conf,
                }
            )
    return legs
