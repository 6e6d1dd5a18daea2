"""A published case put before a preset: the policy that users load, and its real kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from backtest.errors import RemarginError
from experiments.vector_adapters.base import NotCoveredError
from strategies.portfolio import Ask, Portfolio, ask
from strategies.registry import policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ASSET = "CASE"
"""How the only asset of a case is called."""


def ask_preset(name: str, knobs: Mapping[str, Any], **portfolio: Any) -> Ask:
    """Ask a preset, with a case's own parameters, for the margin of a case's portfolio.

    Parameters
    ----------
    name
        Of the policy or preset.
    knobs
        Parameters that the case states.
    **portfolio
        Fields of `strategies.portfolio.Portfolio`.

    Raises
    ------
    NotCoveredError
        If the policy admits no such parameters, or there is no such market.
    """
    try:
        return ask(policy(name, **knobs), Portfolio.model_validate(portfolio))
    except RemarginError as error:
        raise NotCoveredError(str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise NotCoveredError(f"{place}: {first['msg'].lower()}") from None


def ask_position(
    name: str, knobs: Mapping[str, Any], coins: float, price: float, **portfolio: Any
) -> Ask:
    """Ask a preset for the margin of one linear perpetual at a price."""
    return ask_positions(name, knobs, [(ASSET, coins, price)], **portfolio)


def ask_positions(
    name: str,
    knobs: Mapping[str, Any],
    positions: Sequence[tuple[str, float, float]],
    state: Mapping[str, float] | None = None,
    **portfolio: Any,
) -> Ask:
    """Ask a preset for the margin of linear perpetuals, each an asset, its coins and its price.

    ``state`` is what is open of every asset, fields of `strategies.portfolio.AssetState`.
    """
    return ask_preset(
        name,
        knobs,
        assets={asset: {"index": price, **(state or {})} for asset, _, price in positions}
        or {ASSET: {"index": 1.0}},
        positions=[{"asset": asset, "quantity": coins} for asset, coins, _ in positions],
        **portfolio,
    )
