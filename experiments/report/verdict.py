"""The recommendation: a grade that follows from the data by a rule written down here.

No judgement enters. The rule reads the hold-out window, which the search never saw, and asks
of each objective whether the proposal is detectably better or worse than the current policy
(a paired 95 % interval that excludes zero), whether it lost more in a held-out crisis, and
whether it still meets the constraints of the search.

==========  ===================================================================================
A           better on an objective; worse on none, nor in bad debt or liquidated notional; no
            held-out crisis worse; constraints met; market and accounts recorded
B           as A, but with simulated market or synthetic accounts, or worse in fewer than half
            of the held-out crises and in none by more than a fifth
C           nothing detectable out of sample, or no crisis in the hold-out to judge by
D           the evidence conflicts or speaks against: worse on an objective, in bad debt, or in
            liquidated notional by over a fifth; a constraint broken, a crisis reversed, or half
            of the held-out crises worse
==========  ===================================================================================

Only A and B are worded "recommend".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Judgement = Literal[
    "better", "worse", "no detectable difference", "neither good nor bad", "no interval"
]
Grade = Literal["A", "B", "C", "D"]

REVERSAL = 0.20
"""A held-out crisis is reversed where the proposal loses more by above this share."""
MATERIAL_BPS = 0.1
"""Extra bad debt below this share of open notional does not make a crisis worse."""


@dataclass(frozen=True)
class CrisisLoss:
    """Gross bad debt of both policies in one held-out crisis, US dollars."""

    label: str
    current_usd: float
    proposed_usd: float
    open_notional_usd: float

    @property
    def worse(self) -> bool:
        """Whether the proposal lost materially more."""
        extra = self.proposed_usd - self.current_usd
        return extra > MATERIAL_BPS / 1e4 * self.open_notional_usd

    @property
    def reversed(self) -> bool:
        """Whether the proposal lost more by over a fifth."""
        return self.worse and self.proposed_usd > (1.0 + REVERSAL) * self.current_usd


@dataclass(frozen=True)
class Verdict:
    """A grade and the facts that it follows from; every list holds labels, not prose."""

    grade: Grade
    gains: tuple[str, ...]
    harms: tuple[str, ...]
    crises: int
    crises_worse: tuple[str, ...]
    crises_reversed: tuple[str, ...]
    broken_constraints: tuple[str, ...]
    synthetic: bool

    @property
    def recommended(self) -> bool:
        """Whether the report may say "recommend"."""
        return self.grade in ("A", "B")


def judge(low: float, high: float, better: str) -> Judgement:
    """Judge a difference (proposed minus current) by its 95 % interval.

    Parameters
    ----------
    low, high
        Ends of the interval of the difference.
    better
        ``"higher"``, ``"lower"`` or ``"neutral"``: what a good difference looks like.

    Returns
    -------
    str
        ``"no detectable difference"`` where the interval covers zero, ``"no interval"`` where
        there is none.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    if better == "neutral":
        return "neither good nor bad"
    if low <= 0.0 <= high:
        return "no detectable difference"
    return "better" if (low > 0.0) == (better == "higher") else "worse"


def grade(
    objectives: Mapping[str, Judgement],
    crises: Sequence[CrisisLoss],
    broken_constraints: Sequence[str],
    *,
    synthetic: bool,
    guards: Mapping[str, Judgement] | None = None,
) -> Verdict:
    """Grade a proposal by the rule of this module.

    Parameters
    ----------
    objectives
        Judgement of each objective on the hold-out window, by metric key.
    crises
        Held-out crises.
    broken_constraints
        Constraints of the search that the proposal does not meet on the hold-out window.
    synthetic
        Whether market or accounts are simulated.
    guards
        Judgement of metrics that may not get worse although nobody searched for them.
    """
    gains = tuple(key for key, judgement in objectives.items() if judgement == "better")
    judged = {**objectives, **(guards or {})}
    harms = tuple(key for key, judgement in judged.items() if judgement == "worse")
    worse = tuple(crisis.label for crisis in crises if crisis.worse)
    reversed_ = tuple(crisis.label for crisis in crises if crisis.reversed)
    letter: Grade
    if harms or broken_constraints or reversed_ or (worse and 2 * len(worse) >= len(crises)):
        letter = "D"
    elif not gains or not crises:
        letter = "C"
    elif worse or synthetic:
        letter = "B"
    else:
        letter = "A"
    return Verdict(
        grade=letter,
        gains=gains,
        harms=harms,
        crises=len(crises),
        crises_worse=worse,
        crises_reversed=reversed_,
        broken_constraints=tuple(broken_constraints),
        synthetic=synthetic,
    )
