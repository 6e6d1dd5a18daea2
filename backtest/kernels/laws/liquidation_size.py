"""How much of an account one step of liquidation closes.

A share ``s`` of all legs is closed alike: margin falls to ``(1 - s) M`` and a penalty of
``s`` times its full amount is paid.
"""

from __future__ import annotations

import math

import numpy as np

from backtest.cache import formula

ALL_STEPS = 1.0 - 1e-9
"""Steps that add up to this much of a portfolio have closed it: 5 x 20 % is not quite 1."""


@formula
def quantity_to_restore(shortage: float, released_per_unit: float, cost_per_unit: float) -> float:
    """Quantity whose closing makes up a shortage of margin.

    Parameters
    ----------
    shortage
        Margin that is missing.
    released_per_unit
        Requirement that falls away with each unit closed.
    cost_per_unit
        Penalty and fees paid for each unit closed.

    Returns
    -------
    float
        ``shortage / (released - cost)``; infinite where closing costs as much as it releases.
        The form of Drift's partial liquidation (`math/liquidation.rs`).
    """
    saved = released_per_unit - cost_per_unit
    return shortage / saved if saved > 0.0 else math.inf


@formula
def share_to_target(
    equity: float, maintenance: float, target: float, unit_penalty: float, minimum_share: float
) -> float:
    """Share that restores ``target`` times maintenance margin.

    Solves ``E - s * penalty = target * M * (1 - s)``.

    Parameters
    ----------
    equity, maintenance
        Before the step, US dollars.
    target
        Multiple of maintenance margin that is to be restored.
    unit_penalty
        Penalty if everything were closed, US dollars.
    minimum_share
        No smaller step is made.

    Returns
    -------
    float
        0 to 1; 1 where nothing less restores.
    """
    if equity <= 0.0:
        return 1.0
    wanted = target * maintenance
    share = quantity_to_restore(wanted - equity, wanted, unit_penalty)
    return min(max(share, minimum_share), 1.0)


@formula
def share_in_steps(
    equity: float, maintenance: float, target: float, unit_penalty: float, step: float
) -> float:
    """Least multiple of a step that restores ``target`` times maintenance margin.

    Parameters
    ----------
    equity, maintenance, target, unit_penalty
        As for `share_to_target`.
    step
        Share of the portfolio per step, as Paradex's 20 %.

    Returns
    -------
    float
        ``k * step``, at most 1; 1 where no number of steps restores.
    """
    if equity <= 0.0:
        return 1.0
    k = 1.0
    while k * step < ALL_STEPS:
        share = k * step
        if maintenance * (1.0 - share) * target <= equity - share * unit_penalty:
            return share
        k += 1.0
    return 1.0


@formula
def share_of_remaining(steps_made: float, step: float) -> float:
    """Share of what is left that equals one step of the first portfolio.

    Parameters
    ----------
    steps_made
        Steps already closed.
    step
        Share of the first portfolio per step.

    Returns
    -------
    float
        ``step / (1 - steps * step)``, at most 1.
    """
    closed = steps_made * step
    return 1.0 if closed >= ALL_STEPS else min(step / (1.0 - closed), 1.0)


@formula
def share_to_bracket(exposure: float, brackets: np.ndarray) -> float:
    """Share that brings an exposure down to the edge of the next lower bracket.

    Parameters
    ----------
    exposure
        US dollars.
    brackets
        ``(B,)`` exposures at which brackets begin, ascending.

    Returns
    -------
    float
        0 to 1; 1 from the lowest bracket, which has nothing below it.
    """
    edge = 0.0
    for b in range(brackets.shape[0]):
        if brackets[b] < exposure:
            edge = brackets[b]
    return 1.0 - edge / exposure if edge > 0.0 else 1.0


@formula
def proportional_share(
    equity: float, maintenance: float, gain: float, cap: float, minimum_share: float
) -> float:
    """Share in proportion to the margin that is missing.

    Parameters
    ----------
    equity, maintenance
        US dollars.
    gain
        Share closed per share of maintenance margin missing.
    cap
        Largest share of one step.
    minimum_share
        Stands where nothing is missing.

    Returns
    -------
    float
        0 to 1.
    """
    if maintenance <= 0.0:
        return cap
    share = max(min(cap, gain * (maintenance - equity) / maintenance), 0.0)
    return share if share > 0.0 else minimum_share


@formula
def disposal_size(
    held: float, fraction: float, full_size: float, book: float, largest_share: float, lot: float
) -> float:
    """Volume of the next order by which a venue sheds a position it took over (Vega).

    Parameters
    ----------
    held
        Absolute volume still held.
    fraction
        Of it that one order offers.
    full_size
        At most this much is offered whole.
    book
        Volume on the other side of the book within reach.
    largest_share
        Of that volume that one order may take, rounded up to a lot.
    lot
        Smallest volume that trades; sizes are rounded to it, and none is smaller. 0 for none.

    Returns
    -------
    float
        At most ``held``.
    """
    wanted = held if held <= full_size else held * fraction
    within_reach = largest_share * book
    if lot > 0.0:
        wanted = max(math.floor(wanted / lot + 0.5), 1.0) * lot
        within_reach = math.ceil(within_reach / lot) * lot
    return min(wanted, within_reach, held)
