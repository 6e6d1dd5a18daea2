"""How much worse liquidations make it for each other: one loss with feedback, one without."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import ConfigError
from backtest.kernels.records import AUCTIONED
from backtest.metrics import CASCADE
from backtest.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.book import AccountBook
    from backtest.requirement import Policy
    from backtest.result import ReplayResult
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules


@dataclass(frozen=True)
class Cascade:
    """Losses of one replay with and without the feedback of liquidations on prices.

    Parameters
    ----------
    with_feedback_usd, without_usd
        `liquidation_loss` of both replays.
    """

    with_feedback_usd: float
    without_usd: float

    @property
    def multiplier(self) -> float:
        """Loss with feedback per loss without; 1 where neither lost, infinite where only one."""
        if self.without_usd > 0.0:
            return self.with_feedback_usd / self.without_usd
        return math.inf if self.with_feedback_usd > 0.0 else 1.0


def liquidation_loss(result: ReplayResult) -> float:
    """Add up what liquidations cost everybody, US dollars.

    That is gross bad debt, and what liquidated accounts paid in slippage, auction discounts,
    penalties and to the backstop vault. What an account pays beyond its equity is part of its
    shortfall, and so of bad debt already.
    """
    log = result.liquidation_log
    # An auction's discount covers the slippage of unloading what was bought.
    price = np.where(log["kind"] == AUCTIONED, log["discount_usd"], log["cost_usd"])
    own = np.minimum(price + log["penalty_usd"], np.maximum(log["equity_usd"], 0.0))
    return float(result.series["gross_bad_debt_usd"].sum() + own.sum())


def cascade_multiplier(
    tape: MarketTape,
    book: AccountBook,
    policy: Policy,
    venue: VenueRules,
    seed: int = 0,
    *,
    window: tuple[int, int] | None = None,
) -> Cascade:
    """Replay twice, with the venue's feedback and without, and compare the losses.

    Parameters
    ----------
    tape, book, policy, venue, seed, window
        As in `backtest.replay.replay`.

    Raises
    ------
    ConfigError
        If the venue's feedback is off.
    """
    refuse_without_feedback(venue)
    result = replay(tape, book, policy, venue, seed, window=window)
    return measure_cascade(result, tape, book, policy)


def measure_cascade(
    result: ReplayResult,
    tape: MarketTape,
    book: AccountBook,
    policy: Policy,
    progress: Callable[[int, int], None] | None = None,
) -> Cascade:
    """Repeat a replay without feedback and compare the losses."""
    refuse_without_feedback(result.venue)
    still = replay(
        tape,
        book,
        policy,
        without_feedback(result.venue),
        result.seed,
        window=result.window,
        progress=progress,
    )
    return Cascade(liquidation_loss(result), liquidation_loss(still))


def with_cascade(
    result: ReplayResult,
    tape: MarketTape,
    book: AccountBook,
    policy: Policy,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayResult:
    """Return a replay with its cascade multiplier among the metrics."""
    cascade = measure_cascade(result, tape, book, policy, progress)
    return replace(result, metrics={**result.metrics, CASCADE: cascade.multiplier})


def without_feedback(venue: VenueRules) -> VenueRules:
    """Return the same rules, but liquidations leave the price alone."""
    impact = venue.liquidation.impact.model_copy(update={"feedback": None})
    liquidation = venue.liquidation.model_copy(update={"impact": impact})
    return venue.model_copy(update={"liquidation": liquidation})


def refuse_without_feedback(venue: VenueRules) -> None:
    """Refuse rules under which liquidations do not move prices.

    Raises
    ------
    ConfigError
        If the venue's feedback is off.
    """
    if venue.liquidation.impact.feedback is None:
        raise ConfigError(
            f"{CASCADE} compares a replay with and without venue.liquidation.impact.feedback, "
            "which is off; write feedback: {} to turn it on with its defaults."
        )
