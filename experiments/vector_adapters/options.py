"""Short options by formula: Deribit, Bybit and Opyn, one option at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.vector_adapters.base import MARGIN, Inputs, NotCoveredError, Number, answers
from experiments.vector_adapters.presets import ASSET, ask_preset

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers
    from strategies.portfolio import Ask


def _short(preset: str, options: dict[str, Any], index: float, **leg: Any) -> Ask:
    """Ask a preset for the margin of one option sold; nothing else is held."""
    if not leg["quantity"] <= 0.0:
        raise NotCoveredError("an amount to be sold must not be negative")
    knobs = {"options": {"short_options": options}} if options else {}
    return ask_preset(
        preset,
        knobs,
        assets={ASSET: {"index": index}},
        positions=[{"asset": ASSET, "kind": "option", **leg}],
    )


class _DeribitOption(Inputs):
    underlying: Number
    strike: Number
    mark: Number
    call: bool


@answers(MARGIN, _DeribitOption, "Deribit standard margin", "static_option_formula")
def _deribit_option(given: _DeribitOption) -> Answers:
    """Margin of one short option in dollars, its mark in coins included."""
    asked = _short(
        "preset:deribit-standard",
        {},
        given.underlying,
        quantity=-1.0,
        settles_in="coin",
        strike=given.strike,
        call=given.call,
        value=given.mark,
    )
    return {
        "IM": asked.initial_usd - asked.equity_usd,
        "MM": asked.maintenance_usd - asked.equity_usd,
    }


class _BybitOption(Inputs):
    index: Number
    mark: Number
    f: Number
    liq_fee: Number
    qty: Number


@answers(MARGIN, _BybitOption, "Bybit", "static_option_formula")
def _bybit_option(given: _BybitOption) -> Answers:
    """Maintenance margin of short options, mark and liquidation fee included."""
    rates = dict.fromkeys(("call", "put", "call_of_mark", "put_of_mark"), given.f)
    options = {f"maintenance_{of}": rate for of, rate in rates.items()}
    asked = _short(
        "preset:bybit",
        options | {"liquidation_fee": given.liq_fee},
        given.index,
        quantity=-abs(given.qty),
        strike=given.index,
        call=True,
        value=given.mark,
    )
    return {"MM": asked.maintenance_usd - asked.equity_usd}


class _OpynOption(Inputs):
    put: bool
    strike: Number
    spot: Number
    spot_shock: Number
    upper_bound: Number
    amount: Number


@answers(MARGIN, _OpynOption, "Opyn Gamma naked margin", "static_option_upper_bound")
def _opyn_option(given: _OpynOption) -> Answers:
    """Naked margin: of puts in dollars, of calls in coins.

    The case states no mark. What the venue holds covers the whole debt, so it is what an option
    that is worth nothing yet is asked for.
    """
    asked = _short(
        "preset:opyn-naked",
        {
            "spot_shock": given.spot_shock,
            "upper_bounds": [{"within": "1d", "share": given.upper_bound}],
            "max_loss": False,
        },
        given.spot,
        quantity=-given.amount,
        strike=given.strike,
        call=not given.put,
        value=0.0,
        expires_in="1d",
    )
    return {"margin": asked.initial_usd / (1.0 if given.put else given.spot)}
