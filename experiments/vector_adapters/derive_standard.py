"""Derive's standard manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.vector_adapters.base import MARGIN, Inputs, Number, answers
from strategies.formulas.derive_options import OptionLeg
from strategies.formulas.derive_standard import (
    StandardExpiry,
    StandardMarket,
    StandardParameters,
    market_margin,
)

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers


class Leg(Inputs):
    """An option position as Derive's older files write it."""

    K: Number
    call: bool
    qty: Number
    vol: Number

    def leg(self) -> OptionLeg:
        """Return it as the formulas take it."""
        return OptionLeg(self.K, self.call, self.qty, self.vol)


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
    base: Number
    expiries: list[_StandardExpiry]

    def market(self) -> StandardMarket:
        expiries = [
            StandardExpiry(e.sec, e.fwd, e.conf, tuple(o.leg() for o in e.options))
            for e in self.expiries
        ]
        return StandardMarket(
            self.spot, self.spot_conf, self.perp_conf, self.perp, self.perp_price,
            self.perp_unrealised, self.base, tuple(expiries),
        )  # fmt: skip


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
    """Net margins of all markets, with the account's cash."""
    parameters = StandardParameters(**given.params.model_dump())
    margins = {
        name: given.cash
        + sum(market_margin(m.market(), given.stable, initial, parameters) for m in given.markets)
        for name, initial in (("IM", True), ("MM", False))
    }
    return dict(margins)
