"""The portfolio margin in plain Python: what `portfolio_grid` must agree with bit for bit.

`strategies.kernels.portfolio_grid` states the law and compiles it; this is its specification,
which also tells a requirement part by part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.requirement import Explanation
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.portfolio_account import Parts, scenario_parts
from strategies.kernels.portfolio_rules import Rules

if TYPE_CHECKING:
    import numpy as np

    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement


def _margins(given: KernelInput, parts: Parts) -> tuple[float, float]:
    """Put initial and maintenance margin together."""
    one = given.constants
    factor = float(one[terms.IM_FACTOR]) + float(given.parameters[terms.PEG])
    least, kept, beside = float(one[terms.MM_FACTOR]), parts.kept, parts.extra + parts.doubt
    if one[terms.CHARGES_INSIDE] > 0.5:
        return factor * (parts.loss + kept) + beside, least * (parts.loss + kept)
    return factor * parts.loss + kept + beside, least * parts.loss + kept


def portfolio_grid_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for margin as `portfolio_grid` describes, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: what the factor of initial margin is raised by, then the price range of
        every asset, then the funding its longs are expected to pay. ``constants``: from
        `portfolio_constants`. The scratch table is not used.
    market, holdings, accounts, requirement
        As for every requirement kernel; a leg whose value, volatility, rate or confidence is
        NaN makes its account's requirement NaN where the policy's rules look at it.
    """
    for account in accounts:
        parts = scenario_parts(given, market, holdings, int(account))
        initial, maintenance = _margins(given, parts)
        requirement.maintenance[account] = maintenance
        requirement.initial[account] = maintenance if initial < maintenance else initial
        requirement.worst_scenario[account] = parts.worst[1]


def portfolio_grid_explain(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split one account's requirement into the parts of the law.

    Parts of the loss are shown after the factor of the loss.
    """
    parts = scenario_parts(given, market, holdings, account)
    margins = _margins(given, parts)
    one = given.constants
    factors = (
        float(one[terms.IM_FACTOR]) + float(given.parameters[terms.PEG]),
        float(one[terms.MM_FACTOR]),
    )
    inside = one[terms.CHARGES_INSIDE] > 0.5
    told: list[dict[str, float]] = []
    for factor in factors:
        row: dict[str, float] = {}
        for losses in parts.losses.values():
            for name, usd in losses.items():
                row[name] = row.get(name, 0.0) + factor * usd
        row["offset"] = -factor * parts.offset
        row["charges"] = (factor if inside else 1.0) * parts.kept
        told.append(row)
    told[0]["charges"] += parts.extra
    told[0]["doubt"] = parts.doubt
    if margins[0] < margins[1]:
        told[0]["at least maintenance"] = margins[1] - margins[0]
    shown = [{name: usd for name, usd in row.items() if usd != 0.0} for row in told]
    return Explanation(shown[0], shown[1], _words(given, market, parts))


def _words(given: KernelInput, market: Market, parts: Parts) -> str:
    asset, k = parts.worst
    if k < 0:
        return ""
    rules = Rules(given, len(market.index))
    move, weight = rules.move(asset, k) - 1.0, rules.weight(asset, k)
    directions = {
        terms.DOWN: "volatility down",
        terms.SAME: "volatility unchanged",
        terms.UP: "volatility up",
        terms.LINEAR: "volatility tilted",
        terms.ABSOLUTE: "far strikes' volatility up",
    }
    words = f"price {100.0 * move:+.4g} %, {directions[rules.scenarios[k][terms.DIRECTION]]}"
    words = words if len(parts.losses) == 1 else f"asset {asset}: {words}"
    return words + (f", counted {100.0 * weight:.3g} %" if weight != 1.0 else "")
